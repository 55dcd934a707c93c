//! The logs as the checkpoint says they are: cut, and their state found again.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::Arc,
};

use wire::{Offset, TopicId};

use super::{Recovery, is_not_found};
use crate::{
    api::{Catalogue, PartitionId},
    catalogue::{METADATA, Record, records_of},
    committer::Entry,
    damage::{Damage, OpenError},
    data_dir::{at, reading},
    db::Map,
    host::{Disk, Open, is_unreadable, read_all},
    journal::checkpoint::LogEnd,
    keeper::{LogRow, Meta, encode_log_row, meta_in_front},
    log_scan::{marker_in, scan_headers},
    log_state::LogState,
    segment_file::{
        base_of, cleaned_of, file_name, partition_dir, remove_cleaned, remove_in_front,
    },
    settings::TopicSettings,
};

/// The names in a partition's directory, listed once: a start looks at every partition.
struct Names<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    sorted: Vec<String>,
}

impl<'a> Names<'a> {
    fn list(disk: &'a dyn Disk, dir: PathBuf) -> Result<Self, OpenError> {
        let sorted = match disk.list(&dir) {
            Err(error) if is_not_found(&error) => Vec::new(),
            listed => reading(&dir, listed)?,
        };
        Ok(Self { disk, dir, sorted })
    }

    /// The base offsets of the files with this extension, ascending.
    fn bases(&self, extension: &str) -> impl DoubleEndedIterator<Item = Offset> {
        self.sorted.iter().filter_map(move |name| base_of(name, extension))
    }

    fn has(&self, base: Offset, extension: &str) -> bool {
        self.sorted.binary_search(&file_name(base, extension)).is_ok()
    }

    /// Removes files; answers whether there were any.
    fn remove(&mut self, unwanted: impl Fn(&str) -> bool) -> Result<bool, OpenError> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sorted).into_iter().partition(|name| unwanted(name));
        self.sorted = kept;
        for name in &gone {
            let path = self.dir.join(name);
            at(&path, self.disk.remove_file(&path))?;
        }
        Ok(!gone.is_empty())
    }
}

impl Recovery<'_> {
    /// The catalogue that the checkpointed records make, and the topics that they say are gone.
    pub(super) fn checkpointed_catalogue(
        &self,
    ) -> Result<(Catalogue, BTreeSet<TopicId>), OpenError> {
        let static_configs = Arc::clone(&self.static_configs);
        let mut catalogue = Catalogue { static_configs, ..Catalogue::default() };
        let mut gone = BTreeSet::new();
        let Some(end) = self.checkpoint.logs.get(&METADATA) else { return Ok((catalogue, gone)) };
        let dir = partition_dir(&self.dir.paths.topics, METADATA);
        let names = Names::list(self.host.disk.as_ref(), dir.clone())?;
        let start = end.log_start_offset.min(end.segment);
        let first = names.bases("log").rfind(|base| *base <= start);
        // What lies in front of the log's start may be half removed.
        let first = first.unwrap_or(start);
        let mut next = first;
        for base in names.bases("log").filter(|base| (first..=end.segment).contains(base)) {
            if base != next {
                return Err(Damage::between(dir, METADATA, next, base).into());
            }
            let path = dir.join(file_name(base, "log"));
            let mut bytes = match read_all(self.host.disk.as_ref(), &path) {
                Err(error) if is_unreadable(&error) => {
                    return Err(Damage::unreadable(path, METADATA, next, &error).into());
                }
                read => at(&path, read)?,
            };
            if base == end.segment {
                bytes.truncate(usize::try_from(end.length).unwrap_or(usize::MAX));
            }
            let mut position = 0;
            while position < bytes.len() {
                let rest = bytes.get(position..).unwrap_or_default();
                let view = wire::batch::BatchView::parse(rest).ok();
                let found = view.and_then(|view| {
                    Some((view.bytes().len(), view.header.next_offset(), records_of(&view)?))
                });
                let Some((length, behind, records)) = found else {
                    let position = crate::codec::position(position);
                    let (partition, from) = (METADATA.into(), next);
                    return Err(Damage::BadBatch { path, partition, position, from }.into());
                };
                for record in records {
                    if let Record::Deleted { id } = &record {
                        gone.insert(*id);
                    }
                    catalogue.replay(record);
                }
                position += length;
                next = behind;
            }
        }
        Ok((catalogue, gone))
    }

    /// Every partition of the catalogue, as it was at the checkpoint.
    pub(super) fn load_logs(
        &mut self,
        map: &Map,
        catalogue: &Catalogue,
    ) -> Result<HashMap<PartitionId, Entry>, OpenError> {
        let mut entries = HashMap::new();
        for (id, topic) in catalogue.partitions() {
            let settings = TopicSettings::of(catalogue, topic, self.default_segment_bytes);
            let mut entry = self.entry(id, settings);
            let mut names = Names::list(self.host.disk.as_ref(), entry.partition.dir.clone())?;
            let end = self.checkpoint.logs.get(&id).copied();
            // What is in no checkpoint goes.
            let removed = names.remove(|name| match &end {
                Some(end) => {
                    base_of(name, "log").is_some_and(|base| base > end.segment)
                        || base_of(name, "meta").is_some_and(|base| base >= end.segment)
                }
                None => {
                    base_of(name, "log").is_some()
                        || base_of(name, "meta").is_some()
                        || cleaned_of(name).is_some()
                }
            })?;
            if removed {
                self.written.dirs.insert(entry.partition.dir.clone());
            }
            if let Some(end) = end {
                cut(id, &end, &names)?;
                self.load(map, &mut entry, &end, names)?;
            }
            entries.insert(id, entry);
        }
        Ok(entries)
    }

    /// Finds the state of a log at the checkpoint: from its row in the map, if there is one, else
    /// from the `.meta` files and the last file.
    fn load(
        &mut self,
        map: &Map,
        entry: &mut Entry,
        end: &LogEnd,
        mut names: Names<'_>,
    ) -> Result<(), OpenError> {
        let id = entry.partition.id;
        let before = remove_deleted(id, &mut names, end)?;
        let bases: Vec<_> = names.bases("log").collect();
        let first = bases.first().copied().unwrap_or(end.segment);
        let start = end.log_start_offset;
        if first > start {
            return Err(Damage::between(names.dir, id, start, first).into());
        }
        let row = at(&self.dir.paths.map, map.log(id))?.and_then(|row| LogRow::decode(&row));
        // A row that ends within a file that was deleted since says less than the files that are left.
        let row = row.filter(|row| row.state.segment >= first);
        // Nor does one of files that were written anew since.
        let row = match row {
            Some(row) if self.fits(entry, &row, &bases)? => Some(row),
            _ => None,
        };
        let mut full = Vec::new();
        let known = row.is_some();
        let mut current = false;
        match row {
            Some(row) if row.state.next_offset > end.next_offset => {
                return Err(OpenError::MapAhead {
                    path: self.dir.paths.map.clone(),
                    partition: id.into(),
                    map: row.state.next_offset,
                    journal: end.next_offset,
                });
            }
            Some(mut row) => {
                let known = row.full.len();
                row.full.retain(|(base, ..)| *base >= first);
                row.mapped_aborted = row.mapped_aborted.filter(|marker| *marker >= first);
                current = row.state.next_offset == end.next_offset && row.full.len() == known;
                at(&self.dir.paths.map, map.trim(id, first))?;
                entry.begin(row.state, &row.full, row.mapped_aborted);
                full = row.full;
            }
            None => {
                at(&self.dir.paths.map, map.remove(id))?;
                entry.begin_at(first, before);
            }
        }
        // Whether what is to be written beside the file can be read there.
        let mut was_beside = true;
        for base in bases.into_iter().filter(|base| *base <= end.segment) {
            if base < entry.log.segment {
                continue;
            }
            if base > entry.log.segment {
                full.push((entry.log.segment, entry.log.position, entry.log.max_timestamp));
                let rolled = entry.roll();
                if let Some(rolled) = rolled.filter(|_| !was_beside) {
                    self.written.dirs.insert(entry.partition.dir.clone());
                    self.written.rolled.push(rolled);
                }
            }
            was_beside = self.read_file(entry, base, end)?;
        }
        if entry.log.next_offset != end.next_offset || entry.log.position != end.length {
            return Err(entry.damaged_at(end.segment).into());
        }
        entry.log_start = end.log_start_offset;
        entry.cleaned_to = end.cleaned_to;
        let mut published = entry.partition.published();
        published.cleaned_to = end.cleaned_to;
        published.covered = end.segment;
        drop(published);
        current &= !entry.log.producers.expire_again(self.forgotten);
        if map.keeps() && !(known && current) {
            let log = at(&self.dir.paths.map, entry.move_rows(map, &full))?;
            self.mapped.push((entry.partition.id, log));
        }
        Ok(())
    }

    /// Whether the full files are those that the map's row speaks of.
    fn fits(&self, entry: &Entry, row: &LogRow, bases: &[Offset]) -> Result<bool, OpenError> {
        let first = bases.first().copied().unwrap_or(row.state.segment);
        let mut left = bases.iter().filter(|base| **base < row.state.segment);
        for (base, length, _) in row.full.iter().filter(|(base, ..)| *base >= first) {
            let path = entry.partition.dir.join(file_name(*base, "log"));
            let same =
                left.next() == Some(base) && at(&path, self.host.disk.length(&path))? == *length;
            if !same {
                return Ok(false);
            }
        }
        Ok(left.next().is_none())
    }

    /// Takes in a file from where the state stands, up to its end or the checkpoint's. Answers whether what is to be
    /// written beside it could be read.
    fn read_file(&self, entry: &mut Entry, base: Offset, end: &LogEnd) -> Result<bool, OpenError> {
        let disk = self.host.disk.as_ref();
        let file = entry.file();
        let path = file.path();
        let from = entry.log.position;
        if entry.log.segment != base {
            let dir = entry.partition.dir.clone();
            return Err(Damage::between(dir, entry.partition.id, entry.log.segment, base).into());
        }
        if base < end.segment
            && from == 0
            && let Some(meta) = at(&path, Meta::read(disk, &file))?
        {
            let (expected, found) = (meta.state.position, at(&path, disk.length(&path))?);
            if found < expected {
                let (partition, before) = (entry.partition.id.into(), meta.state.next_offset);
                return Err(Damage::Short { path, partition, found, expected, before }.into());
            }
            entry.take_meta(meta);
            return Ok(true);
        }
        if base == end.segment && from == end.length {
            return Ok(false);
        }
        let log = at(&path, file.for_syncing(disk))?;
        let length = if base == end.segment { end.length } else { at(&path, log.len())? };
        let mut failed = None;
        let scanned =
            scan_headers(log.as_ref(), from..length, |position, header| {
                match marker_in(log.as_ref(), position, header) {
                    _ if failed.is_some() => {}
                    Ok(_) if header.base_offset < entry.log.next_offset => {
                        failed = Some(io::ErrorKind::InvalidData.into());
                    }
                    Ok(marker) => entry.apply(header, marker),
                    Err(error) => failed = Some(error),
                }
            });
        match failed.map_or(scanned, Err) {
            Ok(()) => Ok(from > 0 && at(&path, Meta::read(disk, &file))?.is_some()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(entry.damaged_at(base).into())
            }
            Err(error) if is_unreadable(&error) => {
                let id = entry.partition.id;
                Err(Damage::unreadable(path, id, entry.log.next_offset, &error).into())
            }
            Err(error) => at(&path, Err(error)),
        }
    }
}

/// Cuts the log to the checkpoint.
fn cut(id: PartitionId, end: &LogEnd, names: &Names<'_>) -> Result<(), OpenError> {
    let path = names.dir.join(file_name(end.segment, "log"));
    if !names.has(end.segment, "log") {
        // A log whose records were all deleted has no file until the next is appended.
        if end.length == 0 {
            return Ok(());
        }
        return Err(Damage::Missing(path).into());
    }
    let found = at(&path, names.disk.length(&path))?;
    if found < end.length {
        let (expected, before) = (end.length, end.next_offset);
        let partition = id.into();
        return Err(Damage::Short { path, partition, found, expected, before }.into());
    }
    if found > end.length {
        let cut = || names.disk.open(&path, Open::Write)?.set_len(end.length);
        at(&path, cut())?;
    }
    Ok(())
}

/// Removes the files wholly in front of the checkpoint's log start, as the keeper would have, and
/// what a compaction left. Answers the state at the end of what is gone.
fn remove_deleted(
    id: PartitionId,
    names: &mut Names<'_>,
    end: &LogEnd,
) -> Result<Option<LogState>, OpenError> {
    if names.sorted.iter().any(|name| cleaned_of(name).is_some()) {
        at(&names.dir, remove_cleaned(names.disk, &names.dir, |_, _| true))?;
        names.sorted.retain(|name| cleaned_of(name).is_none());
    }
    let Some(first) = end.first_of(names.bases("log")) else { return Ok(None) };
    let in_front = |extension| names.bases(extension).filter(|base| *base < first);
    if in_front("meta").next().is_none() && in_front("log").next().is_none() {
        return Ok(None);
    }
    let meta = at(&names.dir, meta_in_front(names.disk, &names.dir, first))?;
    let forgotten = |path| Damage::Forgotten { path, partition: id.into(), from: first };
    let meta = meta.map_err(forgotten)?;
    if in_front("log").count() > 0 || in_front("meta").count() > 1 {
        at(&names.dir, remove_in_front(names.disk, &names.dir, first))?;
        *names = Names::list(names.disk, names.dir.clone())?;
    }
    Ok(meta.map(|meta| meta.state))
}

impl Entry {
    /// What is damaged once the log cannot be followed any further.
    fn damaged_at(&self, base: Offset) -> Damage {
        Damage::BadBatch {
            path: self.partition.dir.join(file_name(base, "log")),
            partition: self.partition.id.into(),
            position: if base == self.log.segment { self.log.position } else { 0 },
            from: self.log.next_offset,
        }
    }

    /// The map has what is in front of where its row reaches; the rest is added to the map. Answers the row
    /// that says how far they reach now.
    fn move_rows(
        &mut self,
        map: &Map,
        full: &[(Offset, u64, wire::TimestampMs)],
    ) -> io::Result<Vec<u8>> {
        let mapped = self.drain_to(map)?;
        Ok(encode_log_row(&self.log, full, mapped))
    }
}
