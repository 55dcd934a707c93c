//! One pass over a log: learn the newest offset of each key, then write the files again without
//! what is superseded. Offsets never change, and every reader keeps the file it has open.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
};

use wire::{
    Offset, ProducerId, TimestampMs,
    batch::{BatchError, BatchHeader, BatchView, RecordLimits, records, rewrite},
};

use super::{
    batches::Batches,
    candidate::Candidate,
    keys::{Keys, is_over},
    throttle::Throttle,
};
use crate::{
    codec::position,
    keeper::state_behind,
    partition::{Segment, with_ends},
    producer::{Aborted, Newest},
    shared::Shared,
};

/// Why a pass was given up.
#[derive(Debug)]
pub(super) enum Failure {
    /// The broker stops.
    Stopping,
    /// A batch cannot be read; the log stays as it is.
    Damaged {
        path: PathBuf,
        position: u64,
    },
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What becomes of a batch.
enum Fate {
    Stays,
    Goes,
    Becomes(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Pass {
    pub(super) candidate: Candidate,
    /// How many of its files were looked through.
    pub(super) done: usize,
    pub(super) now: TimestampMs,
    keys: Keys,
    throttle: Throttle,
    aborted: HashMap<ProducerId, Vec<Aborted>>,
    /// The newest batch of each producer, or its epoch if its newest is a marker.
    newest: HashMap<ProducerId, Newest>,
    /// Producers of whose transaction something was met, and its end not yet.
    observed: HashSet<ProducerId>,
    /// Whether a batch was not taken over as it was.
    pub(super) changed: bool,
}

impl Pass {
    /// Learns the keys of what is dirty.
    pub(super) fn begin(
        shared: &Shared,
        candidate: Candidate,
        most_keys: usize,
        now: TimestampMs,
    ) -> Result<Self, Failure> {
        let state = state_behind(shared.host.disk.as_ref(), &candidate.segments)?;
        let silent_since = shared.catalogue().silent_since(now);
        let aborted = aborted(shared, &candidate)?;
        let mut pass = Self {
            candidate,
            done: 0,
            now,
            keys: Keys::new(most_keys),
            throttle: Throttle::of(shared),
            aborted: HashMap::new(),
            newest: state.producers.newest(silent_since),
            observed: HashSet::new(),
            changed: false,
        };
        for aborted in aborted {
            pass.aborted.entry(aborted.producer_id).or_default().push(aborted);
        }
        pass.learn(shared)?;
        Ok(pass)
    }

    /// Everything in front of it is clean after this pass.
    pub(super) fn upto(&self) -> Offset {
        self.keys.upto
    }

    fn learn(&mut self, shared: &Shared) -> Result<(), Failure> {
        let first_dirty = self.candidate.first_dirty;
        let segments = self.candidate.segments.clone();
        for (segment, end) in with_ends(&segments, self.candidate.end) {
            if end > first_dirty && !self.learn_file(shared, segment, end)? {
                return Ok(());
            }
            self.keys.upto = end;
        }
        Ok(())
    }

    /// `false` once there is no room for more keys.
    fn learn_file(
        &mut self,
        shared: &Shared,
        segment: &Segment,
        end: Offset,
    ) -> Result<bool, Failure> {
        let first_dirty = self.candidate.first_dirty;
        let mut batches = Batches::of(shared, segment, end)?;
        loop {
            if shared.cleaning.is_stopping() {
                return Err(Failure::Stopping);
            }
            let Some(view) = batches.next_batch()? else { return Ok(true) };
            self.throttle.moved(shared, position(view.bytes().len()))?;
            let header = view.header;
            if header.last_offset() < first_dirty || header.is_control() || self.aborts(&header) {
                continue;
            }
            match self.learn_batch(&view, first_dirty) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(_unreadable) => return Err(batches.damaged()),
            }
        }
    }

    fn learn_batch(
        &mut self,
        view: &BatchView<'_>,
        first_dirty: Offset,
    ) -> Result<bool, BatchError> {
        let mut records = records(view, RecordLimits::default())?;
        while let Some(record) = records.next_record() {
            let record = record?;
            let Some(key) = record.key.filter(|_| record.offset >= first_dirty) else { continue };
            if !self.keys.put(key, record.offset) {
                self.keys.upto = record.offset;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the batch is of a transaction that was aborted.
    fn aborts(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && self.aborted.get(&header.producer_id).is_some_and(|all| {
                all.iter()
                    .any(|one| (one.first_offset..=one.last_offset).contains(&header.base_offset))
            })
    }

    /// Hands the batches of a file, as they are to be, to `take`. `end` is where what they are
    /// written to ends: the batch in front of it stays, if only as a header, so that a file says
    /// itself where the next begins. Answers the markers that went.
    pub(super) fn filter(
        &mut self,
        shared: &Shared,
        mut batches: Batches,
        end: Offset,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Vec<Offset>, Failure> {
        let mut dropped_markers = Vec::new();
        loop {
            if shared.cleaning.is_stopping() {
                return Err(Failure::Stopping);
            }
            let Some(view) = batches.next_batch()? else { return Ok(dropped_markers) };
            // What stays is written too.
            self.throttle.moved(shared, 2 * position(view.bytes().len()))?;
            let header = view.header;
            let must_stay = header.next_offset() == end || self.is_newest(&header);
            let fate = self.fate(&view, must_stay);
            self.changed |= !matches!(fate, Ok(Fate::Stays));
            match fate {
                Ok(Fate::Stays) => take(view.bytes())?,
                Ok(Fate::Becomes(bytes)) => {
                    // A marker without its record ends nothing: a reader that is told of the
                    // transaction would take what the producer wrote later for aborted too.
                    if header.is_control() && !has_records(&bytes) {
                        dropped_markers.push(header.base_offset);
                    }
                    take(&bytes)?;
                }
                Ok(Fate::Goes) if header.is_control() => dropped_markers.push(header.base_offset),
                Ok(Fate::Goes) => {}
                Err(_unreadable) => return Err(batches.damaged()),
            }
        }
    }

    fn is_newest(&self, header: &BatchHeader) -> bool {
        header.has_producer_id()
            && match self.newest.get(&header.producer_id) {
                Some(Newest::Batch(offset)) => *offset == header.base_offset,
                Some(Newest::Marker(epoch)) => {
                    header.is_control() && *epoch == header.producer_epoch
                }
                None => false,
            }
    }

    fn fate(&mut self, view: &BatchView<'_>, must_stay: bool) -> Result<Fate, BatchError> {
        let header = view.header;
        let over = is_over(header.delete_horizon(), self.now);
        let new_horizon =
            TimestampMs(self.now.0.saturating_add(self.candidate.settings.delete_retention_ms));
        let limits = RecordLimits::default();
        // A marker is alone once nothing of its transaction was met in front of it.
        let is_alone = header.is_control() && !self.observed.remove(&header.producer_id);
        if header.is_transactional() && !header.is_control() {
            self.observed.insert(header.producer_id);
        }
        if header.record_count == 0 {
            return Ok(if must_stay { Fate::Stays } else { Fate::Goes });
        }
        if header.is_control() {
            // A marker stays as long as a record of its transaction, and then for its time.
            return match (is_alone, header.delete_horizon()) {
                (false, _) => Ok(Fate::Stays),
                (true, None) => {
                    rewrite(view, limits, Some(new_horizon), |_| true).map(Fate::Becomes)
                }
                (true, Some(_)) if !over => Ok(Fate::Stays),
                (true, Some(_)) if must_stay => {
                    rewrite(view, limits, None, |_| false).map(Fate::Becomes)
                }
                (true, Some(_)) => Ok(Fate::Goes),
            };
        }
        let aborted = self.aborts(&header);
        let keeps = |record: &wire::batch::Record<'_>| !aborted && self.keys.keeps(record, !over);
        let (mut kept, mut tombstones) = (0, false);
        let mut all = records(view, limits)?;
        while let Some(record) = all.next_record() {
            let record = record?;
            if keeps(&record) {
                kept += 1;
                tombstones |= record.value.is_none();
            }
        }
        let horizon = header.delete_horizon();
        let needs_horizon = tombstones && horizon.is_none();
        let fate = if kept == header.record_count && !needs_horizon {
            Fate::Stays
        } else if kept == 0 && !must_stay {
            Fate::Goes
        } else {
            let horizon = if needs_horizon { Some(new_horizon) } else { horizon };
            Fate::Becomes(rewrite(view, limits, horizon, keeps)?)
        };
        Ok(fate)
    }
}

fn has_records(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.record_count > 0)
}

/// The aborted transactions of the files, some of them twice: one that moves to the map is there
/// before it leaves the memory.
fn aborted(shared: &Shared, candidate: &Candidate) -> io::Result<Vec<Aborted>> {
    let first = candidate.segments.first().map_or(candidate.end, |first| first.file.base);
    let mut all = candidate.partition.published().aborted.clone();
    all.extend(shared.map.aborted(candidate.partition.id, first, candidate.end)?);
    Ok(all)
}
