//! The harness tested: brokers that are broken on purpose have to be caught, each run in a process of its own.

use std::process::Command;

use crate::{GUILTY, Options};

/// How a broker is broken, and the faults in which that shows.
const MUTANTS: [(&str, &str); 5] = [
    ("skip-sync", "cuts"),
    ("early-answer", "cuts"),
    ("ignore-start", "cuts"),
    ("early-reuse", "kills"),
    ("forget-producers", "kills"),
];

/// A mutant that lives through so many runs is one that the harness does not see.
const RUNS: u64 = 8;

/// Whether each was caught.
pub(crate) fn hunt(options: &Options) -> bool {
    let chosen =
        |mutant: &&(&str, &str)| options.mutant.as_deref().is_none_or(|wanted| wanted == mutant.0);
    // Every one is tried, also after one that was missed.
    MUTANTS.iter().filter(chosen).filter(|(name, faults)| !is_caught(name, faults, options)).count()
        == 0
}

fn is_caught(name: &str, faults: &str, options: &Options) -> bool {
    for run in 1..=RUNS {
        let seed = options.seed + run;
        let output = Command::new(std::env::current_exe().unwrap())
            .args([faults, "--rounds", &options.rounds.to_string(), "--seed", &seed.to_string()])
            .args(["--mutant", name, "--directory"])
            .arg(&options.directory)
            .output()
            .unwrap();
        if output.status.code() == Some(i32::from(GUILTY)) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let evidence = said.lines().find(|line| line.contains(EVIDENCE)).unwrap_or_default();
            eprintln!("{name}: caught by {faults} in run {run}, {evidence}");
            return true;
        }
    }
    eprintln!("{name}: not caught by {faults} in {RUNS} runs of {} faults", options.rounds);
    false
}

/// In front of the first thing that is wrong.
pub(crate) const EVIDENCE: &str = "guilty: ";
