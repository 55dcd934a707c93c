//! How the cleaner keeps up, and how it is stopped.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::candidate::Candidate;
use crate::api::PartitionId;

/// A log that was due for so long is a reason to warn, once in so long.
const BEHIND_AFTER: Duration = Duration::from_mins(10);

/// How the cleaner keeps up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CleanerStatus {
    /// The share of the dirtiest log that is due for compaction, in percent.
    pub max_dirty_percent: f64,
    /// How many logs are due.
    pub due: usize,
    /// What is dirty of them.
    pub due_bytes: u64,
    /// How long the one has waited that waits longest.
    pub longest_due: Duration,
    /// Whether that is longer than it should be.
    pub behind: bool,
    /// How many logs were compacted.
    pub passes: u64,
    /// When the last pass ended, by the monotonic clock.
    pub last_cleaned: Option<Duration>,
    /// Logs that are not compacted any more, because a batch in them is damaged.
    pub uncleanable: usize,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    status: CleanerStatus,
    /// Since when logs have been due.
    due_since: HashMap<PartitionId, Duration>,
    warned: Duration,
}

/// Shared by the cleaner and whoever asks about it.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    state: Mutex<State>,
    changed: Condvar,
}

impl Cleaning {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits so long; `false` once the cleaner is to stop.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.stopping);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// A pass may take long, and so the wait is counted from now and not from the last look.
    pub(crate) fn status_at(&self, now: Duration) -> CleanerStatus {
        let state = self.lock();
        let oldest = state.due_since.values().min().copied().unwrap_or(now);
        let longest_due = now.saturating_sub(oldest);
        CleanerStatus { longest_due, behind: longest_due > BEHIND_AFTER, ..state.status }
    }

    /// Takes note of what a look has found.
    pub(super) fn seen(&self, due: &[Candidate], uncleanable: usize, now: Duration) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.due_since);
        for candidate in due {
            let id = candidate.partition.id;
            let since = before.get(&id).copied().unwrap_or(now);
            state.due_since.insert(id, since);
        }
        let oldest = state.due_since.values().min().copied().unwrap_or(now);
        let longest_due = now.saturating_sub(oldest);
        let max_dirty_percent = due.first().map_or(0.0, |first| first.dirty_percent);
        let status = &mut state.status;
        (status.due, status.uncleanable) = (due.len(), uncleanable);
        status.due_bytes = due.iter().map(|one| one.dirty_bytes).sum();
        status.max_dirty_percent = max_dirty_percent;
        if longest_due > BEHIND_AFTER && now.saturating_sub(state.warned) > BEHIND_AFTER {
            state.warned = now;
            let seconds = longest_due.as_secs();
            tracing::warn!(due = due.len(), max_dirty_percent, seconds, "compaction is behind");
        }
    }

    pub(super) fn cleaned(&self, now: Duration) {
        let status = &mut self.lock().status;
        status.last_cleaned = Some(now);
        status.passes += 1;
    }
}
