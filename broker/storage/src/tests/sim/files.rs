//! The files of a log: a start leaves nothing in them but what is published, and they end when
//! they are old.

use wire::{
    Offset,
    batch::{BatchHeader, BatchView},
};

use super::{
    Check, Kind, check,
    cleaning::SEGMENT_BYTES,
    model::{Log, Seeing, unreadable},
};
use crate::{PartitionId, segment_file::base_of};

/// Right after a start.
pub(super) fn verify(id: PartitionId, (log, kind): (&Log, Kind), seeing: &Seeing<'_>) -> Check {
    let shared = &seeing.engine.shared;
    let Some(partition) = shared.partition(id) else { return Ok(()) };
    let segments = partition.published().segments.clone();
    // A file is made by the first write to it.
    let segments: Vec<(Offset, u64)> = segments
        .iter()
        .filter(|segment| segment.length > 0)
        .map(|segment| (segment.file.base, segment.length))
        .collect();
    let disk = shared.host.disk.as_ref();
    let mut found = Vec::new();
    // A log that nobody has written to has no directory.
    for name in disk.list(&partition.dir).unwrap_or_default() {
        let Some(base) = base_of(&name, "log") else { continue };
        let length = disk.length(&partition.dir.join(&name));
        found.push((base, length.map_err(|error| unreadable(&error))?));
    }
    found.retain(|(_, length)| *length > 0);
    check(found == segments, || format!("the files of {id:?} are {found:?}, not {segments:?}"))?;
    let bases: Vec<Offset> = segments.iter().map(|(base, _)| *base).collect();
    verify_ages(id, &bases, (log, kind), seeing)
}

/// No batch in a file is so much younger than the first that it belongs to the next.
fn verify_ages(
    id: PartitionId,
    bases: &[Offset],
    (log, kind): (&Log, Kind),
    seeing: &Seeing<'_>,
) -> Check {
    let Some(longest) = kind.segment_ms() else { return Ok(()) };
    // Several files may become one when they are compacted, but for the last.
    let first = if kind.is_compacted() { bases.len().saturating_sub(1) } else { 0 };
    let bases = bases.get(first..).unwrap_or_default();
    let nexts = bases.iter().skip(1).copied().chain([Offset(i64::MAX)]);
    for (base, next) in bases.iter().zip(nexts) {
        let headers = log.range(*base..next).map(|(_, bytes)| BatchView::parse(bytes).unwrap());
        let headers: Vec<_> = headers.map(|view| view.header).collect();
        // What its first batch was is not known of a file in which the log starts.
        let Some(began) = headers.first().filter(|first| first.base_offset == *base) else {
            continue;
        };
        let began = began.max_timestamp;
        // Such a file ends by the clock, which a start sets back.
        if began.0 < 0 {
            continue;
        }
        let is_late = |at: i64| at - began.0 > longest;
        let late = headers.iter().find(|header| is_late(header.max_timestamp.0));
        check(late.is_none(), || {
            let late = late.map(|header| (header.base_offset, header.max_timestamp));
            format!("{late:?} is in the file {base} of {id:?}, which began at {began:?}")
        })?;
        let length: usize = headers.iter().map(BatchHeader::size_in_bytes).sum();
        let follows = log.get(&next).map(|bytes| BatchView::parse(bytes).unwrap().header);
        let had_room = follows.is_some_and(|it| length + it.size_in_bytes() <= SEGMENT_BYTES);
        if had_room && follows.is_some_and(|it| is_late(it.max_timestamp.0)) {
            seeing.tally.note("file ended by its age");
        }
    }
    Ok(())
}
