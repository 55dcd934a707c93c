//! `ottla doctor --repair`: keeps what is whole of a damaged data directory, and says what is lost.
//!
//! First the cycles that can be read are written where their places say, as a recovery does. Then
//! each log is read through: a batch without records takes the place of what is not whole, and only its end is cut
//! off; what was there stays beside it. Last come a
//! checkpoint with a higher leader epoch, under which no old cycle counts, and an empty ring.
//! Everything can be repeated.

mod log;
mod salvage;
mod survey;
mod torn;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{LeaderEpoch, Offset, ProducerId};

use crate::{
    api::{Config, PartitionId},
    catalogue::{METADATA, Record},
    damage::{OpenError, PartitionName},
    data_dir::{self, at},
    host::{DiskFile, Host, Open, naming},
    inspect::{Inspection, Progress, each_record},
    journal::{
        checkpoint::{Checkpoint, LogEnd, RingPosition},
        cycle::Secret,
        ring::{FIRST_CYCLE, FIRST_SEGMENTS},
    },
};
use salvage::Salvage;

/// What was done to one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    pub partition: PartitionName,
    /// Offsets that are still there, from the first to the one behind the last.
    pub kept: Range<Offset>,
    /// Offsets that are known to be gone, ascending.
    pub lost: Vec<Range<Offset>>,
    /// The files that hold what was taken out.
    pub damaged: Vec<PathBuf>,
    /// Transactions that may be there in part, or whose end may be lost: the first offset that is left, and whose.
    pub transactions: Vec<(Offset, ProducerId)>,
}

/// What a repair did.
#[derive(Clone, Debug)]
pub struct RepairReport {
    /// Whether `version` was missing, as it is after a repair that was cut short. What that one took out is not in here.
    pub is_again: bool,
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
    inspection.check_journal()?;
    let salvage = at(&inspection.paths.journal, Salvage::collect(&inspection))?;
    let is_again = !inspection.disk().exists(&data.join(data_dir::VERSION_FILE));
    let mut repair = Repair {
        is_again,
        newest_epoch: salvage.leader_epoch,
        inspection,
        salvage,
        written: Vec::new(),
        dirs: BTreeSet::new(),
        logs: BTreeMap::new(),
        starts: BTreeMap::new(),
        repaired: Vec::new(),
    };
    // A start refuses what is repaired in part.
    data_dir::remove_version(host.disk.as_ref(), &data)?;
    let report = at(&data, repair.run(progress))?;
    data_dir::write_version(host.disk.as_ref(), &data, repair.inspection.ring_files.data_id)?;
    Ok(report)
}

/// A repair that goes on.
struct Repair {
    is_again: bool,
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
        each_record(disk, topics, self.inspection.catalogue_start(), &mut |record| {
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
        let leader_epoch = LeaderEpoch(self.newest_epoch.0.saturating_add(1));
        self.finish(leader_epoch)?;
        let mut partitions = std::mem::take(&mut self.repaired);
        let count = partitions.len();
        partitions.retain(|one| !one.lost.is_empty() || !one.damaged.is_empty());
        Ok(RepairReport {
            is_again: self.is_again,
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
