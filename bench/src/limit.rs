//! The physical limit: the same bytes journalled, synced and written to partition files, with no broker around.

use std::{io, path::Path};

use storage::limit::{Load, raw, raw_one_in_flight};

use crate::{
    report::{self, Figures},
    row, suite,
    time::milliseconds,
};

/// What librdkafka makes of a full queue: many records in one batch.
const BATCH_BYTES: u32 = 256 * 1024;
/// About what the raw loads write in a second: a few of them would stay in the page cache.
const MEGABYTES_PER_SECOND: f64 = 900.0;
const SYNCS: usize = 3000;

/// Megabytes per second of the bytes alone, and how long one record's write and sync take.
pub(crate) fn measure(directory: &Path, seconds: f64) -> io::Result<Figures> {
    let mut figures = Figures::default();
    let partitions = u32::try_from(suite::PARTITIONS).unwrap_or(1);
    let megabytes = report::whole(MEGABYTES_PER_SECOND * seconds);
    let load = Load { megabytes, partitions, batch_bytes: BATCH_BYTES };
    let speed = raw(&directory.join("bytes"), &load).map_err(io::Error::other)?;
    let limit = report::megabytes(speed.bytes) / speed.took.as_secs_f64();
    figures.set(row::PRODUCE, limit);
    figures.set(row::RAW, limit);
    let (p50, p99) = raw_one_in_flight(&directory.join("sync"), SYNCS).map_err(io::Error::other)?;
    figures.set(row::ONE_P50, milliseconds(p50));
    figures.set(row::ONE_P99, milliseconds(p99));
    Ok(figures)
}
