//! Walks the batch headers of a log file.

use std::{io, ops::Range};

use wire::batch::{BatchHeader, BatchView, HEADER_BYTES, Marker};

use crate::{
    codec::{in_memory, position},
    host::{DiskFile, read_exact},
};

const CHUNK_BYTES: u64 = 128 << 10;
/// Behind a batch that is larger, a chunk holds few headers: less is read then.
const LARGE_BATCH_BYTES: u64 = 16 << 10;
const SMALL_CHUNK_BYTES: u64 = 4 << 10;

/// Calls `visit` with each batch's position and header. A batch that is none, or does not end
/// within the range, is `InvalidData`.
pub(crate) fn scan_headers(
    file: &dyn DiskFile,
    range: Range<u64>,
    mut visit: impl FnMut(u64, &BatchHeader),
) -> io::Result<()> {
    let mut chunk = Vec::new();
    let (mut at, mut chunk_at, mut chunk_bytes) = (range.start, range.start, CHUNK_BYTES);
    while at < range.end {
        let mut front = chunk.get(in_memory(at - chunk_at)..).unwrap_or_default();
        if front.len() < HEADER_BYTES {
            chunk.resize(in_memory(chunk_bytes.min(range.end - at)), 0);
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
        let is_large = next - at > LARGE_BATCH_BYTES;
        chunk_bytes = if is_large { SMALL_CHUNK_BYTES } else { CHUNK_BYTES };
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

#[cfg(test)]
mod tests {
    use wire::{
        TimestampMs,
        batch::{BatchBuilder, NewRecord},
    };

    use super::{CHUNK_BYTES, LARGE_BATCH_BYTES, SMALL_CHUNK_BYTES, scan_headers};
    use crate::{
        Host,
        codec::{in_memory, position},
        host::Open,
    };

    #[test]
    fn batches_of_every_size_are_found_behind_one_another() {
        // Of the many small ones some headers lie across the end of what is read at once.
        let small = (0..4000).map(|round| 100 + round % 50);
        let bounds = [SMALL_CHUNK_BYTES, LARGE_BATCH_BYTES, CHUNK_BYTES].map(in_memory);
        let mixed = (0..100)
            .flat_map(|round| [100, 4000].into_iter().chain(bounds).map(move |size| size + round));
        let (mut log, mut starts) = (Vec::new(), Vec::new());
        for size in small.chain(mixed) {
            starts.push(position(log.len()));
            let value = vec![7; size];
            let mut batch = BatchBuilder::new();
            batch.push(NewRecord {
                timestamp: TimestampMs(1),
                key: None,
                value: Some(&value),
                headers: &[],
            });
            log.extend_from_slice(&batch.build());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, &log).unwrap();
        let file = Host::real().disk.open(&path, Open::Read).unwrap();
        let mut found = Vec::new();
        scan_headers(file.as_ref(), 0..position(log.len()), |at, _| found.push(at)).unwrap();
        assert_eq!(found, starts);
    }
}
