use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::messages::{
    ProduceRequest, RequestKind, ResponseKind,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use tokio::task::JoinSet;
use wire::batch::{BatchBuilder, NewRecord};

use super::{
    connection::{Connection, Frame, open_many},
    topic,
};
use crate::time::{Latencies, Stopwatch, unix_time};

const VERSION: i16 = 8;
const TIMEOUT_MS: i32 = 30_000;

/// What every batch looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batches {
    /// Of a record's value.
    pub(crate) record_bytes: usize,
    /// As many records as fit, but one at least.
    pub(crate) batch_bytes: usize,
    pub(crate) acks: i16,
}

impl Batches {
    fn build(self) -> Bytes {
        let value = topic::payload(self.record_bytes);
        let mut batch = BatchBuilder::new();
        // Of now, or a broker that removes records by their time would remove these.
        let timestamp = unix_time();
        loop {
            batch.push(NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
            if batch.size_in_bytes() + self.record_bytes > self.batch_bytes {
                return batch.build();
            }
        }
    }

    /// Records in one batch.
    pub(crate) fn records(self) -> u64 {
        let mut batch = BatchBuilder::new();
        let value = vec![0; self.record_bytes];
        let timestamp = unix_time();
        loop {
            batch.push(NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
            if batch.size_in_bytes() + self.record_bytes > self.batch_bytes {
                return u64::try_from(batch.record_count()).unwrap_or(1);
            }
        }
    }
}

/// Who sends what, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partitions: i32,
    pub(crate) batches: Batches,
    /// One batch to each of so many partitions in every request.
    pub(crate) partitions_per_request: usize,
    pub(crate) connections: usize,
    /// Requests in flight on each connection.
    pub(crate) in_flight: usize,
    /// Between the beginnings of two requests of a connection, at least.
    pub(crate) pause: Duration,
    pub(crate) until: Until,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    /// So many bytes of values were sent.
    Sent(u64),
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Produced {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// From sending a request to its answer.
    pub(crate) latencies: Latencies,
}

/// One request with a batch for each of `partitions`.
pub(crate) fn frame(topic: &str, partitions: &[i32], batches: &Batches) -> io::Result<Frame> {
    let batch = batches.build();
    let data = partitions.iter().map(|partition| {
        PartitionProduceData::default().with_index(*partition).with_records(Some(batch.clone()))
    });
    let data = TopicProduceData::default()
        .with_name(topic::name(topic))
        .with_partition_data(data.collect());
    let request = ProduceRequest::default()
        .with_acks(batches.acks)
        .with_timeout_ms(TIMEOUT_MS)
        .with_topic_data(vec![data]);
    Frame::encode(VERSION, &RequestKind::Produce(request))
}

/// Whether every partition took its batch.
pub(crate) fn accepted(answer: ResponseKind) -> io::Result<()> {
    let ResponseKind::Produce(response) = answer else {
        return Err(io::Error::other("another answer than Produce"));
    };
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != 0) {
        Some(refused) => Err(topic::refusal("Produce", refused.error_code)),
        None => Ok(()),
    }
}

/// Sends until the load is done, and waits for every answer.
pub(crate) fn run(brokers: &str, load: &Load<'_>) -> io::Result<Produced> {
    let all: Vec<i32> = (0..load.partitions).collect();
    let frames = all
        .chunks(load.partitions_per_request)
        .map(|partitions| Ok((frame(load.topic, partitions, &load.batches)?, partitions.len())))
        .collect::<io::Result<Vec<_>>>()?;
    let frames: Arc<[(Frame, usize)]> = frames.into();
    let brokers: Arc<str> = brokers.into();
    let records_per_batch = load.batches.records();
    let record_bytes = u64::try_from(load.batches.record_bytes).map_err(io::Error::other)?;
    super::runtime()?.block_on(async {
        let opened = open_many(&brokers, load.connections).await?;
        let share = match load.until {
            Until::Sent(bytes) => {
                let connections = u64::try_from(load.connections.max(1)).unwrap_or(1);
                Until::Sent(bytes / record_bytes / records_per_batch / connections)
            }
            Until::Elapsed(_) => load.until,
        };
        let started = Stopwatch::start();
        let mut senders = JoinSet::new();
        for (first, connection) in opened.into_iter().enumerate() {
            let sender = Sender {
                connection,
                frames: Arc::clone(&frames),
                next: first,
                started,
                until: share,
                in_flight: load.in_flight,
                pause: load.pause,
            };
            senders.spawn(sender.run());
        }
        let mut produced = Produced::default();
        let mut batches = 0;
        while let Some(sender) = senders.join_next().await {
            let (sent, latencies) = sender.map_err(io::Error::other)??;
            batches += sent;
            produced.latencies.extend(latencies);
        }
        produced.took = started.elapsed();
        produced.records = batches * records_per_batch;
        produced.bytes = produced.records * record_bytes;
        Ok(produced)
    })
}

/// One connection's part. `until` counts batches here.
struct Sender {
    connection: Connection,
    frames: Arc<[(Frame, usize)]>,
    next: usize,
    started: Stopwatch,
    until: Until,
    in_flight: usize,
    pause: Duration,
}

impl Sender {
    async fn run(mut self) -> io::Result<(u64, Latencies)> {
        let frames = Arc::clone(&self.frames);
        let mut waiting = VecDeque::with_capacity(self.in_flight);
        let (mut sent, mut latencies) = (0, Latencies::default());
        let mut next = Duration::ZERO;
        let mut turn = frames.iter().cycle().skip(self.next % frames.len().max(1));
        loop {
            while waiting.len() < self.in_flight && !self.is_done(sent) {
                let Some((frame, batches)) = turn.next() else { break };
                if !self.pause.is_zero() {
                    next = (next + self.pause).max(self.started.elapsed());
                    tokio::time::sleep(next.saturating_sub(self.started.elapsed())).await;
                }
                waiting.push_back((frame, Stopwatch::start()));
                self.connection.send(frame).await?;
                sent += u64::try_from(*batches).unwrap_or_default();
            }
            let Some((frame, asked)) = waiting.pop_front() else { return Ok((sent, latencies)) };
            accepted(self.connection.receive(frame).await?)?;
            latencies.push(asked.elapsed());
        }
    }

    fn is_done(&self, sent: u64) -> bool {
        match self.until {
            Until::Elapsed(limit) => self.started.elapsed() >= limit,
            Until::Sent(batches) => sent >= batches,
        }
    }
}
