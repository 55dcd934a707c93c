//! What clients saw of a broker that was killed again and again, and whether that can be forgiven.
//!
//! Pure: the load writes a [`History`], [`check`] reads it. Every record has an id of its own, so that what a
//! consumer reads names the one send that it came from.

mod check;
mod excuse;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) use check::check;
pub(crate) use violation::Violation;

/// One send: the producer's number in the upper 24 bits, and below them a number that only rises.
pub(crate) type Id = u64;

pub(crate) const PRODUCER_SHIFT: u32 = 40;

/// A topic's place in [`History::topics`] and a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) topic: usize,
    pub(crate) partition: i32,
}

/// What may happen to records that nobody wants any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleanup {
    Never,
    /// Below the log start offset they are gone.
    Delete,
    /// A record is gone once a later one has its key.
    Compact,
}

#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) cleanup: Cleanup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acks {
    Leader,
    All,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) slot: Slot,
    pub(crate) key: u32,
    pub(crate) acks: Acks,
    /// Of an idempotent producer: at most once in the log, and in the order of its ids.
    pub(crate) once: bool,
    pub(crate) transaction: Option<u64>,
}

/// The broker said where a record is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) id: Id,
    pub(crate) offset: i64,
    /// In the broker's how manieth life.
    pub(crate) life: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
    /// The client was told neither: all or nothing of it may be there.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    Uncommitted,
    Committed,
}

/// A consumer saw a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) slot: Slot,
    pub(crate) offset: i64,
    /// `None` for bytes that nobody sent.
    pub(crate) id: Option<Id>,
    pub(crate) isolation: Isolation,
    pub(crate) life: u32,
}

/// What one member did with a group's offset of a partition, in its own order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupStep {
    pub(crate) group: usize,
    pub(crate) slot: Slot,
    pub(crate) what: GroupAction,
    pub(crate) life: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupAction {
    /// Sent, and whatever the answer, it may have been done.
    Tried(i64),
    /// Answered with success.
    Committed(i64),
    /// The broker said that this is the committed offset; -1 for none.
    Fetched(i64),
}

/// How far a topic's creation or deletion got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Made {
    /// Asked for, and not answered.
    Creating,
    Created,
    Deleting,
    Deleted,
}

/// A producer was told that something failed, in its own client's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    pub(crate) producer: u64,
    pub(crate) error: String,
    /// It gave itself up, and another took its place.
    pub(crate) fatal: bool,
}

/// A partition at the end, read from its beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct FinalLog {
    pub(crate) start: i64,
    pub(crate) uncommitted: BTreeMap<i64, Option<Id>>,
    pub(crate) committed: BTreeMap<i64, Option<Id>>,
}

/// How the broker's lives ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process alone: what it had written is there.
    Kill,
    /// What was not synced may be gone.
    PowerCut,
}

/// Everything that clients saw.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) fault: Fault,
    /// The one that was not cut short.
    pub(crate) last_life: u32,
    pub(crate) topics: Vec<Topic>,
    pub(crate) sends: HashMap<Id, Send>,
    pub(crate) acks: Vec<Ack>,
    pub(crate) transactions: HashMap<u64, Outcome>,
    /// In which life each producer's last transaction was committed or aborted.
    pub(crate) decided: HashMap<u64, u32>,
    /// How often each occurred.
    pub(crate) refusals: BTreeMap<Refusal, u64>,
    pub(crate) reads: Vec<Read>,
    pub(crate) group_steps: Vec<GroupStep>,
    /// The furthest offset below which anyone asked for deletion.
    pub(crate) requested: HashMap<Slot, i64>,
    /// The furthest log start that the broker answered to `DeleteRecords`.
    pub(crate) starts: HashMap<Slot, i64>,
    pub(crate) logs: BTreeMap<Slot, FinalLog>,
    /// Of the producer that commits the number of its transaction as an offset, what is committed at the end.
    pub(crate) offset_of: Option<(u64, i64)>,
    /// Topics that were created and deleted beside the load.
    pub(crate) made: BTreeMap<String, Made>,
    /// Of those the ones that are there at the end.
    pub(crate) listed: BTreeSet<String>,
}

impl History {
    pub(crate) fn new(fault: Fault, topics: Vec<Topic>) -> Self {
        Self {
            fault,
            last_life: 0,
            topics,
            sends: HashMap::new(),
            acks: Vec::new(),
            transactions: HashMap::new(),
            decided: HashMap::new(),
            refusals: BTreeMap::new(),
            reads: Vec::new(),
            group_steps: Vec::new(),
            requested: HashMap::new(),
            starts: HashMap::new(),
            logs: BTreeMap::new(),
            offset_of: None,
            made: BTreeMap::new(),
            listed: BTreeSet::new(),
        }
    }

    pub(crate) fn cleanup(&self, slot: Slot) -> Cleanup {
        self.topics.get(slot.topic).map_or(Cleanup::Never, |topic| topic.cleanup)
    }

    /// The number of the producer that sent a record.
    pub(crate) fn producer(id: Id) -> u64 {
        id >> PRODUCER_SHIFT
    }
}
