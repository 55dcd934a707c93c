//! The index of times: what it finds is what a reader finds who looks at every record.

use wire::{Offset, TimestampMs};

use super::{
    Check, Dice, check,
    compacted::kept,
    model::{Log, Seeing, unreadable},
};
use crate::{PartitionId, read::Reading};

/// How many times are looked up in each log.
const LOOKUPS: u32 = 3;

/// Some times, and the largest.
pub(super) fn verify(id: PartitionId, (log, start): (&Log, Offset), seeing: &Seeing<'_>) -> Check {
    let shared = &seeing.engine.shared;
    let Some(partition) = shared.partition(id) else { return Ok(()) };
    let mut all: Vec<(Offset, TimestampMs)> = Vec::new();
    for (base, bytes) in log {
        let records = kept(bytes)?.into_iter();
        all.extend(records.map(|record| (base.plus(record.index()), record.timestamp())));
    }
    all.retain(|(offset, _)| *offset >= start);
    let timed: Vec<_> = all.iter().copied().filter(|(_, time)| time.0 >= 0).collect();
    if timed.len() < all.len() {
        seeing.tally.note("records without a time");
    }
    let reading = Reading::of(shared);
    let mut dice = Dice::new(seeing.now.0.unsigned_abs());
    for _ in 0..LOOKUPS {
        let some = timed.get(dice.below_len(timed.len())).map_or(0, |(_, time)| time.0);
        let time = TimestampMs((some + i64::try_from(dice.below(3)).unwrap() - 1).max(0));
        let expected = timed.iter().find(|(_, at)| *at >= time).copied();
        let found = reading.offset_for_timestamp(&partition, time);
        let found = found.map_err(|error| unreadable(&error))?;
        check(found == expected, || {
            format!("the first of {id:?} at {time:?} is {found:?}, not {expected:?}")
        })?;
    }
    // As in Kafka, the first if none has a time.
    let expected = all.iter().copied().min_by_key(|(offset, at)| (-at.0, *offset));
    let found = reading.max_timestamp(&partition).map_err(|error| unreadable(&error))?;
    check(found == expected, || format!("the newest of {id:?} is {found:?}, not {expected:?}"))
}
