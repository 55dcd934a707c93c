//! Finds the cycles beyond a checkpoint, and tells a torn tail from damage.

use std::{io, sync::Arc};

use wire::batch::BatchHeader;

use super::{
    checkpoint::{Checkpoint, RingPosition},
    cycle::{Cycle, CycleHeader, HEADER_BYTES, MAX_CYCLE_BYTES, decode, peek},
    ring::{FIRST_CYCLE, RingFiles},
};
use crate::{
    aligned::{ALIGNMENT, padded},
    api::Damage,
    codec::{in_memory, position},
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
        let mut scan = Self::of_nothing(files)?;
        let mut memory = Vec::new();
        let mut last = CycleHeader {
            number: checkpoint.cycle,
            start: checkpoint.cycle_start,
            ..CycleHeader::default()
        };
        let mut at = checkpoint.ring;
        while let Some(found) = scan.next(at, last, &mut memory)? {
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
    /// Not verified beyond the header.
    fn next(
        &self,
        at: RingPosition,
        last: CycleHeader,
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
            let follows = header.number == last.number + 1 && start(header) >= start(last);
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
        let mut chunk = vec![0; in_memory(self.segment_bytes.min(1 << 20))];
        let mut memory = Vec::new();
        for (number, file) in &self.segments {
            let mut at = FIRST_CYCLE;
            while at < self.segment_bytes {
                let read = file.read_at(&mut chunk, at)?;
                for (index, block) in
                    chunk.get(..read).unwrap_or_default().chunks(ALIGNMENT).enumerate()
                {
                    let Some((header, length)) = peek(block) else { continue };
                    let later = header.start >= last.start && header.synced >= failed;
                    if !later && header.checkpoint <= checkpoint.number {
                        continue;
                    }
                    memory.resize(length.min(MAX_CYCLE_BYTES), 0);
                    let cycle_at = at + position(index * ALIGNMENT);
                    if file.read_at(&mut memory, cycle_at)? < memory.len() {
                        continue;
                    }
                    let Some(cycle) = decode(&memory, &checkpoint.secret) else { continue };
                    if header.checkpoint > checkpoint.number {
                        return Err(ScanError::Damage(Damage::OldCheckpoint {
                            found: checkpoint.number,
                            named: header.checkpoint,
                        }));
                    }
                    return Err(ScanError::Damage(lost(failed, failed_at, *number, &cycle)));
                }
                if in_memory(position(read)) < chunk.len() {
                    break;
                }
                at += position(chunk.len());
            }
        }
        Ok(())
    }
}

fn lost(failed: u64, at: RingPosition, proof_segment: u32, proof: &Cycle<'_>) -> Damage {
    let beyond = proof
        .pieces
        .iter()
        .filter_map(|(extent, bytes)| {
            Some((extent.partition, BatchHeader::parse(bytes).ok()?.base_offset))
        })
        .collect();
    Damage::LostCycle {
        cycle: failed,
        segment: at.segment,
        position: at.position,
        proof: proof.header.number,
        proof_segment,
        before: beyond,
    }
}
