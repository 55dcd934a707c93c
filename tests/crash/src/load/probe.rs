//! One record, or one look, to learn how the broker is. What is sent is no part of the history.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::client;

/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was answered last.
#[derive(Default)]
struct Answer(Mutex<Option<Result<(), RDKafkaErrorCode>>>);

impl ClientContext for Answer {}

impl ProducerContext for Answer {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let answer = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        *self.0.lock().unwrap() = Some(answer);
    }
}

/// What the broker answers to a record, sent once; `None` if it does not answer.
pub(crate) fn answer_to_one_record(
    brokers: &str,
    topic: &str,
) -> Option<Result<(), RDKafkaErrorCode>> {
    let producer: BaseProducer<Answer> = client(brokers)
        .set("acks", "all")
        .set("message.send.max.retries", "0")
        .set("message.timeout.ms", "5000")
        .create_with_context(Answer::default())
        .unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).payload("probe")).ok()?;
    producer.flush(PATIENCE).ok()?;
    *producer.context().0.lock().unwrap()
}

/// Whether the first record of a topic's first partition can be read.
pub(crate) fn can_be_read(brokers: &str, topic: &str) -> bool {
    let consumer: BaseConsumer = client(brokers).set("group.id", "crash-probe").create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    matches!(consumer.poll(PATIENCE), Some(Ok(_)))
}
