//! The only place of the harness that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wire::TimestampMs;

/// A running stopwatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// The time of day, for records.
#[expect(clippy::disallowed_methods, reason = "brokers remove records by their time")]
pub(crate) fn unix_time() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or_default())
}

/// Latencies of one run, in the order they were taken.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    /// Without the first tenth, in which connections and caches are new.
    #[must_use]
    pub(crate) fn warm(mut self) -> Self {
        self.0.drain(..self.0.len() / 10);
        self
    }

    /// The `per_mille`-th of a thousand parts, in milliseconds; NaN of an empty run.
    pub(crate) fn quantile_ms(&mut self, per_mille: usize) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * per_mille / 1000).map_or(f64::NAN, |latency| milliseconds(*latency))
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The middle of `values`, or between the two middle ones; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let half = values.len() / 2;
    if half > 0 && values.len().is_multiple_of(2) {
        f64::midpoint(at(half - 1), at(half))
    } else {
        at(half)
    }
}
