//! What producers with one record in flight notice of other work: a reader of old records, and logs that are many.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::{CONNECTIONS, PARTITIONS, Turn, saturating};
use crate::{
    load::{RECORD_BYTES, Throughput},
    raw::{
        fetch,
        produce::{self, Batches, Until},
    },
    report, row,
    time::Latencies,
};

const TOPIC: &str = "bench-beside";
const OTHER_TOPIC: &str = "bench-other";
const PRODUCERS: usize = 4;
/// The reader's old records: it is not to come to their end.
const OLD_BYTES_PER_SECOND: u64 = 1_700_000_000;
const OLD_BYTES_MAX: u64 = 12_000_000_000;
/// Other producers, together, send so many records of 1 KiB a second, in requests of sixteen.
const OTHERS_PER_SECOND: u32 = 15_000;
const RECORDS_PER_REQUEST: u8 = 16;
/// A peer that takes less of them is not measured beside that load.
const LEAST_SHARE: f64 = 0.9;
const MANY_PARTITIONS: i32 = 1000;
/// Other producers begin before those that are looked at, and end after them.
const HEAD_START: Duration = Duration::from_secs(1);

pub(super) fn run(turn: &mut Turn<'_>) -> io::Result<()> {
    turn.with_topic(TOPIC, PARTITIONS, |turn| {
        let mut alone = one_in_flight(turn, Duration::ZERO, None)?;
        turn.figures.set(row::ALONE_P99, alone.quantile_ms(990));
        cold_reader(turn)?;
        let mut beside = others(turn, PARTITIONS)?;
        turn.figures.set(row::BESIDE_FEW_P99, beside.quantile_ms(990));
        let mut beside = others(turn, MANY_PARTITIONS)?;
        turn.figures.set(row::BESIDE_MANY_P99, beside.quantile_ms(990));
        Ok(())
    })
}

/// The producers' latencies, while `other` is done by another thread, which begins first.
fn one_in_flight(
    turn: &Turn<'_>,
    head_start: Duration,
    other: Option<&(dyn Fn() -> io::Result<()> + Sync)>,
) -> io::Result<Latencies> {
    let load = produce::Load {
        topic: TOPIC,
        partitions: PARTITIONS,
        batches: Batches { record_bytes: RECORD_BYTES, batch_bytes: 0, acks: -1 },
        partitions_per_request: 1,
        connections: PRODUCERS,
        in_flight: 1,
        pause: Duration::ZERO,
        until: Until::Elapsed(turn.limit()),
    };
    thread::scope(|scope| {
        let other = other.map(|other| scope.spawn(other));
        thread::sleep(head_start);
        let produced = produce::run(&turn.peer.brokers, &load)?;
        if let Some(other) = other {
            other.join().map_err(|_panicked| io::Error::other("the other work panicked"))??;
        }
        Ok(produced.latencies)
    })
}

fn cold_reader(turn: &mut Turn<'_>) -> io::Result<()> {
    turn.with_topic(OTHER_TOPIC, PARTITIONS, |turn| {
        let bytes = turn.limit().as_secs() * OLD_BYTES_PER_SECOND;
        let until = Until::Sent(bytes.min(OLD_BYTES_MAX));
        let old = saturating(OTHER_TOPIC, PARTITIONS, 16 << 10, CONNECTIONS, until);
        produce::run(&turn.peer.brokers, &old)?;
        turn.evict()?;
        let all: Vec<i32> = (0..PARTITIONS).collect();
        let limit = turn.limit();
        let load = fetch::Load { topic: OTHER_TOPIC, partitions: &all, connections: 1, limit };
        let fetched = Mutex::new(fetch::Fetched::default());
        let read = || {
            let read = fetch::run(&turn.peer.brokers, &load)?;
            *fetched.lock().unwrap_or_else(PoisonError::into_inner) = read;
            Ok(())
        };
        let mut beside = one_in_flight(turn, Duration::ZERO, Some(&read))?;
        let fetched = *fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.took + HEAD_START < limit {
            return Err(io::Error::other("the cold reader came to the end before the producers"));
        }
        turn.figures.set(row::BESIDE_READER_P99, beside.quantile_ms(990));
        let moved = Throughput {
            megabytes: report::megabytes(fetched.bytes),
            seconds: fetched.took.as_secs_f64(),
        };
        turn.figures.set("cold reader beside 4 producers, MB/s", moved.megabytes_per_second());
        Ok(())
    })
}

fn others(turn: &mut Turn<'_>, partitions: i32) -> io::Result<Latencies> {
    turn.with_topic(OTHER_TOPIC, partitions, |turn| {
        let connections = u32::try_from(CONNECTIONS).unwrap_or(1);
        let requests_per_second = OTHERS_PER_SECOND / u32::from(RECORDS_PER_REQUEST);
        let load = produce::Load {
            topic: OTHER_TOPIC,
            partitions,
            batches: Batches { record_bytes: RECORD_BYTES, batch_bytes: 0, acks: -1 },
            partitions_per_request: usize::from(RECORDS_PER_REQUEST),
            connections: CONNECTIONS,
            in_flight: 1,
            pause: Duration::from_secs(1) * connections / requests_per_second,
            until: Until::Elapsed(turn.limit() + 2 * HEAD_START),
        };
        let produce = || {
            let produced = produce::run(&turn.peer.brokers, &load)?;
            let rate = report::number(produced.records) / produced.took.as_secs_f64();
            let least = f64::from(OTHERS_PER_SECOND) * LEAST_SHARE;
            if rate < least {
                return Err(io::Error::other(format!("the others sent only {rate:.0} records/s")));
            }
            Ok(())
        };
        one_in_flight(turn, HEAD_START, Some(&produce))
    })
}
