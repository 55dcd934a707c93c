use std::io::{Read, Write};
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, MetadataRequest, RequestKind, ResponseKind,
};
use server::{Config, Limits};
use storage::simulation::process::{alone, resident_bytes};
use wire::ErrorCode;

use tokio::time::Instant;

use crate::client::{Client, Running, number};
use crate::every_version::{api_versions, topic_id};
use crate::requests::{batch, produce, topic_name};

const MIB: usize = 1 << 20;

fn is_served(broker: &Running) {
    let begun = Instant::now();
    assert!(!api_versions(&mut broker.client()).api_keys.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn announce(length: i32) -> Vec<u8> {
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff]);
    frame
}

#[test]
fn announced_bytes_cost_nothing_until_they_arrive() {
    alone("hostile::announced_bytes_cost_nothing_until_they_arrive", || {
        let broker = Running::start();
        is_served(&broker);
        let before = resident_bytes();
        // Half as many as the limit of open files commonly allows, at both ends.
        let connections: Vec<_> = (0..400)
            .map(|_| {
                let mut client = broker.client();
                client.stream.write_all(&announce(90 << 20)).unwrap();
                client.stream.write_all(&[0; 1014]).unwrap();
                client
            })
            .collect();
        is_served(&broker);
        assert!(resident_bytes() < before + 64 * MIB);
        drop(connections);
    });
}

#[test]
fn requests_in_flight_share_a_bounded_memory() {
    alone("hostile::requests_in_flight_share_a_bounded_memory", || {
        let limits = Limits { in_flight_bytes: 8 * MIB, ..Limits::default() };
        let broker = Running::with(Config { limits, ..Config::default() });
        is_served(&broker);
        let before = resident_bytes();
        let chunk: std::sync::Arc<[u8]> = vec![0; MIB].into();
        let writers: Vec<_> = (0..12)
            .map(|_| {
                let mut client = broker.client();
                let chunk = std::sync::Arc::clone(&chunk);
                std::thread::spawn(move || {
                    client.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
                    let frame = announce(90 << 20);
                    let sent = client.stream.write_all(&frame);
                    // The broker takes no more than it has room for. Who gets all of that may send its
                    // whole request, the others fail.
                    let rest = (0..89).try_for_each(|_| client.stream.write_all(&chunk));
                    let is_whole = sent.and(rest).is_ok();
                    (client, is_whole)
                })
            })
            .collect();
        is_served(&broker);
        let clients: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        assert!(clients.iter().filter(|(_, is_whole)| *is_whole).count() <= 1);
        assert!(resident_bytes() < before + 128 * MIB);
        is_served(&broker);
        drop(clients);
    });
}

#[test]
fn garbage_and_impossible_lengths_end_their_connection_alone() {
    let broker = Running::start();
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let no_body = [0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 2];
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".as_slice(),
        &tls,
        &no_body,
        &[0x7f, 0xff, 0xff, 0xff, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0, 0],
        &[0x80, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 3, 0, 0],
        &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 12, 0, 3, 0, 9, 0, 0, 0, 1, 0x7f, 0xff, 1, 1],
    ] {
        let mut client = broker.client();
        client.stream.write_all(garbage).unwrap();
        assert!(client.is_closed(), "{garbage:?}");
        is_served(&broker);
    }
}

#[test]
fn a_hostile_array_in_any_request_ends_its_connection_alone() {
    alone("hostile::a_hostile_array_in_any_request_ends_its_connection_alone", || {
        let broker = Running::start();
        let before = resident_bytes();
        for api in api_versions(&mut broker.client()).api_keys {
            let key = ApiKey::try_from(api.api_key).unwrap();
            for version in api.min_version..=api.max_version {
                for hostile in
                    [[0x7f, 0xff, 0xff, 0xff].repeat(8), [0xff, 0xff, 0xff, 0xff, 7].repeat(8)]
                {
                    for zeros in [0, 2, 6] {
                        let mut client = broker.client();
                        let body = [vec![0; zeros], hostile.clone()].concat();
                        client.send_raw(key, version, &body);
                        // Some of these are requests after all; the next one is none.
                        client.stream.write_all(&[0xff; 8]).ok();
                        assert!(client.is_closed(), "{key:?} v{version}");
                    }
                }
            }
        }
        is_served(&broker);
        assert!(resident_bytes() < before + 64 * MIB);
    });
}

#[test]
fn a_compressed_bomb_ends_its_connection_alone() {
    alone("hostile::a_compressed_bomb_ends_its_connection_alone", || {
        let broker = Running::start();
        let mut client = broker.client();
        let topic = ("t", topic_id(&mut client, "t"));
        let bomb = bomb(200 * MIB);
        assert!(bomb.len() < MIB);
        let before = resident_bytes();
        client.send(ApiKey::Produce, 9, &produce(9, topic, -1, bomb));
        assert!(client.is_closed());
        is_served(&broker);
        assert!(resident_bytes() < before + 64 * MIB);
    });
}

#[test]
fn a_client_that_reads_none_of_its_large_answers_has_few_of_them() {
    alone("hostile::a_client_that_reads_none_of_its_large_answers_has_few_of_them", || {
        let broker = Running::start();
        let topic = |number: i32| {
            CreatableTopic::default()
                .with_name(topic_name(&format!("wide-{number}")))
                .with_num_partitions(9_800)
                .with_replication_factor(1)
        };
        let create = CreateTopicsRequest::default()
            .with_topics((0..5).map(topic).collect())
            .with_timeout_ms(60_000);
        let mut client = broker.client();
        let ResponseKind::CreateTopics(created) =
            client.call(ApiKey::CreateTopics, 5, &RequestKind::CreateTopics(create))
        else {
            unreachable!("it answers what was asked")
        };
        assert!(created.topics.iter().all(|topic| topic.error_code == 0));
        let all = RequestKind::Metadata(MetadataRequest::default().with_topics(None));
        let mut other = broker.client();
        let mut ask_once = || {
            other.send(ApiKey::Metadata, 9, &all);
            other.receive(ApiKey::Metadata, 9).1.len()
        };
        assert!(ask_once() > MIB);
        let before = resident_bytes();
        for _ in 0..40 {
            client.send(ApiKey::Metadata, 9, &all);
        }
        // Meanwhile as many are made for who does not read them.
        for _ in 0..60 {
            ask_once();
            assert!(resident_bytes() < before + 16 * MIB);
        }
    });
}

#[test]
fn of_batches_that_are_large_together_some_are_to_be_sent_again() {
    alone("hostile::of_batches_that_are_large_together_some_are_to_be_sent_again", || {
        let broker = Running::start();
        let mut client = broker.client();
        let topic = ("t", topic_id(&mut client, "t"));
        // Of one MiB alone no batch is asked how small it was.
        let bomb = bomb(MIB - 100);
        let RequestKind::Produce(mut request) = produce(9, topic, -1, bomb) else {
            unreachable!("that is what it makes")
        };
        let parts = &mut request.topic_data[0].partition_data;
        *parts = vec![parts[0].clone(); 200];
        let ResponseKind::Produce(answer) =
            client.call(ApiKey::Produce, 9, &RequestKind::Produce(request))
        else {
            unreachable!("it answers what was asked")
        };
        let codes = answer.responses[0].partition_responses.iter().map(|part| part.error_code);
        let taken = codes.clone().take_while(|code| *code == 0).count();
        assert!((128..132).contains(&taken), "{taken}");
        let again = ErrorCode::KAFKA_STORAGE_ERROR.0;
        assert!(codes.skip(taken).all(|code| code == again));
        is_served(&broker);
    });
}

/// A batch of one record whose value is so many zeros, compressed by zstd.
fn bomb(zeros: usize) -> bytes::Bytes {
    let length = varint(zeros);
    let mut payload = zstd::Encoder::new(Vec::new(), 1).unwrap();
    payload.write_all(&varint(4 + length.len() + zeros + 1)).unwrap();
    payload.write_all(&[0, 0, 0, 1]).unwrap();
    payload.write_all(&length).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(u64::try_from(zeros).unwrap()), &mut payload)
        .unwrap();
    payload.write_all(&[0]).unwrap();
    let mut bytes = batch(5, &["x"])[..61].to_vec();
    bytes[22] |= 4;
    bytes.extend_from_slice(&payload.finish().unwrap());
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]);
    bytes[17..21].copy_from_slice(&u32::try_from(crc).unwrap().to_be_bytes());
    bytes.into()
}

fn varint(value: usize) -> Vec<u8> {
    let mut rest = value << 1;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

#[test]
fn silence_and_half_frames_have_time_limits() {
    let limits = Limits {
        first_byte: Duration::from_millis(200),
        frame: Duration::from_millis(200),
        ..Limits::default()
    };
    let broker = Running::with(Config { limits, ..Config::default() });
    let mut silent = broker.client();
    let mut half = broker.client();
    half.stream.write_all(&announce(100)).unwrap();
    let mut quarter = broker.client();
    quarter.stream.write_all(&[0, 0]).unwrap();
    for client in [&mut silent, &mut half, &mut quarter] {
        assert!(client.is_closed());
    }
    is_served(&broker);
}

#[test]
fn an_idle_connection_is_closed_but_not_while_it_waits_for_its_answer() {
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let broker = Running::with(Config { limits, ..Config::default() });
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    client.send(ApiKey::Fetch, 12, &crate::requests::fetch(12, topic, 0, (1, 1 << 20, 700)));
    client.receive(ApiKey::Fetch, 12);
    assert!(client.is_closed());
}

#[test]
fn more_connections_than_allowed_are_turned_away() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let broker = Running::with(Config { limits, ..Config::default() });
    let mut open: Vec<Client> = (0..3).map(|_| broker.client()).collect();
    for client in &mut open {
        api_versions(client);
    }
    assert!(broker.client().is_closed());
    open.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = broker.client();
        let request = number(ApiKey::ApiVersions).to_be_bytes();
        let frame = [&[0, 0, 0, 10], request.as_slice(), &[0, 0, 0, 0, 0, 1, 0xff, 0xff]].concat();
        client.stream.write_all(&frame).ok();
        let mut first = [0; 1];
        if matches!(client.stream.read(&mut first), Ok(1)) {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}
