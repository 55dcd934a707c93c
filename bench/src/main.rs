//! Ottla's benchmark: every figure beside those of peers and the physical limit of the same run, and each bar of the
//! project met or missed.
//!
//! `cargo run --release -p ottla-bench -- --quick`; README.md says what is measured and how a part of it is chosen.
//!
//! The peers take turns on the same cores, with the same clients and the same loads; the tables show medians.

mod bars;
mod http;
mod limit;
mod load;
mod options;
mod page_cache;
mod peer;
mod process;
mod raw;
mod report;
mod row;
mod suite;
mod time;

use std::{
    env,
    fs::File,
    io::{self, Write},
    process::ExitCode,
};

use options::Options;
use page_cache::Filler;
use report::Report;
use tokio::runtime::Runtime;

/// A load average that nothing but the start of this program explains.
const IDLE_LOAD: f64 = 0.5;

/// What a saturating load takes to show everything.
const SATURATING_SECONDS: f64 = 30.0;

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
    let mut filler = Filler::new(&options.directory)?;
    if options.seconds < SATURATING_SECONDS {
        report.note(format!(
            "loads of {} s write less than 20 times the journal, so what comes with its reuse is not all in them",
            options.seconds
        ));
    }
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}", options.rounds))?;
        let busy = process::load_average()?;
        if round == 1 && busy > IDLE_LOAD {
            report.note(format!(
                "the machine was not idle: its load average was {busy} before the run"
            ));
        }
        if options.wants(options::LIMIT) {
            filler.fill()?;
            let figures = limit::measure(&options.directory.join("limit"), options.seconds)?;
            report.add(bars::LIMIT, figures);
        }
        // Another begins each round: what one leaves behind on the machine is not always the same one's.
        let (before, first) = options.peers.split_at((round - 1) % options.peers.len().max(1));
        for kind in first.iter().chain(before) {
            if let Some(advice) = options.programs.missing(*kind) {
                report.note(format!("{} is not there and was left out; {advice}", kind.name()));
                continue;
            }
            filler.fill()?;
            if let Err(error) = suite::turn(&runtime, *kind, &options, &mut filler, &mut report) {
                report.note(format!("{}: {error}", kind.name()));
            }
        }
        // What is known so far, for a run of hours may be cut short.
        print(&report, &mut File::create(options.directory.join("report.md"))?)?;
    }
    print(&report, &mut io::stdout())
}

fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    report.print(out)?;
    writeln!(out)?;
    bars::print(report, out)
}

fn progress(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{what}")
}
