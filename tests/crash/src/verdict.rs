//! What came of a run.

use std::collections::BTreeSet;
use std::fmt;

use crate::history::Violation;
use crate::tally::Tally;

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) tally: Tally,
    pub(crate) faults: u64,
}

impl Verdict {
    pub(crate) fn is_guilty(&self) -> bool {
        !self.violations.is_empty() || !self.failures.is_empty()
    }

    /// Nothing is known of the broker: what is wrong is the harness, or what it runs on.
    pub(crate) fn is_stuck(&self) -> bool {
        let stuck = |failure: &Failure| matches!(failure, Failure::Stuck(_));
        self.violations.is_empty() && self.failures.iter().all(stuck)
    }

    /// The kinds of what is wrong, each once.
    pub(crate) fn classes(&self) -> BTreeSet<String> {
        let violations = self.violations.iter().map(|violation| format!("{violation:?}"));
        let shown = violations.chain(self.failures.iter().map(|failure| format!("{failure:?}")));
        let first = |shown: String| shown.split([' ', '(']).next().unwrap_or_default().to_owned();
        shown.map(first).collect()
    }

    /// What the run says nothing about.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let mut missing = self.tally.missing();
        if self.faults < 2 * self.tally.of(IN_VAIN) {
            missing.push("the moment of every second fault");
        }
        missing
    }
}

/// Faults of which the moment did not come.
pub(crate) const IN_VAIN: &str = "faults of which the moment did not come";

/// What the broker did that clients do not see, and its own words about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    DoesNotStart(String),
    /// Neither the harness nor the disk gave it a reason to.
    EndedByItself(String),
    /// A panic, or an error that nothing explains.
    Logged(String),
    /// It met a disk that fails or is full in another way than promised.
    Disk(String),
    /// It runs, and somebody gets nothing out of it.
    NoAnswer(String),
    /// The harness cannot go on, for whatever reason.
    Stuck(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotStart(why) => write!(f, "does not start: {why}"),
            Self::EndedByItself(how) => write!(f, "ended by itself: {how}"),
            Self::Logged(line) => write!(f, "logged: {line}"),
            Self::Disk(what) => write!(f, "disk: {what}"),
            Self::NoAnswer(to) => write!(f, "no answer in the last life to {to}"),
            Self::Stuck(why) => write!(f, "{why}"),
        }
    }
}
