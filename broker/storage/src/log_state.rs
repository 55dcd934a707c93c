//! What the end of a partition's log is. Live appends, recovery and rebuilding all go through
//! [`LogState::apply`], so they cannot disagree.

use wire::{
    Offset, TimestampMs,
    batch::{BatchHeader, Marker},
};

use crate::{
    codec::{Reader, Writer, position},
    producer::{Aborted, Producers},
};

/// One row of the index per so many bytes of log.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 64 << 10;

/// A row of the sparse index: where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) offset: Offset,
    /// The base offset of the file.
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    /// The largest timestamp in the file in front of this batch.
    pub(crate) max_timestamp_before: TimestampMs,
}

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    pub(crate) next_offset: Offset,
    /// The base offset of the file that is written to.
    pub(crate) segment: Offset,
    /// Its length.
    pub(crate) position: u64,
    /// The largest timestamp in it.
    pub(crate) max_timestamp: TimestampMs,
    /// The largest timestamp of the first batch in it.
    pub(crate) first_timestamp: TimestampMs,
    /// The position of its newest index row.
    last_row: u64,
    pub(crate) producers: Producers,
    /// Transactions whose abort marker is in this file.
    pub(crate) segment_aborted: Vec<Aborted>,
}

/// What a batch adds to the indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) row: Option<Row>,
    pub(crate) aborted: Option<Aborted>,
}

impl Default for LogState {
    fn default() -> Self {
        Self {
            next_offset: Offset(0),
            segment: Offset(0),
            position: 0,
            max_timestamp: TimestampMs::NONE,
            first_timestamp: TimestampMs::NONE,
            last_row: 0,
            producers: Producers::default(),
            segment_aborted: Vec::new(),
        }
    }
}

impl LogState {
    /// Goes on to the file that begins at the next offset.
    pub(crate) fn roll(&mut self) {
        self.segment = self.next_offset;
        self.position = 0;
        self.last_row = 0;
        self.max_timestamp = TimestampMs::NONE;
        self.first_timestamp = TimestampMs::NONE;
        self.segment_aborted.clear();
    }

    /// Takes note of a batch that lies, or will lie, at the end of the file.
    pub(crate) fn apply(&mut self, header: &BatchHeader, marker: Option<Marker>) -> Effects {
        assert!(header.base_offset >= self.next_offset, "offsets are given once");
        let due = self.position == 0 || self.position - self.last_row >= INDEX_INTERVAL_BYTES;
        let row = due.then_some(Row {
            offset: header.base_offset,
            segment: self.segment,
            position: self.position,
            max_timestamp_before: self.max_timestamp,
        });
        if row.is_some() {
            self.last_row = self.position;
        }
        if self.position == 0 {
            self.first_timestamp = header.max_timestamp;
        }
        self.position += position(header.size_in_bytes());
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.next_offset = header.next_offset();
        let aborted = self.producers.apply(header, marker);
        self.segment_aborted.extend(aborted);
        Effects { row, aborted }
    }

    /// The last stable offset once everything up to the end is durable.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        self.producers.first_open().unwrap_or(self.next_offset)
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.i64(self.next_offset.0).i64(self.segment.0).u64(self.position);
        writer.i64(self.max_timestamp.0).i64(self.first_timestamp.0).u64(self.last_row);
        self.producers.encode(writer);
        writer.count(self.segment_aborted.len());
        for aborted in &self.segment_aborted {
            encode_aborted(writer, aborted);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            next_offset: reader.offset()?,
            segment: reader.offset()?,
            position: reader.u64()?,
            max_timestamp: TimestampMs(reader.i64()?),
            first_timestamp: TimestampMs(reader.i64()?),
            last_row: reader.u64()?,
            producers: Producers::decode(reader)?,
            segment_aborted: reader.list(decode_aborted)?,
        })
    }
}

pub(crate) fn encode_aborted(writer: &mut Writer, aborted: &Aborted) {
    writer.i64(aborted.producer_id.0).i64(aborted.first_offset.0);
    writer.i64(aborted.last_offset.0).i64(aborted.last_stable_offset.0);
}

pub(crate) fn decode_aborted(reader: &mut Reader<'_>) -> Option<Aborted> {
    Some(Aborted {
        producer_id: wire::ProducerId(reader.i64()?),
        first_offset: reader.offset()?,
        last_offset: reader.offset()?,
        last_stable_offset: reader.offset()?,
    })
}
