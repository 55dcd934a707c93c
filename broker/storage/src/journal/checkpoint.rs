//! The two checkpoint files. The older one is overwritten; whichever is newest and whole counts.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use uuid::Uuid;
use wire::{LeaderEpoch, Offset};

use super::cycle::Secret;
use crate::{
    api::PartitionId,
    codec::{Reader, Writer},
    host::{Disk, DiskFile, Open, is_unreadable, read_all},
};

const MAGIC: [u8; 8] = *b"ottlack1";

/// A place in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RingPosition {
    pub(crate) segment: u32,
    pub(crate) position: u64,
}

/// What a partition's log is, up to the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) log_start_offset: Offset,
    /// The base offset of the segment that is written to.
    pub(crate) segment: Offset,
    /// Its length.
    pub(crate) length: u64,
    pub(crate) next_offset: Offset,
    /// Keys in front of it are there once.
    pub(crate) cleaned_to: Offset,
}

/// Everything up to `cycle` is synced in the logs themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) number: u64,
    pub(crate) data_id: Uuid,
    pub(crate) secret: Secret,
    /// The cycle it stands at.
    pub(crate) cycle: u64,
    /// The start number of that cycle.
    pub(crate) cycle_start: u64,
    /// Where the next cycle is, unless it is at the start of a segment.
    pub(crate) ring: RingPosition,
    /// The start that wrote this.
    pub(crate) start: u64,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Written by a clean stop.
    pub(crate) clean: bool,
    /// The boot and the directory in which the map is believed.
    pub(crate) identity: Option<[u8; 32]>,
    pub(crate) logs: BTreeMap<PartitionId, LogEnd>,
}

impl LogEnd {
    /// The base offset of the file that holds the log's start, of these and the last. Those in front of it are
    /// deleted, or are to be.
    pub(crate) fn first_of(&self, bases: impl Iterator<Item = Offset>) -> Option<Offset> {
        let holds_start = bases.chain([self.segment]).filter(|base| *base <= self.log_start_offset);
        holds_start.max().filter(|first| *first > Offset(0))
    }
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bytes(&MAGIC).u64(self.number).bytes(self.data_id.as_bytes());
        writer.bytes(&self.secret.0).u64(self.cycle).u64(self.cycle_start);
        writer.u32(self.ring.segment).u64(self.ring.position);
        writer.u64(self.start).i32(self.leader_epoch.0).u8(u8::from(self.clean));
        writer.u8(u8::from(self.identity.is_some())).bytes(&self.identity.unwrap_or_default());
        writer.count(self.logs.len());
        for (partition, log) in &self.logs {
            writer.partition(*partition).i64(log.log_start_offset.0).i64(log.segment.0);
            writer.u64(log.length).i64(log.next_offset.0).i64(log.cleaned_to.0);
        }
        let length = u64::try_from(writer.0.len()).unwrap_or(u64::MAX).saturating_add(8);
        let mut sealed = Writer::default();
        sealed.u64(length).bytes(&writer.sealed());
        sealed.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let length = usize::try_from(reader.u64()?).ok()?;
        let mut reader = Reader::unsealed(reader.take(length)?)?;
        if reader.array::<8>()? != MAGIC {
            return None;
        }
        Some(Self {
            number: reader.u64()?,
            data_id: reader.uuid()?,
            secret: Secret(reader.array()?),
            cycle: reader.u64()?,
            cycle_start: reader.u64()?,
            ring: RingPosition { segment: reader.u32()?, position: reader.u64()? },
            start: reader.u64()?,
            leader_epoch: LeaderEpoch(reader.i32()?),
            clean: reader.u8()? != 0,
            identity: {
                let known = reader.u8()? != 0;
                let identity = reader.array()?;
                known.then_some(identity)
            },
            logs: reader.list(log_end)?.into_iter().collect(),
        })
    }

    /// The file that this checkpoint goes to: the one its predecessor is not in.
    fn file_name(&self) -> &'static str {
        if self.number.is_multiple_of(2) { "checkpoint-0" } else { "checkpoint-1" }
    }

    /// Writes the file, which is durable after its sync.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        journal_dir: &Path,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = disk.open(&journal_dir.join(self.file_name()), Open::Write)?;
        file.write_at(&self.encode(), 0)?;
        Ok(file)
    }

    /// Writes and syncs the file.
    pub(crate) fn store(&self, disk: &dyn Disk, journal_dir: &Path) -> io::Result<()> {
        self.write(disk, journal_dir)?.sync()
    }

    /// The newest checkpoint that is whole, and whether its predecessor is whole too. A newer one would have been
    /// written over that, so then there was none. If one cannot be read there is none: behind the older, files may
    /// have been removed.
    pub(crate) fn load(disk: &dyn Disk, journal_dir: &Path) -> io::Result<Option<(Self, bool)>> {
        Self::find(disk, journal_dir, |_name, error| Err(error))
    }

    /// The newest that is whole and can be read, for whoever looks for damage.
    pub(crate) fn load_readable(disk: &dyn Disk, journal_dir: &Path) -> io::Result<Option<Self>> {
        let found = Self::find(disk, journal_dir, |name, error| {
            tracing::warn!(%error, name, "a checkpoint cannot be read");
            Ok(())
        })?;
        Ok(found.map(|(newest, _)| newest))
    }

    fn find(
        disk: &dyn Disk,
        journal_dir: &Path,
        unreadable: impl Fn(&str, io::Error) -> io::Result<()>,
    ) -> io::Result<Option<(Self, bool)>> {
        let mut whole: Vec<Self> = Vec::new();
        for name in ["checkpoint-0", "checkpoint-1"] {
            let found = match read_all(disk, &journal_dir.join(name)) {
                Ok(bytes) => Self::decode(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) if is_unreadable(&error) => {
                    unreadable(name, error)?;
                    None
                }
                Err(error) => return Err(error),
            };
            whole.extend(found);
        }
        whole.sort_by_key(|found| found.number);
        let Some(newest) = whole.pop() else { return Ok(None) };
        let is_last = whole.last().is_some_and(|older| older.number + 1 == newest.number);
        Ok(Some((newest, is_last)))
    }
}

fn log_end(reader: &mut Reader<'_>) -> Option<(PartitionId, LogEnd)> {
    let partition = reader.partition()?;
    let log = LogEnd {
        log_start_offset: reader.offset()?,
        segment: reader.offset()?,
        length: reader.u64()?,
        next_offset: reader.offset()?,
        cleaned_to: reader.offset()?,
    };
    Some((partition, log))
}
