//! The look at all committed offsets for what has expired: now and then, and in steps between which
//! requests are answered.

use std::time::Duration;

use super::{Plan, Task};

/// When it is due, and where it is.
#[derive(Debug)]
pub(super) struct Sweep {
    every_ms: u64,
    pub(super) next_ms: u64,
    /// The group to go on with; empty between two looks.
    from: String,
}

impl Sweep {
    /// The first look comes after the first interval, as Kafka's does.
    pub(super) fn new(every: Duration) -> Self {
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { every_ms, next_ms: every_ms, from: String::new() }
    }
}

impl Task {
    /// One step, if one is due.
    pub(super) fn sweep(&mut self) {
        let now = self.now();
        if now.monotonic_ms < self.sweep.next_ms {
            return;
        }
        if self.sweep.from.is_empty() {
            self.forget_deleted_topics();
        }
        let result = self.groups.expire_offsets(now, &self.sweep.from);
        if !result.records.is_empty() {
            tracing::info!(records = result.records.len(), "committed offsets have expired");
        }
        let (plan, rest) = Plan::from(result).split();
        self.apply_alone(plan);
        if rest.is_none() {
            self.sweep.next_ms = now.monotonic_ms.saturating_add(self.sweep.every_ms);
        }
        self.sweep.from = rest.unwrap_or_default();
    }

    /// Offsets of topics that are no more go.
    pub(super) fn forget_deleted_topics(&mut self) {
        let catalogue = self.storage.catalogue();
        for topic in self.groups.topics_with_offsets() {
            if !catalogue.by_name.contains_key(&topic) {
                self.apply_alone(self.groups.forget_topic(&topic).into());
            }
        }
    }
}
