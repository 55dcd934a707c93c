use std::io::{self, BufRead, BufReader, Read, Write};

use super::{BatchError, Compression};

/// The largest zstd window that is decoded, as a power of two: 16 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;
/// Snappy cannot expand a block by more than about 22; what claims more is damaged.
const SNAPPY_MAX_RATIO: usize = 32;
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\x00";
const XERIAL_HEADER_BYTES: usize = 16;

/// A reader of the decompressed records that yields at most `limit` bytes and then fails with
/// [`io::ErrorKind::FileTooLarge`].
pub(crate) fn reader(
    compression: Compression,
    payload: &[u8],
    limit: usize,
) -> Result<Box<dyn BufRead + Send + '_>, BatchError> {
    let plain: Box<dyn Read + Send + '_> = match compression {
        Compression::None => return Ok(Box::new(payload)),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(payload)),
        Compression::Snappy => Box::new(Snappy::new(payload)),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(payload)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)
                .map_err(|_error| BatchError::BadRecords)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_error| BatchError::BadRecords)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(BufReader::new(Limited { inner: plain, left: limit })))
}

/// What compresses records into a batch whose header is there already.
pub(crate) enum Sink {
    Plain(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Snappy { target: Vec<u8>, block: Vec<u8> },
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// Blocks of snappy are this long before they are compressed.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;

/// Compresses to the end of `target`.
pub(crate) fn writer(compression: Compression, mut target: Vec<u8>) -> io::Result<Sink> {
    Ok(match compression {
        Compression::None => Sink::Plain(target),
        Compression::Gzip => {
            Sink::Gzip(flate2::write::GzEncoder::new(target, flate2::Compression::default()))
        }
        Compression::Snappy => {
            // Behind the magic two versions, both 1: Java reads no other framing.
            target.extend_from_slice(XERIAL_MAGIC);
            target.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            Sink::Snappy { target, block: Vec::new() }
        }
        Compression::Lz4 => Sink::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(target))),
        Compression::Zstd => {
            Sink::Zstd(zstd::stream::write::Encoder::new(target, zstd::DEFAULT_COMPRESSION_LEVEL)?)
        }
    })
}

impl Sink {
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(target) => target.extend_from_slice(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes)?,
            Self::Snappy { target, block } => {
                block.extend_from_slice(bytes);
                if block.len() >= SNAPPY_BLOCK_BYTES {
                    snappy_block(target, block)?;
                }
            }
            Self::Lz4(encoder) => encoder.write_all(bytes)?,
            Self::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(target) => Ok(target),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Snappy { mut target, mut block } => {
                snappy_block(&mut target, &mut block)?;
                Ok(target)
            }
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

fn snappy_block(target: &mut Vec<u8>, block: &mut Vec<u8>) -> io::Result<()> {
    for part in block.chunks(SNAPPY_BLOCK_BYTES) {
        let compressed = snap::raw::Encoder::new().compress_vec(part)?;
        let length = i32::try_from(compressed.len()).map_err(io::Error::other)?;
        target.extend_from_slice(&length.to_be_bytes());
        target.extend_from_slice(&compressed);
    }
    block.clear();
    Ok(())
}

/// The failure of a read, told apart: past the limit, or not readable.
pub(crate) fn read_error(error: &io::Error) -> BatchError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        BatchError::TooLarge
    } else {
        BatchError::BadRecords
    }
}

struct Limited<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// Raw snappy, or xerial's framing of it: a header of 16 bytes, then blocks behind their length.
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    position: usize,
}

impl<'a> Snappy<'a> {
    fn new(payload: &'a [u8]) -> Self {
        let framed = payload.starts_with(XERIAL_MAGIC);
        let rest =
            if framed { payload.get(XERIAL_HEADER_BYTES..).unwrap_or_default() } else { payload };
        Self { rest, framed, block: Vec::new(), position: 0 }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let compressed = if self.framed {
            let (length, rest) =
                self.rest.split_first_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
            let length = usize::try_from(i32::from_be_bytes(*length))
                .map_err(|_error| io::ErrorKind::InvalidData)?;
            let (block, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(compressed)?;
        if length > compressed.len().saturating_mul(SNAPPY_MAX_RATIO) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.block.resize(length, 0);
        snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
        self.position = 0;
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let read = self.block.get(self.position..).unwrap_or_default().read(buffer)?;
        self.position += read;
        Ok(read)
    }
}
