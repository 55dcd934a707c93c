//! Clients that go on through every fault and write down what they see.

mod catalogue;
mod cleaner;
mod external;
mod group;
mod plain;
mod probe;
mod reader;
mod recorder;
mod transactional;
mod txn_offsets;
mod value;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

pub(crate) use catalogue::{change_topics, made_topics};
pub(crate) use cleaner::delete_records;
pub(crate) use external::{External, run_external};
pub(crate) use group::commit_offsets;
pub(crate) use plain::produce;
pub(crate) use probe::{answer_to_one_record, can_be_read};
pub(crate) use reader::{read_all, read_on};
pub(crate) use recorder::Recorder;
pub(crate) use transactional::produce_transactions;
pub(crate) use txn_offsets::{COMMITS_OFFSETS, committed_offset};

use crate::history::{Acks, Id, PRODUCER_SHIFT, Topic};

/// Keys go round, so that compaction has something to do.
const KEYS: u64 = 500;

/// One producer and the topic that is its own.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    pub(crate) number: u64,
    pub(crate) topic: usize,
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
}

impl Producer {
    fn id(&self, number: u64) -> Id {
        (self.number << PRODUCER_SHIFT) + number
    }

    /// Partition and key of the `number`-th record.
    fn place(topic: &Topic, number: u64) -> (i32, u32) {
        let partitions = u64::try_from(topic.partitions).unwrap();
        let partition = i32::try_from(number % partitions).unwrap();
        (partition, u32::try_from(number % KEYS).unwrap())
    }
}

/// A client that comes back at once after a fault.
fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("reconnect.backoff.ms", "5")
        .set("reconnect.backoff.max.ms", "20")
        .set("retry.backoff.ms", "5")
        .set("retry.backoff.max.ms", "20")
        .set("socket.timeout.ms", "20000")
        .set("log_level", "0");
    config
}

fn producer(brokers: &str, acks: Acks) -> ClientConfig {
    let mut config = client(brokers);
    config
        .set("acks", if acks == Acks::All { "all" } else { "1" })
        .set("linger.ms", "1")
        .set("message.timeout.ms", "120000")
        .set("queue.buffering.max.messages", "200")
        .set("batch.num.messages", "50");
    config
}

/// librdkafka's name of an error.
fn name_of(error: &KafkaError) -> String {
    let code = match error {
        KafkaError::Transaction(error) => Some(error.code()),
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    code.map_or_else(|| error.to_string(), |code| format!("{code:?}"))
}
