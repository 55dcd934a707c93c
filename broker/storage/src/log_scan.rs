//! Walks the batch headers of a log file.

use std::{io, ops::Range};

use wire::batch::{BatchHeader, BatchView, HEADER_BYTES, Marker};

use crate::{
    codec::{in_memory, position},
    host::{DiskFile, read_exact},
};

const CHUNK_BYTES: u64 = 128 << 10;

/// Calls `visit` with each batch's position and header. A batch that is none, or does not end
/// within the range, is `InvalidData`.
pub(crate) fn scan_headers(
    file: &dyn DiskFile,
    range: Range<u64>,
    mut visit: impl FnMut(u64, &BatchHeader),
) -> io::Result<()> {
    let mut chunk = Vec::new();
    let (mut at, mut chunk_at) = (range.start, range.start);
    while at < range.end {
        let mut front = chunk.get(in_memory(at - chunk_at)..).unwrap_or_default();
        if front.len() < HEADER_BYTES {
            chunk.resize(in_memory(CHUNK_BYTES.min(range.end - at)), 0);
            read_exact(file, &mut chunk, at)?;
            chunk_at = at;
            front = &chunk;
        }
        let header = BatchHeader::parse(front).map_err(|_error| bad_batch())?;
        let next = at + position(header.size_in_bytes());
        if next > range.end {
            return Err(bad_batch());
        }
        visit(at, &header);
        at = next;
    }
    Ok(())
}

/// What a control batch marks.
pub(crate) fn marker_of(header: &BatchHeader, batch: &[u8]) -> Option<Marker> {
    if !header.is_control() {
        return None;
    }
    let view = BatchView::parse(batch).ok()?;
    wire::batch::marker(&view).ok().flatten().map(|(marker, _)| marker)
}

/// The same for a batch that lies in a file.
pub(crate) fn marker_in(
    file: &dyn DiskFile,
    at: u64,
    header: &BatchHeader,
) -> io::Result<Option<Marker>> {
    if !header.is_control() {
        return Ok(None);
    }
    let mut batch = vec![0; header.size_in_bytes()];
    read_exact(file, &mut batch, at)?;
    Ok(marker_of(header, &batch))
}

fn bad_batch() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
