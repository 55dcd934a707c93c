//! What the engine counts, for whoever watches it: relaxed atomics, nobody waits for them.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// Counted since the start; the journal's segments and the flag are as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStats {
    pub journal_segments: u64,
    pub cycles: u64,
    pub journal_bytes: u64,
    pub journal_sync_time: Duration,
    pub checkpoints: u64,
    pub checkpoint_time: Duration,
    pub last_checkpoint: Duration,
    /// By which compaction and deletion made the logs shorter; deleted topics are not counted.
    pub reclaimed_bytes: u64,
    pub deleted_segments: u64,
    /// For want of space on the disk.
    pub produce_refused: bool,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    cycles: AtomicU64,
    journal_bytes: AtomicU64,
    journal_sync_ns: AtomicU64,
    checkpoints: AtomicU64,
    checkpoint_ns: AtomicU64,
    last_checkpoint_ns: AtomicU64,
    reclaimed_bytes: AtomicU64,
    deleted_segments: AtomicU64,
    produce_refused: AtomicBool,
}

impl Counters {
    pub(crate) fn cycle(&self, bytes: usize, sync_time: Duration) {
        self.cycles.fetch_add(1, Ordering::Relaxed);
        self.journal_bytes.fetch_add(crate::codec::position(bytes), Ordering::Relaxed);
        self.journal_sync_ns.fetch_add(nanoseconds(sync_time), Ordering::Relaxed);
    }

    pub(crate) fn checkpoint(&self, took: Duration) {
        let took = nanoseconds(took);
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpoint_ns.fetch_add(took, Ordering::Relaxed);
        self.last_checkpoint_ns.store(took, Ordering::Relaxed);
    }

    pub(crate) fn reclaimed(&self, bytes: u64) {
        self.reclaimed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Files that were deleted, with their lengths.
    pub(crate) fn deleted(&self, lengths: impl Iterator<Item = u64>) {
        for length in lengths {
            self.deleted_segments.fetch_add(1, Ordering::Relaxed);
            self.reclaimed(length);
        }
    }

    pub(crate) fn refuse_produce(&self, refused: bool) {
        self.produce_refused.store(refused, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, journal_segments: u32) -> StorageStats {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicU64| Duration::from_nanos(number(counter));
        StorageStats {
            journal_segments: journal_segments.into(),
            cycles: number(&self.cycles),
            journal_bytes: number(&self.journal_bytes),
            journal_sync_time: time(&self.journal_sync_ns),
            checkpoints: number(&self.checkpoints),
            checkpoint_time: time(&self.checkpoint_ns),
            last_checkpoint: time(&self.last_checkpoint_ns),
            reclaimed_bytes: number(&self.reclaimed_bytes),
            deleted_segments: number(&self.deleted_segments),
            produce_refused: self.produce_refused.load(Ordering::Relaxed),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
