use std::io::{BufRead, Read};

use super::{BatchError, BatchHeader, BatchView, Compression, TimestampType, compression, varint};
use crate::{Offset, TimestampMs};

/// How much a reader of records may be made to allocate or work.
#[derive(Clone, Copy, Debug)]
pub struct RecordLimits {
    /// All records of a batch together, decompressed.
    pub max_decompressed_bytes: usize,
    /// Decompressed bytes per compressed byte; looked at beyond the first MiB.
    pub max_ratio: usize,
    /// One record, decompressed.
    pub max_record_bytes: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { max_decompressed_bytes: 128 << 20, max_ratio: 1000, max_record_bytes: 64 << 20 }
    }
}

impl RecordLimits {
    const RATIO_FREE_BYTES: usize = 1 << 20;

    pub(crate) fn for_payload(&self, payload: &[u8]) -> usize {
        let by_ratio = payload.len().saturating_mul(self.max_ratio).max(Self::RATIO_FREE_BYTES);
        self.max_decompressed_bytes.min(by_ratio)
    }
}

/// One record, borrowed from the batch or from the buffer of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp, that of the append if the batch says so.
    pub timestamp: TimestampMs,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    header_count: i32,
}

/// A header of a record. Keys may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, by Kafka's rule UTF-8, which is not checked.
    pub key: &'a [u8],
    /// The value, if there is one.
    pub value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// The headers in their order, duplicates included.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut reader = Reader(self.headers);
        (0..self.header_count).map_while(move |_| reader.header())
    }
}

/// A reader of a batch's records, one at a time. It decompresses as it goes.
pub struct Records<'a> {
    header: BatchHeader,
    source: Source<'a>,
    left: i32,
    failed: bool,
    limits: RecordLimits,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Compressed { reader: Box<dyn BufRead + Send + 'a>, buffer: Vec<u8> },
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("header", &self.header)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Reads the records of `view`. The checksum is taken as verified.
pub fn records<'a>(view: &BatchView<'a>, limits: RecordLimits) -> Result<Records<'a>, BatchError> {
    let source = match view.header.compression()? {
        Compression::None => Source::Plain(view.payload()),
        other => Source::Compressed {
            reader: compression::reader(other, view.payload(), limits.for_payload(view.payload()))?,
            buffer: Vec::new(),
        },
    };
    let left = view.header.record_count.max(0);
    Ok(Records { header: view.header, source, left, failed: false, limits })
}

impl Records<'_> {
    /// Whether nothing follows the last record. Known for records that are not compressed.
    pub(crate) fn is_exhausted(&self) -> bool {
        matches!(self.source, Source::Plain([]))
    }

    /// The next record; after an error there is none.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, BatchError>> {
        Some(self.next_with_body()?.map(|(record, _)| record))
    }

    /// The next record, and its bytes behind their length.
    pub(crate) fn next_with_body(&mut self) -> Option<Result<(Record<'_>, &[u8]), BatchError>> {
        if self.left == 0 || self.failed {
            return None;
        }
        self.left -= 1;
        let header = self.header;
        let max_record_bytes = self.limits.max_record_bytes;
        let body = match &mut self.source {
            Source::Plain(rest) => next_plain(rest),
            Source::Compressed { reader, buffer } => {
                next_compressed(reader, buffer, max_record_bytes)
            }
        };
        let record =
            body.and_then(|body| Ok((parse(&header, body).ok_or(BatchError::BadRecords)?, body)));
        self.failed = record.is_err();
        Some(record)
    }
}

fn next_plain<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BatchError> {
    let (length, taken) = varint::read_i32(rest).ok_or(BatchError::BadRecords)?;
    let length = usize::try_from(length).map_err(|_error| BatchError::BadRecords)?;
    let whole: &'a [u8] = rest;
    let (body, after) = whole
        .get(taken..)
        .and_then(|bytes| bytes.split_at_checked(length))
        .ok_or(BatchError::BadRecords)?;
    *rest = after;
    Ok(body)
}

fn next_compressed<'a>(
    reader: &mut Box<dyn BufRead + Send + '_>,
    buffer: &'a mut Vec<u8>,
    max_record_bytes: usize,
) -> Result<&'a [u8], BatchError> {
    let length = read_varint(reader)?;
    let length = usize::try_from(length).map_err(|_error| BatchError::BadRecords)?;
    if length > max_record_bytes {
        return Err(BatchError::TooLarge);
    }
    buffer.clear();
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    let read =
        reader.take(wanted).read_to_end(buffer).map_err(|error| compression::read_error(&error))?;
    if read == length { Ok(buffer) } else { Err(BatchError::BadRecords) }
}

/// Reads a varint from a stream.
pub(crate) fn read_varint(reader: &mut impl Read) -> Result<i64, BatchError> {
    let mut bytes = [0_u8; 10];
    for index in 0..bytes.len() {
        let Some((slot, end)) = bytes.get_mut(index..).and_then(|rest| rest.split_first_mut())
        else {
            break;
        };
        let _: &mut [u8] = end;
        reader
            .read_exact(std::slice::from_mut(slot))
            .map_err(|error| compression::read_error(&error))?;
        if *slot & 0x80 == 0 {
            return varint::read(&bytes).map(|(value, _)| value).ok_or(BatchError::BadRecords);
        }
    }
    Err(BatchError::BadRecords)
}

fn parse<'a>(header: &BatchHeader, body: &'a [u8]) -> Option<Record<'a>> {
    let mut reader = Reader(body);
    reader.take(1)?;
    let timestamp_delta = reader.varint()?;
    let offset_delta = reader.varint()?;
    let key = reader.nullable().ok()?;
    let value = reader.nullable().ok()?;
    let header_count = i32::try_from(reader.varint()?).ok().filter(|count| *count >= 0)?;
    let headers = reader.0;
    for _ in 0..header_count {
        reader.header()?;
    }
    let timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => {
            TimestampMs(header.base_timestamp.0.saturating_add(timestamp_delta))
        }
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    reader.0.is_empty().then_some(Record {
        offset: header.base_offset.plus(offset_delta),
        timestamp,
        key,
        value,
        headers,
        header_count,
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<i64> {
        let (value, length) = varint::read(self.0)?;
        self.take(length)?;
        Some(value)
    }

    /// Bytes behind their length, or nothing where the length is negative.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        match usize::try_from(self.varint().ok_or(BatchError::BadRecords)?) {
            Ok(length) => self.take(length).map(Some).ok_or(BatchError::BadRecords),
            Err(_negative) => Ok(None),
        }
    }

    fn header(&mut self) -> Option<Header<'a>> {
        Some(Header { key: self.nullable().ok()??, value: self.nullable().ok()? })
    }
}
