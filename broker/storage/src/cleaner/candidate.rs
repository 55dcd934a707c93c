//! Which log is compacted next, and how much of it.

use std::sync::Arc;

use wire::{Offset, TimestampMs};

use crate::{
    host::Disk,
    partition::{Partition, Published, Segment, with_ends},
    settings::TopicSettings,
};

/// The part of a log that may be compacted.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) partition: Arc<Partition>,
    pub(super) settings: TopicSettings,
    /// From the log's first file on.
    pub(super) segments: Vec<Segment>,
    /// Where the last of them ends.
    pub(super) end: Offset,
    /// Keys in front of it are there once.
    pub(super) first_dirty: Offset,
    pub(super) dirty_bytes: u64,
    /// Of the bytes, in percent.
    pub(super) dirty_percent: f64,
}

impl Candidate {
    /// What may be compacted now; none if all of that is clean.
    pub(super) fn of(
        partition: &Arc<Partition>,
        settings: TopicSettings,
        now: TimestampMs,
        disk: &dyn Disk,
    ) -> Option<Self> {
        let published = partition.published();
        if published.pending_swaps > 0 {
            return None;
        }
        let (mut segments, mut end) = cleanable(&published);
        let first_dirty = published.cleaned_to.max(published.offsets.log_start_offset);
        drop(published);
        let lag = settings.min_compaction_lag_ms;
        let is_young = |segment: &Segment| {
            let newest = segment.newest(disk);
            newest.is_none_or(|newest| now.0.saturating_sub(newest.0) < lag)
        };
        if lag > 0
            && let Some(young) = segments.iter().position(is_young)
        {
            end = segments.get(young).map_or(end, |young| young.file.base);
            segments.truncate(young);
        }
        let (mut clean, mut dirty) = (0_u64, 0_u64);
        for (segment, end) in with_ends(&segments, end) {
            let bytes = if end > first_dirty { &mut dirty } else { &mut clean };
            *bytes += segment.length;
        }
        if dirty == 0 {
            return None;
        }
        let dirty_percent = 100.0 * share(dirty, clean + dirty);
        let partition = Arc::clone(partition);
        Some(Self {
            partition,
            settings,
            segments,
            end,
            first_dirty,
            dirty_bytes: dirty,
            dirty_percent,
        })
    }

    /// The files that have something dirty in them.
    pub(super) fn dirty_segments(&self) -> &[Segment] {
        let behind = self.segments.partition_point(|segment| segment.file.base <= self.first_dirty);
        self.segments.get(behind.saturating_sub(1)..).unwrap_or_default()
    }

    /// Whether so much is dirty that it pays.
    pub(super) fn is_due(&self) -> bool {
        self.dirty_percent > 100.0 * self.settings.min_cleanable_dirty_ratio
    }
}

/// The full files in front of the newest checkpoint and the last stable offset, and where they end.
fn cleanable(published: &Published) -> (Vec<Segment>, Offset) {
    let bound = published.covered.min(published.offsets.last_stable_offset);
    let mut end = Offset(0);
    let mut segments = Vec::new();
    let nexts = published.segments.iter().skip(1).map(|next| next.file.base);
    for (segment, next) in published.segments.iter().zip(nexts.chain([published.covered])) {
        if next > bound || next <= segment.file.base {
            break;
        }
        end = next;
        segments.push(segment.clone());
    }
    (segments, end)
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a share need not be exact")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
