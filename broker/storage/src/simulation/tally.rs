//! How often each fault was injected and each situation came about.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
};

/// Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Tally {
    pub fn note(&self, what: &'static str) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    pub fn add(&self, other: &Self) {
        let other = other.0.lock().unwrap().clone();
        let mut counts = self.0.lock().unwrap();
        for (what, count) in other {
            *counts.entry(what).or_default() += count;
        }
    }

    /// Everything that was counted, and what of `expected` never came about.
    pub fn table(&self, expected: &[&'static str]) -> (String, Vec<&'static str>) {
        let counts = self.0.lock().unwrap();
        let mut text = String::new();
        for (what, count) in counts.iter() {
            writeln!(text, "{count:>10}  {what}").unwrap();
        }
        let missing = expected.iter().copied().filter(|what| !counts.contains_key(what)).collect();
        (text, missing)
    }
}
