//! Deletes the older records of a topic again and again, so that there is always cleaning for a fault to meet.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::{Recorder, client};
use crate::history::Slot;
use crate::time::pause;

/// Records that are left.
const KEPT: i64 = 300;
const PATIENCE: Duration = Duration::from_secs(5);

/// Deletes until told to stop.
pub(crate) fn delete_records(brokers: &str, topic: usize, recorder: &Recorder) {
    let named = recorder.history().topics[topic].clone();
    let consumer: BaseConsumer = client(brokers).create().unwrap();
    let admin: AdminClient<DefaultClientContext> = client(brokers).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    while !recorder.producers_stop() {
        pause(Duration::from_millis(20));
        for partition in 0..named.partitions {
            let ends = consumer.fetch_watermarks(&named.name, partition, PATIENCE);
            let Ok((start, end)) = ends else { continue };
            if end - KEPT <= start {
                continue;
            }
            let mut wish = TopicPartitionList::new();
            recorder.requested(Slot { topic, partition }, end - KEPT);
            let before = Offset::Offset(end - KEPT);
            wish.add_partition_offset(&named.name, partition, before).unwrap();
            let deleted = runtime.block_on(admin.delete_records(&wish, &options));
            for result in deleted.iter().flat_map(TopicPartitionList::elements) {
                if let (Ok(()), Offset::Offset(start)) = (result.error(), result.offset()) {
                    recorder.deleted(Slot { topic, partition }, start);
                }
            }
        }
    }
}
