//! `<base offset>.meta`: what a full log file says about itself, so that nobody has to read it
//! through again. And a partition's row in the map, which says the same of all its files.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{Offset, TimestampMs};

use crate::{
    codec::{Reader, Writer},
    host::{Disk, DiskFile, Open, is_unreadable, read_all},
    log_scan::{marker_in, scan_headers},
    log_state::{INDEX_INTERVAL_BYTES, LogState, Row},
    partition::{Published, Segment},
    segment_file::{SegmentFile, base_of, file_name},
};

const MAGIC: [u8; 8] = *b"ottlame1";
const LOG_ROW_VERSION: u8 = 1;

/// A file that was filled, and the state of the log at its end.
#[derive(Debug)]
pub(crate) struct Rolled {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) state: LogState,
}

/// What a `.meta` file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) state: LogState,
    pub(crate) rows: Vec<Row>,
}

/// Writes the file; the caller syncs it.
pub(crate) fn write(disk: &dyn Disk, rolled: &Rolled) -> io::Result<Arc<dyn DiskFile>> {
    let log = rolled.file.for_syncing(disk)?;
    let rows = rows_of(log.as_ref(), rolled)?;
    let bytes = Meta { state: rolled.state.clone(), rows }.encode();
    let path = rolled.file.dir.join(file_name(rolled.file.base, "meta"));
    let file = disk.open(&path, Open::Write)?;
    file.set_len(0)?;
    file.write_at(&bytes, 0)?;
    Ok(file)
}

/// The index rows of a full file, as they came about when it was written.
fn rows_of(log: &dyn DiskFile, rolled: &Rolled) -> io::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut max_timestamp_before = TimestampMs::NONE;
    scan_headers(log, 0..rolled.state.position, |position, header| {
        let due = rows.last().is_none_or(|row| position - row.position >= INDEX_INTERVAL_BYTES);
        if due {
            let segment = rolled.file.base;
            rows.push(Row { offset: header.base_offset, segment, position, max_timestamp_before });
        }
        max_timestamp_before = max_timestamp_before.max(header.max_timestamp);
    })?;
    Ok(rows)
}

/// The state of a log at the end of these files, its first ones. If what is written beside the last cannot be read,
/// it is made again from the files.
pub(crate) fn state_behind(disk: &dyn Disk, files: &[Segment]) -> io::Result<LogState> {
    let Some((last, in_front)) = files.split_last() else { return Ok(LogState::default()) };
    if let Some(meta) = Meta::read(disk, &last.file)? {
        return Ok(meta.state);
    }
    let path = last.file.dir.join(file_name(last.file.base, "meta"));
    tracing::warn!(path = %path.display(), "it cannot be read; it is made again from the log");
    let mut meta = Meta { state: LogState::default(), rows: Vec::new() };
    let mut known = 0;
    for (index, segment) in in_front.iter().enumerate().rev() {
        if let Some(found) = Meta::read(disk, &segment.file)? {
            (meta.state, known) = (found.state, index + 1);
            break;
        }
    }
    if known == 0 {
        meta.state = state_in_front(disk, files)?;
    }
    for segment in files.get(known..).unwrap_or_default() {
        meta.state.next_offset = segment.file.base;
        meta.state.roll();
        meta.rows.clear();
        let log = disk.open(&segment.file.path(), Open::Read)?;
        let mut failed = None;
        scan_headers(log.as_ref(), 0..segment.length, |at, header| {
            // No checksum covers the base offset.
            let is_next =
                header.base_offset >= meta.state.next_offset && header.last_offset_delta >= 0;
            if failed.is_some() || !is_next {
                failed.get_or_insert_with(|| io::ErrorKind::InvalidData.into());
                return;
            }
            match marker_in(log.as_ref(), at, header) {
                Ok(marker) => meta.rows.extend(meta.state.apply(header, marker).row),
                Err(error) => failed = Some(error),
            }
        })?;
        failed.map_or(Ok(()), Err)?;
    }
    let file = disk.open(&path, Open::Write)?;
    file.set_len(0)?;
    file.write_at(&meta.encode(), 0)?;
    file.sync()?;
    Ok(meta.state)
}

/// What the files that were deleted left.
fn state_in_front(disk: &dyn Disk, files: &[Segment]) -> io::Result<LogState> {
    let Some(first) = files.first() else { return Ok(LogState::default()) };
    let left = meta_in_front(disk, &first.file.dir, first.file.base)?;
    let meta = left.map_err(|_path| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(meta.map(|meta| meta.state).unwrap_or_default())
}

/// The newest `.meta` in front of a file. Whose files are deleted, nothing else says what it does: if it is not whole,
/// the answer is its path.
pub(crate) fn meta_in_front(
    disk: &dyn Disk,
    dir: &Path,
    first: Offset,
) -> io::Result<Result<Option<Meta>, PathBuf>> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let bases = names.iter().filter_map(|name| base_of(name, "meta"));
    let Some(base) = bases.filter(|base| *base < first).max() else { return Ok(Ok(None)) };
    let meta = Meta::read(disk, &SegmentFile::new(dir.to_path_buf(), base))?;
    Ok(meta.map(Some).ok_or_else(|| dir.join(file_name(base, "meta"))))
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bytes(&MAGIC);
        self.state.encode(&mut writer);
        writer.count(self.rows.len());
        for row in &self.rows {
            writer.i64(row.offset.0).u64(row.position).i64(row.max_timestamp_before.0);
        }
        writer.sealed()
    }

    /// Reads the file; `None` if it is missing, not whole, or cannot be read: the log says the same.
    pub(crate) fn read(disk: &dyn Disk, file: &SegmentFile) -> io::Result<Option<Self>> {
        match read_all(disk, &file.dir.join(file_name(file.base, "meta"))) {
            Ok(bytes) => Ok(Self::decode(&bytes, file.base)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_unreadable(&error) => {
                let path = file.path();
                tracing::warn!(%error, path = %path.display(), "what is written beside a log cannot be read");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn decode(bytes: &[u8], segment: Offset) -> Option<Self> {
        let mut reader = Reader::unsealed(bytes)?;
        if reader.array::<8>()? != MAGIC {
            return None;
        }
        let state = LogState::decode(&mut reader).filter(|state| state.segment == segment)?;
        let rows = reader.list(|reader| {
            Some(Row {
                offset: reader.offset()?,
                segment,
                position: reader.u64()?,
                max_timestamp_before: TimestampMs(reader.i64()?),
            })
        })?;
        Some(Self { state, rows })
    }
}

/// A partition's row in the map: its end at a checkpoint, and its full files.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) state: LogState,
    /// Base offset, length and largest timestamp of each full file.
    pub(crate) full: Vec<(Offset, u64, TimestampMs)>,
    pub(crate) mapped_aborted: Option<Offset>,
}

pub(crate) fn log_row(published: &Published, log: &LogState) -> Vec<u8> {
    let full = published.segments.iter().filter(|segment| segment.file.base < log.segment);
    let full: Vec<_> =
        full.map(|segment| (segment.file.base, segment.length, segment.max_timestamp)).collect();
    let below = |offset: &Offset| *offset < log.next_offset;
    let last_aborted = published.aborted.iter().map(|aborted| aborted.last_offset).rfind(below);
    encode_log_row(log, &full, last_aborted.or(published.mapped_aborted))
}

pub(crate) fn encode_log_row(
    log: &LogState,
    full: &[(Offset, u64, TimestampMs)],
    mapped_aborted: Option<Offset>,
) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u8(LOG_ROW_VERSION);
    log.encode(&mut writer);
    writer.count(full.len());
    for (base, length, max_timestamp) in full {
        writer.i64(base.0).u64(*length).i64(max_timestamp.0);
    }
    writer.i64(mapped_aborted.map_or(-1, |offset| offset.0));
    writer.sealed()
}

impl LogRow {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::unsealed(bytes)?;
        if reader.u8()? != LOG_ROW_VERSION {
            return None;
        }
        Some(Self {
            state: LogState::decode(&mut reader)?,
            full: reader.list(|reader| {
                Some((reader.offset()?, reader.u64()?, TimestampMs(reader.i64()?)))
            })?,
            mapped_aborted: Some(reader.offset()?).filter(|offset| offset.0 >= 0),
        })
    }
}
