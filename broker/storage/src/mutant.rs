//! The engine broken on purpose, one way at a time, so that the tests which have to notice are
//! tested themselves.
//!
//! A test of this crate breaks its own thread ([`broken`]); a program built with the feature
//! `mutants` is broken as the environment variable `OTTLA_MUTANT` says. No other build has any of
//! it: [`is`] is a constant `false`.

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
}

/// Every fault, by the name that `OTTLA_MUTANT` gives it.
#[cfg(any(test, feature = "mutants"))]
pub(crate) const MUTANTS: [(&str, Mutant); 5] = [
    ("skip-sync", Mutant::SkipSync),
    ("early-answer", Mutant::EarlyAnswer),
    ("ignore-start", Mutant::IgnoreStart),
    ("early-reuse", Mutant::EarlyReuse),
    ("forget-producers", Mutant::ForgetProducers),
];

/// Whether the engine has this fault.
#[cfg(not(any(test, feature = "mutants")))]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}

#[cfg(all(feature = "mutants", not(test)))]
pub(crate) fn is(mutant: Mutant) -> bool {
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

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn is(mutant: Mutant) -> bool {
    BROKEN.get() == Some(mutant)
}

/// Does `work` in an engine that runs in this thread and has this fault.
#[cfg(test)]
pub(crate) fn broken<T>(mutant: Option<Mutant>, work: impl FnOnce() -> T) -> T {
    BROKEN.set(mutant);
    let done = work();
    BROKEN.set(None);
    done
}
