//! The engine broken on purpose, one way at a time, so that the tests which have to notice are
//! tested themselves.
//!
//! A test of this crate, or of one that has the simulated machine, breaks its own thread
//! ([`broken`]); a program built with the feature `mutants` is broken as the environment variable
//! `OTTLA_MUTANT` says. No other build has any of it: [`is`] is a constant `false`.

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The journal is not synced.
    SkipSync,
    /// acks=all is answered before the sync.
    EarlyAnswer,
    /// Recovery takes a cycle of an earlier start for one of the last.
    IgnoreStart,
    /// A journal segment is used again before a checkpoint covers it.
    EarlyReuse,
    /// Recovery forgets producers and their transactions.
    ForgetProducers,
    /// A plan's batches are appended one by one.
    SplitPlan,
    /// What stands on a refused plan is appended all the same.
    KeepOn,
    /// Retention takes records without a time for older than all others.
    ExpireTimeless,
    /// A compacted file that takes its place at a start brings back what was deleted in it.
    BringBack,
}

/// Every fault, by the name that `OTTLA_MUTANT` gives it.
#[cfg(any(test, feature = "mutants", feature = "simulation"))]
pub(crate) const MUTANTS: [(&str, Mutant); 9] = [
    ("skip-sync", Mutant::SkipSync),
    ("early-answer", Mutant::EarlyAnswer),
    ("ignore-start", Mutant::IgnoreStart),
    ("early-reuse", Mutant::EarlyReuse),
    ("forget-producers", Mutant::ForgetProducers),
    ("split-plan", Mutant::SplitPlan),
    ("keep-on", Mutant::KeepOn),
    ("expire-timeless", Mutant::ExpireTimeless),
    ("bring-back", Mutant::BringBack),
];

/// Whether the engine has this fault.
#[cfg(not(any(test, feature = "mutants", feature = "simulation")))]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}

/// Whether the engine has this fault.
#[cfg(any(test, feature = "mutants", feature = "simulation"))]
pub(crate) fn is(mutant: Mutant) -> bool {
    is_in_this_thread(mutant) || is_asked_for(mutant)
}

#[cfg(all(feature = "mutants", not(test)))]
fn is_asked_for(mutant: Mutant) -> bool {
    use std::sync::OnceLock;
    static BROKEN: OnceLock<Option<Mutant>> = OnceLock::new();
    let broken = BROKEN.get_or_init(|| {
        let name = std::env::var("OTTLA_MUTANT").ok().filter(|name| !name.is_empty())?;
        let found = MUTANTS.iter().find(|(known, _)| *known == name);
        assert!(found.is_some(), "OTTLA_MUTANT={name} is none of {MUTANTS:?}");
        tracing::error!(name, "this build is broken on purpose, to test its tests");
        found.map(|(_, mutant)| *mutant)
    });
    *broken == Some(mutant)
}

#[cfg(any(test, all(feature = "simulation", not(feature = "mutants"))))]
const fn is_asked_for(_mutant: Mutant) -> bool {
    false
}

#[cfg(any(test, feature = "simulation"))]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(any(test, feature = "simulation"))]
fn is_in_this_thread(mutant: Mutant) -> bool {
    BROKEN.get() == Some(mutant)
}

#[cfg(all(feature = "mutants", not(any(test, feature = "simulation"))))]
const fn is_in_this_thread(_mutant: Mutant) -> bool {
    false
}

/// Does `work` in an engine that runs in this thread and has this fault.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn broken<T>(mutant: Option<Mutant>, work: impl FnOnce() -> T) -> T {
    BROKEN.set(mutant);
    let done = work();
    BROKEN.set(None);
    done
}
