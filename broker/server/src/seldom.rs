//! Warnings that strangers can bring about as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One within this time is a warning.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// When there was the last warning of one kind.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether there may be one now; if so, there has been one.
    pub(crate) fn now(&self) -> bool {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        if may {
            *last = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::{Seldom, WARN_EVERY};
    use tokio::time::Instant;

    #[test]
    fn there_is_one_warning_at_a_time() {
        let warnings = Seldom::default();
        let first = Instant::now();
        let asked = [first, first, first + WARN_EVERY / 2, first + WARN_EVERY, first + WARN_EVERY];
        assert_eq!(asked.map(|at| warnings.at(at)), [true, false, false, true, false]);
    }
}
