//! One commit cycle as it lies in the journal: a header, the places of its pieces, the pieces.
//!
//! The layout is in `docs/storage-format.md`.

use crate::{
    aligned::{AlignedBuffer, padded},
    api::PartitionId,
    codec::{Reader, Writer, position, size},
};
use wire::Offset;

/// The longest cycle, padding included.
pub(crate) const MAX_CYCLE_BYTES: usize = 32 << 20;
/// What stands in front of the places.
pub(crate) const HEADER_BYTES: usize = 64;
/// One place.
pub(crate) const EXTENT_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"ottlacy1";
/// The CRC covers the secret and everything from here on.
const COVERED_FROM: usize = 16;

/// Bytes that only this data directory knows, so that no payload can look like a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

/// What a cycle says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CycleHeader {
    pub(crate) number: u64,
    /// Which start of the broker wrote it.
    pub(crate) start: u64,
    /// The last cycle known to be synced when this one was written.
    pub(crate) synced: u64,
    /// The newest checkpoint known to be synced when this one was written.
    pub(crate) checkpoint: u64,
}

/// Whole batches that lie behind one another in one file of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) partition: PartitionId,
    /// The base offset of the file.
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    pub(crate) length: u32,
}

/// How long a cycle of so many places and bytes is, padding included.
pub(crate) fn cycle_bytes(extents: usize, payload: usize) -> usize {
    padded(HEADER_BYTES + extents * EXTENT_BYTES + payload)
}

/// Where the pieces begin.
pub(crate) fn payload_start(extents: usize) -> usize {
    HEADER_BYTES + extents * EXTENT_BYTES
}

/// Writes header and places in front of the pieces that are in the buffer already, and zeroes
/// behind them. Answers how much of the buffer is to be written.
pub(crate) fn seal(
    buffer: &mut AlignedBuffer,
    header: CycleHeader,
    extents: &[Extent],
    secret: &Secret,
) -> usize {
    let payload: usize = extents.iter().map(|extent| size(extent.length)).sum();
    let length = payload_start(extents.len()) + payload;
    let written = padded(length);
    let mut front = Writer(Vec::with_capacity(payload_start(extents.len())));
    front.bytes(&MAGIC).u64(0);
    front.u64(header.number).u64(header.start).u64(header.synced).u64(header.checkpoint);
    front.u64(position(length)).count(extents.len()).u32(0);
    for extent in extents {
        front.partition(extent.partition).i64(extent.segment.0).u64(extent.position);
        front.u32(extent.length);
    }
    assert_eq!(front.0.len(), payload_start(extents.len()), "the front has the length it says");
    let bytes = buffer.bytes_mut();
    if let Some(tail) = bytes.get_mut(length..written) {
        tail.fill(0);
    }
    if let Some(target) = bytes.get_mut(..front.0.len()) {
        target.copy_from_slice(&front.0);
    }
    let crc = checksum(bytes.get(COVERED_FROM..length).unwrap_or_default(), secret);
    if let Some(target) = bytes.get_mut(8..COVERED_FROM) {
        target.copy_from_slice(&crc.to_le_bytes());
    }
    written
}

/// The header and unpadded length that these bytes seem to begin with; nothing is verified.
pub(crate) fn peek(bytes: &[u8]) -> Option<(CycleHeader, usize)> {
    let mut reader = Reader(bytes);
    if reader.array::<8>()? != MAGIC {
        return None;
    }
    reader.u64()?;
    let header = CycleHeader {
        number: reader.u64()?,
        start: reader.u64()?,
        synced: reader.u64()?,
        checkpoint: reader.u64()?,
    };
    let length = usize::try_from(reader.u64()?).ok()?;
    let extents = size(reader.u32()?);
    let front = HEADER_BYTES.checked_add(extents.checked_mul(EXTENT_BYTES)?)?;
    (length <= MAX_CYCLE_BYTES && front <= length).then_some((header, length))
}

/// A verified cycle.
#[derive(Debug)]
pub(crate) struct Cycle<'a> {
    pub(crate) header: CycleHeader,
    /// Without the padding.
    pub(crate) length: usize,
    pub(crate) pieces: Vec<(Extent, &'a [u8])>,
}

/// The cycle at the start of `bytes`, if all of it is as it was written.
pub(crate) fn decode<'a>(bytes: &'a [u8], secret: &Secret) -> Option<Cycle<'a>> {
    let (header, length) = peek(bytes)?;
    let bytes = bytes.get(..length)?;
    let crc = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    if checksum(bytes.get(COVERED_FROM..)?, secret) != crc {
        return None;
    }
    let count = size(Reader(bytes.get(56..)?).u32()?);
    let mut extents = Reader(bytes.get(HEADER_BYTES..)?);
    let mut payload = Reader(bytes.get(payload_start(count)..)?);
    let mut pieces = Vec::with_capacity(count);
    for _ in 0..count {
        let partition = extents.partition()?;
        let extent = Extent {
            partition,
            segment: extents.offset()?,
            position: extents.u64()?,
            length: extents.u32()?,
        };
        pieces.push((extent, payload.take(size(extent.length))?));
    }
    Some(Cycle { header, length, pieces })
}

fn checksum(covered: &[u8], secret: &Secret) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(&secret.0);
    digest.update(covered);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use wire::{Offset, PartitionIndex, TopicId};

    use super::{CycleHeader, Extent, Secret, cycle_bytes, decode, payload_start, seal};
    use crate::{aligned::AlignedBuffer, api::PartitionId};

    fn sealed() -> (Vec<u8>, Extent) {
        let partition = PartitionId { topic: TopicId::default(), partition: PartitionIndex(3) };
        let extent = Extent { partition, segment: Offset(7), position: 99, length: 5 };
        let mut buffer = AlignedBuffer::zeroed(cycle_bytes(1, 5));
        buffer.bytes_mut()[payload_start(1)..][..5].copy_from_slice(b"hello");
        let header = CycleHeader { number: 4, start: 2, synced: 3, checkpoint: 1 };
        let length = seal(&mut buffer, header, &[extent], &Secret([9; 32]));
        (buffer.bytes()[..length].to_vec(), extent)
    }

    #[test]
    fn a_cycle_is_read_as_it_was_written() {
        let (bytes, extent) = sealed();
        assert_eq!(bytes.len() % 4096, 0);
        let cycle = decode(&bytes, &Secret([9; 32])).unwrap();
        assert_eq!(cycle.header, CycleHeader { number: 4, start: 2, synced: 3, checkpoint: 1 });
        assert_eq!(cycle.pieces, vec![(extent, b"hello".as_slice())]);
    }

    #[test]
    fn a_cycle_with_any_flipped_bit_or_a_foreign_secret_is_refused() {
        let (bytes, _) = sealed();
        assert!(decode(&bytes, &Secret([8; 32])).is_none());
        for at in 0..payload_start(1) + 5 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(decode(&bytes, &Secret([9; 32])).is_none(), "byte {at}");
        }
    }
}
