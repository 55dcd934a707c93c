//! Which files are too old or too many.

use wire::{Offset, TimestampMs};

use crate::{partition::Published, settings::TopicSettings};

/// Where the log should begin, if that is not where it does.
pub(super) fn log_start(
    published: &Published,
    settings: &TopicSettings,
    now: TimestampMs,
) -> Option<Offset> {
    if !settings.delete {
        return None;
    }
    let segments = &published.segments;
    let bytes: u64 = segments.iter().map(|segment| segment.length).sum();
    let mut surplus = settings.retention_bytes.map_or(0, |most| bytes.saturating_sub(most));
    let mut count = 0;
    for segment in segments {
        let age = now.0.saturating_sub(segment.max_timestamp.0);
        // Without any timestamp there is no age.
        let expired = segment.max_timestamp.0 >= 0
            && settings.retention_ms.is_some_and(|longest| age > longest);
        let too_much = surplus > 0 && surplus >= segment.length;
        if segment.length == 0 || !(expired || too_much) {
            break;
        }
        surplus = surplus.saturating_sub(segment.length);
        count += 1;
    }
    let next = segments.get(count).map_or(published.offsets.high_watermark, |next| next.file.base);
    (count > 0 && next > published.offsets.log_start_offset).then_some(next)
}
