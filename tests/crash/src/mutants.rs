//! The harness tested: brokers that are broken on purpose have to be caught, each run in a process of its own.

use std::process::Command;

use crate::time::Stopwatch;
use crate::{GUILTY, INCOMPLETE, Options};

/// How a broker is broken, the faults in which that shows soonest, and what it shows in.
struct Mutant {
    name: &'static str,
    faults: &'static str,
    focus: &'static str,
    classes: &'static [&'static str],
}

/// What was acknowledged is not there; or the broker itself misses it.
const LOSS: &[&str] =
    &["Lost", "OffsetReused", "Vanished", "GroupOffsetBack", "TopicLost", "DoesNotStart"];

const MUTANTS: [Mutant; 5] = [
    Mutant { name: "skip-sync", faults: "cuts", focus: "load", classes: LOSS },
    Mutant { name: "early-answer", faults: "cuts", focus: "syncing", classes: LOSS },
    Mutant { name: "ignore-start", faults: "cuts", focus: "resurfacing", classes: LOSS },
    Mutant { name: "early-reuse", faults: "cuts", focus: "checkpointing", classes: LOSS },
    Mutant { name: "forget-producers", faults: "kills", focus: "load", classes: &["Duplicate"] },
];

/// A mutant that lives through so many runs is one that the harness does not see.
const RUNS: u64 = 8;

/// Whether each was caught, and nothing is found in the same run of the whole broker.
pub(crate) fn hunt(options: &Options) -> bool {
    let chosen =
        |mutant: &&Mutant| options.mutant.as_deref().is_none_or(|wanted| wanted == mutant.name);
    // Every one is tried, also after one that was missed.
    let passes = |mutant: &Mutant| is_clean(mutant, options) && is_caught(mutant, options);
    MUTANTS.iter().filter(chosen).filter(|mutant| !passes(mutant)).count() == 0
}

/// Whether the whole broker passes.
fn is_clean(mutant: &Mutant, options: &Options) -> bool {
    let Mutant { name, faults, focus, .. } = mutant;
    let (code, said) = run(mutant, options, options.seed + 1, &[]);
    let clean = matches!(code, Some(0 | INCOMPLETE));
    if !clean {
        eprintln!("{name}: {faults} of the whole broker, {focus}, ended with {code:?}:\n{said}");
    }
    clean
}

fn is_caught(mutant: &Mutant, options: &Options) -> bool {
    let Mutant { name, faults, classes, .. } = mutant;
    let hunting = Stopwatch::start();
    for number in 1..=RUNS {
        let (code, said) = run(mutant, options, options.seed + number, &["--mutant", name]);
        let line = |start| said.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("");
        match code {
            Some(GUILTY) => {
                let (found, evidence) = (line(CLASSES), line(EVIDENCE));
                if found.split(' ').any(|class| classes.contains(&class)) {
                    let seconds = hunting.elapsed().as_secs();
                    eprintln!(
                        "{name}: caught by {faults} in run {number}, {seconds} s: {found}; {evidence}"
                    );
                    return true;
                }
                // A consequence of what is broken, or a mistake of the harness: it counts for
                // nothing.
                eprintln!("{name}: run {number} found only {found}: {evidence}");
            }
            Some(0 | INCOMPLETE) => {}
            _ => {
                eprintln!("{name}: {faults} ended with {code:?}:\n{said}");
                return false;
            }
        }
    }
    eprintln!("{name}: not caught by {faults} in {RUNS} runs of {} faults", options.rounds);
    false
}

/// The code with which a run in a process of its own ended, and what it said.
fn run(mutant: &Mutant, options: &Options, seed: u64, more: &[&str]) -> (Option<u8>, String) {
    let Mutant { faults, focus, .. } = mutant;
    let output = Command::new(std::env::current_exe().unwrap())
        .args([faults, "--rounds", &options.rounds.to_string(), "--seed", &seed.to_string()])
        .args(more)
        .args(["--focus", focus, "--directory"])
        .arg(&options.directory)
        .output()
        .unwrap();
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    (code, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// In front of the first thing that is wrong, and of the kinds of all that is.
pub(crate) const EVIDENCE: &str = "guilty: ";
pub(crate) const CLASSES: &str = "guilty of: ";
