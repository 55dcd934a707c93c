use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use kafka_protocol::messages::{
    BrokerId, FetchRequest, RequestKind, ResponseKind,
    fetch_request::{FetchPartition, FetchTopic},
};
use tokio::task::JoinSet;

use super::{
    connection::{Connection, Frame, open_many},
    topic,
};
use crate::time::Stopwatch;

const VERSION: i16 = 11;
const MAX_WAIT_MS: i32 = 100;
const MAX_BYTES: i32 = 16 << 20;
const PARTITION_MAX_BYTES: i32 = 1 << 20;

/// Who reads what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) topic: &'a str,
    /// Shared out among the connections.
    pub(crate) partitions: &'a [i32],
    pub(crate) connections: usize,
    pub(crate) limit: Duration,
}

/// What came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fetched {
    /// Of record batches.
    pub(crate) bytes: u64,
    /// Until the last batch was there.
    pub(crate) took: Duration,
}

/// Reads from the beginning to the end, or as far as the time allows.
pub(crate) fn run(brokers: &str, load: &Load<'_>) -> io::Result<Fetched> {
    let brokers: Arc<str> = brokers.into();
    super::runtime()?.block_on(async {
        let opened = open_many(&brokers, load.connections.min(load.partitions.len())).await?;
        let count = opened.len();
        let started = Stopwatch::start();
        let mut readers = JoinSet::new();
        for (first, connection) in opened.into_iter().enumerate() {
            let own = load.partitions.iter().skip(first).step_by(count);
            let reader = Reader {
                connection,
                topic: load.topic.to_owned(),
                offsets: own.map(|partition| (*partition, 0)).collect(),
                started,
                limit: load.limit,
            };
            readers.spawn(reader.run());
        }
        let mut all = Fetched::default();
        while let Some(reader) = readers.join_next().await {
            let fetched = reader.map_err(io::Error::other)??;
            all.bytes += fetched.bytes;
            all.took = all.took.max(fetched.took);
        }
        Ok(all)
    })
}

struct Reader {
    connection: Connection,
    topic: String,
    /// The next offset of each partition.
    offsets: BTreeMap<i32, i64>,
    started: Stopwatch,
    limit: Duration,
}

impl Reader {
    async fn run(mut self) -> io::Result<Fetched> {
        let mut all = Fetched::default();
        while self.started.elapsed() < self.limit {
            let frame = self.request()?;
            let answer = self.connection.call(&frame).await?;
            let bytes = self.advance(answer)?;
            if bytes == 0 {
                break;
            }
            all.bytes += bytes;
            all.took = self.started.elapsed();
        }
        Ok(all)
    }

    fn request(&self) -> io::Result<Frame> {
        let partitions = self.offsets.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(PARTITION_MAX_BYTES)
        });
        let wanted = FetchTopic::default()
            .with_topic(topic::name(&self.topic))
            .with_partitions(partitions.collect());
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(MAX_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(MAX_BYTES)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        Frame::encode(VERSION, &RequestKind::Fetch(request))
    }

    /// Goes on behind the batches of `answer`; returns their bytes.
    fn advance(&mut self, answer: ResponseKind) -> io::Result<u64> {
        let ResponseKind::Fetch(response) = answer else {
            return Err(io::Error::other("another answer than Fetch"));
        };
        let mut bytes = 0;
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                return Err(topic::refusal("Fetch", partition.error_code));
            }
            let mut rest: &[u8] = partition.records.as_deref().unwrap_or_default();
            while let Some((batch, length)) = next_offset(rest) {
                self.offsets.insert(partition.partition_index, batch);
                rest = rest.get(length..).unwrap_or_default();
                bytes += u64::try_from(length).unwrap_or_default();
            }
        }
        Ok(bytes)
    }
}

/// The offset behind the first batch, and the batch's length; none if it is not whole.
fn next_offset(bytes: &[u8]) -> Option<(i64, usize)> {
    let base_offset = i64::from_be_bytes(*bytes.first_chunk()?);
    let length = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let last_offset_delta = i32::from_be_bytes(*bytes.get(23..)?.first_chunk()?);
    let length = usize::try_from(length).ok()? + 12;
    (bytes.len() >= length).then_some((base_offset + i64::from(last_offset_delta) + 1, length))
}

#[cfg(test)]
mod tests {
    use wire::{
        TimestampMs,
        batch::{BatchBuilder, NewRecord},
    };

    use super::next_offset;

    #[test]
    fn a_reader_goes_on_behind_the_last_whole_batch() {
        let mut batch = BatchBuilder::new();
        for _ in 0..3 {
            let value = Some(b"v".as_slice());
            batch.push(NewRecord { timestamp: TimestampMs(1), key: None, value, headers: &[] });
        }
        let batch = batch.build();
        assert_eq!(next_offset(&batch), Some((3, batch.len())));
        assert_eq!(next_offset(&batch[..batch.len() - 1]), None);
        assert_eq!(next_offset(&[]), None);
    }
}
