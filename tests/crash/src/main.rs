//! Kills and power cuts on the real program, and the judge of what its clients saw. `docs/durability.md` has the
//! commands and their results.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how the harness says that it cannot go on"
)]

mod cuts;
mod disk;
mod history;
mod load;
mod mutants;
mod random;
mod rounds;
mod subject;
mod tally;
mod time;
mod topics;
mod verdict;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::cuts::Cut;
use crate::history::Violation;
use crate::load::External;
use crate::rounds::{Focus, Kill, Plan};
use crate::verdict::{Failure, Verdict};

/// Violations shown; a broken broker has thousands.
const SHOWN: usize = 20;

/// What the broker logs when it refuses to end a transaction.
const NOT_ENDED: &str = "a transaction is not ended";

/// How the harness ends when the broker did what it must not, when a situation did not occur, and when it could not go on
/// for a reason of its own.
const GUILTY: u8 = 3;
const INCOMPLETE: u8 = 4;
const STUCK: u8 = 5;

#[derive(Debug, Parser)]
#[command(about = "Kills and power cuts on the real program")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// SIGKILL under load.
    Kills(Options),
    /// Power cuts under load, on a file system of ours that forgets what was not synced.
    Cuts(Options),
    /// Brokers that are broken on purpose: each has to be caught. Needs the cargo feature `mutants`.
    Mutants(Options),
}

#[derive(Debug, Args)]
struct Options {
    #[arg(long, default_value_t = 60)]
    rounds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The broker; if left out, this program is it, with a small journal.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where the run's data and log go; they stay if the run fails.
    #[arg(long, default_value = "target/crash")]
    directory: PathBuf,
    /// The jars of Apache Kafka: its Java client joins the load.
    #[arg(long)]
    java: Option<PathBuf>,
    /// kafka-go joins the load.
    #[arg(long)]
    go: bool,
    /// The way in which the broker is broken on purpose.
    #[arg(long)]
    mutant: Option<String>,
    /// No other faults than these.
    #[arg(long)]
    focus: Option<Focus>,
}

fn main() -> ExitCode {
    // The broker is in this program too, so that one build makes both.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return appliance::main();
    }
    match Command::parse().what {
        What::Kills(options) => {
            let plan = plan(&options);
            finish(&plan, &rounds::run(&plan, &mut Kill)).into()
        }
        What::Cuts(options) => {
            let plan = plan(&options);
            let verdict = match Cut::new(&plan.directory, plan.seed) {
                Ok(mut cut) => rounds::run(&plan, &mut cut),
                Err(error) => {
                    eprintln!(
                        "no power to cut: /dev/fuse and the right to mount are needed: {error}"
                    );
                    return ExitCode::FAILURE;
                }
            };
            finish(&plan, &verdict).into()
        }
        What::Mutants(options) => {
            if !cfg!(feature = "mutants") {
                eprintln!("this build cannot break itself: it needs --features mutants");
                return ExitCode::FAILURE;
            }
            if mutants::hunt(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn plan(options: &Options) -> Plan {
    let directory = options.directory.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let directory = directory.canonicalize().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut externals: Vec<External> = Vec::new();
    externals.extend(options.java.iter().map(|libs| topics::java(&repository, libs, &directory)));
    externals.extend(options.go.then(|| topics::go(&repository, &directory)));
    let small = [("OTTLA_JOURNAL_SEGMENT_BYTES", 1 << 20), ("OTTLA_CLEAN_EVERY_MS", 20)];
    let mut environment: Vec<(String, String)> =
        small.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    environment.extend(options.mutant.iter().map(|name| ("OTTLA_MUTANT".to_owned(), name.clone())));
    Plan {
        rounds: options.rounds,
        seed: options.seed,
        program: options.program.clone().unwrap_or_else(|| std::env::current_exe().unwrap()),
        directory,
        environment,
        externals,
        focus: options.focus,
    }
}

/// What clients in other languages said of the errors that nothing explains, and the broker of ends of transactions.
fn words(plan: &Plan, verdict: &Verdict) -> Vec<String> {
    let refused: Vec<&str> = verdict.violations.iter().filter_map(Violation::refused).collect();
    if refused.is_empty() {
        return Vec::new();
    }
    let mut words = Vec::new();
    let logs = plan.externals.iter().map(|external| external.log.clone());
    for log in logs.chain([plan.directory.join("log")]) {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let tells = |line: &&str| {
            line.contains(NOT_ENDED) || refused.iter().any(|error| line.contains(error))
        };
        words.extend(text.lines().filter(tells).take(SHOWN).map(str::to_owned));
    }
    words
}

/// Says what came of it; the data stays only if something is wrong.
fn finish(plan: &Plan, verdict: &Verdict) -> u8 {
    verdict.tally.print();
    let violations = verdict.violations.iter().map(ToString::to_string);
    for wrong in verdict.failures.iter().map(Failure::to_string).chain(violations).take(SHOWN) {
        eprintln!("{}{wrong}", mutants::EVIDENCE);
    }
    for line in words(plan, verdict) {
        eprintln!("said: {line}");
    }
    eprintln!("{} violations, {} failures", verdict.violations.len(), verdict.failures.len());
    if verdict.is_guilty() {
        let classes: Vec<String> = verdict.classes().into_iter().collect();
        eprintln!("{}{}", mutants::CLASSES, classes.join(" "));
    }
    let missing = verdict.missing();
    for situation in &missing {
        eprintln!("never occurred, so nothing is known about it: {situation}");
    }
    if verdict.is_guilty() || !missing.is_empty() {
        eprintln!("data and log: {}; seed {}", plan.directory.display(), plan.seed);
        return match verdict.is_guilty() {
            true if verdict.is_stuck() => STUCK,
            true => GUILTY,
            false => INCOMPLETE,
        };
    }
    std::fs::remove_dir_all(&plan.directory).unwrap();
    0
}
