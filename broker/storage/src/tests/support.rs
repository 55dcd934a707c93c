//! Shorthands for tests.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use bytes::Bytes;
use wire::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId,
    batch::{BatchBuilder, BatchView, NewRecord},
};

use crate::{
    Append, AppendError, Appended, CatalogueChange, Config, Durability, Host, Isolation, OpenError,
    PartitionId, ReadLimit, Storage,
};

pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn config(dir: &Path) -> Config {
    Config { journal_segment_bytes: 8 << 20, ..Config::new(dir.to_path_buf()) }
}

pub(super) fn open(dir: &Path) -> Storage {
    // A stop that timed out on a busy machine keeps the directory until its checkpoint is done.
    let clock = Host::real().clock;
    loop {
        match Storage::open(config(dir), Host::real()) {
            Err(OpenError::InUse(_)) if clock.monotonic() < LONG => std::thread::yield_now(),
            opened => return opened.unwrap().0,
        }
    }
}

pub(super) fn answer<T>() -> (Box<dyn FnOnce(T) + Send>, Receiver<T>)
where
    T: Send + 'static,
{
    let (tell, told) = sync_channel(1);
    (Box::new(move |value| tell.send(value).unwrap()), told)
}

pub(super) fn create(
    storage: &Storage,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> TopicId {
    let configs: BTreeMap<_, _> =
        configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (done, told) = answer();
    let change = CatalogueChange::CreateTopic { name: name.to_owned(), partitions, configs };
    storage.change_catalogue(change, done);
    told.recv_timeout(LONG).unwrap().unwrap()
}

pub(super) fn partition(topic: TopicId, index: i32) -> PartitionId {
    PartitionId { topic, partition: PartitionIndex(index) }
}

/// A batch of `count` records whose values are `value`.
pub(super) fn batch(count: usize, value: &[u8], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    fill(&mut builder, count, value, timestamp);
    builder.build()
}

pub(super) fn fill(builder: &mut BatchBuilder, count: usize, value: &[u8], timestamp: i64) {
    for index in 0..count {
        builder.push(NewRecord {
            timestamp: TimestampMs(timestamp + i64::try_from(index).unwrap()),
            key: None,
            value: Some(value),
            headers: &[],
        });
    }
}

/// A batch of an idempotent producer.
pub(super) fn produced(id: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    fill(&mut builder, count, b"value", 1000);
    builder.build()
}

/// A batch of a transaction.
pub(super) fn transactional(id: i64, sequence: i32, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new()
        .producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence))
        .transactional();
    fill(&mut builder, count, b"value", 1000);
    builder.build()
}

pub(super) fn append(
    storage: &Storage,
    partition: PartitionId,
    batch: Bytes,
) -> Result<Appended, AppendError> {
    let (done, told) = answer();
    storage.append(vec![Append { partition, batch }], Durability::Synced, LONG, done);
    told.recv_timeout(LONG).unwrap().remove(0)
}

/// All batches of a partition, one after another, with their offsets.
pub(super) fn read_all(
    storage: &Storage,
    partition: PartitionId,
    isolation: Isolation,
) -> Vec<(Offset, Bytes)> {
    let mut found = Vec::new();
    let mut from = Offset(0);
    loop {
        let limit = ReadLimit { max_bytes: 100_000, isolation, at_least_one_batch: true };
        let read = storage.read(partition, from, limit).unwrap();
        if read.slices.is_empty() {
            return found;
        }
        for slice in &read.slices {
            let mut bytes = slice.load().unwrap();
            while !bytes.is_empty() {
                let view = BatchView::parse(&bytes).unwrap();
                view.verify_crc().unwrap();
                let (base, length) = (view.header.base_offset, view.bytes().len());
                from = view.header.next_offset();
                found.push((base, bytes.split_to(length)));
            }
        }
    }
}
