//! The physical limit: the same bytes journalled, synced and written to partition files, with no broker around.

use std::{io, path::Path};

use storage::limit::{Load, raw, raw_one_in_flight};

use crate::{load, report::Figures};

/// What librdkafka makes of a full queue: many records in one batch.
const BATCH_BYTES: u32 = 256 * 1024;
const MEGABYTES: u32 = 2048;
const SYNCS: usize = 3000;

/// Megabytes per second of the bytes alone, and how long one record's write and sync take.
pub(crate) fn measure(directory: &Path) -> io::Result<Figures> {
    let mut figures = Figures::default();
    let partitions = u32::try_from(load::PARTITIONS).unwrap_or(1);
    let load = Load { megabytes: MEGABYTES, partitions, batch_bytes: BATCH_BYTES };
    let speed = raw(&directory.join("bytes"), &load).map_err(io::Error::other)?;
    let records = speed.bytes / 1024;
    figures.set("produce acks=all, MB/s", load::megabytes(records) / speed.took.as_secs_f64());
    let (p50, p99) = raw_one_in_flight(&directory.join("sync"), SYNCS).map_err(io::Error::other)?;
    figures.set("one in flight acks=all p50, ms", p50.as_secs_f64() * 1e3);
    figures.set("one in flight acks=all p99, ms", p99.as_secs_f64() * 1e3);
    Ok(figures)
}
