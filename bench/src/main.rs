//! Ottla's benchmark: every figure as a ratio to a peer or to the physical limit of the same run.
//!
//! `cargo run --release -p ottla-bench -- [--seconds N] [--rounds N] [--kafka-libs DIR] [--dir DIR]`
//!
//! The peers take turns on the same cores, with the same librdkafka client and the same load; the table shows medians.

mod http;
mod limit;
mod load;
mod peer;
mod process;
mod report;
mod time;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use peer::{Kind, Peer};
use report::{Figures, Report};
use tokio::runtime::Runtime;

const TOPIC: &str = "bench";
const LATENCY_TOPIC: &str = "bench-latency";
/// Produced before anything is measured, so that a JVM is warm and files exist.
const WARM_UP_SECONDS: f64 = 4.0;

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    seconds: f64,
    rounds: usize,
    kafka_libs: Option<PathBuf>,
    directory: PathBuf,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut options = Self {
            seconds: 10.0,
            rounds: 3,
            kafka_libs: None,
            directory: PathBuf::from("target/bench"),
        };
        while let Some(flag) = args.next() {
            let value =
                args.next().ok_or_else(|| io::Error::other(format!("{flag} needs a value")))?;
            match flag.as_str() {
                "--seconds" => options.seconds = value.parse().map_err(io::Error::other)?,
                "--rounds" => options.rounds = value.parse().map_err(io::Error::other)?,
                "--kafka-libs" => options.kafka_libs = Some(value.into()),
                "--dir" => options.directory = value.into(),
                _ => return Err(io::Error::other(format!("unknown flag {flag}"))),
            }
        }
        let fetched = PathBuf::from("target/kafka-libs");
        if options.kafka_libs.is_none() && fetched.is_dir() {
            options.kafka_libs = Some(fetched);
        }
        Ok(options)
    }

    fn peers(&self) -> io::Result<Vec<Kind>> {
        let program = env::current_exe()?.with_file_name("ottla");
        if !program.is_file() {
            return Err(io::Error::other("build the program first: cargo build --release"));
        }
        let mut peers = vec![Kind::Ottla { program }];
        peers.extend(self.kafka_libs.clone().map(|libs| Kind::Kafka { libs }));
        Ok(peers)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "bench: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let options = Options::from_args(env::args().skip(1))?;
    let runtime = Runtime::new()?;
    let mut report = Report::default();
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}: physical limit", options.rounds))?;
        report.add("physical limit", limit::measure(&options.directory.join("limit"))?);
        for kind in options.peers()? {
            progress(&format!("round {round} of {}: {}", options.rounds, kind.name()))?;
            report.add(kind.name(), measure(&runtime, &kind, &options)?);
        }
    }
    report.print(&mut io::stdout())
}

/// One turn of one peer, on an empty directory.
fn measure(runtime: &Runtime, kind: &Kind, options: &Options) -> io::Result<Figures> {
    let mut figures = Figures::default();
    let peer = Peer::start(kind, &options.directory.join("peer"))?;
    figures.set("ready after, ms", peer.ready_after.as_secs_f64() * 1e3);
    let session =
        peer.http.as_deref().map(|http| http::Session::open(runtime, http)).transpose()?;
    figures.set("memory idle, MB", process::resident_mb(peer.pid())?);
    load::create_topic(runtime, &peer.brokers, LATENCY_TOPIC, 1)?;
    load::create_topic(runtime, &peer.brokers, TOPIC, load::PARTITIONS)?;
    load::produce(&peer.brokers, TOPIC, "all", WARM_UP_SECONDS)?;

    let mut loaded =
        |name: &str, cpu_name: &str, load: &dyn Fn() -> io::Result<load::Throughput>| {
            let before = process::cpu_seconds(peer.pid())?;
            let moved = load()?;
            let cpu = process::cpu_seconds(peer.pid())? - before;
            figures.set(name, moved.megabytes_per_second());
            figures.set(cpu_name, cpu / (moved.megabytes / 1e3));
            Ok::<_, io::Error>(())
        };
    loaded("produce acks=all, MB/s", "broker CPU, produce acks=all, s/GB", &|| {
        load::produce(&peer.brokers, TOPIC, "all", options.seconds)
    })?;
    loaded("produce acks=1, MB/s", "broker CPU, produce acks=1, s/GB", &|| {
        load::produce(&peer.brokers, TOPIC, "1", options.seconds)
    })?;
    loaded("consume, MB/s", "broker CPU, consume, s/GB", &|| {
        load::consume(&peer.brokers, TOPIC, options.seconds)
    })?;

    let mut one = load::one_in_flight(&peer.brokers, LATENCY_TOPIC, 3000)?;
    figures.set("one in flight acks=all p50, ms", one.quantile_ms(500));
    figures.set("one in flight acks=all p99, ms", one.quantile_ms(990));
    let mut end_to_end = load::end_to_end(&peer.brokers, LATENCY_TOPIC, 3000)?;
    figures.set("end to end p50, ms", end_to_end.quantile_ms(500));
    figures.set("end to end p99, ms", end_to_end.quantile_ms(990));

    if let Some(session) = session {
        for (clients, each) in [(1, 500), (64, 50)] {
            let mut latencies = session.create_tasks(runtime, clients, each)?;
            figures.set(
                &format!("POST /api/tasks, {clients} clients, p50 ms"),
                latencies.quantile_ms(500),
            );
            figures.set(
                &format!("POST /api/tasks, {clients} clients, p99 ms"),
                latencies.quantile_ms(990),
            );
        }
        session.log_in_at_once(runtime, 64)?;
    }
    figures.set("memory at its peak, MB", process::peak_mb(peer.pid())?);
    Ok(figures)
}

fn progress(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{what}")
}
