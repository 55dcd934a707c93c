//! Topics, made and removed with plain requests, for not every peer knows what a client's admin part asks.

use std::{io, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, DeleteTopicsRequest, RequestKind, ResponseKind, TopicName,
        create_topics_request::CreatableTopic,
    },
    protocol::StrBytes,
};

use super::{
    connection::{Connection, Frame},
    produce::{self, Batches},
};
use crate::time::Stopwatch;

const CREATE_VERSION: i16 = 4;
const DELETE_VERSION: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const TIMEOUT_MS: i32 = 30_000;
/// Between two looks whether a starting broker listens.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// The topic of the first record.
const FIRST: &str = "bench-first";

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Creates `topic`, with one replica; one that is there already is left as it is.
pub(crate) fn create(brokers: &str, topic: &str, partitions: i32) -> io::Result<()> {
    super::runtime()?.block_on(async {
        let mut connection = Connection::open(brokers).await?;
        create_on(&mut connection, topic, partitions).await
    })
}

pub(crate) fn delete(brokers: &str, topic: &str) -> io::Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![name(topic)])
        .with_timeout_ms(TIMEOUT_MS);
    let frame = Frame::encode(DELETE_VERSION, &RequestKind::DeleteTopics(request))?;
    super::runtime()?.block_on(async {
        let ResponseKind::DeleteTopics(response) =
            Connection::open(brokers).await?.call(&frame).await?
        else {
            return Err(io::Error::other("another answer than DeleteTopics"));
        };
        match response.responses.iter().find(|topic| topic.error_code != 0) {
            Some(refused) => Err(refusal("DeleteTopics", refused.error_code)),
            None => Ok(()),
        }
    })
}

/// Waits until the broker acknowledges a first record with acks=all, asking again without a pause that would be seen.
pub(crate) fn first_record(brokers: &str, deadline: Duration) -> io::Result<()> {
    let started = Stopwatch::start();
    super::runtime()?.block_on(async {
        loop {
            match write_first(brokers).await {
                Ok(()) => return Ok(()),
                Err(error) if started.elapsed() > deadline => return Err(error),
                Err(_starting) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    })
}

async fn write_first(brokers: &str) -> io::Result<()> {
    let mut connection = Connection::open(brokers).await?;
    create_on(&mut connection, FIRST, 1).await?;
    let batches = Batches { record_bytes: 100, batch_bytes: 0, acks: -1 };
    let frame = produce::frame(FIRST, &[0], &batches)?;
    let answer = connection.call(&frame).await?;
    produce::accepted(answer)
}

async fn create_on(connection: &mut Connection, topic: &str, partitions: i32) -> io::Result<()> {
    let wanted = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request =
        CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(TIMEOUT_MS);
    let frame = Frame::encode(CREATE_VERSION, &RequestKind::CreateTopics(request))?;
    let ResponseKind::CreateTopics(response) = connection.call(&frame).await? else {
        return Err(io::Error::other("another answer than CreateTopics"));
    };
    let refused = |code: &i16| !matches!(*code, 0 | TOPIC_ALREADY_EXISTS);
    match response.topics.iter().map(|topic| topic.error_code).find(refused) {
        Some(code) => Err(refusal("CreateTopics", code)),
        None => Ok(()),
    }
}

pub(crate) fn refusal(what: &str, code: i16) -> io::Error {
    io::Error::other(format!("{what} was refused with error {code}"))
}

/// Whether a topic's partitions all take a record; a broker may still be electing leaders after `create`.
pub(crate) fn wait_writable(brokers: &str, topic: &str, partitions: i32) -> io::Result<()> {
    let started = Stopwatch::start();
    let all: Vec<i32> = (0..partitions).collect();
    let batches = Batches { record_bytes: 100, batch_bytes: 0, acks: 1 };
    let frame = produce::frame(topic, &all, &batches)?;
    super::runtime()?.block_on(async {
        let mut connection = Connection::open(brokers).await?;
        loop {
            let answer = connection.call(&frame).await?;
            match produce::accepted(answer) {
                Ok(()) => return Ok(()),
                Err(error) if started.elapsed() > super::ANSWER_DEADLINE => return Err(error),
                Err(_electing) => tokio::time::sleep(LOOK_AGAIN * 10).await,
            }
        }
    })
}

/// The bytes of a record's value, which no codec and no file system makes smaller.
pub(crate) fn payload(bytes: usize) -> Bytes {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state & 0xff).unwrap_or_default()
    };
    (0..bytes).map(|_| next()).collect()
}
