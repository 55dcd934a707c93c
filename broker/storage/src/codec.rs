//! The engine's own formats are little-endian numbers back to back, under a CRC-64.

use uuid::Uuid;
use wire::{Offset, PartitionIndex, TopicId};

use crate::api::PartitionId;

/// Writes numbers behind one another.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(crate) fn string(&mut self, string: &str) -> &mut Self {
        self.count(string.len()).bytes(string.as_bytes())
    }

    pub(crate) fn partition(&mut self, partition: PartitionId) -> &mut Self {
        self.bytes(partition.topic.0.as_bytes()).i32(partition.partition.0)
    }

    /// The bytes with their CRC behind them.
    pub(crate) fn sealed(mut self) -> Vec<u8> {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &self.0);
        self.u64(crc);
        self.0
    }
}

/// Reads what a [`Writer`] wrote; `None` once the bytes end too early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The bytes without the CRC behind them, if it matches.
    pub(crate) fn unsealed(bytes: &'a [u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<8>()?;
        let found = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body);
        (found == u64::from_le_bytes(*crc)).then_some(Self(body))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn offset(&mut self) -> Option<Offset> {
        self.i64().map(Offset)
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        let length = size(self.u32()?);
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    pub(crate) fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    pub(crate) fn partition(&mut self) -> Option<PartitionId> {
        let topic = TopicId(self.uuid()?);
        Some(PartitionId { topic, partition: PartitionIndex(self.i32()?) })
    }

    /// As many items as the count in front of them says.
    pub(crate) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }
}

/// A 32-bit length as a size in memory.
pub(crate) fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A size in memory as a position in a file.
pub(crate) fn position(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// A position in a file as a size in memory.
pub(crate) fn in_memory(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
