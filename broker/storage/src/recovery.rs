//! Recovery: what lies beyond the checkpoint is rewritten from the journal, and never believed by
//! itself. It can be repeated at any point.

mod load;
mod replay;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use wire::{Offset, TopicId};

use crate::{
    aligned::AlignedBuffer,
    api::{Catalogue, Config, PartitionId},
    catalogue::{METADATA, Record},
    committer::{Entry, Origin},
    damage::{Damage, OpenError},
    data_dir::{DataDir, at, reading},
    db::Map,
    host::{Host, Open},
    journal::{
        checkpoint::{Checkpoint, LogEnd},
        ring::{Ring, RingFiles, Segments},
        scan::{Found, Scan, ScanError},
    },
    keeper::Rolled,
    mutant::{self, Mutant},
    partition::{Partition, Published},
    producer::{Forgotten, Producers},
    reserve::Reserve,
    segment_file::{SegmentFile, partition_dir, put_in_place},
    settings::TopicSettings,
};

/// With less than this left, a start gives the reserve up before it writes anything.
const LEAST_FREE_AT_START: u64 = 64 << 20;

/// Everything a start has found and repaired.
pub(crate) struct Recovered {
    pub(crate) ring_files: RingFiles,
    pub(crate) segments: Arc<Segments>,
    pub(crate) ring: Ring,
    pub(crate) map: Map,
    pub(crate) catalogue: Catalogue,
    pub(crate) entries: HashMap<PartitionId, Entry>,
    pub(crate) logs: BTreeMap<PartitionId, LogEnd>,
    pub(crate) written: Written,
    /// Directories of deleted topics.
    pub(crate) leftovers: Vec<PathBuf>,
    pub(crate) origin: Origin,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) cycles: u64,
    pub(crate) torn_tail: bool,
    pub(crate) bytes: u64,
}

/// What the next checkpoint has to sync.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) files: BTreeMap<(PartitionId, Offset), Arc<SegmentFile>>,
    pub(crate) dirs: BTreeSet<std::path::PathBuf>,
    pub(crate) rolled: Vec<Rolled>,
    pub(crate) touched: BTreeSet<PartitionId>,
}

/// What recovery works on.
struct Recovery<'a> {
    host: &'a Host,
    dir: &'a DataDir,
    checkpoint: Checkpoint,
    nothing_follows: bool,
    ring_files: RingFiles,
    default_segment_bytes: u64,
    static_configs: Arc<BTreeMap<String, String>>,
    /// As of the checkpoint.
    forgotten: Forgotten,
    /// How far the map's rows reach after this start.
    mapped: Vec<(PartitionId, Vec<u8>)>,
    written: Written,
    reserve: Arc<Reserve>,
}

/// What the records beyond the checkpoint decide for files.
#[derive(Default)]
struct Decided {
    deleted: BTreeSet<TopicId>,
    starts: HashMap<PartitionId, Offset>,
    swaps: Vec<(PartitionId, Range<Offset>, u64)>,
}

impl Decided {
    fn take(&mut self, record: &Record, checkpoint: &Checkpoint) {
        if let Record::Deleted { id } = record {
            self.deleted.insert(*id);
        }
        if let Record::LogStart { partition, offset } = record {
            self.starts.insert(*partition, *offset);
        }
        if let Record::Swapped { partition, base, end, generation } = record {
            self.swaps.push((*partition, *base..*end, *generation));
            if mutant::is(Mutant::BringBack) {
                let known = checkpoint.logs.get(partition);
                let known = known.map_or(Offset(0), |end| end.log_start_offset);
                let start = self.starts.entry(*partition).or_insert(known);
                *start = (*start).min(*base);
            }
        }
    }
}

/// Brings the directory to a state that can be served.
pub(crate) fn recover(config: &Config, host: &Host, dir: &DataDir) -> Result<Recovered, OpenError> {
    let disk = host.disk.as_ref();
    let journal = &dir.paths.journal;
    let (checkpoint, is_last) = reading(journal, Checkpoint::load(disk, journal))?
        .ok_or_else(|| Damage::Missing(journal.join("checkpoint-0")))?;
    if checkpoint.data_id != dir.data_id {
        return Err(dir.paths.other_journal());
    }
    let ring_files = RingFiles {
        disk: Arc::clone(&host.disk),
        dir: journal.clone(),
        data_id: dir.data_id,
        segment_bytes: config.journal_segment_bytes,
    };
    let existing = reading(journal, ring_files.existing())?.len();
    let reserve = Arc::new(Reserve::find(
        Arc::clone(&host.disk),
        dir.paths.reserve.clone(),
        ring_files.segment_bytes,
        u32::try_from(existing).unwrap_or(u32::MAX),
    ));
    // The map and the checkpoint of this start need space too.
    if disk.free_bytes(&dir.paths.data).is_ok_and(|free| free < LEAST_FREE_AT_START) {
        at(&dir.paths.reserve, reserve.release())?;
    }
    let mut recovery = Recovery {
        host,
        dir,
        // Every start writes a checkpoint that is not clean before its first cycle.
        nothing_follows: is_last && checkpoint.clean,
        checkpoint,
        ring_files,
        default_segment_bytes: config.segment_bytes,
        static_configs: Arc::new(config.broker_configs.clone()),
        forgotten: Forgotten::default(),
        mapped: Vec::new(),
        written: Written::default(),
        reserve,
    };
    recovery.run().map_err(|error| recovery.with_names(error))
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<Recovered, OpenError> {
        let (scan, records) = self.follow_ring()?;
        self.settle()?;
        // What they decide for files is done below, and can't be taken back.
        self.rewrite_last(scan.cycles.last())?;
        let (mut catalogue, mut gone) = self.checkpointed_catalogue()?;
        let now = self.host.clock.now();
        self.forgotten = Forgotten::of(&catalogue, now);
        let mut decided = Decided::default();
        for record in records {
            decided.take(&record, &self.checkpoint);
            catalogue.replay(record);
        }
        let Decided { deleted, starts, mut swaps } = decided;
        gone.extend(&deleted);
        let leftovers = self.leftovers(&catalogue, &gone)?;
        let map = self.open_map()?;
        for id in &deleted {
            at(&self.dir.paths.map, map.remove_topic(*id))?;
        }
        swaps.retain(|(partition, ..)| !deleted.contains(&partition.topic));
        self.finish_swaps(&map, swaps)?;
        let mut entries = self.load_logs(&map, &catalogue)?;
        let bytes = self.replay(&scan, &mut entries)?;
        let origin = self.raise_start(&scan, &map)?;
        let (segments, ring) = self.continue_ring(&scan, &origin)?;
        let mut logs = BTreeMap::new();
        for (id, entry) in &mut entries {
            if mutant::is(Mutant::ForgetProducers) {
                entry.log.producers = Producers::default();
            }
            if entry.log.producers.expire_again(Forgotten::of(&catalogue, now)) {
                self.written.touched.insert(*id);
            }
            if let Some(start) = starts.get(id) {
                entry.log_start = *start;
                if let Some(rolled) = entry.roll_if_emptied() {
                    self.written.dirs.insert(entry.partition.dir.clone());
                    self.written.rolled.push(rolled);
                }
                self.written.touched.insert(*id);
            }
            // Nobody waits yet.
            drop(entry.publish());
            if entry.log.next_offset > Offset(0) {
                logs.insert(*id, entry.end());
            }
        }
        Ok(Recovered {
            ring_files: self.ring_files.clone(),
            segments,
            ring,
            map,
            catalogue,
            entries,
            logs,
            written: std::mem::take(&mut self.written),
            leftovers,
            origin,
            reserve: Arc::clone(&self.reserve),
            cycles: u64::try_from(scan.cycles.len()).unwrap_or(u64::MAX),
            torn_tail: scan.torn_tail,
            bytes,
        })
    }

    /// Puts the names of topics into an error, as far as the catalogue can be read.
    fn with_names(&self, mut error: OpenError) -> OpenError {
        let topics = &self.dir.paths.topics;
        let catalogue = crate::inspect::catalogue_on(self.host.disk.as_ref(), topics);
        match &mut error {
            OpenError::Damaged(damage) => damage.look_up(&catalogue),
            OpenError::MapAhead { partition, .. } => partition.look_up(&catalogue),
            OpenError::InUse(_)
            | OpenError::Foreign(_)
            | OpenError::OtherJournal { .. }
            | OpenError::Format { .. }
            | OpenError::File { .. } => {}
        }
        error
    }

    /// The cycles beyond the checkpoint, and the catalogue records in them.
    fn follow_ring(&self) -> Result<(Scan, Vec<Record>), OpenError> {
        let journal = &self.dir.paths.journal;
        let existing = reading(journal, self.ring_files.existing())?;
        let needed = self.checkpoint.ring.segment;
        if !existing.contains(&needed) {
            let path = journal.join(format!("segment-{needed}"));
            let foreign = self.ring_files.exists(needed)
                && reading(&path, self.ring_files.is_foreign(needed))?;
            let damage = if foreign { Damage::Foreign(path) } else { Damage::Missing(path) };
            return Err(damage.into());
        }
        if self.nothing_follows {
            return Ok((reading(journal, Scan::of_nothing(&self.ring_files))?, Vec::new()));
        }
        let mut records = Vec::new();
        let mut damaged = None;
        let scan = Scan::follow(&self.ring_files, &self.checkpoint, |cycle| {
            for (extent, bytes) in &cycle.pieces {
                if extent.partition != METADATA {
                    continue;
                }
                for view in wire::batch::batches(bytes) {
                    match crate::catalogue::records_of(&view) {
                        Some(found) => records.extend(found),
                        None => damaged = Some(extent.position),
                    }
                }
            }
        });
        if let Some(position) = damaged {
            return Err(Damage::BadCycle { path: journal.clone(), position }.into());
        }
        match scan {
            Ok(scan) => Ok((scan, records)),
            Err(ScanError::Damage(damage)) => Err(damage.into()),
            Err(ScanError::Io(error)) => reading(journal, Err(error)),
        }
    }

    /// Writes over a newer checkpoint whose sync was cut off. It may come to light at a later start, and would then
    /// name files that this one cuts.
    fn settle(&mut self) -> Result<(), OpenError> {
        let (disk, journal) = (self.host.disk.as_ref(), &self.dir.paths.journal);
        // It may have been read from a cache that never reached the disk, and the next one is
        // written over its predecessor.
        at(journal, self.checkpoint.store(disk, journal))?;
        if self.nothing_follows {
            return Ok(());
        }
        self.checkpoint.number += 1;
        let settled = Checkpoint { clean: false, ..self.checkpoint.clone() };
        at(journal, settled.store(disk, journal))
    }

    /// The directories of deleted topics, which are to go; those that nobody knows are reported.
    fn leftovers(
        &self,
        catalogue: &Catalogue,
        gone: &BTreeSet<TopicId>,
    ) -> Result<Vec<PathBuf>, OpenError> {
        let topics = &self.dir.paths.topics;
        let disk = self.host.disk.as_ref();
        at(topics, disk.create_dir_all(topics))?;
        let mut leftovers = Vec::new();
        for name in at(topics, disk.list(topics))? {
            let path = topics.join(&name);
            let id = uuid::Uuid::parse_str(&name).ok().map(TopicId);
            match id {
                Some(id) if gone.contains(&id) => leftovers.push(path),
                Some(id) if id == METADATA.topic || catalogue.by_id.contains_key(&id) => {}
                _ => tracing::warn!(path = %path.display(), "not in the catalogue; left as it is"),
            }
        }
        if disk.free_bytes(&self.dir.paths.data).is_ok_and(|free| free < LEAST_FREE_AT_START) {
            // This start needs their space.
            for dir in leftovers.drain(..) {
                at(&dir, disk.remove_dir_all(&dir))?;
            }
        }
        Ok(leftovers)
    }

    /// Files written anew take the places that were recorded for them.
    fn finish_swaps(
        &mut self,
        map: &Map,
        swaps: Vec<(PartitionId, Range<Offset>, u64)>,
    ) -> Result<(), OpenError> {
        let disk = self.host.disk.as_ref();
        for (partition, range, generation) in swaps {
            let dir = partition_dir(&self.dir.paths.topics, partition);
            at(&dir, put_in_place(disk, &dir, range, generation))?;
            at(&self.dir.paths.map, map.remove(partition))?;
            self.written.dirs.insert(dir);
            self.written.touched.insert(partition);
        }
        Ok(())
    }

    /// The map, believed only after a clean stop or in the same boot and directory.
    fn open_map(&self) -> Result<Map, OpenError> {
        let disk = self.host.disk.as_ref();
        if !disk.is_real() {
            return Ok(Map::none());
        }
        let identity = disk.identity(&self.dir.paths.data);
        let same_boot = identity.is_some() && identity == self.checkpoint.identity;
        if self.checkpoint.clean || same_boot {
            match Map::open(&self.dir.paths.map).and_then(Map::checked) {
                Ok(map) => return Ok(map),
                Err(error) => tracing::warn!(%error, "the map cannot be read; it is rebuilt"),
            }
        }
        self.new_map()
    }

    fn new_map(&self) -> Result<Map, OpenError> {
        let map = &self.dir.paths.map;
        if self.host.disk.exists(map) {
            at(map, self.host.disk.remove_dir_all(map))?;
        }
        at(map, Map::open(map))
    }

    /// A new start number, synced in a checkpoint before the first cycle of this start. The
    /// checkpoint stands where the last one stood: the journal still covers what is beyond it.
    fn raise_start(&mut self, scan: &Scan, map: &Map) -> Result<Origin, OpenError> {
        let journal = &self.dir.paths.journal;
        at(&self.dir.paths.map, map.put_logs(&std::mem::take(&mut self.mapped)))?;
        let last = scan.cycles.last().map(|found| found.header);
        let newest =
            last.map_or(self.checkpoint.start, |last| last.start.max(self.checkpoint.start));
        let checkpoint = Checkpoint {
            number: self.checkpoint.number + 1,
            start: newest + 1,
            clean: false,
            identity: self.host.disk.identity(&self.dir.paths.data),
            ..self.checkpoint.clone()
        };
        let disk = self.host.disk.as_ref();
        let written = at(journal, self.reserve.write(|| checkpoint.write(disk, journal)))?;
        at(journal, written.sync())?;
        at(journal, disk.sync_dir(journal))?;
        Ok(Origin {
            cycle: last.map_or(checkpoint.cycle, |last| last.number),
            cycle_start: last.map_or(checkpoint.cycle_start, |last| last.start),
            start: checkpoint.start,
            checkpoint: checkpoint.number,
            checkpoint_cycle: checkpoint.cycle,
            secret: checkpoint.secret,
            leader_epoch: checkpoint.leader_epoch,
        })
    }

    /// The last cycle may have been read from a cache that never reached the disk.
    fn rewrite_last(&self, last: Option<&Found>) -> Result<(), OpenError> {
        let Some(last) = last else { return Ok(()) };
        let dir = self.ring_files.dir();
        let file = at(dir, self.ring_files.open(last.at.segment, Open::Direct))?;
        let mut buffer = AlignedBuffer::zeroed(last.length);
        let read = crate::host::read_exact(file.as_ref(), buffer.bytes_mut(), last.at.position);
        reading(dir, read)?;
        let write = || {
            file.write_at(buffer.bytes(), last.at.position)?;
            file.sync()?;
            // The cycles before it lie in other segments too.
            for segment in self.ring_files.existing()? {
                self.ring_files.open(segment, Open::Direct)?.sync()?;
            }
            Ok(())
        };
        at(dir, write())
    }

    /// The ring goes on behind the last cycle. Segments without a cycle beyond the checkpoint
    /// are free.
    fn continue_ring(
        &self,
        scan: &Scan,
        origin: &Origin,
    ) -> Result<(Arc<Segments>, Ring), OpenError> {
        let end = scan.end(&self.checkpoint);
        let mut last_cycles: BTreeMap<u32, u64> = BTreeMap::new();
        for found in &scan.cycles {
            last_cycles.insert(found.at.segment, found.header.number);
        }
        last_cycles.remove(&end.segment);
        let others = scan.segments.iter().map(|(number, _)| *number);
        let free: VecDeque<u32> = others
            .filter(|number| *number != end.segment && !last_cycles.contains_key(number))
            .collect();
        let count = scan.segments.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        let used = last_cycles.into_iter().collect();
        let segments = Arc::new(Segments::new(count, free, used));
        let ring = Ring::open(self.ring_files.clone(), Arc::clone(&segments), end, origin.cycle);
        Ok((segments, at(self.ring_files.dir(), ring)?))
    }

    fn entry(&self, id: PartitionId, settings: TopicSettings) -> Entry {
        let dir = partition_dir(&self.dir.paths.topics, id);
        let empty = Partition::new(id, dir, Published::default());
        Entry::new(empty, settings, self.host.clock.now())
    }
}

fn is_not_found(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
