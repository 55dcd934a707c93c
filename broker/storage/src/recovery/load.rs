//! The logs as the checkpoint says they are: cut, and their state found again.

use std::{collections::HashMap, io, sync::Arc};

use wire::Offset;

use super::{Recovery, is_not_found};
use crate::{
    api::{Catalogue, PartitionId},
    catalogue::{METADATA, records_of},
    committer::Entry,
    damage::{Damage, OpenError},
    data_dir::at,
    db::Map,
    host::{Open, read_all},
    journal::checkpoint::LogEnd,
    keeper::{LogRow, Meta, encode_log_row},
    log_scan::{marker_in, scan_headers},
    log_state::LogState,
    segment_file::{
        SegmentFile, base_of, file_name, partition_dir, remove_cleaned, remove_in_front,
    },
    settings::TopicSettings,
};

impl Recovery<'_> {
    /// The catalogue that the checkpointed records make.
    pub(super) fn checkpointed_catalogue(&self) -> Result<Catalogue, OpenError> {
        let static_configs = Arc::clone(&self.static_configs);
        let mut catalogue = Catalogue { static_configs, ..Catalogue::default() };
        let Some(end) = self.checkpoint.logs.get(&METADATA) else { return Ok(catalogue) };
        let dir = partition_dir(&self.dir.paths.topics, METADATA);
        let mut next = Offset(0);
        for base in self.bases(METADATA)? {
            if base > end.segment {
                continue;
            }
            let path = dir.join(file_name(base, "log"));
            let mut bytes = at(&path, read_all(self.host.disk.as_ref(), &path))?;
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
                    catalogue.replay(record);
                }
                position += length;
                next = behind;
            }
        }
        Ok(catalogue)
    }

    /// The base offsets of a partition's log files, ascending.
    fn bases(&self, id: PartitionId) -> Result<Vec<Offset>, OpenError> {
        let dir = partition_dir(&self.dir.paths.topics, id);
        match self.host.disk.list(&dir) {
            Ok(names) => Ok(names.iter().filter_map(|name| base_of(name, "log")).collect()),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => at(&dir, Err(error)),
        }
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
            match self.checkpoint.logs.get(&id).copied() {
                Some(end) => {
                    self.cut(id, &end)?;
                    self.load(map, &mut entry, &end)?;
                }
                None => self.cut_to_nothing(id)?,
            }
            entries.insert(id, entry);
        }
        Ok(entries)
    }

    /// Removes what is in no checkpoint.
    fn cut_to_nothing(&mut self, id: PartitionId) -> Result<(), OpenError> {
        self.remove_files(id, |_| true)
    }

    /// Cuts the log to the checkpoint.
    fn cut(&mut self, id: PartitionId, end: &LogEnd) -> Result<(), OpenError> {
        self.remove_files(id, |name| {
            base_of(name, "log").is_some_and(|base| base > end.segment)
                || base_of(name, "meta").is_some_and(|base| base >= end.segment)
        })?;
        let disk = self.host.disk.as_ref();
        let path = partition_dir(&self.dir.paths.topics, id).join(file_name(end.segment, "log"));
        if !disk.exists(&path) {
            // A log whose records were all deleted has no file until the next is appended.
            if end.length == 0 {
                return Ok(());
            }
            return Err(Damage::Missing(path).into());
        }
        let file = at(&path, disk.open(&path, Open::Write))?;
        let found = at(&path, file.len())?;
        if found < end.length {
            let (expected, before) = (end.length, end.next_offset);
            let partition = id.into();
            return Err(Damage::Short { path, partition, found, expected, before }.into());
        }
        if found > end.length {
            at(&path, file.set_len(end.length))?;
        }
        Ok(())
    }

    fn remove_files(
        &mut self,
        id: PartitionId,
        unwanted: impl Fn(&str) -> bool,
    ) -> Result<(), OpenError> {
        let disk = self.host.disk.as_ref();
        let dir = partition_dir(&self.dir.paths.topics, id);
        let names = match disk.list(&dir) {
            Ok(names) => names,
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return at(&dir, Err(error)),
        };
        for name in names.iter().filter(|name| unwanted(name)) {
            let path = dir.join(name);
            at(&path, disk.remove_file(&path))?;
            self.written.dirs.insert(dir.clone());
        }
        Ok(())
    }

    /// Finds the state of a log at the checkpoint: from its row in the map, if there is one, else
    /// from the `.meta` files and the last file.
    fn load(&mut self, map: &Map, entry: &mut Entry, end: &LogEnd) -> Result<(), OpenError> {
        let id = entry.partition.id;
        let (bases, before) = self.remove_deleted(entry, end)?;
        let first = bases.first().copied().unwrap_or(end.segment);
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
        for base in bases.into_iter().filter(|base| *base <= end.segment) {
            if base < entry.log.segment {
                continue;
            }
            if base > entry.log.segment {
                full.push((entry.log.segment, entry.log.position, entry.log.max_timestamp));
                let rolled = entry.roll();
                if let Some(rolled) = rolled.filter(|_| !self.has_meta(entry, full.last())) {
                    self.written.rolled.push(rolled);
                }
            }
            self.read_file(entry, base, end)?;
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
            at(&self.dir.paths.map, entry.move_rows(map, &full))?;
        }
        Ok(())
    }

    /// Removes the files wholly in front of the checkpoint's log start, as the keeper would have.
    /// Answers the bases of the others, and the state at the end of what is gone.
    fn remove_deleted(
        &self,
        entry: &Entry,
        end: &LogEnd,
    ) -> Result<(Vec<Offset>, Option<LogState>), OpenError> {
        let mut bases = self.bases(entry.partition.id)?;
        let dir = &entry.partition.dir;
        let disk = self.host.disk.as_ref();
        match remove_cleaned(disk, dir, |_, _| true) {
            Err(error) if !is_not_found(&error) => return at(dir, Err(error)),
            _ => {}
        }
        let start = end.log_start_offset;
        let holds_start = bases.iter().chain([&end.segment]).rfind(|base| **base <= start);
        let Some(first) = holds_start.copied().filter(|first| *first > Offset(0)) else {
            return Ok((bases, None));
        };
        bases.retain(|base| *base >= first);
        match remove_in_front(disk, dir, first) {
            Err(error) if !is_not_found(&error) => return at(dir, Err(error)),
            _ => {}
        }
        let names = disk.list(dir).unwrap_or_default();
        let newest = names.iter().filter_map(|name| base_of(name, "meta")).rfind(|it| *it < first);
        let meta = newest.map(|base| Meta::read(disk, &SegmentFile::new(dir.clone(), base)));
        let meta = at(dir, meta.transpose())?.flatten();
        Ok((bases, meta.map(|meta| meta.state)))
    }

    /// Whether the full files are those that the map's row speaks of.
    fn fits(&self, entry: &Entry, row: &LogRow, bases: &[Offset]) -> Result<bool, OpenError> {
        let first = bases.first().copied().unwrap_or(row.state.segment);
        let mut left = bases.iter().filter(|base| **base < row.state.segment);
        for (base, length, _) in row.full.iter().filter(|(base, ..)| *base >= first) {
            let path = entry.partition.dir.join(file_name(*base, "log"));
            let same = left.next() == Some(base)
                && at(&path, self.host.disk.open(&path, Open::Read).and_then(|file| file.len()))?
                    == *length;
            if !same {
                return Ok(false);
            }
        }
        Ok(left.next().is_none())
    }

    fn has_meta(&self, entry: &Entry, full: Option<&(Offset, u64, wire::TimestampMs)>) -> bool {
        full.is_some_and(|(base, ..)| {
            self.host.disk.exists(&entry.partition.dir.join(file_name(*base, "meta")))
        })
    }

    /// Takes in a file from where the state stands, up to its end or the checkpoint's.
    fn read_file(&self, entry: &mut Entry, base: Offset, end: &LogEnd) -> Result<(), OpenError> {
        let disk = self.host.disk.as_ref();
        let file = entry.file();
        let path = file.path();
        if entry.log.segment != base {
            return Err(entry.damaged_at(base).into());
        }
        if base < end.segment
            && entry.log.position == 0
            && let Some(meta) = at(&path, Meta::read(disk, &file))?
        {
            entry.take_meta(meta);
            return Ok(());
        }
        let log = at(&path, file.for_syncing(disk))?;
        let length = if base == end.segment { end.length } else { at(&path, log.len())? };
        let mut failed = None;
        let scanned = scan_headers(log.as_ref(), entry.log.position..length, |position, header| {
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
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(entry.damaged_at(base).into())
            }
            Err(error) => at(&path, Err(error)),
        }
    }
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

    /// The map has what is in front of where its row reaches; the rest is added to the map.
    fn move_rows(
        &mut self,
        map: &Map,
        full: &[(Offset, u64, wire::TimestampMs)],
    ) -> io::Result<()> {
        let id = self.partition.id;
        let mapped = self.drain_to(map)?;
        map.put_log(id, &encode_log_row(&self.log, full, mapped))
    }
}
