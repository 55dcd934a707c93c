//! Leader epochs: raised by a repair, and else the same for ever.

use std::io;

use wire::{LeaderEpoch, Offset, batch::BatchHeader};

use crate::{
    api::{LogOffsetSnapshot, ReadError},
    host::DiskFile,
    log_scan::scan_headers,
    partition::{Partition, Segment},
    read::Reading,
};

/// The newest epoch of a partition's batches that is not newer than `wanted`, and the first offset
/// behind it. If all are newer, `wanted` itself and where they begin. None if `wanted` is newer than
/// the `current` one. As Kafka's `LeaderEpochFileCache.endOffsetFor`.
pub(crate) fn epoch_end(
    reading: &Reading<'_>,
    partition: &Partition,
    (wanted, current): (LeaderEpoch, LeaderEpoch),
) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
    let published = partition.published();
    let offsets = published.offsets;
    let segments: Vec<Segment> =
        published.segments.iter().filter(|segment| segment.length > 0).cloned().collect();
    drop(published);
    if wanted >= current || wanted < LeaderEpoch(0) {
        return Ok((wanted == current).then_some((current, offsets.log_end_offset)));
    }
    let mut found = None;
    for segment in &segments {
        let file = segment.file.for_reading(reading.disk, reading.open_files)?;
        // Epochs do not fall, so only the file in which they rise beyond has to be read through.
        match first_epoch(file.as_ref(), segment)? {
            Some(first) if first <= wanted => found = Some((first, segment, file)),
            _ => break,
        }
    }
    let Some((first, segment, file)) = found else {
        let oldest = segments.first().map_or(offsets.log_end_offset, |first| first.file.base);
        return Ok(Some((wanted, oldest.max(offsets.log_start_offset))));
    };
    let (mut epoch, mut end) = (first, None);
    let scanned = scan_headers(file.as_ref(), 0..segment.length, |_, header| {
        if header.partition_leader_epoch > wanted {
            end = end.or(Some(header.base_offset));
        } else if end.is_none() {
            epoch = header.partition_leader_epoch;
        }
    });
    scanned?;
    Ok(Some((epoch, end.unwrap_or_else(|| behind(segment, &segments, offsets)))))
}

fn first_epoch(file: &dyn DiskFile, segment: &Segment) -> io::Result<Option<LeaderEpoch>> {
    let mut front = [0; wire::batch::HEADER_BYTES];
    crate::host::read_exact(file, &mut front, 0)?;
    let header = BatchHeader::parse(&front);
    Ok(header.ok().filter(|_| segment.length > 0).map(|header| header.partition_leader_epoch))
}

/// The first offset behind a file.
fn behind(segment: &Segment, segments: &[Segment], offsets: LogOffsetSnapshot) -> Offset {
    let next = segments.iter().find(|other| other.file.base > segment.file.base);
    next.map_or(offsets.log_end_offset, |next| next.file.base)
}
