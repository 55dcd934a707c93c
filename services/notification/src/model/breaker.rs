//! The circuit breaker in front of the mail server.

use jiff::{SignedDuration, Timestamp};

/// After so many failures in a row the server is left alone for a while.
const THRESHOLD: u32 = 3;

/// How long the server is left alone at first and at most, in seconds.
const FIRST_PAUSE_SECONDS: i64 = 30;
const LONGEST_PAUSE_SECONDS: i64 = 600;

/// Counts the failures of a server, not of single mails: one that answers, even with a refusal, is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    failures: u32,
    closed_again_at: Option<Timestamp>,
}

impl Breaker {
    /// The server gave an answer.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// The server could not be reached, or said that it does not serve at the moment.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let Some(beyond) = self.failures.checked_sub(THRESHOLD) else {
            return;
        };
        let pause =
            FIRST_PAUSE_SECONDS.saturating_mul(1_i64 << beyond.min(16)).min(LONGEST_PAUSE_SECONDS);
        self.closed_again_at = now.checked_add(SignedDuration::from_secs(pause)).ok();
    }

    /// The instant before which nothing is tried; then one trial decides.
    pub(crate) fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.closed_again_at.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn two_failures_do_not_open_it_and_three_do() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0));
        breaker.failed(at(1));
        assert_eq!(breaker.open_until(at(1)), None);
        breaker.failed(at(2));
        assert_eq!(breaker.open_until(at(2)), Some(at(32)));
        assert_eq!(breaker.open_until(at(32)), None);
    }

    #[test]
    fn a_failed_trial_doubles_the_pause_up_to_ten_minutes() {
        let mut breaker = Breaker::default();
        let pauses: Vec<i64> = (0..9)
            .filter_map(|_| {
                breaker.failed(at(0));
                breaker.open_until(at(0)).map(Timestamp::as_second)
            })
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn one_answer_closes_it() {
        let mut breaker = Breaker::default();
        for second in 0..5 {
            breaker.failed(at(second));
        }
        breaker.answered();
        assert_eq!(breaker, Breaker::default());
    }
}
