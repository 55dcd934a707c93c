//! Reading by time.

use std::{cmp::Reverse, ops::Range};

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
        let wanted = |offset, time| offset >= offsets.log_start_offset && time >= timestamp;
        for (segment, behind) in &segments {
            let place = self.last_row(partition, segment, &rows, timestamp);
            let file = self.open(segment, *behind)?;
            if let Some(record) = file.first_record(place, timestamp, wanted)? {
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

impl OpenSegment {
    /// The first record from `place` on that is wanted; none is before `timestamp`.
    fn first_record(
        &self,
        mut place: Place,
        timestamp: TimestampMs,
        wanted: impl Fn(Offset, TimestampMs) -> bool,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        loop {
            let found = self.find(place, |_, header| header.max_timestamp >= timestamp)?;
            let Some((at, header)) = found else { return Ok(None) };
            let batch = self.load(at, header.size_in_bytes())?;
            let record = first_record(&batch, &wanted).map_err(|_error| self.damaged(at))?;
            if record.is_some() {
                return Ok(record);
            }
            place = behind(at, &header);
        }
    }

    /// The first of the readable records with the largest timestamp, or that of other files.
    fn newest(
        &self,
        mut newest: Option<(Offset, TimestampMs)>,
        readable: Range<Offset>,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        let mut place = Place { position: 0, offset: Offset(0) };
        loop {
            let may_be = |_, header: &BatchHeader| {
                newest.is_none_or(|(_, time)| header.max_timestamp >= time)
            };
            let Some((at, header)) = self.find(place, may_be)? else { return Ok(newest) };
            let batch = self.load(at, header.size_in_bytes())?;
            let mut all = times(&batch).map_err(|_error| self.damaged(at))?;
            all.retain(|(offset, _)| readable.contains(offset));
            let all = all.into_iter().chain(newest);
            newest = all.min_by_key(|(offset, time)| (Reverse(*time), *offset));
            place = behind(at, &header);
        }
    }
}

/// Where the batch ends that begins at `at`.
fn behind(at: u64, header: &BatchHeader) -> Place {
    let position = at + crate::codec::position(header.size_in_bytes());
    Place { position, offset: header.next_offset() }
}

/// The first record that is wanted.
fn first_record(
    batch: &[u8],
    wanted: impl Fn(Offset, TimestampMs) -> bool,
) -> Result<Option<(Offset, TimestampMs)>, BatchError> {
    let view = BatchView::parse(batch)?;
    let mut records = records(&view, RecordLimits::default())?;
    while let Some(record) = records.next_record() {
        let record = record?;
        if wanted(record.offset, record.timestamp) {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
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
