//! What came of a run.

use std::fmt;

use crate::history::Violation;
use crate::tally::Tally;

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) tally: Tally,
}

impl Verdict {
    pub(crate) fn is_guilty(&self) -> bool {
        !self.violations.is_empty() || !self.failures.is_empty()
    }
}

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
            Self::Stuck(why) => write!(f, "{why}"),
        }
    }
}
