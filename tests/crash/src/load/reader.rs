//! Consumers without a group: one that follows a topic through every fault, and one that reads it whole at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::{Recorder, client, value::id_of};
use crate::history::{FinalLog, Id, Isolation, Slot, Topic};
use crate::time::{DEADLINE, Stopwatch};

fn config(brokers: &str, isolation: Isolation) -> ClientConfig {
    let level = match isolation {
        Isolation::Uncommitted => "read_uncommitted",
        Isolation::Committed => "read_committed",
    };
    let mut config = client(brokers);
    config
        .set("group.id", "crash-reader")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", level)
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "5");
    config
}

fn assign(consumer: &BaseConsumer, topic: &Topic) {
    let mut assignment = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        assignment.add_partition_offset(&topic.name, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
}

/// Follows a topic until told to stop.
pub(crate) fn read_on(brokers: &str, topic: usize, isolation: Isolation, recorder: &Recorder) {
    let named = recorder.history().topics[topic].clone();
    let consumer: BaseConsumer = config(brokers, isolation).create().unwrap();
    assign(&consumer, &named);
    while !recorder.readers_stop() {
        // What goes wrong while the broker is dead is why there is a harness.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let slot = Slot { topic, partition: message.partition() };
            let id = message.payload().and_then(id_of);
            recorder.read(slot, message.offset(), id, isolation);
        }
    }
}

/// Every partition of a topic from its beginning to its end.
pub(crate) fn read_all(brokers: &str, topic: usize, named: &Topic) -> BTreeMap<Slot, FinalLog> {
    let mut logs: BTreeMap<Slot, FinalLog> = BTreeMap::new();
    for isolation in [Isolation::Uncommitted, Isolation::Committed] {
        let consumer: BaseConsumer =
            config(brokers, isolation).set("enable.partition.eof", "true").create().unwrap();
        for partition in 0..named.partitions {
            let (start, _) = consumer.fetch_watermarks(&named.name, partition, DEADLINE).unwrap();
            logs.entry(Slot { topic, partition }).or_default().start = start;
        }
        assign(&consumer, named);
        read_to_end(&consumer, named, |partition, offset, id| {
            let log = logs.entry(Slot { topic, partition }).or_default();
            let side = match isolation {
                Isolation::Uncommitted => &mut log.uncommitted,
                Isolation::Committed => &mut log.committed,
            };
            let before = side.insert(offset, id);
            assert!(before.is_none(), "{}: an offset was read twice", named.name);
        });
    }
    logs
}

fn read_to_end(consumer: &BaseConsumer, topic: &Topic, mut each: impl FnMut(i32, i64, Option<Id>)) {
    let mut ended = 0;
    let mut waiting = Stopwatch::start();
    while ended < topic.partitions {
        assert!(waiting.elapsed() < DEADLINE, "{} has no end", topic.name);
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                each(message.partition(), message.offset(), message.payload().and_then(id_of));
                waiting = Stopwatch::start();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            // Nothing is killed any more, but a connection of before may still end.
            Some(Err(_)) | None => {}
        }
    }
}
