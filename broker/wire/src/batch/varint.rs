//! Variable-length integers, zigzag, as records use them.

/// Reads a varlong at the start of `bytes`; the value and the bytes it took.
pub(crate) fn read(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (index * 7);
        if byte & 0x80 == 0 {
            return Some((unzigzag(value), index + 1));
        }
    }
    None
}

/// Reads a varint, refusing what does not fit 32 bits.
pub(crate) fn read_i32(bytes: &[u8]) -> Option<(i32, usize)> {
    let (value, length) = read(bytes)?;
    Some((i32::try_from(value).ok()?, length))
}

/// Appends a varlong.
pub(crate) fn write(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        buffer.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    buffer.push(u8::try_from(rest).unwrap_or(0));
}

/// The bytes that [`write`] would append.
pub(crate) fn len(value: i64) -> usize {
    let mut rest = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    let mut length = 1;
    while rest >= 0x80 {
        rest >>= 7;
        length += 1;
    }
    length
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_varint_reads_back_as_written() {
        for value in [0, -1, 1, 63, -64, 64, 300, -301, i64::MAX, i64::MIN, i64::from(i32::MAX)] {
            let mut buffer = Vec::new();
            super::write(&mut buffer, value);
            assert_eq!(buffer.len(), super::len(value));
            assert_eq!(super::read(&buffer), Some((value, buffer.len())));
        }
        assert_eq!(super::read(&[0x80; 12]), None);
        assert_eq!(super::read(&[]), None);
    }
}
