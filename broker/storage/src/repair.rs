//! `ottla doctor --repair`: keeps what is whole of a damaged data directory, and says what is lost.
//!
//! First the cycles that can be read are written where their places say, as a recovery does. Then
//! each log is read through and cut at its first bad batch; what was cut stays beside it. Last come a
//! checkpoint with a higher leader epoch, under which no old cycle counts, and an empty ring.
//! Everything can be repeated.

mod salvage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{LeaderEpoch, Offset};

use crate::{
    api::{Config, PartitionId},
    catalogue::{METADATA, Record},
    codec::{in_memory, position},
    damage::{OpenError, PartitionName},
    data_dir::{self, at},
    host::{DiskFile, Host, Open, naming, read_exact},
    inspect::{Inspection, Progress, Whole, each_record, walk},
    journal::{
        checkpoint::{Checkpoint, LogEnd, RingPosition},
        cycle::Secret,
        ring::{FIRST_CYCLE, FIRST_SEGMENTS},
    },
    keeper::Meta,
    segment_file::{SegmentFile, base_of, file_name, partition_dir},
};
use salvage::Salvage;

/// What is read at a time where the disk fails.
const PIECE_BYTES: usize = 4096;
const COPY_BYTES: u64 = 1 << 20;

/// What was done to one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    pub partition: PartitionName,
    /// Offsets that are still there, from the first to the one behind the last.
    pub kept: Range<Offset>,
    /// Offsets that are known to be gone, ascending.
    pub lost: Vec<Range<Offset>>,
    /// The files that hold what was cut.
    pub damaged: Vec<PathBuf>,
}

/// What a repair did.
#[derive(Clone, Debug)]
pub struct RepairReport {
    pub leader_epoch: LeaderEpoch,
    /// Cycles of the journal that were whole and newer than the checkpoint.
    pub cycles: usize,
    /// How many partitions lost nothing.
    pub untouched: usize,
    /// The others.
    pub partitions: Vec<Repaired>,
    /// Directories of topics whose catalogue record is gone; they are left as they are.
    pub unknown: Vec<PathBuf>,
}

/// Repairs a directory that nobody serves.
pub fn repair(
    config: &Config,
    host: &Host,
    progress: Progress<'_>,
) -> Result<RepairReport, OpenError> {
    let inspection = Inspection::open(config, host)?;
    let data = inspection.paths.data.clone();
    if inspection.is_in_use() {
        return Err(OpenError::InUse(data));
    }
    let salvage = at(&inspection.paths.journal, Salvage::collect(&inspection))?;
    let mut repair = Repair {
        newest_epoch: salvage.leader_epoch,
        inspection,
        salvage,
        written: Vec::new(),
        dirs: BTreeSet::new(),
        logs: BTreeMap::new(),
        starts: BTreeMap::new(),
        repaired: Vec::new(),
    };
    let report = at(&data, repair.run(progress))?;
    data_dir::write_version(host.disk.as_ref(), &data, repair.inspection.ring_files.data_id)?;
    Ok(report)
}

/// A repair that goes on.
struct Repair {
    inspection: Inspection,
    salvage: Salvage,
    newest_epoch: LeaderEpoch,
    written: Vec<Arc<dyn DiskFile>>,
    dirs: BTreeSet<PathBuf>,
    logs: BTreeMap<PartitionId, LogEnd>,
    /// Log starts that the catalogue's records set.
    starts: BTreeMap<PartitionId, Offset>,
    repaired: Vec<Repaired>,
}

impl Repair {
    fn run(&mut self, progress: Progress<'_>) -> io::Result<RepairReport> {
        // The catalogue is a log too, and says which others there are.
        self.salvage.write(&self.inspection, |id| id == METADATA)?;
        self.log(METADATA, &mut |_| {})?;
        self.inspection.catalogue = self.inspection.read_catalogue();
        let (disk, topics) = (self.inspection.disk(), &self.inspection.paths.topics);
        let starts = &mut self.starts;
        each_record(disk, topics, &mut |record| {
            if let Record::LogStart { partition, offset } = record {
                starts.insert(partition, offset);
            }
        });
        let catalogue = self.inspection.catalogue.clone();
        let known = |id: PartitionId| catalogue.by_id.contains_key(&id.topic);
        self.salvage.write(&self.inspection, known)?;
        let mut ids = self.inspection.partitions()?;
        ids.retain(|id| known(*id));
        let mut all = 0;
        for id in &ids {
            for base in self.inspection.bases(*id)? {
                all += self.open(&self.inspection.log_path(*id, base))?.len()?;
            }
        }
        let mut done = 0;
        for id in &ids {
            let looked_at = &mut |bytes| {
                done += bytes;
                progress(done, all);
            };
            self.log(*id, looked_at)?;
        }
        let leader_epoch = LeaderEpoch(self.newest_epoch.0 + 1);
        self.finish(leader_epoch)?;
        let mut partitions = std::mem::take(&mut self.repaired);
        let count = partitions.len();
        partitions.retain(|one| !one.lost.is_empty() || !one.damaged.is_empty());
        Ok(RepairReport {
            leader_epoch,
            cycles: self.salvage.cycles(),
            untouched: count - partitions.len(),
            partitions,
            unknown: self.inspection.unknown_dirs(),
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        naming(path, self.inspection.disk().open(path, Open::Write))
    }

    /// Reads a log through, cuts it where it is not whole, and notes its end.
    fn log(&mut self, id: PartitionId, looked_at: &mut dyn FnMut(u64)) -> io::Result<()> {
        let dir = partition_dir(&self.inspection.paths.topics, id);
        let mut bases = self.inspection.bases(id)?;
        let checkpointed =
            self.inspection.checkpoint.as_ref().and_then(|found| found.logs.get(&id)).copied();
        let expected = self.salvage.expected_end(id);
        let known_start =
            checkpointed.map(|end| end.log_start_offset).max(self.starts.get(&id).copied());
        // What lies in front of the log's start may be half removed; the next start removes the rest.
        let holds_start = bases.iter().rposition(|base| Some(*base) <= known_start);
        bases.drain(..holds_start.unwrap_or(0));
        let Some(first) = bases.first().copied().or(checkpointed.map(|end| end.segment)) else {
            return Ok(());
        };
        let start = known_start.map_or(first, |start| start.max(first));
        let in_front = known_start.filter(|known| *known < first).map(|known| known..first);
        let mut end = LogEnd {
            log_start_offset: start,
            segment: first,
            next_offset: first,
            ..checkpointed.unwrap_or_default()
        };
        end.length = 0;
        let mut damaged = Vec::new();
        let mut rest = bases.into_iter();
        for base in rest.by_ref() {
            let path = dir.join(file_name(base, "log"));
            if base < end.next_offset {
                // A file written anew has its records, and did not come to remove it.
                damaged.push(self.set_aside(&dir, base)?);
                continue;
            }
            if base > end.next_offset {
                damaged.push(self.set_aside(&dir, base)?);
                break;
            }
            let file = self.open(&path)?;
            let length = naming(&path, file.len())?;
            let whole = self.whole(file.as_ref(), length, base, looked_at);
            end = LogEnd {
                segment: base,
                length: whole.position,
                next_offset: self.end_of(&dir, base, whole, length)?,
                ..end
            };
            if whole.position < length {
                damaged.push(self.cut(&dir, base, file.as_ref(), whole.position..length)?);
            }
            self.written.push(file);
            if whole.position < length {
                break;
            }
        }
        for base in rest {
            damaged.push(self.set_aside(&dir, base)?);
        }
        if end.next_offset < end.log_start_offset {
            // Offsets below the start of a log are never given again.
            damaged.push(self.set_aside(&dir, end.segment)?);
            let start = end.log_start_offset;
            end = LogEnd { segment: start, length: 0, next_offset: start, ..end };
        }
        end.cleaned_to = end.cleaned_to.min(end.next_offset);
        self.end_at(&dir, &end)?;
        let behind = (end.next_offset < expected).then_some(end.next_offset..expected);
        let lost = in_front.into_iter().chain(behind).collect();
        self.note(id, &end, lost, damaged);
        Ok(())
    }

    /// The first offset behind a file: what it held last may have been compacted away, and then it is
    /// written beside it.
    fn end_of(&self, dir: &Path, base: Offset, whole: Whole, length: u64) -> io::Result<Offset> {
        let file = SegmentFile::new(dir.to_path_buf(), base);
        let disk = self.inspection.disk();
        let meta = Meta::read(disk, &file)?;
        if meta.as_ref().is_some_and(|meta| meta.state.position != length) {
            // Of the file whose place this one took.
            disk.remove_file(&dir.join(file_name(base, "meta")))?;
        }
        let meta = meta.filter(|meta| whole.position == length && meta.state.position == length);
        let next = meta.map_or(whole.next_offset, |meta| meta.state.next_offset);
        Ok(next.max(whole.next_offset))
    }

    /// Up to where the file holds whole batches; a file that cannot be read holds none from there.
    fn whole(
        &mut self,
        file: &dyn DiskFile,
        length: u64,
        base: Offset,
        looked_at: &mut dyn FnMut(u64),
    ) -> Whole {
        let mut newest = self.newest_epoch;
        let mut whole = Whole { position: 0, next_offset: base };
        let walked = walk(file, 0..length, base, &mut |at, view| {
            newest = newest.max(view.header.partition_leader_epoch);
            let length = position(view.bytes().len());
            whole = Whole { position: at + length, next_offset: view.header.next_offset() };
            looked_at(length);
        });
        self.newest_epoch = newest;
        if let Err(error) = walked {
            tracing::warn!(%error, "a part of a log cannot be read");
        }
        whole
    }

    /// A name that no earlier repair has used.
    fn unused(&self, dir: &Path, base: Offset) -> PathBuf {
        let first = dir.join(file_name(base, "damaged"));
        let mut names = std::iter::once(first)
            .chain((2..).map(|number| dir.join(file_name(base, &format!("damaged-{number}")))));
        names.find(|path| !self.inspection.disk().exists(path)).unwrap_or_default()
    }

    /// Copies a part of a file beside it, and cuts it off.
    fn cut(
        &mut self,
        dir: &Path,
        base: Offset,
        file: &dyn DiskFile,
        range: Range<u64>,
    ) -> io::Result<PathBuf> {
        let path = self.unused(dir, base);
        let copy = self.open(&path)?;
        copy.set_len(0)?;
        let mut at = range.start;
        while at < range.end {
            let mut bytes = vec![0; in_memory(COPY_BYTES.min(range.end - at))];
            if let Err(error) = read_exact(file, &mut bytes, at) {
                tracing::warn!(%error, path = %path.display(), at, "what cannot be read is zeroes in the copy");
                read_pieces(file, &mut bytes, at);
            }
            copy.write_at(&bytes, at - range.start)?;
            at += position(bytes.len());
        }
        copy.sync()?;
        file.set_len(range.start)?;
        self.dirs.insert(dir.to_path_buf());
        Ok(path)
    }

    /// Renames a whole file, so that it is no part of the log any more.
    fn set_aside(&mut self, dir: &Path, base: Offset) -> io::Result<PathBuf> {
        let path = self.unused(dir, base);
        let log = dir.join(file_name(base, "log"));
        naming(&log, self.inspection.disk().rename(&log, &path))?;
        self.dirs.insert(dir.to_path_buf());
        Ok(path)
    }

    /// The last file exists, and what was written beside files of which something is gone does not.
    fn end_at(&mut self, dir: &Path, end: &LogEnd) -> io::Result<()> {
        let disk = self.inspection.disk();
        disk.create_dir_all(dir)?;
        self.written.push(self.open(&dir.join(file_name(end.segment, "log")))?);
        for name in disk.list(dir)? {
            if base_of(&name, "meta").is_some_and(|base| base >= end.segment) {
                disk.remove_file(&dir.join(name))?;
            }
        }
        let above = dir.ancestors().take(3).map(Path::to_path_buf);
        self.dirs.extend(above);
        Ok(())
    }

    fn note(
        &mut self,
        id: PartitionId,
        end: &LogEnd,
        lost: Vec<Range<Offset>>,
        damaged: Vec<PathBuf>,
    ) {
        self.repaired.push(Repaired {
            partition: self.inspection.name(id),
            kept: end.log_start_offset..end.next_offset,
            lost,
            damaged,
        });
        if end.next_offset > Offset(0) {
            self.logs.insert(id, *end);
        }
    }

    /// Makes it last: logs, then the checkpoint under which no old cycle counts, then an empty ring.
    fn finish(&mut self, leader_epoch: LeaderEpoch) -> io::Result<()> {
        let Inspection { host, paths, ring_files, .. } = &self.inspection;
        let disk = host.disk.as_ref();
        disk.sync_files(&self.written)?;
        for dir in &self.dirs {
            disk.sync_dir(dir)?;
        }
        if disk.exists(&paths.map) {
            disk.remove_dir_all(&paths.map)?;
        }
        disk.create_dir_all(&paths.journal)?;
        let mut secret = [0; 32];
        host.random.fill(&mut secret)?;
        let mut checkpoint = Checkpoint {
            number: self.salvage.checkpoint + 1,
            data_id: ring_files.data_id,
            secret: Secret(secret),
            cycle: self.salvage.cycle,
            cycle_start: self.salvage.start,
            ring: RingPosition { segment: 0, position: FIRST_CYCLE },
            start: self.salvage.start,
            leader_epoch,
            clean: false,
            identity: None,
            logs: std::mem::take(&mut self.logs),
        };
        for _ in 0..2 {
            checkpoint.store(disk, &paths.journal)?;
            checkpoint.number += 1;
        }
        for name in disk.list(&paths.journal)? {
            if name.starts_with("segment-") {
                disk.remove_file(&paths.journal.join(name))?;
            }
        }
        for segment in 0..FIRST_SEGMENTS {
            ring_files.make(segment)?;
        }
        disk.sync_dir(&paths.journal)
    }
}

/// Fills what can be read of `bytes`, a few sectors at a time, and leaves the rest as it is.
fn read_pieces(file: &dyn DiskFile, bytes: &mut [u8], position: u64) {
    for (piece, at) in bytes.chunks_mut(PIECE_BYTES).zip((position..).step_by(PIECE_BYTES)) {
        let mut whole = vec![0; piece.len()];
        if read_exact(file, &mut whole, at).is_ok() {
            piece.copy_from_slice(&whole);
        }
    }
}
