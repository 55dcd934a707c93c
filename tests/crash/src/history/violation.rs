//! What a broker must not do, with the record that shows it.

use std::fmt;

use super::{Id, Refusal, Slot};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Acknowledged for good, and not there.
    Lost { id: Id, slot: Slot, offset: i64 },
    /// acks=1: lost, although a later record of the same life is there.
    LostInTheMiddle { id: Id, slot: Slot, offset: i64, survivor: i64 },
    /// A consumer saw it, and it is not there.
    Vanished { id: Id, slot: Slot, offset: i64 },
    /// An offset that was given for good holds another record.
    OffsetReused { slot: Slot, offset: i64, first: Id, then: Id },
    /// An idempotent producer's record is there twice.
    Duplicate { id: Id, slot: Slot, offsets: (i64, i64) },
    /// An idempotent producer's records changed places.
    OutOfOrder { slot: Slot, offset: i64, before: Id, after: Id },
    /// Bytes that nobody sent, or not to this partition.
    NeverSent { slot: Slot, offset: i64 },
    /// A record of an aborted transaction at `read_committed`.
    AbortedVisible { transaction: u64, id: Id, slot: Slot, offset: i64 },
    /// Some of a transaction's records are visible and one is not.
    Torn { transaction: u64, missing: Id, slot: Slot },
    /// Records that were deleted for good are there again.
    StartWentBack { slot: Slot, from: i64, to: i64 },
    /// Records are gone that nobody asked to delete.
    StartTooFar { slot: Slot, requested: i64, start: i64 },
    /// There, and not shown at `read_committed`, although it is in no transaction.
    Withheld { id: Id, slot: Slot, offset: i64 },
    /// A transaction's offset and its records do not agree on whether it was committed.
    OffsetAstray { producer: u64, last_visible: i64, offset: i64 },
    /// A topic that was created for good is not there, and nobody deleted it.
    TopicLost { name: String },
    /// A topic that was deleted for good is there.
    TopicBack { name: String },
    /// A producer was refused what no fault explains.
    Refused { refusal: Refusal, times: u64 },
    /// A committed group offset went back.
    GroupOffsetBack { group: usize, slot: Slot, from: i64, to: i64 },
    /// A committed group offset that nobody committed.
    GroupOffsetInvented { group: usize, slot: Slot, offset: i64 },
}

impl Violation {
    /// The error that a producer was refused with.
    pub(crate) fn refused(&self) -> Option<&str> {
        if let Self::Refused { refusal, .. } = self { Some(&refusal.error) } else { None }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
