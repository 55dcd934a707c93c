//! One transaction's worth of changes, and where transactions go.

use std::{collections::HashSet, fmt, sync::Arc};

use rdkafka::consumer::ConsumerGroupMetadata;

use crate::tx::Changes;

/// Consumed records: their group has everything below the offsets behind it once the transaction is committed.
#[derive(Clone)]
pub(crate) struct Consumed {
    /// The group's generation and our membership when the records were read.
    pub(crate) group: Arc<ConsumerGroupMetadata>,
    /// Topic, partition, and the offset behind the last record.
    pub(crate) next: Vec<(String, i32, i64)>,
}

impl fmt::Debug for Consumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumed").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Everything that one transaction holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Each command's changes with its id, in the order of planning.
    pub(crate) planned: Vec<(String, Changes)>,
    pub(crate) consumed: Vec<Consumed>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.consumed.is_empty() && self.planned.iter().all(|(_, changes)| changes.is_empty())
    }
}

/// Why a transaction gave no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is certain that nothing was committed.
    NotCommitted,
    /// Nobody can say.
    Unknown,
}

/// How a transaction that did not succeed leaves the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Aborted; the log takes the next one.
    Aborted,
    /// The log has to be opened again; nothing of this transaction was committed.
    Closed,
    /// The log has to be opened again, and only its records tell what became of this transaction.
    Unknown,
    /// Another writer took over. Nobody can say whether this transaction was committed before.
    Fenced,
}

/// Why a log is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotOpen {
    /// Not now; try again.
    Unreachable,
    /// What is in it cannot be used: a person has to look.
    Unusable(String),
}

/// Where transactions go: Kafka, or memory in tests.
pub(crate) trait Log: Send {
    /// Commits all of `batch` or nothing, within seconds. Gives, per table, the position behind the last row written.
    fn commit(&mut self, batch: &Batch) -> Result<Vec<(String, i64)>, Broken>;

    /// Opens, fences what came before, and applies to the view what it has missed. Gives the ids of the commands found
    /// committed among `asked`.
    fn open(
        &mut self,
        asked: &HashSet<String>,
        patience: Patience,
    ) -> Result<HashSet<String>, NotOpen>;

    /// Lets go of everything; open comes before the next commit.
    fn close(&mut self);
}

/// How long opening may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Callers wait for the outcome.
    Callers,
    /// Nobody waits.
    Nobody,
}
