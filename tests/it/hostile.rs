//! Connections that mean no good: each is closed, none costs memory, the good client beside them is served.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::harness::{Appliance, DEADLINE};

/// What the broker's memory may grow by, whatever is sent.
const MAY_GROW_BY_MB: f64 = 64.0;

#[test]
fn five_hundred_announced_frames_of_ninety_megabytes_cost_next_to_nothing() {
    let ottla = start();
    good_client_is_served(&ottla, "before");
    let before = resident_mb(&ottla);
    let mut connections = Vec::new();
    for _ in 0..500 {
        let mut connection = TcpStream::connect(ottla.brokers()).unwrap();
        connection.write_all(&90_000_000_i32.to_be_bytes()).unwrap();
        // A Produce header, so that the length alone is no reason to refuse it.
        connection.write_all(&[0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0]).unwrap();
        connection.write_all(&[0; 1024]).unwrap();
        connections.push(connection);
    }
    good_client_is_served(&ottla, "beside");
    let grown = resident_mb(&ottla) - before;
    assert!(grown < MAY_GROW_BY_MB, "memory grew by {grown:.1} MB");
}

#[test]
fn garbage_is_answered_by_closing_the_connection() {
    let ottla = start();
    let endless = [&i32::MAX.to_be_bytes()[..], &[0; 64]].concat();
    let negative = [&(-5_i32).to_be_bytes()[..], &[0; 64]].concat();
    // Metadata v1 whose array of topics has 2^31 - 1 elements.
    let array =
        [&14_i32.to_be_bytes()[..], &[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]]
            .concat();
    let unknown_api =
        [&10_i32.to_be_bytes()[..], &[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]].concat();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    for hostile in [endless, negative, array, unknown_api, http] {
        let mut connection = TcpStream::connect(ottla.brokers()).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.write_all(&hostile).unwrap();
        let mut answer = Vec::new();
        // Reading to the end returns once the broker has closed; a reset is a close as well.
        if let Err(error) = connection.read_to_end(&mut answer) {
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset,
                "{hostile:?}: not closed"
            );
        }
        assert!(answer.is_empty(), "{hostile:?} got {answer:?}");
    }
    good_client_is_served(&ottla, "afterwards");
}

fn start() -> Appliance {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(Appliance::setup().expect_log("connection closed").start())
}

/// Produces one record, acks=all, and reads it back.
fn good_client_is_served(ottla: &Appliance, topic: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", ottla.brokers()).set("group.id", topic).set("acks", "all");
    let producer: BaseProducer = config.create().unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload(topic)).unwrap();
    producer.flush(DEADLINE).unwrap();
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let message = consumer.poll(DEADLINE).unwrap().unwrap();
    assert_eq!(message.payload(), Some(topic.as_bytes()));
}

fn resident_mb(ottla: &Appliance) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ottla.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}
