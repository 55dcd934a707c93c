use std::fmt;

use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The position of a record in a partition.
    Offset(i64)
);
number!(
    /// The epoch of a partition's leader; constant on one node except after a repair.
    LeaderEpoch(i32)
);
number!(
    /// The number of a partition within its topic, from 0.
    PartitionIndex(i32)
);
number!(
    /// The id that `InitProducerId` hands out.
    ProducerId(i64)
);
number!(
    /// The epoch of a producer id; a higher one fences the lower.
    ProducerEpoch(i16)
);
number!(
    /// The sequence number of an idempotent producer's record within one partition.
    Sequence(i32)
);
number!(
    /// Milliseconds since 1970-01-01 UTC.
    TimestampMs(i64)
);
number!(
    /// The id of one incarnation of a topic; a topic created again under its name has another.
    TopicId(Uuid)
);

impl Offset {
    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl ProducerId {
    /// What a batch of a producer without an id carries.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// What a batch of a producer without an id carries.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// What a batch of a producer without an id carries.
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records later; after `i32::MAX` comes 0.
    #[must_use]
    pub fn plus(self, count: i32) -> Self {
        let sum = i64::from(self.0) + i64::from(count);
        let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
        Self(i32::try_from(wrapped).unwrap_or(0))
    }
}

impl TimestampMs {
    /// No timestamp.
    pub const NONE: Self = Self(-1);
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn a_sequence_wraps_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(2), Sequence(7));
    }
}
