use std::ops::Range;

use bytes::Bytes;

use super::{
    BatchError, BatchView, CONTROL, CRC_AT, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, RecordLimits,
    TRANSACTIONAL, checksum, put, records, set_base_offset, set_leader_epoch, varint,
};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// A record to be put into a batch.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The record's timestamp.
    pub timestamp: TimestampMs,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Keys and values of the headers, in order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Builds one uncompressed batch. Base offset 0 and leader epoch -1 are for the log to patch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    producer: (ProducerId, ProducerEpoch, Sequence),
    attributes: i16,
    base_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
    count: i32,
    bytes: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch of no producer.
    pub fn new() -> Self {
        Self {
            producer: (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE),
            attributes: 0,
            base_timestamp: None,
            max_timestamp: TimestampMs(i64::MIN),
            count: 0,
            bytes: vec![0; HEADER_BYTES],
        }
    }

    /// The batch belongs to this producer.
    #[must_use]
    pub fn producer(
        mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// The batch is part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Appends a record.
    pub fn push(&mut self, record: NewRecord<'_>) {
        let base = *self.base_timestamp.get_or_insert(record.timestamp);
        let timestamp_delta = record.timestamp.0.saturating_sub(base.0);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let length = 1
            + varint::len(timestamp_delta)
            + varint::len(i64::from(self.count))
            + nullable_len(record.key)
            + nullable_len(record.value)
            + varint::len(count_of(record.headers.len()))
            + record
                .headers
                .iter()
                .map(|(key, value)| nullable_len(Some(key)) + nullable_len(*value))
                .sum::<usize>();
        varint::write(&mut self.bytes, count_of(length));
        self.bytes.push(0);
        varint::write(&mut self.bytes, timestamp_delta);
        varint::write(&mut self.bytes, i64::from(self.count));
        write_nullable(&mut self.bytes, record.key);
        write_nullable(&mut self.bytes, record.value);
        varint::write(&mut self.bytes, count_of(record.headers.len()));
        for (key, value) in record.headers {
            write_nullable(&mut self.bytes, Some(key));
            write_nullable(&mut self.bytes, *value);
        }
        self.count += 1;
    }

    /// The records so far.
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// The length of the batch so far, in bytes.
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch. One without records is not a batch that a log accepts.
    pub fn build(mut self) -> Bytes {
        let length = i32::try_from(self.bytes.len() - LENGTH_PREFIX_BYTES).unwrap_or(i32::MAX);
        let base_timestamp = self.base_timestamp.unwrap_or(TimestampMs::NONE);
        let max_timestamp = self.max_timestamp.max(base_timestamp);
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let bytes = &mut self.bytes;
        put(bytes, 8, &length.to_be_bytes());
        put(bytes, 12, &LeaderEpoch(-1).0.to_be_bytes());
        put(bytes, 16, &MAGIC.to_be_bytes());
        put(bytes, 21, &self.attributes.to_be_bytes());
        put(bytes, 23, &(self.count - 1).to_be_bytes());
        put(bytes, 27, &base_timestamp.0.to_be_bytes());
        put(bytes, 35, &max_timestamp.0.to_be_bytes());
        put(bytes, 43, &producer_id.0.to_be_bytes());
        put(bytes, 51, &producer_epoch.0.to_be_bytes());
        put(bytes, 53, &base_sequence.0.to_be_bytes());
        put(bytes, 57, &self.count.to_be_bytes());
        let crc = checksum(bytes);
        put(bytes, CRC_AT, &crc.to_be_bytes());
        Bytes::from(self.bytes)
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Marker {
    /// Its records are not for `read_committed` readers.
    Abort,
    /// Its records count.
    Commit,
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug)]
pub struct ControlMarker {
    /// Whose transaction ends.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// How it ends.
    pub marker: Marker,
    /// The epoch of the transaction coordinator.
    pub coordinator_epoch: i32,
    /// When it ends.
    pub timestamp: TimestampMs,
}

/// The control batch that ends a transaction in one partition.
pub fn control_marker(end: &ControlMarker) -> Bytes {
    let kind: i16 = match end.marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let mut key = [0; 4];
    put(&mut key, 2, &kind.to_be_bytes());
    let mut value = [0; 6];
    put(&mut value, 2, &end.coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new()
        .producer(end.producer_id, end.producer_epoch, Sequence::NONE)
        .transactional();
    builder.attributes |= CONTROL;
    builder.push(NewRecord {
        timestamp: end.timestamp,
        key: Some(&key),
        value: Some(&value),
        headers: &[],
    });
    builder.build()
}

/// A batch without records that stands for these offsets, one at least, as compaction leaves one.
pub fn empty_batch(offsets: Range<Offset>, leader_epoch: LeaderEpoch) -> Bytes {
    let mut bytes = BatchBuilder::new().build().to_vec();
    let delta = i32::try_from(offsets.end.0 - offsets.start.0 - 1).unwrap_or(i32::MAX);
    put(&mut bytes, 23, &delta.to_be_bytes());
    let crc = checksum(&bytes);
    put(&mut bytes, CRC_AT, &crc.to_be_bytes());
    set_base_offset(&mut bytes, offsets.start);
    set_leader_epoch(&mut bytes, leader_epoch);
    Bytes::from(bytes)
}

/// The marker in a control batch; none if the batch is not a control batch or of another kind.
pub fn marker(view: &BatchView<'_>) -> Result<Option<(Marker, i32)>, BatchError> {
    // Compaction may leave a marker without its record, for what it says of the producer.
    if !view.header.is_control() || view.header.record_count == 0 {
        return Ok(None);
    }
    let mut records = records(view, RecordLimits::default())?;
    let record = records.next_record().ok_or(BatchError::BadRecords)??;
    let (Some([_, _, high, low, ..]), Some(value)) = (record.key, record.value) else {
        return Err(BatchError::BadRecords);
    };
    let epoch =
        value.get(2..).and_then(|bytes| bytes.first_chunk()).ok_or(BatchError::BadRecords)?;
    let epoch = i32::from_be_bytes(*epoch);
    match i16::from_be_bytes([*high, *low]) {
        0 => Ok(Some((Marker::Abort, epoch))),
        1 => Ok(Some((Marker::Commit, epoch))),
        _ => Ok(None),
    }
}

fn count_of(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::len(count_of(bytes.len())) + bytes.len(),
        None => varint::len(-1),
    }
}

fn write_nullable(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write(buffer, count_of(bytes.len()));
            buffer.extend_from_slice(bytes);
        }
        None => varint::write(buffer, -1),
    }
}
