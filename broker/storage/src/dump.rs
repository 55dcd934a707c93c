//! What lies in the files, row by row, for `ottla dump`.

use std::{
    io,
    path::{Path, PathBuf},
};

use wire::{LeaderEpoch, Offset, batch::BatchView};

use crate::{
    aligned::{ALIGNMENT, padded},
    api::PartitionId,
    codec::position,
    damage::{Damage, PartitionName},
    host::{Open, naming, read_all},
    inspect::{Inspection, walk},
    journal::{
        checkpoint::Checkpoint,
        cycle::{Secret, decode, peek},
        ring::FIRST_CYCLE,
    },
};

/// A cycle of the journal.
#[derive(Clone, Debug)]
pub struct CycleRow {
    pub segment: u32,
    pub position: u64,
    pub number: u64,
    /// Which start of the broker wrote it.
    pub start: u64,
    /// The last cycle that it says was synced.
    pub synced: u64,
    /// The checkpoint that it names.
    pub checkpoint: u64,
    /// Without padding.
    pub bytes: u64,
    /// Whether its checksum is right.
    pub is_whole: bool,
    pub places: Vec<PlaceRow>,
}

/// Where the bytes of a cycle go.
#[derive(Clone, Debug)]
pub struct PlaceRow {
    pub partition: PartitionName,
    /// The base offset of the file.
    pub file: Offset,
    pub position: u64,
    pub bytes: u32,
}

/// One of the two checkpoint files.
#[derive(Clone, Debug)]
pub struct CheckpointRow {
    pub number: u64,
    pub cycle: u64,
    pub segment: u32,
    pub position: u64,
    pub start: u64,
    pub leader_epoch: LeaderEpoch,
    pub is_clean: bool,
    pub logs: Vec<LogRow>,
}

/// A log as a checkpoint has it.
#[derive(Clone, Debug)]
pub struct LogRow {
    pub partition: PartitionName,
    pub log_start_offset: Offset,
    pub next_offset: Offset,
    /// The base offset of the file that is written to.
    pub file: Offset,
    pub bytes: u64,
}

impl Inspection {
    /// The cycles in the order of the files, those included that a checkpoint covers.
    pub fn cycles(&self, visit: &mut dyn FnMut(&CycleRow) -> bool) -> io::Result<()> {
        let none = Secret([0; 32]);
        let secret = self.checkpoint.as_ref().map_or(&none, |checkpoint| &checkpoint.secret);
        let mut memory = Vec::new();
        for segment in self.ring_files.existing()? {
            let file = self.ring_files.open(segment, Open::Read)?;
            let mut at = FIRST_CYCLE;
            while at < self.ring_files.segment_bytes {
                memory.resize(ALIGNMENT, 0);
                file.read_at(&mut memory, at)?;
                let Some((header, length)) = peek(&memory) else {
                    at += position(ALIGNMENT);
                    continue;
                };
                memory.resize(length, 0);
                let read = file.read_at(&mut memory, at)?;
                let cycle = decode(memory.get(..read).unwrap_or_default(), secret);
                let places = cycle.iter().flat_map(|cycle| &cycle.pieces);
                let row = CycleRow {
                    segment,
                    position: at,
                    number: header.number,
                    start: header.start,
                    synced: header.synced,
                    checkpoint: header.checkpoint,
                    bytes: position(length),
                    is_whole: cycle.is_some(),
                    places: places
                        .map(|(extent, _)| PlaceRow {
                            partition: self.name(extent.partition),
                            file: extent.segment,
                            position: extent.position,
                            bytes: extent.length,
                        })
                        .collect(),
                };
                at += position(if row.is_whole { padded(length) } else { ALIGNMENT });
                if !visit(&row) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Both checkpoint files by name; none for one that is missing or not whole.
    pub fn checkpoints(&self) -> io::Result<Vec<(PathBuf, Option<CheckpointRow>)>> {
        let mut found = Vec::new();
        for name in ["checkpoint-0", "checkpoint-1"] {
            let path = self.paths.journal.join(name);
            let checkpoint = match read_all(self.disk(), &path) {
                Ok(bytes) => Checkpoint::decode(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return naming(&path, Err(error)),
            };
            found.push((path, checkpoint.map(|checkpoint| self.checkpoint_row(&checkpoint))));
        }
        Ok(found)
    }

    fn checkpoint_row(&self, checkpoint: &Checkpoint) -> CheckpointRow {
        let logs = checkpoint.logs.iter().map(|(id, end)| LogRow {
            partition: self.name(*id),
            log_start_offset: end.log_start_offset,
            next_offset: end.next_offset,
            file: end.segment,
            bytes: end.length,
        });
        CheckpointRow {
            number: checkpoint.number,
            cycle: checkpoint.cycle,
            segment: checkpoint.ring.segment,
            position: checkpoint.ring.position,
            start: checkpoint.start,
            leader_epoch: checkpoint.leader_epoch,
            is_clean: checkpoint.clean,
            logs: logs.collect(),
        }
    }

    /// The whole batches of a partition that reach to `from` or beyond, with file and position, and
    /// where they end if that is not the end of a file.
    pub fn batches(
        &self,
        id: PartitionId,
        from: Offset,
        visit: &mut dyn FnMut(&Path, u64, &BatchView<'_>),
    ) -> io::Result<Option<Damage>> {
        let bases = self.bases(id)?;
        let first = bases.iter().rposition(|base| *base <= from).unwrap_or(0);
        for base in bases.into_iter().skip(first) {
            let path = self.log_path(id, base);
            let file = naming(&path, self.disk().open(&path, Open::Read))?;
            let length = file.len()?;
            let offsets = base..Offset(i64::MAX);
            let walked = walk(file.as_ref(), 0..length, offsets, &mut |position, view| {
                if view.header.last_offset() >= from {
                    visit(&path, position, view);
                }
            });
            let whole = naming(&path, walked)?;
            if whole.position < length {
                let (position, from) = (whole.position, whole.next_offset);
                let partition = self.name(id);
                return Ok(Some(Damage::BadBatch { path, partition, position, from }));
            }
        }
        Ok(None)
    }
}
