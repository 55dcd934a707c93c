//! Transactions by the order in which everything was appended, what is deleted or compacted away
//! included: how far a log is stable, and which of them were aborted.

use std::collections::{BTreeMap, BTreeSet};

use wire::{
    Offset, ProducerId,
    batch::{BatchView, Marker, marker},
};

use super::{
    Check, Model, check,
    model::{Log, Seeing, limit, unreadable},
};
use crate::{Isolation, PartitionId, engine::Opened, partition::Partition, read::Reading};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Counts,
    Aborted,
    Open,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug)]
struct Aborted {
    first: Offset,
    producer: ProducerId,
    marker: Offset,
}

/// All transactions of a log.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// What became of each batch of records.
    pub(super) fates: BTreeMap<Offset, Fate>,
    aborted: Vec<Aborted>,
    /// Where the first that is open begins.
    first_open: Option<Offset>,
}

impl Model {
    /// By the batches that were ever in a log.
    pub(super) fn transactions(&self, known: &BTreeMap<Offset, usize>) -> Transactions {
        let mut found = Transactions::default();
        let mut open: BTreeMap<ProducerId, Vec<Offset>> = BTreeMap::new();
        for (base, sent) in known {
            let view = BatchView::parse(&self.sent[*sent].batch).unwrap();
            let producer = view.header.producer_id;
            if let Some((end, _)) = marker(&view).unwrap() {
                let ended = open.remove(&producer).unwrap_or_default();
                let fate = if end == Marker::Commit { Fate::Counts } else { Fate::Aborted };
                if let (Some(first), Fate::Aborted) = (ended.first(), fate) {
                    found.aborted.push(Aborted { first: *first, producer, marker: *base });
                }
                found.fates.extend(ended.into_iter().map(|base| (base, fate)));
            } else if view.header.is_transactional() {
                open.entry(producer).or_default().push(*base);
            } else {
                found.fates.insert(*base, Fate::Counts);
            }
        }
        found.first_open = open.values().flatten().min().copied();
        found.fates.extend(open.into_values().flatten().map(|base| (base, Fate::Open)));
        found
    }

    /// The last stable offset and the aborted transactions are what was appended makes them, and a
    /// client sees by them what was committed.
    pub(super) fn verify_committed(
        &self,
        id: PartitionId,
        log: &Log,
        seeing: &Seeing<'_>,
    ) -> Check {
        let engine = seeing.engine;
        let Some(partition) = engine.shared.partition(id) else { return Ok(()) };
        let transactions = self.transactions(&self.known(id, log, seeing)?);
        let offsets = partition.published().offsets;
        // A transaction may have begun with records that were deleted.
        let stable = transactions.first_open.unwrap_or(offsets.high_watermark);
        let stable = stable.max(offsets.log_start_offset);
        check(offsets.last_stable_offset == stable, || {
            let is = offsets.last_stable_offset;
            format!("the last stable offset of {id:?} is {is:?}, not {stable:?}")
        })?;
        if offsets.log_start_offset > Offset(0) && transactions.first_open.is_some() {
            seeing.tally.note("transaction open in a log whose first records are gone");
        }
        transactions.verify_aborted(engine, &partition, (log, seeing))?;
        verify_visible(engine, &partition, (log, &transactions.fates))
    }
}

impl Transactions {
    /// Each read at `read_committed` tells the aborted transactions that overlap it.
    fn verify_aborted(
        &self,
        engine: &Opened,
        partition: &Partition,
        (log, seeing): (&Log, &Seeing<'_>),
    ) -> Check {
        // Nothing is left of a transaction whose marker was compacted away.
        let is_left = |one: &&Aborted| {
            let marker = log.get(&one.marker).map(|bytes| BatchView::parse(bytes).unwrap());
            marker.is_some_and(|view| view.header.record_count > 0)
        };
        let aborted: Vec<&Aborted> = self.aborted.iter().filter(is_left).collect();
        let offsets = partition.published().offsets;
        let reading = Reading::of(&engine.shared);
        let mut from = offsets.log_start_offset;
        loop {
            let read = reading.read(partition, from, limit(Isolation::ReadCommitted));
            let read = read.map_err(|error| unreadable(&error))?;
            let Some(slice) = read.slices.first() else { break };
            let bytes = slice.load().map_err(|error| unreadable(&error))?;
            let last = wire::batch::batches(&bytes).last().map(|view| view.header.next_offset());
            let next = last.unwrap_or(from);
            // Those between these batches and the next may be told too.
            let behind = log.range(next..).next().map_or(next, |(base, _)| *base);
            let overlapping = |upper: Offset| -> BTreeSet<(Offset, ProducerId)> {
                let overlaps = |one: &&&Aborted| one.marker >= from && one.first < upper;
                aborted.iter().filter(overlaps).map(|one| (one.first, one.producer)).collect()
            };
            let told: BTreeSet<_> =
                read.aborted.iter().map(|one| (one.first_offset, one.producer_id)).collect();
            let (needed, allowed) = (overlapping(next), overlapping(behind));
            check(told.len() == read.aborted.len(), || "an abort is told twice".to_owned())?;
            // A file that is read through again knows nothing of records that were compacted away.
            let same = told.is_superset(&needed) && told.is_subset(&allowed);
            check(same || seeing.has_flipped, || {
                format!("aborted from {from} on in {:?} are {told:?}, not {needed:?}", partition.id)
            })?;
            if told.iter().any(|(first, _)| *first < offsets.log_start_offset) {
                seeing.tally.note("transaction aborted that began in front of the log's start");
            }
            from = next;
        }
        let stable = offsets.last_stable_offset;
        check(from == stable, || format!("committed reading ends at {from}, not at {stable}"))
    }
}

/// What a client makes of a log at `read_committed` is what was committed.
fn verify_visible(
    engine: &Opened,
    partition: &Partition,
    (log, fates): (&Log, &BTreeMap<Offset, Fate>),
) -> Check {
    let stable = partition.published().offsets.last_stable_offset;
    let visible = visible(engine, partition)?;
    for (base, bytes) in log.range(..stable) {
        let header = BatchView::parse(bytes).unwrap().header;
        // The log may start, and be stable, in the midst of a batch.
        let is_stable = header.next_offset() <= stable;
        if header.is_control() || header.record_count == 0 || !is_stable {
            continue;
        }
        let (is_visible, fate) = (visible.contains(base), fates.get(base));
        check(is_visible == (fate == Some(&Fate::Counts)), || {
            format!("{base} of {:?}, {fate:?}, is visible: {is_visible}", partition.id)
        })?;
    }
    Ok(())
}

/// The base offsets of the batches that a client hands on at `read_committed`: it is told the
/// aborted transactions and passes over their batches by itself.
fn visible(engine: &Opened, partition: &Partition) -> Result<BTreeSet<Offset>, String> {
    let mut visible = BTreeSet::new();
    let reading = Reading::of(&engine.shared);
    let mut from = partition.published().offsets.log_start_offset;
    loop {
        let read = reading.read(partition, from, limit(Isolation::ReadCommitted));
        let read = read.map_err(|error| unreadable(&error))?;
        let Some(slice) = read.slices.first() else { return Ok(visible) };
        let bytes = slice.load().map_err(|error| unreadable(&error))?;
        let mut told = read.aborted.clone();
        told.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        let mut aborting = BTreeSet::new();
        for view in wire::batch::batches(&bytes) {
            let header = view.header;
            from = header.next_offset();
            while told.last().is_some_and(|one| one.first_offset <= header.last_offset()) {
                aborting.extend(told.pop().map(|one| one.producer_id));
            }
            if header.is_control() {
                let end = marker(&view).map_err(|error| unreadable(&error))?;
                if end.is_some_and(|(end, _)| end == Marker::Abort) {
                    aborting.remove(&header.producer_id);
                }
            } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
                visible.insert(header.base_offset);
            }
        }
    }
}
