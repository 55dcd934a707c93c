//! Reading: whole batches from the files, by offset or by time.

mod times;

use std::{io, path::PathBuf, sync::Arc};

use wire::{
    Offset,
    batch::{BatchHeader, HEADER_BYTES},
};

use crate::{
    api::{AbortedTransaction, FileSlice, Isolation, ReadError, ReadLimit, ReadResult},
    codec::{in_memory, position},
    db::Map,
    host::{Disk, DiskFile},
    log_state::{INDEX_INTERVAL_BYTES, Row},
    partition::{Partition, Segment},
    producer::Aborted,
    segment_file::OpenFiles,
    shared::Shared,
};

/// What is read to see one header.
const HEADER_CHUNK_BYTES: u64 = 4096;

/// Whether a read waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Any,
    None,
}

/// Files are replaced seconds apart, so that the second try finds what there is.
const MOST_RETRIES: usize = 3;

/// What a read needs beside the partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) map: &'a Map,
    pub(crate) open_files: &'a OpenFiles,
    pub(crate) patience: Patience,
}

/// A file that is read, up to where it is published.
struct OpenSegment {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    length: u64,
    /// Its offsets lie in front of this.
    behind: Offset,
    patience: Patience,
}

/// A place in a file where a batch begins, and an offset that it is not in front of.
#[derive(Clone, Copy)]
struct Place {
    position: u64,
    offset: Offset,
}

impl From<Row> for Place {
    fn from(row: Row) -> Self {
        Self { position: row.position, offset: row.offset }
    }
}

/// What the end of a read depends on.
struct Bounds<'a> {
    partition: &'a Partition,
    segment: Offset,
    /// What may be read lies below.
    upper: Offset,
    /// The first offset that lies behind what is published of the file.
    behind: Offset,
    limit: ReadLimit,
}

impl<'a> Reading<'a> {
    pub(crate) fn of(shared: &'a Shared) -> Self {
        Self {
            disk: shared.host.disk.as_ref(),
            map: &shared.map,
            open_files: &shared.open_files,
            patience: Patience::Any,
        }
    }

    /// Whole batches from the one that holds `from`, out of one file.
    pub(crate) fn read(
        &self,
        partition: &Partition,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<ReadResult, ReadError> {
        retried(|| self.read_once(partition, from, limit))
    }

    fn read_once(
        &self,
        partition: &Partition,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<ReadResult, ReadError> {
        let published = partition.published();
        let snapshot = published.offsets;
        if from < snapshot.log_start_offset || from > snapshot.log_end_offset {
            return Err(ReadError::OffsetOutOfRange(snapshot));
        }
        let upper = match limit.isolation {
            Isolation::ReadUncommitted => snapshot.high_watermark,
            Isolation::ReadCommitted => snapshot.last_stable_offset,
        };
        let index = published.segment_of(from);
        let segment = index.and_then(|index| published.segments.get(index));
        let nothing =
            ReadResult { slices: Vec::new(), next_offset: from, snapshot, aborted: Vec::new() };
        let Some(segment) = segment.filter(|_| from < upper).cloned() else {
            return Ok(nothing);
        };
        let next = index.and_then(|index| published.segments.get(index + 1));
        let behind = next.map_or(snapshot.high_watermark, |next| next.file.base);
        let row = published.row_before(from).filter(|row| row.segment == segment.file.base);
        drop(published);
        let place = match self.row_before(partition, row, from) {
            Some(row) if row.segment == segment.file.base => Place::from(row),
            _ => Place { position: 0, offset: segment.file.base },
        };
        let file = match self.open(&segment, behind) {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(gone(partition, from, error));
            }
            opened => opened?,
        };
        let found = file.find(place, |_, header| header.last_offset() >= from);
        if !matches!(found, Ok(Some(_))) && segment.file.is_retired() {
            // Its space may be gone already.
            return Err(ReadError::Io(io::ErrorKind::NotFound.into()));
        }
        // Every file keeps its last batch.
        let (start, first) = found?.ok_or_else(|| file.damaged(place.position))?;
        let bounds = Bounds { partition, segment: segment.file.base, upper, behind, limit };
        let end = self.end(&file, start, &first, &bounds);
        if end.is_err() && segment.file.is_retired() {
            // The index may be that of the file which has its place now.
            return Err(ReadError::Io(io::ErrorKind::NotFound.into()));
        }
        let Some((end, next_offset)) = end? else {
            return Ok(nothing);
        };
        let aborted = match limit.isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => self.aborted(partition, from, next_offset)?,
        };
        if limit.isolation == Isolation::ReadCommitted && segment.file.is_retired() {
            // What is known of aborted transactions may be that of the files which are left.
            return Err(ReadError::Io(io::ErrorKind::NotFound.into()));
        }
        let slice = FileSlice { length: in_memory(end - start), file: file.file, position: start };
        Ok(ReadResult { slices: vec![slice], next_offset, snapshot, aborted })
    }

    /// Where whole batches from `start` on end that lie below the upper offset and within the
    /// limit, and the first offset behind them; none if not even the first does. The index says
    /// where to begin to look, so that little is read of what is going to be sent.
    fn end(
        &self,
        file: &OpenSegment,
        start: u64,
        first: &BatchHeader,
        bounds: &Bounds<'_>,
    ) -> Result<Option<(u64, Offset)>, ReadError> {
        let Bounds { limit, upper, .. } = *bounds;
        let first_bytes = first.size_in_bytes();
        let wish = if limit.at_least_one_batch {
            limit.max_bytes.max(first_bytes)
        } else {
            limit.max_bytes
        };
        if wish < first_bytes || first.base_offset >= upper {
            return Ok(None);
        }
        let last = file.length.min(start + position(wish));
        if start + position(first_bytes) > last {
            return Err(file.damaged(start));
        }
        if last == file.length && bounds.behind <= upper {
            return Ok(Some((file.length, bounds.behind)));
        }
        let row = self.last_row_up_to(bounds, first.base_offset, last);
        let first = Place { position: start, offset: first.base_offset };
        let from = row.map_or(first, Place::from);
        let beyond = |at: u64, header: &BatchHeader| {
            at + position(header.size_in_bytes()) > last || header.base_offset >= upper
        };
        let end = file.find(from, beyond)?;
        Ok(Some(end.map_or((file.length, bounds.behind), |(end, next)| (end, next.base_offset))))
    }

    /// The last row of the file at or before a position, of a batch after `from` that may be read.
    fn last_row_up_to(&self, bounds: &Bounds<'_>, from: Offset, last: u64) -> Option<Row> {
        let fits = |row: &Row| row.position <= last && row.offset < bounds.upper;
        let published = bounds.partition.published();
        let of_file = published.rows.iter().rev().take_while(|row| row.segment >= bounds.segment);
        let row = of_file.filter(|row| row.segment == bounds.segment).find(|row| fits(row));
        if let Some(row) = row.copied() {
            return Some(row).filter(|row| row.offset > from);
        }
        drop(published);
        self.map.rows(bounds.partition.id, from.plus(1), bounds.segment).take_while(fits).last()
    }

    /// Aborted transactions that overlap `[from, upper)`, by first offset. What moves to the map is
    /// there before it leaves the memory, so the memory is looked at first.
    fn aborted(
        &self,
        partition: &Partition,
        from: Offset,
        upper: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let published = partition.published();
        let overlaps = |one: &&Aborted| one.last_offset >= from && one.first_offset < upper;
        let mut found: Vec<Aborted> = published.aborted.iter().filter(overlaps).copied().collect();
        let mapped = published.mapped_aborted;
        drop(published);
        if mapped.is_some_and(|last| last >= from) {
            found.extend(self.map.aborted(partition.id, from, upper)?);
            found.sort_unstable_by_key(|aborted| aborted.last_offset);
            found.dedup();
        }
        found.sort_unstable_by_key(|aborted| aborted.first_offset);
        let transactions = found.into_iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
        });
        Ok(transactions.collect())
    }

    /// The last row at or before `from`, in memory or in the map.
    fn row_before(
        &self,
        partition: &Partition,
        in_memory: Option<Row>,
        from: Offset,
    ) -> Option<Row> {
        match in_memory {
            Some(row) => Some(row),
            // Without the map the file is read from its beginning.
            None => self.map.row_before(partition.id, from).unwrap_or_else(|error| {
                tracing::debug!(%error, "a row of the map cannot be read");
                None
            }),
        }
    }

    /// Opens a file, behind whose last batch this offset lies.
    fn open(&self, segment: &Segment, behind: Offset) -> Result<OpenSegment, ReadError> {
        let file = segment.file.for_reading(self.disk, self.open_files)?;
        let (path, patience) = (segment.file.path(), self.patience);
        Ok(OpenSegment { file, path, length: segment.length, behind, patience })
    }
}

impl OpenSegment {
    /// The first batch from `place` on that is wanted, by its own position and header.
    fn find(
        &self,
        place: Place,
        wanted: impl Fn(u64, &BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let Place { mut position, offset: mut next } = place;
        let mut chunk = Vec::new();
        let mut chunk_at = position;
        // Most searches end at the first batch, and of large batches only the headers are looked at.
        let mut wish = HEADER_CHUNK_BYTES;
        while position < self.length {
            let offset = in_memory(position - chunk_at);
            let mut front = chunk.get(offset..).unwrap_or_default();
            if front.len() < HEADER_BYTES {
                chunk_at = position;
                chunk.resize(in_memory(wish.min(self.length - position)), 0);
                if self.patience == Patience::None && !self.file.is_cached(position, chunk.len()) {
                    return Err(ReadError::Io(io::ErrorKind::WouldBlock.into()));
                }
                let read = self.file.read_at(&mut chunk, position)?;
                front = chunk.get(..read).unwrap_or_default();
            }
            let header = BatchHeader::parse(front).map_err(|_error| self.damaged(position))?;
            let size = crate::codec::position(header.size_in_bytes());
            // No checksum covers the base offset.
            let fits = header.base_offset >= next
                && header.last_offset_delta >= 0
                && header.next_offset() <= self.behind;
            if position + size > self.length || !fits {
                return Err(self.damaged(position));
            }
            next = header.next_offset();
            if wanted(position, &header) {
                return Ok(Some((position, header)));
            }
            wish =
                if size < HEADER_CHUNK_BYTES { INDEX_INTERVAL_BYTES } else { HEADER_CHUNK_BYTES };
            position += size;
        }
        Ok(None)
    }

    fn damaged(&self, position: u64) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), position }
    }

    fn load(&self, at: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        crate::host::read_exact(self.file.as_ref(), &mut bytes, at)?;
        Ok(bytes)
    }
}

/// A file may be replaced between looking it up and opening it; its successor is found then.
fn retried<T>(mut read: impl FnMut() -> Result<T, ReadError>) -> Result<T, ReadError> {
    for _ in 0..MOST_RETRIES {
        match read() {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
    read()
}

/// The file was deleted between looking it up and opening it, unless it is missing.
fn gone(partition: &Partition, from: Offset, error: io::Error) -> ReadError {
    let snapshot = partition.published().offsets;
    if from < snapshot.log_start_offset {
        ReadError::OffsetOutOfRange(snapshot)
    } else {
        ReadError::Io(error)
    }
}
