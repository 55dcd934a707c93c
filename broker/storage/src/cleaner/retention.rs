//! Which files are too old or too many, and which producers have been silent for too long.

use std::time::Duration;

use wire::{Offset, TimestampMs};

use crate::{
    api::{Catalogue, LogOffsetSnapshot},
    catalogue::METADATA,
    codec::position,
    keeper::Clean,
    partition::Segment,
    queue::{DeleteRecords, Request},
    settings::TopicSettings,
    shared::Shared,
};

/// How often silent producers are looked for: Kafka's `producer.id.expiration.check.interval.ms`.
const EXPIRE_PRODUCERS_EVERY: Duration = Duration::from_mins(10);

/// The checkpoint that removes its old records is over by then.
const RECORD_CATALOGUE_EVERY: Duration = Duration::from_mins(1);
/// How many times what it says the log may be large.
const TIMES_LIVE: u64 = 4;

/// What retention remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// When silent producers are looked for next; not before one interval has passed.
    expire_producers_at: Option<Duration>,
    /// When the catalogue may be recorded once more.
    record_catalogue_at: Duration,
}

impl Retention {
    /// One look at every log, and at what deleted files left.
    pub(crate) fn step(&mut self, shared: &Shared) {
        shared.leftovers.free(shared);
        let catalogue = shared.catalogue();
        let now = shared.host.clock.now();
        let began = shared.host.clock.monotonic();
        let due_at = *self.expire_producers_at.get_or_insert(began + EXPIRE_PRODUCERS_EVERY);
        if began >= due_at {
            self.expire_producers_at = Some(began + EXPIRE_PRODUCERS_EVERY);
            let before = TimestampMs(now.0.saturating_sub(catalogue.producer_id_expiration_ms()));
            shared.queue.push(Request::Clean(Clean::ExpireProducers { before }));
        }
        if began >= self.record_catalogue_at && is_mostly_history(shared, &catalogue) {
            self.record_catalogue_at = began + RECORD_CATALOGUE_EVERY;
            let again = Clean::RecordCatalogue { from: None, after: None };
            shared.queue.push(Request::Clean(again));
        }
        for (id, topic) in catalogue.partitions().filter(|(id, _)| *id != METADATA) {
            let Some(partition) = shared.partition(id) else { continue };
            let settings = TopicSettings::of(&catalogue, topic, shared.default_segment_bytes);
            let newest = |segment: &Segment| segment.newest(shared.host.disk.as_ref());
            let published = partition.published();
            let (segments, offsets) = (published.segments.clone(), published.offsets);
            drop(published);
            let start = log_start(&segments, offsets, &settings, now, newest);
            if start.is_some() {
                // Whether it worked shows at the next look.
                let request = DeleteRecords { partition: id, before: start, done: Box::new(drop) };
                shared.queue.push(Request::DeleteRecords(request));
            }
        }
    }
}

/// Whether the catalogue's log has more than one file and is far larger than what it says.
fn is_mostly_history(shared: &Shared, catalogue: &Catalogue) -> bool {
    let Some(partition) = shared.partition(METADATA) else { return false };
    let bytes: u64 = partition.published().segments.iter().map(|segment| segment.length).sum();
    let settings = TopicSettings::of(catalogue, None, shared.default_segment_bytes);
    bytes > settings.segment_bytes && bytes > TIMES_LIVE * position(catalogue.recorded_bytes())
}

/// Where the log should begin, if that is not where it does.
fn log_start(
    segments: &[Segment],
    offsets: LogOffsetSnapshot,
    settings: &TopicSettings,
    now: TimestampMs,
    newest: impl Fn(&Segment) -> Option<TimestampMs>,
) -> Option<Offset> {
    if !settings.delete {
        return None;
    }
    let bytes: u64 = segments.iter().map(|segment| segment.length).sum();
    let mut surplus = settings.retention_bytes.map_or(0, |most| bytes.saturating_sub(most));
    let mut count = 0;
    for segment in segments {
        let is_over = |longest| {
            newest(segment).is_some_and(|newest| now.0.saturating_sub(newest.0) > longest)
        };
        let expired = settings.retention_ms.is_some_and(is_over);
        let too_much = surplus > 0 && surplus >= segment.length;
        if segment.length == 0 || !(expired || too_much) {
            break;
        }
        surplus = surplus.saturating_sub(segment.length);
        count += 1;
    }
    let next = segments.get(count).map_or(offsets.high_watermark, |next| next.file.base);
    (count > 0 && next > offsets.log_start_offset).then_some(next)
}
