//! A producer whose records come in transactions, of which some are aborted.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::plain::Deliveries;
use super::txn_offsets::{COMMITS_OFFSETS, TxnOffsets};
use super::{Producer, Recorder, name_of, producer, value::value_of};
use crate::history::{Acks, GroupAction, Outcome, PRODUCER_SHIFT, Send, Slot, Topic};
use crate::random::Random;
use crate::time::{DEADLINE, Stopwatch, pause};

/// Tries that take longer leave the outcome unknown.
const TRY: Duration = Duration::from_secs(5);

/// Its number among the groups of the history.
const GROUP_OF_OFFSETS: usize = 100;

struct Transactions<'a> {
    brokers: &'a str,
    load: &'a Producer,
    topic: Topic,
    recorder: &'a Arc<Recorder>,
    /// Its thread serves what the broker answered, also while a commit or abort waits for that.
    client: ThreadedProducer<Deliveries>,
    /// Of the one producer that commits some.
    offsets: Option<TxnOffsets>,
    random: Random,
    sent: u64,
    count: u64,
}

/// Runs transactions until told to stop; the last one is decided.
pub(crate) fn produce_transactions(brokers: &str, load: &Producer, recorder: &Arc<Recorder>) {
    let topic = recorder.history().topics[load.topic].clone();
    let offsets = (load.number == COMMITS_OFFSETS).then(|| TxnOffsets::new(brokers, &topic));
    let mut transactions = Transactions {
        brokers,
        load,
        offsets,
        topic,
        recorder,
        client: create(brokers, load, recorder),
        random: Random::new(load.number),
        sent: 0,
        count: 0,
    };
    while !recorder.producers_stop() {
        if recorder.may_send(transactions.sent) {
            transactions.run_one();
        } else {
            pause(Duration::from_millis(2));
        }
    }
}

/// A producer that has fenced its predecessor: whatever that had open is aborted.
fn create(
    brokers: &str,
    load: &Producer,
    recorder: &Arc<Recorder>,
) -> ThreadedProducer<Deliveries> {
    let waiting = Stopwatch::start();
    loop {
        let client: ThreadedProducer<Deliveries> = producer(brokers, Acks::All)
            .set("transactional.id", format!("crash-{}", load.number))
            .set("transaction.timeout.ms", "120000")
            .create_with_context(Deliveries(Arc::clone(recorder)))
            .unwrap();
        match client.init_transactions(TRY) {
            Ok(()) => return client,
            Err(error) => {
                recorder.refused(load.number, &name_of(&error), false);
                assert!(waiting.elapsed() < DEADLINE, "init_transactions: {error}");
            }
        }
    }
}

impl Transactions<'_> {
    fn run_one(&mut self) {
        let transaction = (self.load.number << PRODUCER_SHIFT) + self.count;
        self.count += 1;
        self.recorder.transaction(transaction, Outcome::Unknown);
        let wants_abort = self.random.one_in(4);
        let before = self.sent;
        let number = i64::try_from(self.count - 1).unwrap();
        if !wants_abort {
            self.record_offset(GroupAction::Tried(number));
        }
        let outcome = match self.send_and_end(transaction, wants_abort) {
            Ok(()) if wants_abort => Outcome::Aborted,
            Ok(()) => Outcome::Committed,
            Err(error) => self.give_up(&error),
        };
        self.recorder.transaction(transaction, outcome);
        if outcome == Outcome::Committed {
            self.record_offset(GroupAction::Committed(number));
        }
        if outcome != Outcome::Unknown {
            self.recorder.decided(self.sent - before);
        }
        if let Some(Ok(offset)) = self.offsets.as_ref().map(TxnOffsets::committed) {
            self.record_offset(GroupAction::Fetched(offset));
        }
    }

    fn record_offset(&self, what: GroupAction) {
        if self.offsets.is_some() {
            let slot = Slot { topic: self.load.topic, partition: 0 };
            self.recorder.group(GROUP_OF_OFFSETS, slot, what);
        }
    }

    fn send_and_end(&mut self, transaction: u64, abort: bool) -> Result<(), KafkaError> {
        self.client.begin_transaction()?;
        for _ in 0..=self.random.below(12) {
            let id = self.load.id(self.sent);
            let (partition, key) = Producer::place(&self.topic, self.sent);
            self.sent += 1;
            let slot = Slot { topic: self.load.topic, partition };
            let (acks, transaction) = (Acks::All, Some(transaction));
            self.recorder.sent(id, Send { slot, key, acks, once: true, transaction });
            let (key, value) = (format!("k{key}"), value_of(id));
            let record = BaseRecord::with_opaque_to(&self.topic.name, Box::new(id))
                .partition(partition)
                .key(&key)
                .payload(&value);
            self.client.send(record).map_err(|(error, _)| error)?;
        }
        if let Some(offsets) = &self.offsets {
            let wish = offsets.at(i64::try_from(self.count - 1).unwrap());
            Self::retry(|| self.client.send_offsets_to_transaction(&wish, &offsets.group(), TRY))?;
        }
        if abort || self.random.one_in(3) {
            // Its records lie open for a moment, so that a fault may meet them. An abort would purge what is yet to be sent
            // again after a fault, and librdkafka then gives its sequence numbers to others, though the broker may have it.
            self.client.flush(TRY)?;
        }
        self.recorder.while_ending(|| {
            Self::retry(|| {
                if abort {
                    self.client.abort_transaction(TRY)
                } else {
                    self.client.commit_transaction(TRY)
                }
            })
        })
    }

    /// Another takes its place, with sequence numbers from the beginning, and the outcome is not known.
    fn give_up(&mut self, error: &KafkaError) -> Outcome {
        self.recorder.refused(self.load.number, &name_of(error), true);
        self.client = create(self.brokers, self.load, self.recorder);
        Outcome::Unknown
    }

    /// Again for as long as the client says that it may help.
    fn retry(mut attempt: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
        let waiting = Stopwatch::start();
        loop {
            match attempt() {
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && waiting.elapsed() < DEADLINE => {}
                result => return result,
            }
        }
    }
}
