use super::{
    ATTRIBUTES_AT, BatchError, BatchHeader, BatchView, CONTROL, CRC_AT, DELETE_HORIZON,
    HEADER_BYTES, LENGTH_PREFIX_BYTES, LOG_APPEND_TIME, MAX_TIMESTAMP_AT, Record, RecordLimits,
    TRANSACTIONAL, TimestampType, checksum, compression, put, records, varint,
};
use crate::TimestampMs;

/// The batch with those of its records that `keep` wants, byte for byte but for their timestamp
/// deltas. Offsets, the producer's fields and the codec stay. With a delete horizon, that is the
/// base timestamp. A batch that keeps no record is a header alone.
pub fn rewrite(
    view: &BatchView<'_>,
    limits: RecordLimits,
    delete_horizon: Option<TimestampMs>,
    mut keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Vec<u8>, BatchError> {
    let header = view.header;
    let base_timestamp = delete_horizon.unwrap_or(header.base_timestamp);
    let mut sink = compression::writer(header.compression()?, vec![0; HEADER_BYTES])
        .map_err(|_error| BatchError::BadRecords)?;
    let mut kept = Kept { count: 0, max_timestamp: TimestampMs::NONE };
    let mut memory = Vec::new();
    let mut source = records(view, limits)?;
    while let Some(found) = source.next_with_body() {
        let (record, body) = found?;
        if !keep(&record) {
            continue;
        }
        kept.count += 1;
        kept.max_timestamp = kept.max_timestamp.max(record.timestamp);
        memory.clear();
        let shift = header.base_timestamp.0.saturating_sub(base_timestamp.0);
        encode(&mut memory, body, shift).ok_or(BatchError::BadRecords)?;
        sink.put(&memory).map_err(|_error| BatchError::BadRecords)?;
    }
    if kept.count == 0 {
        return Ok(empty(view));
    }
    let mut bytes = sink.finish().map_err(|_error| BatchError::BadRecords)?;
    put(&mut bytes, 0, view.bytes().get(..HEADER_BYTES).unwrap_or_default());
    put(&mut bytes, 27, &base_timestamp.0.to_be_bytes());
    if header.timestamp_type() == TimestampType::CreateTime {
        put(&mut bytes, MAX_TIMESTAMP_AT, &kept.max_timestamp.0.to_be_bytes());
    }
    let horizon = if delete_horizon.is_some() { DELETE_HORIZON } else { 0 };
    let attributes = header.attributes & !DELETE_HORIZON | horizon;
    finish(&mut bytes, attributes, kept.count);
    Ok(bytes)
}

struct Kept {
    count: i32,
    max_timestamp: TimestampMs,
}

/// The batch's header without any record: it still says what its producer sent last.
fn empty(view: &BatchView<'_>) -> Vec<u8> {
    let mut bytes = view.bytes().get(..HEADER_BYTES).unwrap_or_default().to_vec();
    put(&mut bytes, 27, &TimestampMs::NONE.0.to_be_bytes());
    let attributes = view.header.attributes & (LOG_APPEND_TIME | TRANSACTIONAL | CONTROL);
    finish(&mut bytes, attributes, 0);
    bytes
}

fn finish(bytes: &mut [u8], attributes: i16, count: i32) {
    let length = i32::try_from(bytes.len() - LENGTH_PREFIX_BYTES).unwrap_or(i32::MAX);
    put(bytes, 8, &length.to_be_bytes());
    put(bytes, ATTRIBUTES_AT, &attributes.to_be_bytes());
    put(bytes, 57, &count.to_be_bytes());
    let crc = checksum(bytes);
    put(bytes, CRC_AT, &crc.to_be_bytes());
}

/// The record behind its length, its timestamp delta shifted.
fn encode(target: &mut Vec<u8>, body: &[u8], shift: i64) -> Option<()> {
    let (attributes, rest) = body.split_first()?;
    let (delta, taken) = varint::read(rest)?;
    let rest = rest.get(taken..)?;
    let delta = delta.saturating_add(shift);
    let length = 1 + varint::len(delta) + rest.len();
    varint::write(target, i64::try_from(length).ok()?);
    target.push(*attributes);
    varint::write(target, delta);
    target.extend_from_slice(rest);
    Some(())
}

impl BatchHeader {
    /// From when on the tombstones and the marker in this batch may be dropped.
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}
