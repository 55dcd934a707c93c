//! The harness tested: brokers that are broken on purpose have to be caught.

use std::path::Path;

use crate::cuts::Cut;
use crate::rounds::{self, Kill, Plan, Power, Verdict};

/// How a broker is broken, and by which fault that shows.
#[derive(Clone, Copy, Debug)]
struct Mutant {
    name: &'static str,
    shows_in: Shows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Kills,
    Cuts,
}

const MUTANTS: [Mutant; 5] = [
    Mutant { name: "skip-sync", shows_in: Shows::Cuts },
    Mutant { name: "early-answer", shows_in: Shows::Cuts },
    Mutant { name: "ignore-start", shows_in: Shows::Cuts },
    Mutant { name: "early-reuse", shows_in: Shows::Kills },
    Mutant { name: "forget-producers", shows_in: Shows::Kills },
];

/// A mutant that lives through so many runs is one that the harness does not see.
const RUNS: u64 = 12;

/// The names of those that were not caught.
pub(crate) fn hunt(plan: &Plan) -> Vec<&'static str> {
    MUTANTS.iter().filter(|mutant| !is_caught(**mutant, plan)).map(|mutant| mutant.name).collect()
}

fn is_caught(mutant: Mutant, plan: &Plan) -> bool {
    for run in 1..=RUNS {
        let mut plan = plan.clone();
        plan.seed += run;
        plan.directory = plan.directory.join(format!("{}-{run}", mutant.name));
        plan.environment.push(("OTTLA_MUTANT".to_owned(), mutant.name.to_owned()));
        let verdict = one_run(mutant, &plan);
        if verdict.is_guilty() {
            let first = verdict.violations.first().map(ToString::to_string);
            let first = first.or_else(|| verdict.failures.first().cloned()).unwrap_or_default();
            eprintln!("{}: caught in run {run} of {} faults: {first}", mutant.name, plan.rounds);
            return true;
        }
    }
    eprintln!("{}: not caught in {RUNS} runs of {} faults", mutant.name, plan.rounds);
    false
}

fn one_run(mutant: Mutant, plan: &Plan) -> Verdict {
    std::fs::create_dir_all(&plan.directory).unwrap();
    let verdict = match mutant.shows_in {
        Shows::Kills => rounds::run(plan, &mut Kill),
        Shows::Cuts => with_disk(plan, |cut| rounds::run(plan, cut)),
    };
    remove(&plan.directory);
    verdict
}

fn with_disk(plan: &Plan, run: impl FnOnce(&mut dyn Power) -> Verdict) -> Verdict {
    let mut cut = Cut::new(&plan.directory, plan.seed).unwrap();
    run(&mut cut)
}

fn remove(directory: &Path) {
    std::fs::remove_dir_all(directory).unwrap();
}
