//! A data directory that is looked at, not served: for `ottla doctor` and `ottla dump`. Nothing here
//! writes.

use std::{
    collections::BTreeSet,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;
use wire::{
    Offset, PartitionIndex, TopicId,
    batch::{BatchHeader, BatchView, HEADER_BYTES, batches},
};

use crate::{
    api::{Catalogue, Config, PartitionId},
    catalogue::{METADATA, Record, records_of},
    codec::{in_memory, position},
    damage::{Damage, OpenError, PartitionName},
    data_dir::{self, at, reading},
    host::{Disk, DiskFile, Host, Lock, Open, is_unreadable},
    journal::{
        checkpoint::Checkpoint,
        cycle::MAX_CYCLE_BYTES,
        ring::RingFiles,
        scan::{Scan, ScanError},
    },
    keeper::meta_in_front,
    segment_file::{base_of, file_name, partition_dir},
    shared::Paths,
};

/// How much of a log is read at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// And where the disk fails.
const LEAST_CHUNK_BYTES: u64 = 4096;

/// Called with bytes looked at, and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A data directory and the newest checkpoint in it.
#[derive(Debug)]
pub struct Inspection {
    pub(crate) host: Host,
    pub(crate) paths: Paths,
    pub(crate) ring_files: RingFiles,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) catalogue: Catalogue,
    /// Held while nobody else may write; none if a broker is running.
    pub(crate) lock: Option<Box<dyn Lock>>,
    /// Whose it is, by its file `version`.
    version: Result<Uuid, Damage>,
}

impl Inspection {
    /// Opens what is a data directory of ours, even if a broker serves it.
    pub fn open(config: &Config, host: &Host) -> Result<Self, OpenError> {
        let paths = data_dir::paths(config);
        let disk = host.disk.as_ref();
        let version = match data_dir::read_version(disk, &paths.data) {
            Err(OpenError::Damaged(damage)) => Err(damage),
            read => read?.ok_or_else(|| Damage::Missing(paths.data.join("version"))),
        };
        if version.is_err() && !data_dir::holds_records(disk, &paths.topics) {
            return Err(OpenError::Foreign(paths.data));
        }
        let lock = match disk.lock(&paths.data.join("lock")) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => return at(&paths.data.join("lock"), Err(error)),
        };
        let checkpoint = match Checkpoint::load_readable(disk, &paths.journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_unreadable(&error) => None,
            loaded => at(&paths.journal, loaded)?,
        };
        let data_id = version.clone().ok().or(checkpoint.as_ref().map(|found| found.data_id));
        let ring_files = RingFiles {
            disk: Arc::clone(&host.disk),
            dir: paths.journal.clone(),
            data_id: data_id.unwrap_or_default(),
            segment_bytes: config.journal_segment_bytes,
        };
        let catalogue = Catalogue::default();
        let host = host.clone();
        let mut found = Self { host, paths, ring_files, checkpoint, catalogue, lock, version };
        found.catalogue = found.read_catalogue();
        Ok(found)
    }

    /// Whether a broker serves the directory.
    pub fn is_in_use(&self) -> bool {
        self.lock.is_none()
    }

    /// Refuses a journal that is known to be of another data directory. Without a checkpoint the headers of its
    /// segments say so.
    pub(crate) fn check_journal(&self) -> Result<(), OpenError> {
        let is_other = match (&self.version, &self.checkpoint) {
            (Ok(data_id), Some(found)) => found.data_id != *data_id,
            (Ok(_), None) => at(&self.paths.journal, self.ring_files.are_of_another())?,
            (Err(_), _) => false,
        };
        if is_other { Err(self.paths.other_journal()) } else { Ok(()) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.host.disk.as_ref()
    }

    /// The catalogue as far as its records can be read.
    pub(crate) fn read_catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::default();
        let replay = &mut |record| catalogue.replay(record);
        each_record(self.disk(), &self.paths.topics, self.catalogue_start(), replay);
        catalogue
    }

    /// Where the catalogue's log begins: files in front of it may be half removed.
    pub(crate) fn catalogue_start(&self) -> Offset {
        let end = self.checkpoint.as_ref().and_then(|found| found.logs.get(&METADATA));
        end.map_or(Offset(0), |end| end.log_start_offset)
    }

    /// What people call a partition.
    pub fn name(&self, id: PartitionId) -> PartitionName {
        let mut name = PartitionName::from(id);
        name.look_up(&self.catalogue);
        name
    }

    /// The partition of a topic that is given by name or id.
    pub fn find(&self, topic: &str, index: i32) -> Option<PartitionId> {
        let named = self.catalogue.by_name.get(topic).map(|topic| topic.id);
        let id = named.or_else(|| topic.parse().ok().map(TopicId))?;
        Some(PartitionId { topic: id, partition: PartitionIndex(index) })
    }

    /// Every partition that the checkpoint lists, or whose directory is there.
    pub(crate) fn partitions(&self) -> io::Result<Vec<PartitionId>> {
        let mut found = BTreeSet::new();
        if let Some(checkpoint) = &self.checkpoint {
            found.extend(checkpoint.logs.keys().copied());
        }
        for topic in self.disk().list(&self.paths.topics)? {
            let Ok(id) = topic.parse().map(TopicId) else { continue };
            if id != METADATA.topic && !self.catalogue.by_id.contains_key(&id) {
                continue;
            }
            for index in self.disk().list(&self.paths.topics.join(topic))? {
                let Ok(index) = index.parse().map(PartitionIndex) else { continue };
                found.insert(PartitionId { topic: id, partition: index });
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Directories of which the catalogue knows nothing, not even that their topics are deleted.
    pub(crate) fn unknown_dirs(&self) -> Vec<PathBuf> {
        let names = self.disk().list(&self.paths.topics).unwrap_or_default();
        let mut deleted = BTreeSet::new();
        each_record(self.disk(), &self.paths.topics, self.catalogue_start(), &mut |record| {
            if let Record::Deleted { id } = record {
                deleted.insert(id);
            }
        });
        let unknown = |name: &String| {
            !name.parse().map(TopicId).is_ok_and(|id| {
                id == METADATA.topic
                    || self.catalogue.by_id.contains_key(&id)
                    || deleted.contains(&id)
            })
        };
        names.into_iter().filter(unknown).map(|name| self.paths.topics.join(name)).collect()
    }

    /// The base offsets of a partition's log files, ascending.
    pub(crate) fn bases(&self, id: PartitionId) -> io::Result<Vec<Offset>> {
        bases(self.disk(), &self.paths.topics, id)
    }

    pub(crate) fn log_path(&self, id: PartitionId, base: Offset) -> PathBuf {
        partition_dir(&self.paths.topics, id).join(file_name(base, "log"))
    }

    /// Everything that is damaged, after reading every byte that a checkpoint vouches for.
    pub fn damages(&self, progress: Progress<'_>) -> Result<Vec<Damage>, OpenError> {
        self.check_journal()?;
        let mut found: Vec<Damage> = self.version.clone().err().into_iter().collect();
        let Some(checkpoint) = &self.checkpoint else {
            found.push(Damage::Missing(self.paths.journal.join("checkpoint-0")));
            return Ok(found);
        };
        let mut deleted = BTreeSet::new();
        match self.damage_of_journal(checkpoint, &mut deleted) {
            Ok(()) => {}
            Err(OpenError::Damaged(damage)) => found.push(damage),
            Err(other) => return Err(other),
        }
        let all: u64 = at(&self.paths.topics, self.log_bytes(checkpoint))?;
        let mut done = 0;
        for (id, end) in checkpoint.logs.iter().filter(|(id, _)| !deleted.contains(&id.topic)) {
            let damage = self.damage_of(*id, end, &mut |bytes| {
                done += bytes;
                progress(done, all);
            });
            match reading(&partition_dir(&self.paths.topics, *id), damage) {
                Ok(damage) => found.extend(damage),
                Err(OpenError::Damaged(damage)) => found.push(damage),
                Err(other) => return Err(other),
            }
        }
        for damage in &mut found {
            damage.look_up(&self.catalogue);
        }
        Ok(found)
    }

    /// The first thing that is wrong with the journal. Takes note of the topics whose deletion is in it: their files
    /// may be gone.
    fn damage_of_journal(
        &self,
        checkpoint: &Checkpoint,
        deleted: &mut BTreeSet<TopicId>,
    ) -> Result<(), OpenError> {
        let journal = &self.paths.journal;
        let needed = checkpoint.ring.segment;
        if !reading(journal, self.ring_files.existing())?.contains(&needed) {
            return Err(Damage::Missing(journal.join(format!("segment-{needed}"))).into());
        }
        let mut unknown = None;
        let scan = Scan::follow(&self.ring_files, checkpoint, |cycle| {
            for (extent, bytes) in &cycle.pieces {
                for view in batches(bytes).filter(|_| extent.partition == METADATA) {
                    let Some(records) = records_of(&view) else {
                        unknown = Some(extent.position);
                        continue;
                    };
                    deleted.extend(records.into_iter().filter_map(|record| match record {
                        Record::Deleted { id } => Some(id),
                        _ => None,
                    }));
                }
            }
        });
        match (scan, unknown) {
            (Err(ScanError::Damage(damage)), _) => Err(damage.into()),
            (Err(ScanError::Io(error)), _) => reading(journal, Err(error)),
            (Ok(_), Some(position)) => {
                Err(Damage::BadCycle { path: journal.clone(), position }.into())
            }
            (Ok(_), None) => Ok(()),
        }
    }

    fn log_bytes(&self, checkpoint: &Checkpoint) -> io::Result<u64> {
        let mut all = 0;
        for id in checkpoint.logs.keys() {
            for base in self.bases(*id)? {
                all += self.disk().open(&self.log_path(*id, base), Open::Read)?.len()?;
            }
        }
        Ok(all)
    }

    /// The first thing that is wrong with a log.
    fn damage_of(
        &self,
        id: PartitionId,
        end: &crate::journal::checkpoint::LogEnd,
        looked_at: &mut dyn FnMut(u64),
    ) -> io::Result<Option<Damage>> {
        let dir = partition_dir(&self.paths.topics, id);
        let mut bases: Vec<Offset> =
            self.bases(id)?.into_iter().filter(|base| *base <= end.segment).collect();
        let first = end.first_of(bases.iter().copied());
        if let Some(from) = first
            && let Err(path) = meta_in_front(self.disk(), &dir, from)?
        {
            return Ok(Some(Damage::Forgotten { path, partition: id.into(), from }));
        }
        // Files in front of the log's start may already be half removed.
        let start = end.log_start_offset;
        let holds_start = bases.iter().rposition(|base| *base <= start);
        bases.drain(..holds_start.unwrap_or(0));
        // A log whose records were all deleted has no file.
        if end.length > 0 && bases.last() != Some(&end.segment) {
            return Ok(Some(Damage::Missing(self.log_path(id, end.segment))));
        }
        let mut next = bases.first().copied().unwrap_or(end.segment);
        if next > start {
            return Ok(Some(Damage::between(dir, id, start, next)));
        }
        let all = bases.clone();
        for base in bases {
            if base < next && all.contains(&next) {
                // A file written anew has its records, up to where another begins; the next start removes it.
                continue;
            }
            if base != next {
                return Ok(Some(Damage::between(dir, id, next, base)));
            }
            let path = self.log_path(id, base);
            let partition = id.into();
            let file = self.disk().open(&path, Open::Read)?;
            let found = file.len()?;
            if base == end.segment && found < end.length {
                let (expected, before) = (end.length, end.next_offset);
                return Ok(Some(Damage::Short { path, partition, found, expected, before }));
            }
            let length = if base == end.segment { end.length } else { found };
            let (mut reached, mut unknown) = (base, None);
            let offsets = base..Offset(i64::MAX);
            let walked = walk(file.as_ref(), 0..length, offsets, &mut |at, view| {
                looked_at(position(view.bytes().len()));
                if id == METADATA && unknown.is_none() && records_of(view).is_none() {
                    unknown = Some(Whole { position: at, next_offset: reached });
                }
                reached = view.header.next_offset();
            });
            let whole = match walked {
                Err(error) if is_unreadable(&error) => {
                    return Ok(Some(Damage::unreadable(path, id, reached, &error)));
                }
                walked => unknown.map_or(walked, Ok)?,
            };
            if whole.position < length {
                let (position, from) = (whole.position, whole.next_offset);
                return Ok(Some(Damage::BadBatch { path, partition, position, from }));
            }
            next = whole.next_offset;
        }
        if next != end.next_offset {
            let path = self.log_path(id, end.segment);
            let (partition, position) = (id.into(), end.length);
            return Ok(Some(Damage::BadBatch { path, partition, position, from: next }));
        }
        Ok(None)
    }
}

/// The catalogue as far as the records in its log can be read, checkpointed or not.
pub(crate) fn catalogue_on(disk: &dyn Disk, topics: &Path) -> Catalogue {
    let mut catalogue = Catalogue::default();
    each_record(disk, topics, Offset(0), &mut |record| catalogue.replay(record));
    catalogue
}

/// The records of the catalogue, in order, as far as they can be read, from the file on that holds the start of its log.
pub(crate) fn each_record(
    disk: &dyn Disk,
    topics: &Path,
    start: Offset,
    visit: &mut dyn FnMut(Record),
) {
    let mut next = Offset(0);
    let mut bases = bases(disk, topics, METADATA).unwrap_or_default();
    let holds_start = bases.iter().rposition(|base| *base <= start);
    for base in bases.drain(holds_start.unwrap_or(0)..) {
        let path = partition_dir(topics, METADATA).join(file_name(base, "log"));
        let Ok(file) = disk.open(&path, Open::Read) else { break };
        let (length, offsets) = (file.len().unwrap_or(0), next..Offset(i64::MAX));
        let whole = walk(file.as_ref(), 0..length, offsets, &mut |_, view| {
            records_of(view).into_iter().flatten().for_each(&mut *visit);
        });
        match whole {
            Ok(whole) => next = whole.next_offset,
            Err(_unreadable) => break,
        }
    }
}

fn bases(disk: &dyn Disk, topics: &Path, id: PartitionId) -> io::Result<Vec<Offset>> {
    match disk.list(&partition_dir(topics, id)) {
        Ok(names) => Ok(names.iter().filter_map(|name| base_of(name, "log")).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Up to where a log file holds whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) position: u64,
    pub(crate) next_offset: Offset,
}

/// Visits the batches of a file, and verifies each. Ends at the first that is not whole or whose
/// offset was given before, or is none of these.
pub(crate) fn walk(
    file: &dyn DiskFile,
    range: Range<u64>,
    offsets: Range<Offset>,
    visit: &mut dyn FnMut(u64, &BatchView<'_>),
) -> io::Result<Whole> {
    let mut whole = Whole { position: range.start, next_offset: offsets.start };
    let mut memory = Vec::new();
    let (mut chunk, mut usual) = (CHUNK_BYTES, CHUNK_BYTES);
    loop {
        let begin = whole.position;
        memory.resize(in_memory(chunk.min(range.end - begin)), 0);
        let read = match file.read_at(&mut memory, begin) {
            Err(_unreadable) if usual > LEAST_CHUNK_BYTES => {
                // What lies in front of it may still be read.
                (chunk, usual) = (LEAST_CHUNK_BYTES, LEAST_CHUNK_BYTES);
                continue;
            }
            read => read?,
        };
        let mut rest = memory.get(..read).unwrap_or_default();
        while let Ok(view) = BatchView::parse(rest) {
            let header = &view.header;
            let fits = header.base_offset >= whole.next_offset
                && header.last_offset_delta >= 0
                && header.next_offset() <= offsets.end;
            if !fits || view.verify_crc().is_err() {
                return Ok(whole);
            }
            visit(whole.position, &view);
            whole.position += position(view.bytes().len());
            whole.next_offset = view.header.next_offset();
            rest = rest.get(view.bytes().len()..).unwrap_or_default();
        }
        let may_be_longer = match BatchHeader::parse(rest) {
            Ok(header) => {
                let size = header.size_in_bytes();
                size <= MAX_CYCLE_BYTES && whole.position + position(size) <= range.end
            }
            Err(_none) => rest.len() < HEADER_BYTES,
        };
        if !may_be_longer {
            return Ok(whole);
        }
        let at_end = begin + position(read) >= range.end || position(read) < chunk;
        if whole.position > begin {
            chunk = usual;
        } else if at_end {
            return Ok(whole);
        } else {
            // A batch that is longer than what was read.
            chunk *= 2;
        }
    }
}
