//! A producer without transactions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message};

use super::{Producer, Recorder, name_of, producer, value::value_of};
use crate::history::{History, Id, Send, Slot};
use crate::time::DEADLINE;

/// Writes down what the broker acknowledged.
pub(super) struct Deliveries(pub(super) Arc<Recorder>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Id>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<Id>) {
        match result {
            Ok(message) => self.0.acked(*id, message.offset()),
            Err((error, _)) => self.0.refused(History::producer(*id), &name_of(error), false),
        }
    }
}

/// Sends until told to stop, then waits for the last answer.
pub(crate) fn produce(brokers: &str, load: &Producer, recorder: &Arc<Recorder>) {
    let topic = recorder.history().topics[load.topic].clone();
    let create = || -> BaseProducer<Deliveries> {
        producer(brokers, load.acks)
            .set("enable.idempotence", if load.idempotent { "true" } else { "false" })
            .create_with_context(Deliveries(Arc::clone(recorder)))
            .unwrap()
    };
    let mut client = create();
    let mut number = 0;
    while !recorder.producers_stop() {
        if !recorder.may_send(number) {
            client.poll(Duration::from_millis(2));
            continue;
        }
        let id = load.id(number);
        let (partition, key) = Producer::place(&topic, number);
        let slot = Slot { topic: load.topic, partition };
        let once = load.idempotent;
        recorder.sent(id, Send { slot, key, acks: load.acks, once, transaction: None });
        let (key, value) = (format!("k{key}"), value_of(id));
        let record = BaseRecord::with_opaque_to(&topic.name, Box::new(id))
            .partition(partition)
            .key(&key)
            .payload(&value);
        match client.send(record) {
            Ok(()) => number += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                client.poll(Duration::from_millis(2));
            }
            // A producer that gave itself up; what it had not delivered may be there or not.
            Err((error, _)) => {
                let fatal = client.client().fatal_error();
                let name = fatal.map_or_else(|| name_of(&error), |(code, _)| format!("{code:?}"));
                recorder.refused(load.number, &name, true);
                client = create();
            }
        }
        client.poll(Duration::ZERO);
    }
    if client.flush(DEADLINE).is_err() {
        recorder.refused(load.number, "no last answer", true);
    }
}
