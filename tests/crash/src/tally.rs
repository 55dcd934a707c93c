//! How often each fault and situation occurred. A run in which one that belongs to it never did proves nothing about
//! it, and fails.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<Cow<'static, str>, u64>,
    required: BTreeSet<&'static str>,
}

impl Tally {
    /// One of which a count of 0 fails the run.
    pub(crate) fn require(&mut self, situation: &'static str) {
        self.counts.entry(situation.into()).or_default();
        self.required.insert(situation);
    }

    pub(crate) fn count(&mut self, situation: &'static str) {
        self.add(situation, 1);
    }

    pub(crate) fn count_if(&mut self, situation: &'static str, occurred: bool) {
        self.add(situation, u64::from(occurred));
    }

    pub(crate) fn add(&mut self, situation: impl Into<Cow<'static, str>>, more: u64) {
        *self.counts.entry(situation.into()).or_default() += more;
    }

    pub(crate) fn of(&self, situation: &str) -> u64 {
        self.counts.get(situation).copied().unwrap_or_default()
    }

    /// Those that never occurred.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let never = |situation: &&&str| self.of(situation) == 0;
        self.required.iter().filter(never).copied().collect()
    }

    pub(crate) fn print(&self) {
        let width = self.counts.keys().map(|situation| situation.len()).max().unwrap_or_default();
        for (situation, count) in &self.counts {
            eprintln!("  {situation:<width$} {count:>9}");
        }
    }
}
