//! Finds the cycles beyond a checkpoint, and tells a torn tail from damage.

use std::{collections::BTreeMap, io, ops::Range, sync::Arc};

use wire::{Offset, batch::BatchHeader};

use super::{
    checkpoint::{Checkpoint, RingPosition},
    cycle::{Cycle, CycleHeader, HEADER_BYTES, MAX_CYCLE_BYTES, Secret, decode, peek},
    ring::{FIRST_CYCLE, RingFiles},
};
use crate::{
    aligned::{ALIGNMENT, padded},
    api::PartitionId,
    codec::{in_memory, position},
    damage::{Damage, PartitionName},
    host::{DiskFile, Open},
    mutant::{self, Mutant},
};

/// A cycle that recovery accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) at: RingPosition,
    pub(crate) length: usize,
    pub(crate) header: CycleHeader,
}

/// The ring as a start finds it.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segments: Vec<(u32, Arc<dyn DiskFile>)>,
    pub(crate) cycles: Vec<Found>,
    /// Whether they end with one that was not wholly written.
    pub(crate) torn_tail: bool,
    segment_bytes: u64,
}

/// Why the ring cannot be read.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    Damage(Damage),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Scan {
    /// The ring when nothing was written to it since the checkpoint.
    pub(crate) fn of_nothing(files: &RingFiles) -> io::Result<Self> {
        let mut segments = Vec::new();
        for number in files.existing()? {
            segments.push((number, files.open(number, Open::Read)?));
        }
        let segment_bytes = files.segment_bytes;
        Ok(Self { segments, cycles: Vec::new(), torn_tail: false, segment_bytes })
    }

    /// Follows the cycles from the checkpoint on. `visit` sees each verified one, in order.
    pub(crate) fn follow(
        files: &RingFiles,
        checkpoint: &Checkpoint,
        mut visit: impl FnMut(&Cycle<'_>),
    ) -> Result<Self, ScanError> {
        if let Some(path) = files.spoilt()? {
            // It may hold the newest cycles, and nothing behind them says so.
            return Err(ScanError::Damage(Damage::Foreign(path)));
        }
        let mut scan = Self::of_nothing(files)?;
        let mut memory = Vec::new();
        let mut last = CycleHeader {
            number: checkpoint.cycle,
            start: checkpoint.cycle_start,
            ..CycleHeader::default()
        };
        let mut at = checkpoint.ring;
        while let Some(found) = scan.next(at, last, checkpoint.start, &mut memory)? {
            let cycle =
                decode(&memory, &checkpoint.secret).filter(|cycle| cycle.header == found.header);
            let Some(cycle) = cycle else {
                scan.torn_tail = true;
                break;
            };
            if cycle.header.checkpoint > checkpoint.number {
                return Err(ScanError::Damage(Damage::OldCheckpoint {
                    found: checkpoint.number,
                    named: cycle.header.checkpoint,
                }));
            }
            visit(&cycle);
            last = cycle.header;
            at = RingPosition {
                segment: found.at.segment,
                position: found.at.position + position(found.length),
            };
            scan.cycles.push(found);
        }
        scan.look_for_proof(checkpoint, last, at)?;
        Ok(scan)
    }

    /// The cycle after `last`, if its header is where it may be; its bytes are in `memory`.
    /// Not verified beyond the header. Every start leaves a checkpoint before its first cycle, so nothing that
    /// claims to be of a later one than `newest_start` is a cycle.
    fn next(
        &self,
        at: RingPosition,
        last: CycleHeader,
        newest_start: u64,
        memory: &mut Vec<u8>,
    ) -> io::Result<Option<Found>> {
        let behind = self.segments.iter().filter(|(number, _)| *number == at.segment);
        let behind = behind.map(|(_, file)| (at, file));
        let starts = self
            .segments
            .iter()
            .map(|(number, file)| (RingPosition { segment: *number, position: FIRST_CYCLE }, file));
        let start =
            |header: CycleHeader| if mutant::is(Mutant::IgnoreStart) { 0 } else { header.start };
        let mut best: Option<(Found, &Arc<dyn DiskFile>)> = None;
        for (at, file) in behind.chain(starts) {
            let Some((header, length)) = self.header_at(file, at.position)? else { continue };
            let follows = header.number == last.number + 1
                && start(header) >= start(last)
                && header.start <= newest_start;
            let newer = best.as_ref().is_none_or(|(best, _)| start(best.header) <= start(header));
            if follows && newer {
                best = Some((Found { at, length: padded(length), header }, file));
            }
        }
        let Some((found, file)) = best else { return Ok(None) };
        memory.resize(found.length, 0);
        let read = file.read_at(memory, found.at.position)?;
        Ok((read == found.length).then_some(found))
    }

    fn header_at(
        &self,
        file: &Arc<dyn DiskFile>,
        at: u64,
    ) -> io::Result<Option<(CycleHeader, usize)>> {
        let mut front = [0; HEADER_BYTES];
        if at + position(ALIGNMENT) > self.segment_bytes
            || file.read_at(&mut front, at)? < HEADER_BYTES
        {
            return Ok(None);
        }
        let fits = |length: &usize| at + position(padded(*length)) <= self.segment_bytes;
        Ok(peek(&front).filter(|(_, length)| fits(length)))
    }

    /// Reads a cycle again.
    pub(crate) fn read(&self, found: &Found, memory: &mut Vec<u8>) -> io::Result<()> {
        memory.resize(found.length, 0);
        let file = self.segments.iter().find(|(number, _)| *number == found.at.segment);
        let (_, file) = file.ok_or(io::ErrorKind::NotFound)?;
        crate::host::read_exact(file.as_ref(), memory, found.at.position)
    }

    /// Where the next cycle goes.
    pub(crate) fn end(&self, checkpoint: &Checkpoint) -> RingPosition {
        self.cycles.last().map_or(checkpoint.ring, |found| RingPosition {
            segment: found.at.segment,
            position: found.at.position + position(found.length),
        })
    }

    /// Looks through the whole ring for a cycle which says that the one that failed, the next
    /// after `last`, had been synced, or that there was a newer checkpoint.
    fn look_for_proof(
        &self,
        checkpoint: &Checkpoint,
        last: CycleHeader,
        failed_at: RingPosition,
    ) -> Result<(), ScanError> {
        let failed = last.number + 1;
        let is_later = |header: &CycleHeader| header.start >= last.start && header.synced >= failed;
        let is_proof =
            |header: &CycleHeader| is_later(header) || header.checkpoint > checkpoint.number;
        let mut proof = None;
        for (number, file) in &self.segments {
            let take = &mut |_: u64, cycle: &Cycle<'_>| {
                proof = Some((*number, cycle.header));
                false
            };
            let read_at: ReadAt<'_> = &|bytes, at| file.read_at(bytes, at);
            whole_cycles(read_at, self.segment_bytes, &checkpoint.secret, &is_proof, take)?;
            let Some((proof_segment, header)) = proof else { continue };
            return Err(ScanError::Damage(if header.checkpoint > checkpoint.number {
                Damage::OldCheckpoint { found: checkpoint.number, named: header.checkpoint }
            } else {
                Damage::LostCycle {
                    cycle: failed,
                    segment: failed_at.segment,
                    position: failed_at.position,
                    proof: header.number,
                    proof_segment,
                    missing: self.missing(checkpoint, last)?,
                }
            }));
        }
        Ok(())
    }

    /// The offsets between what can be followed and what whole cycles beyond hold.
    fn missing(
        &self,
        checkpoint: &Checkpoint,
        last: CycleHeader,
    ) -> io::Result<Vec<(PartitionName, Range<Offset>)>> {
        let logs = checkpoint.logs.iter();
        let mut ends: BTreeMap<PartitionId, Offset> =
            logs.map(|(id, log)| (*id, log.next_offset)).collect();
        let mut memory = Vec::new();
        for found in &self.cycles {
            self.read(found, &mut memory)?;
            let cycle = decode(&memory, &checkpoint.secret);
            for (extent, bytes) in cycle.iter().flat_map(|cycle| &cycle.pieces) {
                if let Some(view) = wire::batch::batches(bytes).last() {
                    ends.insert(extent.partition, view.header.next_offset());
                }
            }
        }
        let mut begins: BTreeMap<PartitionId, Offset> = BTreeMap::new();
        let is_beyond =
            |header: &CycleHeader| header.number > last.number && header.start >= last.start;
        for (_, file) in &self.segments {
            let take = &mut |_: u64, cycle: &Cycle<'_>| {
                for (extent, bytes) in &cycle.pieces {
                    if let Ok(header) = BatchHeader::parse(bytes) {
                        let begin = begins.entry(extent.partition).or_insert(header.base_offset);
                        *begin = header.base_offset.min(*begin);
                    }
                }
                true
            };
            let read_at: ReadAt<'_> = &|bytes, at| file.read_at(bytes, at);
            whole_cycles(read_at, self.segment_bytes, &checkpoint.secret, &is_beyond, take)?;
        }
        let missing = begins.into_iter().filter_map(|(id, begin)| {
            let end = ends.get(&id).copied().unwrap_or_default();
            (end < begin).then_some((id.into(), end..begin))
        });
        Ok(missing.collect())
    }
}

/// Reads at a position what there is of a segment.
pub(crate) type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<usize>;

/// Visits the whole cycles of a segment that are wanted, wherever they lie, until told to stop.
pub(crate) fn whole_cycles(
    read_at: ReadAt<'_>,
    segment_bytes: u64,
    secret: &Secret,
    wanted: &dyn Fn(&CycleHeader) -> bool,
    visit: &mut dyn FnMut(u64, &Cycle<'_>) -> bool,
) -> io::Result<()> {
    let mut chunk = vec![0; in_memory(segment_bytes.min(1 << 20))];
    let mut memory = Vec::new();
    let mut at = FIRST_CYCLE;
    while at < segment_bytes {
        let read = read_at(&mut chunk, at)?;
        for (index, block) in chunk.get(..read).unwrap_or_default().chunks(ALIGNMENT).enumerate() {
            let Some((_, length)) = peek(block).filter(|(header, _)| wanted(header)) else {
                continue;
            };
            memory.resize(length.min(MAX_CYCLE_BYTES), 0);
            let cycle_at = at + position(index * ALIGNMENT);
            if read_at(&mut memory, cycle_at)? < memory.len() {
                continue;
            }
            if let Some(cycle) = decode(&memory, secret)
                && !visit(cycle_at, &cycle)
            {
                return Ok(());
            }
        }
        if read < chunk.len() {
            break;
        }
        at += position(chunk.len());
    }
    Ok(())
}
