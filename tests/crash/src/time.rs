//! The harness's clock, and its one pause.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before the harness gives up.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// A running stopwatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a harness waits in real time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks until the answer is `Some`; panics after [`DEADLINE`].
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, ask).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Asks until the answer is `Some`, but no longer than that.
pub(crate) fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let waiting = Stopwatch::start();
    while waiting.elapsed() < patience {
        if let Some(found) = ask() {
            return Some(found);
        }
        pause(Duration::from_millis(1));
    }
    None
}

/// Between two looks at a condition that has a deadline, and before a fault at a moment of chance.
pub(crate) fn pause(length: Duration) {
    thread::sleep(length);
}
