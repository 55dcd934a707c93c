//! Reading by time.

use std::{cmp::Reverse, io, ops::Range};

use wire::{
    Offset, TimestampMs,
    batch::{BatchError, BatchHeader, BatchView, RecordLimits, records},
};

use super::{OpenSegment, Place, Reading, retried};
use crate::{
    api::{LogOffsetSnapshot, ReadError},
    log_state::Row,
    partition::{Partition, Segment, with_ends},
};

impl Reading<'_> {
    /// The first record at or after `timestamp`.
    pub(crate) fn offset_for_timestamp(
        &self,
        partition: &Partition,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        retried(|| self.find_timestamp(partition, timestamp))
    }

    fn find_timestamp(
        &self,
        partition: &Partition,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let published = partition.published();
        let offsets = published.offsets;
        let first = published.segment_of(offsets.log_start_offset).unwrap_or(0);
        let segments = published.segments.get(first..).unwrap_or_default();
        let segments: Vec<(Segment, Offset)> = with_ends(segments, offsets.high_watermark)
            .filter(|(segment, _)| segment.max_timestamp >= timestamp && segment.length > 0)
            .map(|(segment, behind)| (segment.clone(), behind))
            .collect();
        let rows = published.rows.clone();
        drop(published);
        for (segment, behind) in &segments {
            let place = self.last_row(partition, segment, &rows, timestamp);
            let found = self
                .open(segment, *behind)
                .and_then(|file| file.first_record(place, offsets.log_start_offset, timestamp));
            if let Some(record) = unless_retired(segment, found)? {
                return Ok((record.0 < offsets.high_watermark).then_some(record));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp.
    pub(crate) fn max_timestamp(
        &self,
        partition: &Partition,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        retried(|| self.find_max_timestamp(partition))
    }

    fn find_max_timestamp(
        &self,
        partition: &Partition,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let published = partition.published();
        let LogOffsetSnapshot { log_start_offset, high_watermark, .. } = published.offsets;
        let first = published.segment_of(log_start_offset).unwrap_or(0);
        let segments = published.segments.get(first..).unwrap_or_default();
        let mut segments: Vec<(Segment, Offset)> = with_ends(segments, high_watermark)
            .filter(|(segment, _)| segment.length > 0)
            .map(|(segment, behind)| (segment.clone(), behind))
            .collect();
        drop(published);
        segments.sort_by_key(|(segment, _)| Reverse(segment.max_timestamp));
        let Some((largest, _)) = segments.first() else { return Ok(None) };
        if let Some(found) = self.find_timestamp(partition, largest.max_timestamp)? {
            return Ok(Some(found));
        }
        // The record that had it is no more: it was deleted, or compacted away.
        let mut newest = None;
        for (segment, behind) in &segments {
            if newest.is_some_and(|(_, time)| time > segment.max_timestamp) {
                break;
            }
            newest =
                self.open(segment, *behind)?.newest(newest, log_start_offset..high_watermark)?;
        }
        Ok(newest)
    }

    /// Where the last row stands in front of which every timestamp is smaller.
    fn last_row(
        &self,
        partition: &Partition,
        segment: &Segment,
        rows: &[Row],
        timestamp: TimestampMs,
    ) -> Place {
        let base = segment.file.base;
        let smaller = |row: &Row| row.segment == base && row.max_timestamp_before < timestamp;
        let in_memory = rows.iter().rev().find(|row| smaller(row)).copied();
        let row = in_memory
            .or_else(|| self.map.rows(partition.id, base, base).take_while(smaller).last());
        row.map_or(Place { position: 0, offset: base }, Place::from)
    }
}

/// A file that has lost its place may have lost its space too.
fn unless_retired<T>(segment: &Segment, found: Result<T, ReadError>) -> Result<T, ReadError> {
    if found.is_err() && segment.file.is_retired() {
        return Err(ReadError::Io(io::ErrorKind::NotFound.into()));
    }
    found
}

impl OpenSegment {
    /// The first record from `place` on that is neither in front of `start` nor before `timestamp`.
    fn first_record(
        &self,
        mut place: Place,
        start: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let may_have = |_, header: &BatchHeader| {
            header.last_offset() >= start && header.max_timestamp >= timestamp
        };
        while let Some((at, header)) = self.find(place, may_have)? {
            let all = self.times(at, &header)?;
            let wanted =
                |(offset, time): &(Offset, TimestampMs)| *offset >= start && *time >= timestamp;
            if let Some(record) = all.into_iter().find(wanted) {
                return Ok(Some(record));
            }
            place = behind(at, &header);
        }
        Ok(None)
    }

    /// The first of the readable records with the largest timestamp, or that of other files. A batch that is readable
    /// as a whole says itself what its largest is.
    fn newest(
        &self,
        mut newest: Option<(Offset, TimestampMs)>,
        readable: Range<Offset>,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let mut place = Place { position: 0, offset: Offset(0) };
        let mut whole: Option<(u64, BatchHeader)> = None;
        loop {
            let may_be = |_, header: &BatchHeader| {
                header.record_count > 0
                    && header.last_offset() >= readable.start
                    && newest.is_none_or(|(_, time)| header.max_timestamp >= time)
                    && whole.is_none_or(|(_, best)| header.max_timestamp > best.max_timestamp)
            };
            let Some((at, header)) = self.find(place, may_be)? else { break };
            if header.base_offset >= readable.start {
                whole = Some((at, header));
            } else {
                newest = self.newer(newest, (at, &header), &readable)?;
            }
            place = behind(at, &header);
        }
        match whole {
            Some((at, header)) => self.newer(newest, (at, &header), &readable),
            None => Ok(newest),
        }
    }

    /// The first record with the largest timestamp of a batch, or the one known before.
    fn newer(
        &self,
        known: Option<(Offset, TimestampMs)>,
        (at, header): (u64, &BatchHeader),
        readable: &Range<Offset>,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let mut all = self.times(at, header)?;
        all.retain(|(offset, _)| readable.contains(offset));
        Ok(all.into_iter().chain(known).min_by_key(|(offset, time)| (Reverse(*time), *offset)))
    }

    /// The time of each record of a batch.
    fn times(
        &self,
        at: u64,
        header: &BatchHeader,
    ) -> Result<Vec<(Offset, TimestampMs)>, ReadError> {
        let batch = self.load(at, header.size_in_bytes())?;
        times(&batch).map_err(|_error| self.damaged(at))
    }
}

/// Where the batch ends that begins at `at`.
fn behind(at: u64, header: &BatchHeader) -> Place {
    let position = at + crate::codec::position(header.size_in_bytes());
    Place { position, offset: header.next_offset() }
}

/// The time of each record.
fn times(batch: &[u8]) -> Result<Vec<(Offset, TimestampMs)>, BatchError> {
    let view = BatchView::parse(batch)?;
    let mut found = Vec::new();
    let mut records = records(&view, RecordLimits::default())?;
    while let Some(record) = records.next_record() {
        let record = record?;
        found.push((record.offset, record.timestamp));
    }
    Ok(found)
}
