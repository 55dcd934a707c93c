//! Kafka's `log.cleaner.io.max.bytes.per.second`: how fast the cleaner reads and writes, together.

use std::time::Duration;

use super::compaction::Failure;
use crate::shared::Shared;

/// It is looked at whether to rest after so many bytes, and not after every batch.
const LOOK_AFTER_BYTES: u64 = 256 << 10;

#[derive(Debug)]
pub(super) struct Throttle {
    /// No limit if none.
    bytes_per_second: Option<u64>,
    began: Duration,
    bytes: u64,
    looked_at: u64,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: Option<u64>, now: Duration) -> Self {
        let bytes_per_second = bytes_per_second.filter(|limit| *limit > 0);
        Self { bytes_per_second, began: now, bytes: 0, looked_at: 0 }
    }

    pub(super) fn of(shared: &Shared) -> Self {
        let catalogue = shared.catalogue();
        let set = catalogue.broker_config("log.cleaner.io.max.bytes.per.second");
        let limit = set.and_then(|value| value.trim().parse().ok());
        Self::new(limit, shared.host.clock.monotonic())
    }

    /// Takes note of bytes that were read or written, and rests if they were too many.
    pub(super) fn moved(&mut self, shared: &Shared, bytes: u64) -> Result<(), Failure> {
        if self.bytes_per_second.is_none() {
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes - self.looked_at < LOOK_AFTER_BYTES {
            return Ok(());
        }
        self.looked_at = self.bytes;
        let rest = self.rest(shared.host.clock.monotonic());
        if rest.is_zero() || shared.cleaning.wait(rest) { Ok(()) } else { Err(Failure::Stopping) }
    }

    /// How long nothing may be moved now.
    fn rest(&self, now: Duration) -> Duration {
        let Some(limit) = self.bytes_per_second else { return Duration::ZERO };
        let due_ms = u128::from(self.bytes) * 1000 / u128::from(limit);
        let due = Duration::from_millis(u64::try_from(due_ms).unwrap_or(u64::MAX));
        due.saturating_sub(now.saturating_sub(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moved_too_much_rests_until_the_time_has_come_for_it() {
        let began = Duration::from_secs(100);
        let mut throttle = Throttle::new(Some(1 << 20), began);
        throttle.bytes = 3 << 20;
        assert_eq!(throttle.rest(began + Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(throttle.rest(began + Duration::from_secs(4)), Duration::ZERO);
        throttle.bytes_per_second = None;
        assert_eq!(throttle.rest(began), Duration::ZERO);
        assert_eq!(Throttle::new(Some(0), began).bytes_per_second, None);
    }
}
