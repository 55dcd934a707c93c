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
    batch::{BatchBuilder, BatchView, ControlMarker, Marker, NewRecord, control_marker},
};

use crate::{
    Append, AppendError, Appended, CatalogueChange, Config, Durability, Host, Isolation, OpenError,
    PartitionId, ReadLimit, Storage, simulation::OnceFree,
};

pub(super) const LONG: Duration = Duration::from_secs(20);

/// A directory that goes once no engine has it any more.
pub(super) struct TestDir {
    /// Dropped first.
    _free: OnceFree,
    dir: tempfile::TempDir,
}

impl TestDir {
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub(super) fn directory() -> TestDir {
    let dir = tempfile::tempdir().unwrap();
    TestDir { _free: OnceFree(dir.path().to_path_buf()), dir }
}

/// With a cleaner that does not look at all: most records of the tests are older than a week.
pub(super) fn config(dir: &Path) -> Config {
    let clean_every = Duration::from_hours(1);
    Config { journal_segment_bytes: 8 << 20, clean_every, ..Config::new(dir.to_path_buf()) }
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

/// The same with a cleaner that looks all the time.
pub(super) fn open_cleaning(dir: &Path) -> Storage {
    let often = Config { clean_every: Duration::from_millis(5), ..config(dir) };
    Storage::open(often, Host::real()).unwrap().0
}

/// Stops it, and waits until nobody writes to its directory any more.
pub(super) fn close(storage: Storage, dir: &Path) {
    storage.shutdown();
    drop(storage);
    until(|| Host::real().disk.lock(&dir.join("lock")).is_ok());
}

/// Waits for something that happens by itself.
pub(super) fn until(mut happened: impl FnMut() -> bool) {
    let clock = Host::real().clock;
    let begun = clock.monotonic();
    while !happened() {
        assert!(clock.monotonic().saturating_sub(begun) < LONG, "it did not happen");
        std::thread::yield_now();
    }
}

/// A batch of one record with this key.
pub(super) fn keyed(key: &str, value: Option<&[u8]>) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord {
        timestamp: TimestampMs(1000),
        key: Some(key.as_bytes()),
        value,
        headers: &[],
    });
    builder.build()
}

/// A compacted log with five keys, some of them in transactions that were aborted, after the
/// cleaner has been at it. Some of it is dirty again.
pub(super) fn compacted(dir: &Path) -> (Storage, PartitionId) {
    let storage = open(dir);
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "20000"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    let p = partition(create(&storage, "compacted", 1, &configs), 0);
    let write = |storage: &Storage, count: i32| {
        for index in 0..count {
            let key = format!("key {}", index % 5);
            append(storage, p, keyed(&key, Some(&[7; 2000]))).unwrap();
            if index % 10 == 9 {
                append(storage, p, transactional(77, index / 10 * 2, 2)).unwrap();
                end(storage, p, 77, Marker::Abort);
            }
        }
    };
    write(&storage, 60);
    close(storage, dir);
    let storage = open_cleaning(dir);
    until(|| read_all(&storage, p, Isolation::ReadUncommitted).len() < 40);
    until(|| storage.shared().partition(p).is_some_and(|log| log.published().pending_swaps == 0));
    append(&storage, p, keyed("key 1", None)).unwrap();
    (storage, p)
}

/// Ends a transaction.
pub(super) fn end(storage: &Storage, partition: PartitionId, producer: i64, marker: Marker) {
    let end = ControlMarker {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        marker,
        coordinator_epoch: 0,
        timestamp: TimestampMs(1000),
    };
    let (done, told) = answer();
    let batches = vec![Append { partition, batch: control_marker(&end) }];
    storage.chain().append_atomic(batches, done);
    told.recv_timeout(LONG).unwrap().unwrap();
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
