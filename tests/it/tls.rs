//! librdkafka against the listener with TLS.

use std::os::unix::fs::OpenOptionsExt;
use std::{fs::OpenOptions, io::Write, path::Path, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tempfile::TempDir;

use crate::harness::{Appliance, DEADLINE, free_port, program, run};

const KEYSTORE: &str = include_str!("../tls/keystore.pem");

const VALUES: usize = 40;
const VALUE_BYTES: usize = 500_000;

/// An appliance with both listeners, and the port of the one with TLS.
async fn start(directory: &TempDir) -> (Appliance, u16) {
    let path = directory.path().join("keystore.pem");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(KEYSTORE.as_bytes()).unwrap();
    let ssl = free_port();
    let app = Appliance::setup()
        .env("OTTLA__BROKER__SSL_KEYSTORE_LOCATION", path.to_str().unwrap())
        .ssl(ssl)
        .expect_log("connection closed")
        .start()
        .await;
    (app, ssl)
}

fn config(port: u16) -> ClientConfig {
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/ca.pem");
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", format!("localhost:{port}"))
        .set("security.protocol", "ssl")
        .set("ssl.ca.location", ca.to_str().unwrap())
        .set("group.id", "tls")
        .set("acks", "all")
        .set("compression.type", "none");
    config
}

fn value(number: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(VALUE_BYTES).collect()
}

fn produce(config: &ClientConfig, topic: &str) {
    let producer: BaseProducer = config.create().unwrap();
    for number in 0..VALUES {
        let value = value(number);
        producer.send(BaseRecord::<(), _>::to(topic).partition(0).payload(&value)).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
}

fn assert_consumed(config: &ClientConfig, topic: &str) {
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    for number in 0..VALUES {
        let message = consumer.poll(DEADLINE).unwrap().unwrap();
        assert!(message.payload() == Some(value(number).as_slice()), "value {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_produced_and_fetched_with_tls_are_what_they_are_without() {
    let directory = TempDir::new().unwrap();
    let (mut app, ssl) = start(&directory).await;
    let sealed = config(ssl);
    let mut plain = ClientConfig::new();
    plain.set("bootstrap.servers", app.brokers()).set("group.id", "plain").set("acks", "all");

    produce(&sealed, "sealed");
    assert_consumed(&sealed, "sealed");
    assert_consumed(&plain, "sealed");
    produce(&plain, "plain");
    assert_consumed(&sealed, "plain");

    let (status, took) = app.stop().await;
    assert!(status.success() && took.as_millis() < 1000, "{status} after {took:?}");
    app.restart().await;
    assert_consumed(&sealed, "sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_trust_the_certificate_or_speaks_plainly_is_not_served() {
    let directory = TempDir::new().unwrap();
    let (app, ssl) = start(&directory).await;
    let mut stranger = config(ssl);
    // The keystore's own certificate is no authority.
    stranger.set("ssl.ca.location", "/dev/null").set("enable.ssl.certificate.verification", "true");
    assert!(is_refused(&stranger));
    let mut plain = ClientConfig::new();
    plain.set("bootstrap.servers", format!("127.0.0.1:{ssl}"));
    assert!(is_refused(&plain));
    let mut wrong_door = config(app.kafka);
    wrong_door.set("bootstrap.servers", app.brokers());
    assert!(is_refused(&wrong_door));

    produce(&config(ssl), "afterwards");
    assert_consumed(&config(ssl), "afterwards");
}

/// Whether the client cannot even be made, or learns nothing of the cluster.
fn is_refused(config: &ClientConfig) -> bool {
    let mut config = config.clone();
    config.set("log_level", "0");
    config
        .create::<BaseConsumer>()
        .and_then(|consumer| consumer.fetch_metadata(None, Duration::from_secs(3)).map(drop))
        .is_err()
}

#[test]
fn an_ssl_listener_without_a_keystore_ends_with_64_and_says_what_to_do() {
    let listeners = "PLAINTEXT://127.0.0.1:9092,SSL://127.0.0.1:9093";
    let (code, _, error) = run(&["config", "check", "--kafka", listeners]);
    assert_eq!(code, 64, "{error}");
    assert!(error.contains("`broker.ssl.keystore.location` is empty; "), "{error}");

    let readable = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/ca.pem");
    let output = program()
        .args(["serve", "--kafka", listeners])
        .env("OTTLA__BROKER__SSL_KEYSTORE_LOCATION", &readable)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("so run chmod 600") || error.contains("no private key"), "{error}");
}
