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
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let waiting = Stopwatch::start();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(waiting.elapsed() < DEADLINE, "waited in vain for {what}");
        pause(Duration::from_millis(1));
    }
}

/// Between two looks at a condition that has a deadline, and before a fault at a moment of chance.
pub(crate) fn pause(length: Duration) {
    thread::sleep(length);
}
