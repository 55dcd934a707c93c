//! Memory at addresses that `O_DIRECT` accepts, without unsafe code.

use std::ops::Range;

/// What positions, lengths and addresses of direct writes are multiples of.
pub(crate) const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of 4 KiB within a larger vector.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    pub(crate) fn zeroed(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "a byte vector can always be aligned");
        Self { memory, start, length }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Room for at least `length` bytes. What was in the buffer is lost if it has to grow.
    pub(crate) fn reserve(&mut self, length: usize) {
        if self.length < length {
            *self = Self::zeroed(length.next_multiple_of(64 << 10));
        }
    }

    fn range(&self) -> Range<usize> {
        self.start..self.start + self.length
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.get(self.range()).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        self.memory.get_mut(range).unwrap_or_default()
    }
}

/// `length` rounded up to a multiple of the alignment.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, AlignedBuffer};

    #[test]
    fn the_bytes_begin_at_a_multiple_of_the_alignment() {
        for length in [1, 4096, 70_000] {
            let mut buffer = AlignedBuffer::zeroed(length);
            assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(buffer.bytes_mut().len(), length);
        }
    }
}
