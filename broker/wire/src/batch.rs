//! The record batch, version 2: a header of 61 bytes, then the records, compressed as one block
//! or not.
//!
//! ```text
//!  0 base offset i64        8 batch length i32 (of what follows)   12 partition leader epoch i32
//! 16 magic i8 (2)          17 CRC-32C u32 (of what follows)        21 attributes i16
//! 23 last offset delta i32 27 base timestamp i64                   35 max timestamp i64
//! 43 producer id i64       51 producer epoch i16                   53 base sequence i32
//! 57 record count i32      61 records
//! ```

mod builder;
mod compression;
mod records;
mod rewrite;
#[cfg(test)]
mod tests;
mod validate;
mod varint;

pub use builder::{
    BatchBuilder, ControlMarker, Marker, NewRecord, control_marker, empty_batch, marker,
};
pub use records::{Header, Record, RecordLimits, Records, records};
pub use rewrite::rewrite;
pub use validate::{BatchInfo, ProduceError, ProduceLimits, RecordError, validate_produced};

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// The length of the header, in bytes.
pub const HEADER_BYTES: usize = 61;
/// What precedes the bytes that `batch_length` counts: base offset and the length itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The only batch format that is understood.
pub const MAGIC: i8 = 2;

const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const COMPRESSION_MASK: i16 = 0b0111;
const LOG_APPEND_TIME: i16 = 0b1000;
const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
const DELETE_HORIZON: i16 = 0b100_0000;

/// Why bytes are not a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch is cut short")]
    Truncated,
    /// The length field is less than a header or more than can be.
    #[error("the batch length is impossible")]
    BadLength,
    /// Not a batch of version 2.
    #[error("the batch is of another version")]
    UnsupportedMagic,
    /// The checksum does not match the bytes.
    #[error("the checksum does not match")]
    BadCrc,
    /// The records are not what the header says, or not readable.
    #[error("the records do not match the header")]
    BadRecords,
    /// The records decompress to more than the limit.
    #[error("the records decompress to more than is allowed")]
    TooLarge,
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// snappy, raw or in xerial's framing.
    Snappy,
    /// An lz4 frame.
    Lz4,
    /// zstd.
    Zstd,
}

/// Where a batch's timestamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer set them.
    CreateTime,
    /// The broker set the time of the append.
    LogAppendTime,
}

/// The fields of the 61 bytes in front of a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The bytes after this field: the batch without its first twelve.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// The format version, 2.
    pub magic: i8,
    /// CRC-32C of everything from `attributes` on.
    pub crc: u32,
    /// Compression, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Last offset minus base offset; kept by compaction when records go.
    pub last_offset_delta: i32,
    /// The timestamp to which those of the records are relative.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp, or the time of the append.
    pub max_timestamp: TimestampMs,
    /// The producer's id, or -1.
    pub producer_id: ProducerId,
    /// The producer's epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record, or -1.
    pub base_sequence: Sequence,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end anywhere after it. The magic and
    /// the length field are checked; the checksum is not.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(BatchError::Truncated)?;
        let parsed = Self {
            base_offset: Offset(i64::from_be_bytes(field(header, 0))),
            batch_length: i32::from_be_bytes(field(header, 8)),
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(field(header, 12))),
            magic: i8::from_be_bytes(field(header, 16)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: i16::from_be_bytes(field(header, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: TimestampMs(i64::from_be_bytes(field(header, 27))),
            max_timestamp: TimestampMs(i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(header, 51))),
            base_sequence: Sequence(i32::from_be_bytes(field(header, 53))),
            record_count: i32::from_be_bytes(field(header, 57)),
        };
        if parsed.magic != MAGIC {
            return Err(BatchError::UnsupportedMagic);
        }
        match usize::try_from(parsed.batch_length) {
            Ok(length) if length >= HEADER_BYTES - LENGTH_PREFIX_BYTES => Ok(parsed),
            _ => Err(BatchError::BadLength),
        }
    }

    /// The whole batch's length, header included.
    pub fn size_in_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0) + LENGTH_PREFIX_BYTES
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// The sequence of the last record, or [`Sequence::NONE`] without a producer.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 {
            Sequence::NONE
        } else {
            self.base_sequence.plus(self.last_offset_delta)
        }
    }

    /// Whether a producer id is set.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker of the broker's, not a client's records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// How the records are compressed; an unassigned number is [`BatchError::BadRecords`].
    pub fn compression(&self) -> Result<Compression, BatchError> {
        match self.attributes & COMPRESSION_MASK {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            _ => Err(BatchError::BadRecords),
        }
    }
}

/// One whole batch, read in place.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// The parsed header.
    pub header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`; what follows it is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let bytes = bytes.get(..header.size_in_bytes()).ok_or(BatchError::Truncated)?;
        Ok(Self { header, bytes })
    }

    /// The batch's own bytes, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, as they are stored.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Compares the checksum with the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        if checksum(self.bytes) == self.header.crc { Ok(()) } else { Err(BatchError::BadCrc) }
    }
}

/// Iterates the batches that lie back to back in `bytes`; ends at the first that is not whole.
pub fn batches(mut bytes: &[u8]) -> impl Iterator<Item = BatchView<'_>> {
    std::iter::from_fn(move || {
        let view = BatchView::parse(bytes).ok()?;
        bytes = bytes.get(view.bytes().len()..).unwrap_or_default();
        Some(view)
    })
}

/// Writes the base offset, which the checksum does not cover. `batch` holds at least a header.
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    put(batch, 0, &offset.0.to_be_bytes());
}

/// Writes the partition leader epoch, which the checksum does not cover.
pub fn set_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    put(batch, 12, &epoch.0.to_be_bytes());
}

/// Turns a whole batch into one of log append time and computes its checksum anew.
pub fn set_log_append_time(batch: &mut [u8], time: TimestampMs) {
    if let Some(attributes) = batch.get(ATTRIBUTES_AT..).and_then(|bytes| bytes.first_chunk()) {
        let attributes = i16::from_be_bytes(*attributes) | LOG_APPEND_TIME;
        put(batch, ATTRIBUTES_AT, &attributes.to_be_bytes());
        put(batch, MAX_TIMESTAMP_AT, &time.0.to_be_bytes());
        let crc = checksum(batch);
        put(batch, CRC_AT, &crc.to_be_bytes());
    }
}

/// CRC-32C of what the checksum of a whole batch covers.
fn checksum(batch: &[u8]) -> u32 {
    let covered = batch.get(ATTRIBUTES_AT..).unwrap_or_default();
    // The upper half of the crate's u64 is always zero for a 32-bit CRC.
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered)).unwrap_or(0)
}

fn put(batch: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(target) = batch.get_mut(at..at + bytes.len()) {
        target.copy_from_slice(bytes);
    }
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(header.iter().skip(at)).for_each(|(to, from)| *to = *from);
    bytes
}
