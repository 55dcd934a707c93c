//! Many worlds, each decided by its seed.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Tally;

/// The number in this environment variable, if there is one.
pub fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Lives in these worlds, so many at a time as there are processors, until `most` of them failed.
/// The failures.
pub fn failures(
    seeds: Range<u64>,
    most: usize,
    live: impl Fn(u64) -> Result<(), String> + Sync,
) -> Vec<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().len() < most {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(error) = live(seed) {
                        failed.lock().unwrap().push((seed, error));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// Lives in so many worlds, or as many as `OTTLA_SEEDS` says, from that of `OTTLA_FIRST_SEED` on,
/// or in the one that `OTTLA_SEED` names: each has to hold, and in all of them together everything
/// `expected` to come about. `test` is how cargo is told to run one of them again.
pub fn all_hold(
    test: &str,
    worlds: u64,
    expected: &[&'static str],
    live: impl Fn(u64, &Tally) -> Result<(), String> + Sync,
) {
    let tally = Tally::default();
    let one = asked("OTTLA_SEED");
    let first = one.or_else(|| asked("OTTLA_FIRST_SEED")).unwrap_or(1);
    let count = one.map_or_else(|| asked("OTTLA_SEEDS").unwrap_or(worlds), |_| 1);
    let failed = failures(first..first + count, usize::MAX, |seed| live(seed, &tally));
    let (table, missing) = tally.table(expected);
    eprintln!("{count} worlds:\n{table}");
    let how = |(seed, error): &(u64, String)| {
        format!("{error}\n    OTTLA_SEED={seed} cargo test {test} -- --nocapture")
    };
    let failed: Vec<String> = failed.iter().map(how).collect();
    assert!(failed.is_empty(), "{} worlds failed:\n{}", failed.len(), failed.join("\n"));
    assert!(one.is_some() || missing.is_empty(), "never came about: {missing:?}");
}
