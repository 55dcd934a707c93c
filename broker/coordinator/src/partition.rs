use wire::PartitionIndex;

/// The topic of group metadata and committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of transactional ids.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Partitions of each of the two, Kafka's default; it can never change, as ids are hashed into it.
pub const PARTITION_COUNT: i32 = 50;

/// The partition of [`CONSUMER_OFFSETS`] that holds a group.
#[must_use]
pub fn group_partition(group_id: &str) -> PartitionIndex {
    hashed(group_id)
}

/// The partition of [`TRANSACTION_STATE`] that holds a transactional id.
#[must_use]
pub fn transaction_partition(transactional_id: &str) -> PartitionIndex {
    hashed(transactional_id)
}

/// Java's `String.hashCode` over UTF-16 units, made positive by dropping the sign bit.
fn hashed(id: &str) -> PartitionIndex {
    let hash = id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    PartitionIndex((hash & i32::MAX) % PARTITION_COUNT)
}

#[cfg(test)]
mod tests {
    use super::{group_partition, transaction_partition};
    use wire::PartitionIndex;

    #[test]
    fn ids_hash_as_java_strings_do() {
        // From jshell: (id.hashCode() & 0x7fffffff) % 50.
        assert_eq!(group_partition("notification-service"), PartitionIndex(39));
        assert_eq!(group_partition(""), PartitionIndex(0));
        assert_eq!(transaction_partition("gr\u{fc}n-\u{1f600}"), PartitionIndex(41));
    }
}
