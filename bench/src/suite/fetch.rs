//! The raw generator reads what it wrote: from the page cache and from the disk.

use std::{io, time::Duration};

use super::{CONNECTIONS, Turn, saturating};
use crate::{
    load::Throughput,
    raw::{
        fetch::{self, Load},
        produce::{self, Until},
    },
    report,
};

const PARTITIONS: i32 = 256;
/// In all partitions, for each KiB of a batch: small batches take long to write.
const BYTES_PER_KIB: u64 = 128 << 20;
const BYTES_MAX: u64 = 1 << 30;
/// Read one after the other, each by a connection of its own.
const ALONE: i32 = 16;

pub(super) fn run(turn: &mut Turn<'_>) -> io::Result<()> {
    [1, 16].into_iter().try_for_each(|kib| {
        turn.with_topic("bench-fetch", PARTITIONS, |turn| batches_of(turn, kib))
    })
}

fn batches_of(turn: &mut Turn<'_>, kib: usize) -> io::Result<()> {
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let bytes = (BYTES_PER_KIB * u64::try_from(kib).map_err(io::Error::other)?).min(BYTES_MAX);
    let load = saturating("bench-fetch", PARTITIONS, kib << 10, CONNECTIONS, Until::Sent(bytes));
    produce::run(&turn.peer.brokers, &load)?;
    let limit = turn.limit();
    let everything =
        Load { topic: "bench-fetch", partitions: &all, connections: CONNECTIONS, limit };
    let read = |turn: &mut Turn<'_>, name: &str| {
        let (fetched, used) = turn.used(|| fetch::run(&turn.peer.brokers, &everything))?;
        let moved = throughput(fetched.bytes, fetched.took);
        turn.throughput(&format!("raw fetch, {kib} KiB batches, {name}"), moved, used)
    };
    read(turn, "page cache")?;
    turn.evict()?;
    read(turn, "cold")?;
    turn.evict()?;
    let (mut bytes, mut took) = (0, Duration::ZERO);
    for partition in 0..ALONE {
        let alone = Load { partitions: &[partition], connections: 1, ..everything };
        let fetched = fetch::run(&turn.peer.brokers, &alone)?;
        bytes += fetched.bytes;
        took += fetched.took;
    }
    let name = format!("raw fetch, {kib} KiB batches, cold, one of 256 partitions, MB/s");
    turn.figures.set(&name, throughput(bytes, took).megabytes_per_second());
    Ok(())
}

fn throughput(bytes: u64, took: Duration) -> Throughput {
    Throughput { megabytes: report::megabytes(bytes), seconds: took.as_secs_f64() }
}
