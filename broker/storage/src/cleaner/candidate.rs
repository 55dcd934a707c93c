//! Which log is compacted next, and how much of it.

use std::sync::Arc;

use wire::{Offset, TimestampMs};

use crate::{
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
    ) -> Option<Self> {
        let published = partition.published();
        if published.pending_swaps > 0 {
            return None;
        }
        let (segments, end) = cleanable(&published, &settings, now);
        let first_dirty = published.cleaned_to.max(published.offsets.log_start_offset);
        drop(published);
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

/// The full files in front of the newest checkpoint and the last stable offset, up to the first
/// that is too young, and where they end.
fn cleanable(
    published: &Published,
    settings: &TopicSettings,
    now: TimestampMs,
) -> (Vec<Segment>, Offset) {
    let bound = published.covered.min(published.offsets.last_stable_offset);
    let mut end = Offset(0);
    let mut segments = Vec::new();
    let nexts = published.segments.iter().skip(1).map(|next| next.file.base);
    for (segment, next) in published.segments.iter().zip(nexts.chain([published.covered])) {
        let age = now.0.saturating_sub(segment.max_timestamp.0);
        let young = settings.min_compaction_lag_ms > 0 && age < settings.min_compaction_lag_ms;
        if next > bound || next <= segment.file.base || young {
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
