//! What readers see of a partition: only what is durable, and how far it has got.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use wire::{Offset, TimestampMs};

use crate::{
    api::{Done, LogOffsetSnapshot, PartitionId},
    host::Disk,
    keeper::Swap,
    log_state::Row,
    mutant::{self, Mutant},
    producer::Aborted,
    segment_file::SegmentFile,
};

/// A file of the log and the largest timestamp in it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) max_timestamp: TimestampMs,
    /// How much of it is published; all of it unless it is the last.
    pub(crate) length: u64,
}

/// Each of the files, which lie behind one another, and where it ends; the last does at `end`.
pub(crate) fn with_ends(
    segments: &[Segment],
    end: Offset,
) -> impl Iterator<Item = (&Segment, Offset)> {
    segments.iter().zip(segments.iter().skip(1).map(|next| next.file.base).chain([end]))
}

impl Segment {
    /// When its newest record was written: one without a timestamp when the file was. None if
    /// nobody knows.
    pub(crate) fn newest(&self, disk: &dyn Disk) -> Option<TimestampMs> {
        let newest = Some(self.max_timestamp)
            .filter(|newest| newest.0 >= 0 || mutant::is(Mutant::ExpireTimeless));
        newest.or_else(|| disk.modified(&self.file.path()).ok())
    }
}

/// Everything published about a partition.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) offsets: LogOffsetSnapshot,
    /// By base offset, ascending.
    pub(crate) segments: Vec<Segment>,
    /// Index rows that the map does not have yet, ascending.
    pub(crate) rows: Vec<Row>,
    /// Aborted transactions that the map does not have yet, by marker, ascending.
    pub(crate) aborted: Vec<Aborted>,
    /// The marker of the last aborted transaction that the map has.
    pub(crate) mapped_aborted: Option<Offset>,
    /// The base offset of the file that was written to at the newest checkpoint: those in front of
    /// it are synced and full.
    pub(crate) covered: Offset,
    /// Keys in front of it are there once.
    pub(crate) cleaned_to: Offset,
    /// Files written anew that wait for a checkpoint to take their place.
    pub(crate) pending_swaps: usize,
    waiting: Vec<(Offset, Done<()>)>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("offsets", &self.offsets)
            .field("segments", &self.segments)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

/// A partition, shared by the committer and the readers.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) dir: PathBuf,
    published: Mutex<Published>,
}

/// All partitions by id.
pub(crate) type Partitions = RwLock<HashMap<PartitionId, Arc<Partition>>>;

impl Partition {
    pub(crate) fn new(id: PartitionId, dir: PathBuf, published: Published) -> Arc<Self> {
        Arc::new(Self { id, dir, published: Mutex::new(published) })
    }

    /// Held for moments only, by readers and the committer alike.
    pub(crate) fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `done` once the high watermark is at `upto` or beyond.
    pub(crate) fn when_durable(&self, upto: Offset, done: Done<()>) {
        let mut published = self.published();
        if published.offsets.high_watermark < upto {
            published.waiting.push((upto, done));
            return;
        }
        drop(published);
        done(());
    }
}

impl Published {
    /// Takes out who waited for what is durable now.
    pub(crate) fn woken(&mut self) -> Vec<Done<()>> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let high_watermark = self.offsets.high_watermark;
        let (woken, waiting) =
            self.waiting.drain(..).partition(|(upto, _)| *upto <= high_watermark);
        self.waiting = waiting;
        let woken: Vec<(Offset, Done<()>)> = woken;
        woken.into_iter().map(|(_, done)| done).collect()
    }

    /// Takes out who waits: in a deleted partition for what will not come.
    pub(crate) fn take_waiting(&mut self) -> Vec<(Offset, Done<()>)> {
        std::mem::take(&mut self.waiting)
    }

    /// The last of the rows in memory at or before `offset`.
    pub(crate) fn row_before(&self, offset: Offset) -> Option<Row> {
        let after = self.rows.partition_point(|row| row.offset <= offset);
        after.checked_sub(1).and_then(|index| self.rows.get(index)).copied()
    }

    /// How many of the first files lie wholly in front of the log's start. The file that is
    /// written to begins at `active`.
    fn deletable(&self, log_start: Offset, active: Offset) -> usize {
        let ends = self.segments.iter().skip(1).map(|next| next.file.base);
        let last = self.segments.last().filter(|last| last.file.base < active).map(|_| active);
        ends.chain(last).take_while(|end| *end <= log_start).count()
    }

    /// Whether a file lies wholly in front of the log's start.
    pub(crate) fn has_deletable(&self, active: Offset) -> bool {
        self.offsets.log_start_offset > Offset(0)
            && self.deletable(self.offsets.log_start_offset, active) > 0
    }

    /// Takes out the files wholly in front of `log_start`, and what is known of them. They are marked
    /// while readers wait for the lock: who sees no mark knows everything that belongs to them.
    pub(crate) fn take_deletable(&mut self, log_start: Offset, active: Offset) -> Vec<Segment> {
        let count = self.deletable(log_start, active);
        let taken: Vec<Segment> = self.segments.drain(..count).collect();
        for segment in &taken {
            segment.file.mark_retired();
        }
        let first = self.segments.first().map_or(active, |first| first.file.base);
        self.rows.retain(|row| row.offset >= first);
        self.aborted.retain(|aborted| aborted.last_offset >= first);
        self.mapped_aborted = self.mapped_aborted.filter(|marker| *marker >= first);
        taken
    }

    /// Puts a file written anew in the place of others, which are the answer, and marked likewise.
    pub(crate) fn swap(&mut self, swap: &Swap) -> Vec<Segment> {
        let segments = &mut self.segments;
        let from = segments.partition_point(|segment| segment.file.base < swap.base);
        let to = segments.partition_point(|segment| segment.file.base < swap.end);
        if from >= to {
            return Vec::new();
        }
        let next = segments.get(to).map(|next| next.file.base);
        assert!(next.is_none_or(|next| next == swap.end), "a file goes up to the next");
        let replaced: Vec<Segment> = segments.splice(from..to, [swap.segment.clone()]).collect();
        for segment in &replaced {
            segment.file.mark_retired();
        }
        self.rows.retain(|row| row.offset < swap.base || row.offset >= swap.end);
        let at = self.rows.partition_point(|row| row.offset < swap.base);
        self.rows.splice(at..at, swap.rows.iter().copied());
        self.aborted.retain(|aborted| !swap.dropped_markers.contains(&aborted.last_offset));
        replaced
    }

    /// The index of the file that holds `offset`.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.file.base <= offset).checked_sub(1)
    }
}
