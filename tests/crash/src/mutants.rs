//! The harness tested: brokers that are broken on purpose have to be caught, each run in a process of its own.

use std::process::Command;

use crate::time::Stopwatch;
use crate::{GUILTY, INCOMPLETE, Options};

/// How a broker is broken, and the faults in which that shows soonest.
struct Mutant {
    name: &'static str,
    faults: &'static str,
    focus: &'static str,
}

const MUTANTS: [Mutant; 5] = [
    Mutant { name: "skip-sync", faults: "cuts", focus: "load" },
    Mutant { name: "early-answer", faults: "cuts", focus: "syncing" },
    Mutant { name: "ignore-start", faults: "cuts", focus: "resurfacing" },
    Mutant { name: "early-reuse", faults: "cuts", focus: "checkpointing" },
    Mutant { name: "forget-producers", faults: "kills", focus: "load" },
];

/// A mutant that lives through so many runs is one that the harness does not see.
const RUNS: u64 = 8;

/// Whether each was caught.
pub(crate) fn hunt(options: &Options) -> bool {
    let chosen =
        |mutant: &&Mutant| options.mutant.as_deref().is_none_or(|wanted| wanted == mutant.name);
    // Every one is tried, also after one that was missed.
    MUTANTS.iter().filter(chosen).filter(|mutant| !is_caught(mutant, options)).count() == 0
}

fn is_caught(mutant: &Mutant, options: &Options) -> bool {
    let Mutant { name, faults, focus } = mutant;
    let hunting = Stopwatch::start();
    for run in 1..=RUNS {
        let seed = options.seed + run;
        let output = Command::new(std::env::current_exe().unwrap())
            .args([faults, "--rounds", &options.rounds.to_string(), "--seed", &seed.to_string()])
            .args(["--mutant", name, "--focus", focus, "--directory"])
            .arg(&options.directory)
            .output()
            .unwrap();
        let seconds = hunting.elapsed().as_secs();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(GUILTY) => {
                let evidence = said.lines().find(|line| line.contains(EVIDENCE));
                let evidence = evidence.unwrap_or_default();
                eprintln!("{name}: caught by {faults} in run {run}, {seconds} s, {evidence}");
                return true;
            }
            Some(0 | INCOMPLETE) => {}
            _ => panic!("{name}: {faults} ended with {}:\n{said}", output.status),
        }
    }
    eprintln!("{name}: not caught by {faults} in {RUNS} runs of {} faults", options.rounds);
    false
}

/// In front of the first thing that is wrong.
pub(crate) const EVIDENCE: &str = "guilty: ";
