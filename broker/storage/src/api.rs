//! What the broker may ask of the storage engine.

use std::{
    collections::BTreeMap, io, os::fd::BorrowedFd, path::PathBuf, sync::Arc, time::Duration,
};

use bytes::Bytes;
use wire::{Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId};

use crate::{
    codec::position,
    host::{DiskFile, read_exact},
};

/// Where the data lies and how large its pieces are.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    /// On another device if set; else `journal` in the data directory.
    pub journal_dir: Option<PathBuf>,
    /// The default of `segment.bytes`.
    pub segment_bytes: u64,
    /// The size of a journal segment.
    pub journal_segment_bytes: u64,
    /// How often the cleaner looks at the logs, so that space is back within seconds of becoming
    /// free. Kafka's `log.retention.check.interval.ms` is five minutes, because it opens files to
    /// know their age.
    pub clean_every: Duration,
    /// The broker's configurations that were given to it otherwise than Kafka's defaults, by Kafka's
    /// names. What is set at run time holds before them.
    pub broker_configs: BTreeMap<String, String>,
}

impl Config {
    /// Everything but the directory as shipped.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            journal_dir: None,
            segment_bytes: 1 << 30,
            journal_segment_bytes: 64 << 20,
            clean_every: Duration::from_secs(2),
            broker_configs: BTreeMap::new(),
        }
    }
}

/// Called once, from a storage thread: it must not block.
pub type Done<T> = Box<dyn FnOnce(T) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

/// The topics there are; a snapshot that does not change.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub by_name: BTreeMap<String, Arc<Topic>>,
    pub by_id: BTreeMap<TopicId, Arc<Topic>>,
    /// Broker configurations set at run time; they hold before those of the start.
    pub broker_configs: BTreeMap<String, String>,
    /// Those that the broker was started with.
    pub static_configs: Arc<BTreeMap<String, String>>,
    /// Producers that were silent since are forgotten.
    pub(crate) producers_expired_before: Option<TimestampMs>,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What was set for this topic; everything else has its default.
    pub configs: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub enum CatalogueChange {
    CreateTopic {
        name: String,
        partitions: i32,
        configs: BTreeMap<String, String>,
    },
    DeleteTopic {
        id: TopicId,
    },
    /// `count` is the new total.
    AddPartitions {
        id: TopicId,
        count: i32,
    },
    /// The whole new set.
    SetConfigs {
        id: TopicId,
        configs: BTreeMap<String, String>,
    },
    SetBrokerConfigs {
        configs: BTreeMap<String, String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    #[error("a topic of this name exists")]
    Exists,
    #[error("there is no such topic")]
    Unknown,
    #[error("a topic cannot lose partitions")]
    FewerPartitions,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage is shutting down")]
    ShuttingDown,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// acks=1: the journal's write returned.
    Written,
    /// acks=all: the journal's sync returned.
    Synced,
}

/// One validated v2 batch for one partition.
#[derive(Clone, Debug)]
pub struct Append {
    pub partition: PartitionId,
    pub batch: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    /// Set if the topic's timestamps are the broker's.
    pub log_append_time: Option<TimestampMs>,
    pub log_start_offset: Offset,
    /// The batch had been appended before; the offset is the original's.
    pub duplicate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("there is no such partition")]
    UnknownPartition,
    #[error("the producer's sequence has a gap")]
    OutOfOrderSequence,
    #[error("the producer's epoch is older than the newest")]
    InvalidProducerEpoch,
    #[error("the batch does not fit the producer's transaction")]
    InvalidTxnState,
    #[error("what was handed over is no record batch")]
    InvalidBatch,
    #[error("the batch waited longer than its request allows")]
    TimedOut,
    #[error("the disk is full")]
    DiskFull,
    #[error("the batches are too large together")]
    TooLarge,
    #[error("what it stands on was refused")]
    ChainBroken,
    #[error("the storage is shutting down")]
    ShuttingDown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("there is no such partition")]
    UnknownPartition,
    #[error("the offset is beyond the high watermark")]
    OffsetOutOfRange,
    #[error("the storage is shutting down")]
    ShuttingDown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOffsetSnapshot {
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    /// The offset that is given next.
    pub log_end_offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    pub max_bytes: usize,
    pub isolation: Isolation,
    /// Return the first batch whole, even if it is larger than `max_bytes`.
    pub at_least_one_batch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
}

/// Whole batches of one file, which is read only when they are needed.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// In bytes.
    pub length: usize,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) position: u64,
}

impl FileSlice {
    /// All bytes.
    pub fn load(&self) -> io::Result<Bytes> {
        self.load_part(0, self.length)
    }

    /// `length` bytes from `start` on.
    pub fn load_part(&self, start: usize, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length.min(self.length.saturating_sub(start))];
        self.read_part(start, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// Fills `into` with the bytes from `start` on, all of which must be the slice's.
    pub fn read_part(&self, start: usize, into: &mut [u8]) -> io::Result<()> {
        if self.length.saturating_sub(start) < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_exact(self.file.as_ref(), into, self.position + position(start))
    }

    /// Whether these bytes can most likely be read without waiting for the disk.
    pub fn is_cached(&self, start: usize, length: usize) -> bool {
        self.file.is_cached(self.position + position(start), length)
    }

    /// Whether reads from `start` on fetch what lies behind them in the file as well, for the next fetch.
    pub fn set_read_ahead(&self, on: bool, start: usize) {
        self.file.set_read_ahead(on, self.position + position(start));
    }

    /// All of it was sent; `was_cold` if that had to wait for the disk.
    pub fn passed(&self, was_cold: bool) {
        self.file.passed(self.position..self.position + position(self.length), was_cold);
    }

    /// Sends up to `length` bytes from `start` on to a socket, from the page cache. Answers how
    /// many; `Unsupported` where that cannot be done.
    pub fn send_part(
        &self,
        socket: BorrowedFd<'_>,
        start: usize,
        length: usize,
    ) -> io::Result<usize> {
        let length = length.min(self.length.saturating_sub(start));
        self.file.send_to(socket, self.position + position(start), length)
    }
}

/// Whole batches from the one that holds the offset asked for.
#[derive(Clone, Debug)]
pub struct ReadResult {
    pub slices: Vec<FileSlice>,
    /// The offset behind what the slices hold.
    pub next_offset: Offset,
    pub snapshot: LogOffsetSnapshot,
    /// Sorted by first offset; only for `ReadCommitted`.
    pub aborted: Vec<AbortedTransaction>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no such partition")]
    UnknownPartition,
    #[error("the offset is outside the log")]
    OffsetOutOfRange(LogOffsetSnapshot),
    /// What lies there is no record batch.
    #[error("{path}: no record batch at position {position}")]
    Damaged { path: PathBuf, position: u64 },
    #[error("the log cannot be read")]
    Io(#[from] io::Error),
}

/// A transaction that was open in a partition when the storage was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    pub partition: PartitionId,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub first_offset: Offset,
}

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    pub cycles_replayed: u64,
    pub bytes_replayed: u64,
    /// Whether the journal ended with a cycle that was not wholly written.
    pub torn_tail: bool,
    pub took: Duration,
}
