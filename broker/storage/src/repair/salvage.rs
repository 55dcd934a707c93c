//! What can still be read of a journal.

use std::{collections::BTreeMap, io, sync::Arc};

use wire::{LeaderEpoch, Offset, batch::batches};

use super::survey::read_what_can_be;
use crate::{
    api::PartitionId,
    codec::in_memory,
    host::{DiskFile, Open, is_unreadable, naming},
    inspect::Inspection,
    journal::{
        cycle::{Cycle, CycleHeader, Secret, decode},
        scan::{ReadAt, whole_cycles},
    },
    segment_file::SegmentFile,
};

/// A cycle that is whole.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: usize,
    at: u64,
    length: usize,
    header: CycleHeader,
}

/// The cycles beyond the checkpoint that are whole, and the highest numbers seen.
#[derive(Debug)]
pub(super) struct Salvage {
    segments: Vec<Arc<dyn DiskFile>>,
    secret: Secret,
    /// In the order in which they were written.
    places: Vec<Place>,
    /// Where each partition ended at least.
    ends: BTreeMap<PartitionId, Offset>,
    pub(super) checkpoint: u64,
    pub(super) cycle: u64,
    pub(super) start: u64,
    pub(super) leader_epoch: LeaderEpoch,
}

impl Salvage {
    pub(super) fn collect(inspection: &Inspection) -> io::Result<Self> {
        let mut salvage = Self {
            segments: Vec::new(),
            secret: Secret([0; 32]),
            places: Vec::new(),
            ends: BTreeMap::new(),
            checkpoint: 0,
            cycle: 0,
            start: 0,
            leader_epoch: LeaderEpoch(0),
        };
        // Without a checkpoint nothing tells a cycle from a payload that looks like one.
        let Some(checkpoint) = &inspection.checkpoint else { return Ok(salvage) };
        salvage.secret = checkpoint.secret;
        salvage.checkpoint = checkpoint.number;
        salvage.cycle = checkpoint.cycle;
        salvage.start = checkpoint.start;
        salvage.leader_epoch = checkpoint.leader_epoch;
        for (id, end) in &checkpoint.logs {
            salvage.ends.insert(*id, end.next_offset);
        }
        // Whatever the header of a segment has become, the secret tells which cycles are ours.
        for number in inspection.ring_files.all()? {
            let file = inspection.ring_files.open(number, Open::Read)?;
            salvage.look_through(file)?;
        }
        salvage.choose(checkpoint.cycle, checkpoint.cycle_start, checkpoint.start);
        salvage.find_ends()?;
        Ok(salvage)
    }

    /// Finds every whole cycle of a segment, also behind what cannot be read.
    fn look_through(&mut self, file: Arc<dyn DiskFile>) -> io::Result<()> {
        let segment = self.segments.len();
        let segment_bytes = file.len()?;
        let places = &mut self.places;
        let take = &mut |at: u64, cycle: &Cycle<'_>| {
            places.push(Place { segment, at, length: cycle.length, header: cycle.header });
            true
        };
        let read_at: ReadAt<'_> = &|bytes, at| match file.read_at(bytes, at) {
            Err(error) if is_unreadable(&error) => {
                let there = in_memory(segment_bytes.saturating_sub(at)).min(bytes.len());
                read_what_can_be(file.as_ref(), bytes.get_mut(..there).unwrap_or_default(), at);
                Ok(there)
            }
            read => read,
        };
        whole_cycles(read_at, segment_bytes, &self.secret, &|_| true, take)?;
        self.segments.push(file);
        Ok(())
    }

    /// Keeps what belongs to the life of the directory: from the checkpoint on without a gap, and
    /// behind a gap only what the last start wrote. An older start may have left cycles that a later
    /// one took for a torn tail.
    fn choose(&mut self, cycle: u64, cycle_start: u64, last_start: u64) {
        for place in &self.places {
            self.checkpoint = self.checkpoint.max(place.header.checkpoint);
            self.cycle = self.cycle.max(place.header.number);
            self.start = self.start.max(place.header.start);
        }
        // Of two with the same number the later start's comes first.
        self.places
            .sort_by_key(|place| (place.header.number, std::cmp::Reverse(place.header.start)));
        let (mut number, mut start, mut gap) = (cycle, cycle_start, false);
        self.places.retain(|place| {
            let header = place.header;
            if header.number <= number || header.start < start {
                return false;
            }
            gap |= header.number != number + 1;
            if gap && header.start < last_start {
                return false;
            }
            (number, start) = (header.number, header.start);
            true
        });
    }

    fn find_ends(&mut self) -> io::Result<()> {
        let mut ends = std::mem::take(&mut self.ends);
        self.each(&mut |cycle| {
            for (extent, piece) in &cycle.pieces {
                let Some(last) = batches(piece).last() else { continue };
                let end = ends.entry(extent.partition).or_default();
                *end = last.header.next_offset().max(*end);
            }
            Ok(())
        })?;
        self.ends = ends;
        Ok(())
    }

    fn each(&self, visit: &mut dyn FnMut(&Cycle<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut memory = Vec::new();
        for place in &self.places {
            let Some(file) = self.segments.get(place.segment) else { continue };
            memory.resize(place.length, 0);
            match file.read_at(&mut memory, place.at) {
                Ok(read) if read == place.length => {}
                Err(error) if !is_unreadable(&error) => return Err(error),
                // It could be read before.
                Ok(_) | Err(_) => continue,
            }
            if let Some(cycle) = decode(&memory, &self.secret) {
                visit(&cycle)?;
            }
        }
        Ok(())
    }

    /// Writes the pieces of these partitions where their places say.
    pub(super) fn write(
        &self,
        inspection: &Inspection,
        of: impl Fn(PartitionId) -> bool,
    ) -> io::Result<()> {
        self.each(&mut |cycle| {
            for (extent, piece) in &cycle.pieces {
                if !of(extent.partition) {
                    continue;
                }
                let path = inspection.log_path(extent.partition, extent.segment);
                let dir = path.parent().unwrap_or(&path).to_path_buf();
                let file = SegmentFile::new(dir, extent.segment);
                let file = naming(&path, file.for_writing(inspection.disk()))?;
                naming(&path, file.write_at(piece, extent.position))?;
            }
            Ok(())
        })
    }

    /// How many cycles were written again.
    pub(super) fn cycles(&self) -> usize {
        self.places.len()
    }

    /// Where the partition is known to have ended.
    pub(super) fn expected_end(&self, id: PartitionId) -> Offset {
        self.ends.get(&id).copied().unwrap_or_default()
    }
}
