//! One producer's transactions commit their own number as a group's offset, so that offset and records tell of each other.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::client;
use crate::history::Topic;

/// The number of the producer that does.
pub(crate) const COMMITS_OFFSETS: u64 = 4;

const PATIENCE: Duration = Duration::from_secs(2);

/// A group without members, whose offset of the topic's first partition it is.
pub(super) struct TxnOffsets {
    consumer: BaseConsumer,
    topic: String,
}

impl TxnOffsets {
    pub(super) fn new(brokers: &str, topic: &Topic) -> Self {
        let group = format!("crash-of-{COMMITS_OFFSETS}");
        let consumer = client(brokers).set("group.id", group).create().unwrap();
        Self { consumer, topic: topic.name.clone() }
    }

    pub(super) fn group(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().unwrap()
    }

    pub(super) fn at(&self, offset: i64) -> TopicPartitionList {
        let mut wish = TopicPartitionList::new();
        wish.add_partition_offset(&self.topic, 0, Offset::Offset(offset)).unwrap();
        wish
    }

    /// -1 for none.
    pub(super) fn committed(&self) -> Result<i64, KafkaError> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(&self.topic, 0);
        let found = self.consumer.committed_offsets(wanted, PATIENCE)?;
        let found = found.elements_for_topic(&self.topic);
        let Some(first) = found.first() else { return Ok(-1) };
        first.error()?;
        Ok(match first.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        })
    }
}

/// What is committed at the end.
pub(crate) fn committed_offset(brokers: &str, topic: &Topic) -> Result<i64, KafkaError> {
    TxnOffsets::new(brokers, topic).committed()
}
