//! A member of a group that commits what it read, and asks again and again what is committed.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::{Recorder, client};
use crate::history::{GroupAction, Slot, Topic};

/// So many records are read for one commit.
const RECORDS: u32 = 20;

/// The member of this group has a name of its own. Another's may be a ghost after a kill, when the answer to its join was
/// lost, and the next join waits until that one's session is over.
const STATIC: usize = 1;

/// The group's one member.
struct Member<'a> {
    brokers: &'a str,
    consumer: BaseConsumer,
    group: usize,
    topic: usize,
    named: Topic,
    recorder: &'a Recorder,
    /// Behind the last record read of each partition; -1 before the first.
    next: Vec<i64>,
}

/// Reads and commits until told to stop.
pub(crate) fn commit_offsets(brokers: &str, group: usize, topic: usize, recorder: &Recorder) {
    let named = recorder.history().topics[topic].clone();
    let consumer = join(brokers, group, &named);
    let next = vec![-1; usize::try_from(named.partitions).unwrap()];
    let mut member = Member { brokers, consumer, group, topic, named, recorder, next };
    while !recorder.readers_stop() {
        for _ in 0..RECORDS {
            member.read();
        }
        member.commit();
        member.fetch();
        member.come_back();
    }
}

fn join(brokers: &str, group: usize, topic: &Topic) -> BaseConsumer {
    let mut config = client(brokers);
    if group == STATIC {
        config.set("group.instance.id", "crash");
    }
    let consumer: BaseConsumer = config
        .set("group.id", format!("crash-{group}"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500")
        .set("fetch.wait.max.ms", "100")
        .create()
        .unwrap();
    consumer.subscribe(&[&topic.name]).unwrap();
    consumer
}

impl Member<'_> {
    fn read(&mut self) {
        if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(5)) {
            let next = &mut self.next[usize::try_from(message.partition()).unwrap()];
            *next = (message.offset() + 1).max(*next);
        }
    }

    /// librdkafka gives a consumer up that is fenced. With a name of its own it is now and then; presumably after a fault
    /// between the answer to its join and its sync, for the broker then knows the member before, as Apache Kafka does.
    fn come_back(&mut self) {
        if self.consumer.client().fatal_error().is_some() {
            self.recorder.member_replaced();
            self.consumer = join(self.brokers, self.group, &self.named);
        }
    }

    fn record(&self, partition: i32, what: GroupAction) {
        self.recorder.group(self.group, Slot { topic: self.topic, partition }, what);
    }

    fn commit(&self) {
        let mut offsets = TopicPartitionList::new();
        let read = (0..self.named.partitions).zip(self.next.iter().copied());
        let read: Vec<(i32, i64)> = read.filter(|(_, next)| *next >= 0).collect();
        for (partition, next) in &read {
            let (name, offset) = (&self.named.name, Offset::Offset(*next));
            offsets.add_partition_offset(name, *partition, offset).unwrap();
            self.record(*partition, GroupAction::Tried(*next));
        }
        if !read.is_empty() && self.consumer.commit(&offsets, CommitMode::Sync).is_ok() {
            for (partition, next) in read {
                self.record(partition, GroupAction::Committed(next));
            }
        }
    }

    fn fetch(&self) {
        let mut wanted = TopicPartitionList::new();
        for partition in 0..self.named.partitions {
            wanted.add_partition(&self.named.name, partition);
        }
        let answer = self.consumer.committed_offsets(wanted, Duration::from_secs(5));
        for found in answer.iter().flat_map(TopicPartitionList::elements) {
            if found.error().is_ok() {
                let offset = match found.offset() {
                    Offset::Offset(offset) => offset,
                    _ => -1,
                };
                self.record(found.partition(), GroupAction::Fetched(offset));
            }
        }
    }
}
