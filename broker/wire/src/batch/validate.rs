use std::io::{self, BufRead, Read};

use bytes::Bytes;

use super::records::read_varint;
use super::{
    BatchError, BatchHeader, BatchView, Compression, RecordLimits, TimestampType, compression,
    records,
};
use crate::{ErrorCode, TimestampMs};

/// At most this many records are named in a refusal.
const MAX_RECORD_ERRORS: usize = 64;

/// What a topic demands of a produced batch.
#[derive(Clone, Copy, Debug)]
pub struct ProduceLimits {
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Every record must have a key (`cleanup.policy` has `compact`).
    pub requires_key: bool,
    /// zstd is known to the version of the request (7 or later).
    pub allows_zstd: bool,
    /// The largest timestamp allowed: now and `message.timestamp.after.max.ms`.
    pub max_timestamp: TimestampMs,
    /// The least timestamp allowed: now less `message.timestamp.before.max.ms`.
    pub min_timestamp: TimestampMs,
    /// How far the records may decompress.
    pub records: RecordLimits,
}

/// A batch that passed.
#[derive(Clone, Copy, Debug)]
pub struct BatchInfo {
    /// The header; every field of it agrees with the records.
    pub header: BatchHeader,
}

/// A record that a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's index in the batch.
    pub batch_index: i32,
    /// Why it is refused.
    pub message: &'static str,
}

/// Why a produced batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The bytes are no batch, or not the batch that their header describes.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// There is none, or more than one.
    #[error("a request carries exactly one batch per partition")]
    NotOneBatch,
    /// A field has a value that only the broker may set, or that cannot be.
    #[error("{0}")]
    InvalidHeader(&'static str),
    /// The batch is larger than `max.message.bytes`.
    #[error("the batch is larger than max.message.bytes")]
    MessageTooLarge,
    /// zstd in a request that does not know it.
    #[error("zstd needs version 7 of the request")]
    UnsupportedCompression,
    /// Records without a key in a compacted topic.
    #[error("a compacted topic needs a key in every record")]
    MissingKeys(Vec<RecordError>),
    /// Timestamps outside the topic's range.
    #[error("the timestamp is outside the range that the topic allows")]
    InvalidTimestamp(Vec<RecordError>),
}

impl ProduceError {
    /// The answer on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(
                BatchError::UnsupportedMagic | BatchError::BadRecords | BatchError::TooLarge,
            )
            | Self::NotOneBatch
            | Self::InvalidHeader(_)
            | Self::MissingKeys(_) => ErrorCode::INVALID_RECORD,
            Self::Batch(BatchError::Truncated | BatchError::BadLength | BatchError::BadCrc) => {
                ErrorCode::CORRUPT_MESSAGE
            }
            Self::MessageTooLarge => ErrorCode::MESSAGE_TOO_LARGE,
            Self::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Self::InvalidTimestamp(_) => ErrorCode::INVALID_TIMESTAMP,
        }
    }

    /// The records at fault, if the error is about single records.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            Self::MissingKeys(errors) | Self::InvalidTimestamp(errors) => errors,
            Self::Batch(_)
            | Self::NotOneBatch
            | Self::InvalidHeader(_)
            | Self::MessageTooLarge
            | Self::UnsupportedCompression => &[],
        }
    }
}

/// Accepts exactly one batch that a client may write. Records are walked once without being
/// kept; compressed ones through a bounded reader, whose bytes are added to `decompressed` also when the
/// batch is refused.
pub fn validate_produced(
    records: &Bytes,
    limits: &ProduceLimits,
    decompressed: &mut usize,
) -> Result<BatchInfo, ProduceError> {
    if records.is_empty() {
        return Err(ProduceError::NotOneBatch);
    }
    let view = BatchView::parse(records)?;
    if view.bytes().len() != records.len() {
        return Err(ProduceError::NotOneBatch);
    }
    if records.len() > limits.max_message_bytes {
        return Err(ProduceError::MessageTooLarge);
    }
    view.verify_crc()?;
    check_header(&view.header, limits)?;
    let limit = limits.records.for_payload(view.payload());
    let compression = view.header.compression()?;
    let found = match compression {
        Compression::None => walk_plain(&view, limits)?,
        other => {
            let inner = compression::reader(other, view.payload(), limit)?;
            let mut reader = Counted { inner, bytes: decompressed };
            walk(&view.header, &mut reader, limits)?
        }
    };
    if !found.missing_keys.is_empty() {
        return Err(ProduceError::MissingKeys(found.missing_keys));
    }
    if !found.bad_timestamps.is_empty() {
        return Err(ProduceError::InvalidTimestamp(found.bad_timestamps));
    }
    if found.max_timestamp != view.header.max_timestamp {
        return Err(ProduceError::InvalidHeader("the largest timestamp is not that of a record"));
    }
    Ok(BatchInfo { header: view.header })
}

fn check_header(header: &BatchHeader, limits: &ProduceLimits) -> Result<(), ProduceError> {
    if header.record_count <= 0 || header.last_offset_delta != header.record_count - 1 {
        return Err(ProduceError::InvalidHeader("the record count does not match the last offset"));
    }
    if header.is_control() {
        return Err(ProduceError::InvalidHeader("a client may not write control records"));
    }
    if header.has_producer_id() && (header.base_sequence.0 < 0 || header.producer_epoch.0 < 0) {
        return Err(ProduceError::InvalidHeader("a producer id needs an epoch and a sequence"));
    }
    if header.is_transactional() && !header.has_producer_id() {
        return Err(ProduceError::InvalidHeader("a transactional batch needs a producer id"));
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(ProduceError::InvalidTimestamp(Vec::new()));
    }
    if header.compression()? == Compression::Zstd && !limits.allows_zstd {
        return Err(ProduceError::UnsupportedCompression);
    }
    Ok(())
}

/// Counts what is read, also if the reading fails.
struct Counted<'a, R> {
    inner: R,
    bytes: &'a mut usize,
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        *self.bytes += read;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        *self.bytes += amount;
        self.inner.consume(amount);
    }
}

struct Found {
    max_timestamp: TimestampMs,
    missing_keys: Vec<RecordError>,
    bad_timestamps: Vec<RecordError>,
}

impl Default for Found {
    fn default() -> Self {
        let max_timestamp = TimestampMs(i64::MIN);
        Self { max_timestamp, missing_keys: Vec::new(), bad_timestamps: Vec::new() }
    }
}

impl Found {
    fn note(&mut self, limits: &ProduceLimits, index: i32, timestamp: TimestampMs, has_key: bool) {
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if limits.requires_key && !has_key {
            note(&mut self.missing_keys, index, "no key, and the topic is compacted");
        }
        let allowed = limits.min_timestamp..=limits.max_timestamp;
        if timestamp != TimestampMs::NONE && !allowed.contains(&timestamp) {
            note(&mut self.bad_timestamps, index, "timestamp outside the allowed range");
        }
    }
}

fn walk_plain(view: &BatchView<'_>, limits: &ProduceLimits) -> Result<Found, BatchError> {
    let mut found = Found::default();
    let mut reader = records(view, limits.records)?;
    let mut expected = view.header.base_offset;
    while let Some(record) = reader.next_record() {
        let record = record?;
        if record.offset != expected {
            return Err(BatchError::BadRecords);
        }
        let index = i32::try_from(expected.0 - view.header.base_offset.0).unwrap_or(i32::MAX);
        found.note(limits, index, record.timestamp, record.key.is_some());
        expected = expected.plus(1);
    }
    if reader.is_exhausted() { Ok(found) } else { Err(BatchError::BadRecords) }
}

fn walk(
    header: &BatchHeader,
    reader: &mut impl BufRead,
    limits: &ProduceLimits,
) -> Result<Found, BatchError> {
    let mut found = Found::default();
    for index in 0..header.record_count {
        let record = walk_record(reader)?;
        if record.offset_delta != i64::from(index) {
            return Err(BatchError::BadRecords);
        }
        let timestamp = TimestampMs(header.base_timestamp.0.saturating_add(record.timestamp_delta));
        found.note(limits, index, timestamp, record.has_key);
    }
    let mut extra = [0];
    match reader.read(&mut extra) {
        Ok(0) => Ok(found),
        Ok(_) => Err(BatchError::BadRecords),
        Err(error) => Err(compression::read_error(&error)),
    }
}

fn note(errors: &mut Vec<RecordError>, batch_index: i32, message: &'static str) {
    if errors.len() < MAX_RECORD_ERRORS {
        errors.push(RecordError { batch_index, message });
    }
}

struct WalkedRecord {
    timestamp_delta: i64,
    offset_delta: i64,
    has_key: bool,
}

fn walk_record(reader: &mut impl BufRead) -> Result<WalkedRecord, BatchError> {
    let length = u64::try_from(read_varint(reader)?).map_err(|_error| BatchError::BadRecords)?;
    let mut body = reader.take(length);
    skip(&mut body, 1)?;
    let timestamp_delta = read_varint(&mut body)?;
    let offset_delta = read_varint(&mut body)?;
    let key_length = read_varint(&mut body)?;
    skip_nullable(&mut body, key_length)?;
    let value_length = read_varint(&mut body)?;
    skip_nullable(&mut body, value_length)?;
    let header_count = read_varint(&mut body)?;
    for _ in 0..header_count {
        let key_length =
            u64::try_from(read_varint(&mut body)?).map_err(|_error| BatchError::BadRecords)?;
        skip(&mut body, key_length)?;
        let value_length = read_varint(&mut body)?;
        skip_nullable(&mut body, value_length)?;
    }
    if body.limit() != 0 || header_count < 0 {
        return Err(BatchError::BadRecords);
    }
    Ok(WalkedRecord { timestamp_delta, offset_delta, has_key: key_length >= 0 })
}

fn skip_nullable(reader: &mut impl BufRead, length: i64) -> Result<(), BatchError> {
    match u64::try_from(length) {
        Ok(length) => skip(reader, length),
        Err(_negative) if length == -1 => Ok(()),
        Err(_negative) => Err(BatchError::BadRecords),
    }
}

fn skip(reader: &mut impl BufRead, mut count: u64) -> Result<(), BatchError> {
    while count > 0 {
        let available = reader.fill_buf().map_err(|error| compression::read_error(&error))?.len();
        let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
        if step == 0 {
            return Err(BatchError::BadRecords);
        }
        reader.consume(step);
        count -= u64::try_from(step).unwrap_or(count);
    }
    Ok(())
}
