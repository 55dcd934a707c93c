//! The groups of loads that one turn of one peer is made of.

mod beside;
mod fetch;
mod start;

use std::{io, thread, time::Duration};

use tokio::runtime::Runtime;

use crate::{
    http,
    load::{self, RECORD_BYTES, Shape, Throughput},
    options::Options,
    page_cache::Filler,
    peer::{Kind, Peer},
    process::{self, Used},
    progress,
    raw::{
        produce::{self, Batches, Until},
        topic,
    },
    report::{self, Figures, Report},
    row,
    time::{Stopwatch, milliseconds},
};

/// Partitions of a topic where nothing else is said.
pub(crate) const PARTITIONS: i32 = 16;
/// One-in-flight loads by librdkafka send so many records.
const RECORDS: u64 = 3000;
/// Connections of a saturating raw load.
const CONNECTIONS: usize = 8;
/// In flight on all of them.
const IN_FLIGHT_BYTES: usize = 32 << 20;
/// A journal may have grown by so much while a topic was there that is gone again.
const OWN_BYTES: u64 = 1 << 30;
/// A peer that has not removed its files by then is measured beside that.
const LONGEST_SETTLING: Duration = Duration::from_secs(30);
/// By then every peer has begun.
const BEGUN_AFTER: Duration = Duration::from_millis(2500);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// What takes no more than this is not waited for.
const SMALL_BYTES: u64 = 64 << 20;
/// A peer is warm when its rate changes by no more from one slice to the next.
const STEADY: f64 = 0.1;
const SLICE_SECONDS: f64 = 3.0;

/// Loads that are chosen together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Not measured on every peer.
    applies: fn(Kind) -> bool,
    run: fn(&mut Turn<'_>) -> io::Result<()>,
}

/// In the order in which they run.
pub(crate) const GROUPS: &[Group] = &[
    Group { name: "throughput", applies: is_broker, run: throughput },
    Group { name: "latency", applies: is_broker, run: latency },
    Group { name: "producers", applies: is_broker, run: producers },
    Group { name: "raw", applies: is_broker, run: raw },
    Group { name: "shapes", applies: is_broker, run: shapes },
    Group { name: "fetch", applies: is_broker, run: fetch::run },
    Group { name: "beside", applies: is_broker, run: beside::run },
    Group { name: "transactions", applies: is_broker, run: transactions },
    Group {
        name: "start",
        applies: |kind| is_broker(kind) && kind.keeps_records(),
        run: start::run,
    },
    Group { name: "http", applies: |kind| kind == Kind::Appliance, run: http },
];

fn is_broker(kind: Kind) -> bool {
    kind != Kind::Appliance
}

/// One peer's part of one round.
#[derive(Debug)]
struct Turn<'a> {
    peer: Peer,
    runtime: &'a Runtime,
    options: &'a Options,
    filler: &'a mut Filler,
    figures: Figures,
    /// The most memory of any of its processes so far.
    peak_mb: f64,
}

/// One turn of one peer, on an empty directory. A group that fails is a note, and the turn goes on.
pub(crate) fn turn(
    runtime: &Runtime,
    kind: Kind,
    options: &Options,
    filler: &mut Filler,
    report: &mut Report,
) -> io::Result<()> {
    let groups: Vec<&Group> =
        GROUPS.iter().filter(|group| (group.applies)(kind) && options.wants(group.name)).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let peer = Peer::start(kind, &options.programs, &options.directory.join("peer"))?;
    let mut turn =
        Turn { peer, runtime, options, filler, figures: Figures::default(), peak_mb: 0.0 };
    turn.figures.set("ready on an empty directory, ms", milliseconds(turn.peer.ready_after));
    turn.figures.set(row::IDLE, process::resident_mb(turn.peer.pid())?);
    progress(&format!("{}: warm-up", kind.name()))?;
    if let Err(error) = turn.warm_up() {
        report.note(format!("{}, warm-up: {error}", kind.name()));
    }
    for group in groups {
        progress(&format!("{}: {}", kind.name(), group.name))?;
        if let Err(error) = (group.run)(&mut turn) {
            let note = format!("{}, {}: {error}", kind.name(), group.name);
            progress(&note)?;
            report.note(note);
        }
        turn.see_peak()?;
    }
    turn.figures.set(row::PEAK, turn.peak_mb);
    report.add(kind.name(), turn.figures);
    Ok(())
}

impl Turn<'_> {
    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }

    fn see_peak(&mut self) -> io::Result<()> {
        self.peak_mb = self.peak_mb.max(process::peak_mb(self.peer.pid())?);
        Ok(())
    }

    /// Does something with a new topic, and removes it, for all topics of a full run would not fit on a disk.
    fn with_topic<T>(
        &mut self,
        topic: &str,
        partitions: i32,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let free = self.peer.free_bytes()?;
        topic::create(&self.peer.brokers, topic, partitions)?;
        topic::wait_writable(&self.peer.brokers, topic, partitions)?;
        let result = work(self);
        let deleted = topic::delete(&self.peer.brokers, topic);
        let value = result?;
        deleted?;
        self.settle(free)?;
        Ok(value)
    }

    /// Waits until what a load has left is gone, or the next would be measured beside it: files of deleted topics,
    /// which no peer removes at once, and pages that are not written yet. The memory that the files leave is filled
    /// again before a hypervisor takes it.
    fn settle(&mut self, free_before: u64) -> io::Result<()> {
        self.filler.fill()?;
        let mut free = self.peer.free_bytes()?;
        if free + SMALL_BYTES > free_before {
            return Ok(());
        }
        let started = Stopwatch::start();
        thread::sleep(BEGUN_AFTER);
        while started.elapsed() < LONGEST_SETTLING {
            thread::sleep(LOOK_AGAIN);
            self.filler.fill()?;
            let before = std::mem::replace(&mut free, self.peer.free_bytes()?);
            if before == free && free + OWN_BYTES > free_before {
                break;
            }
        }
        rustix::fs::sync();
        self.filler.fill()
    }

    /// Has the next reader of the peer's records read the disk.
    fn evict(&mut self) -> io::Result<()> {
        self.peer.evict()?;
        self.filler.fill()
    }

    /// What the peer's process used while `work` was done.
    fn used<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Used)> {
        let before = Used::by(self.peer.pid())?;
        let done = work()?;
        Ok((done, Used::by(self.peer.pid())?.since(before)))
    }

    /// Load until the rate is steady, which takes a JVM many seconds, so that files exist and code is compiled.
    fn warm_up(&mut self) -> io::Result<()> {
        let least = if self.peer.kind.is_java() { 15.0 } else { SLICE_SECONDS };
        let least = least.min(3.0 * self.options.seconds);
        self.with_topic("bench-warm", PARTITIONS, |turn| {
            let shape = one_kib("bench-warm", "all");
            let started = Stopwatch::start();
            let mut rate_before = 0.0;
            loop {
                let rate = load::produce(&turn.peer.brokers, &shape, SLICE_SECONDS)?
                    .megabytes_per_second();
                let elapsed = started.elapsed().as_secs_f64();
                let is_steady = (rate / rate_before - 1.0).abs() < STEADY;
                if elapsed >= least && (is_steady || elapsed >= 2.0 * least) {
                    break;
                }
                rate_before = rate;
            }
            if turn.peer.kind.is_java() {
                load::consume(&turn.peer.brokers, &shape, SLICE_SECONDS)?;
            }
            Ok(())
        })
    }

    fn produced(&mut self, name: &str, shape: &Shape<'_>) -> io::Result<()> {
        let (moved, used) =
            self.used(|| load::produce(&self.peer.brokers, shape, self.options.seconds))?;
        self.throughput(name, moved, used)?;
        let written = used.written_bytes / (moved.megabytes * 1e6);
        self.figures.set(&format!("bytes written per byte, {name}"), written);
        Ok(())
    }

    fn consumed(&mut self, name: &str, shape: &Shape<'_>) -> io::Result<()> {
        let (moved, used) =
            self.used(|| load::consume(&self.peer.brokers, shape, self.options.seconds))?;
        self.throughput(name, moved, used)
    }

    fn throughput(&mut self, name: &str, moved: Throughput, used: Used) -> io::Result<()> {
        if moved.megabytes <= 0.0 {
            return Err(io::Error::other(format!("{name}: nothing came in the time that it had")));
        }
        self.figures.set(&format!("{name}, MB/s"), moved.megabytes_per_second());
        let per_gigabyte = used.cpu_seconds / (moved.megabytes / 1e3);
        self.figures.set(&format!("broker CPU, {name}, s/GB"), per_gigabyte);
        Ok(())
    }
}

fn one_kib<'a>(topic: &'a str, acks: &'a str) -> Shape<'a> {
    Shape { topic, partitions: PARTITIONS, record_bytes: RECORD_BYTES, acks }
}

fn throughput(turn: &mut Turn<'_>) -> io::Result<()> {
    let synced = turn.with_topic("bench-all", PARTITIONS, |turn| {
        let shape = one_kib("bench-all", "all");
        turn.produced("produce acks=all", &shape)?;
        turn.consumed("consume", &shape)?;
        turn.evict()?;
        turn.consumed("consume cold", &shape)
    });
    // Also when a peer could do only a part of the one, it shows what it can of the other.
    let written = turn.with_topic("bench-one", PARTITIONS, |turn| {
        turn.produced("produce acks=1", &one_kib("bench-one", "1"))
    });
    synced.and(written).and(tail(turn))
}

/// A consumer that is to keep up with the producer, on the same cores.
fn tail(turn: &mut Turn<'_>) -> io::Result<()> {
    turn.with_topic("bench-tail", PARTITIONS, |turn| {
        let (brokers, seconds) = (turn.peer.brokers.clone(), turn.options.seconds);
        let shape = one_kib("bench-tail", "all");
        let (produced, consumed) = thread::scope(|scope| {
            let reader = scope.spawn(|| load::consume_tail(&brokers, &shape, seconds));
            let produced = load::produce(&brokers, &shape, seconds);
            let consumed = reader.join().map_err(|_panic| io::Error::other("it panicked"))?;
            Ok::<_, io::Error>((produced?, consumed?))
        })?;
        turn.figures
            .set("produce acks=all beside a consumer, MB/s", produced.megabytes_per_second());
        turn.figures.set("consume from the tail, MB/s", consumed.megabytes_per_second());
        Ok(())
    })
}

fn latency(turn: &mut Turn<'_>) -> io::Result<()> {
    turn.with_topic("bench-latency", 1, |turn| {
        let mut one = load::one_in_flight(&turn.peer.brokers, "bench-latency", RECORDS)?;
        turn.figures.set(row::ONE_P50, one.quantile_ms(500));
        turn.figures.set(row::ONE_P99, one.quantile_ms(990));
        let mut end_to_end = load::end_to_end(&turn.peer.brokers, "bench-latency", RECORDS)?;
        turn.figures.set(row::END_TO_END_P50, end_to_end.quantile_ms(500));
        turn.figures.set(row::END_TO_END_P99, end_to_end.quantile_ms(990));
        Ok(())
    })
}

/// Many connections of the raw generator, each with one record of 100 bytes in flight.
fn producers(turn: &mut Turn<'_>) -> io::Result<()> {
    for (connections, acks) in
        [(1, "all"), (64, "all"), (512, "all"), (1, "1"), (64, "1"), (512, "1")]
    {
        turn.with_topic("bench-producers", PARTITIONS, |turn| {
            let acks_number = if acks == "1" { 1 } else { -1 };
            let load = produce::Load {
                topic: "bench-producers",
                partitions: PARTITIONS,
                batches: Batches { record_bytes: 100, batch_bytes: 0, acks: acks_number },
                partitions_per_request: 1,
                connections,
                in_flight: 1,
                pause: Duration::ZERO,
                until: Until::Elapsed(turn.limit()),
            };
            let mut produced = produce::run(&turn.peer.brokers, &load)?;
            let rate = report::number(produced.records) / produced.took.as_secs_f64();
            let acks = if acks == "1" { " acks=1" } else { "" };
            let name = format!("{connections} producers, 100 B, one in flight{acks}");
            turn.figures.set(&format!("{name}, rec/s"), rate);
            turn.figures.set(&format!("{name}, p50 ms"), produced.latencies.quantile_ms(500));
            turn.figures.set(&format!("{name}, p99 ms"), produced.latencies.quantile_ms(990));
            Ok(())
        })?;
    }
    Ok(())
}

/// Batches encoded beforehand, many in flight.
fn raw(turn: &mut Turn<'_>) -> io::Result<()> {
    for kib in [1, 16, 256] {
        saturated(turn, &format!("raw produce, {kib} KiB batches"), kib, CONNECTIONS)?;
    }
    for connections in [1, 64, 512] {
        let name = format!("raw produce, 16 KiB batches, {connections} producers");
        saturated(turn, &name, 16, connections)?;
    }
    Ok(())
}

fn saturated(turn: &mut Turn<'_>, name: &str, kib: usize, connections: usize) -> io::Result<()> {
    turn.with_topic("bench-raw", PARTITIONS, |turn| {
        let until = Until::Elapsed(turn.limit());
        let load = saturating("bench-raw", PARTITIONS, kib << 10, connections, until);
        let (produced, used) = turn.used(|| produce::run(&turn.peer.brokers, &load))?;
        let moved = Throughput {
            megabytes: report::megabytes(produced.bytes),
            seconds: produced.took.as_secs_f64(),
        };
        turn.throughput(name, moved, used)
    })
}

/// Records of 1 KiB, in requests with a batch for each of up to 16 partitions.
fn saturating(
    topic: &str,
    partitions: i32,
    batch_bytes: usize,
    connections: usize,
    until: Until,
) -> produce::Load<'_> {
    let share = IN_FLIGHT_BYTES / connections;
    let partitions_per_request = 16.min(share.min(1 << 20) / batch_bytes).max(1);
    let request_bytes = batch_bytes * partitions_per_request;
    // A batch of 1 KiB holds one record, whose frame comes on top.
    let record_bytes = if batch_bytes <= RECORD_BYTES { 950 } else { RECORD_BYTES };
    produce::Load {
        topic,
        partitions,
        batches: Batches { record_bytes, batch_bytes, acks: -1 },
        partitions_per_request,
        connections,
        in_flight: (share / request_bytes).clamp(1, 64),
        pause: Duration::ZERO,
        until,
    }
}

fn shapes(turn: &mut Turn<'_>) -> io::Result<()> {
    for partitions in [1, 16, 256] {
        for (record_bytes, bytes) in [(100, "100 B"), (1024, "1 KiB"), (16_384, "16 KiB")] {
            for acks in ["all", "1"] {
                turn.with_topic("bench-shape", partitions, |turn| {
                    let shape = Shape { topic: "bench-shape", partitions, record_bytes, acks };
                    let moved = load::produce(&turn.peer.brokers, &shape, turn.options.seconds)?;
                    let name =
                        format!("produce acks={acks}, {bytes}, {partitions} partitions, MB/s");
                    turn.figures.set(&name, moved.megabytes_per_second());
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

fn transactions(turn: &mut Turn<'_>) -> io::Result<()> {
    turn.with_topic("bench-transactions", PARTITIONS, |turn| {
        let shape = one_kib("bench-transactions", "all");
        for producers in [1, 64] {
            let (mut latencies, took) =
                load::transactions(&turn.peer.brokers, &shape, producers, turn.options.seconds)?;
            let rate = report::number(latencies.count()) / took.as_secs_f64();
            let name = format!("transactions of 10 records, {producers} producers");
            turn.figures.set(&format!("{name}, per second"), rate);
            turn.figures.set(&format!("{name}, p50 ms"), latencies.quantile_ms(500));
            turn.figures.set(&format!("{name}, p99 ms"), latencies.quantile_ms(990));
        }
        Ok(())
    })
}

fn http(turn: &mut Turn<'_>) -> io::Result<()> {
    let Some(address) = turn.peer.http.as_deref() else { return Ok(()) };
    let session = http::Session::open(turn.runtime, address)?;
    for (clients, each) in [(1, 500), (64, 50)] {
        let mut latencies = session.create_tasks(turn.runtime, clients, each)?;
        let name = format!("POST /api/tasks, {clients} clients");
        turn.figures.set(&format!("{name}, p50 ms"), latencies.quantile_ms(500));
        turn.figures.set(&format!("{name}, p99 ms"), latencies.quantile_ms(990));
    }
    session.log_in_at_once(turn.runtime, 64)
}
