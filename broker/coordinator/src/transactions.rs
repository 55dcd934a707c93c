//! The transaction coordinator: producer ids, their epochs, and transactions.

mod end;
mod init;
mod partitions;
mod state;

use std::collections::BTreeMap;

use wire::{ErrorCode, ProducerEpoch, ProducerId, TimestampMs};

use crate::{
    Now,
    record::{TopicPartition, TransactionMetadata, TransactionRecord, TransactionStatus},
    timers::Timers,
};

pub use state::State;

/// Reserved transactional id whose producer id is the end of the block of ids that were set
/// aside, so that ids survive restarts in Kafka's own schema.
pub const PRODUCER_IDS: &str = "__ottla.producer-ids";

/// Producer ids set aside by one record.
const PRODUCER_ID_BLOCK: i64 = 1_000;

/// Limits of transactions. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The longest timeout that a client may ask for.
    pub max_timeout_ms: i32,
    /// How long an unused transactional id is remembered.
    pub transactional_id_expiration_ms: i64,
    /// Partitions of one transaction.
    pub max_partitions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            transactional_id_expiration_ms: 604_800_000,
            max_partitions: 10_000,
        }
    }
}

/// What an operation wants: records, then markers, appended together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult<R> {
    pub records: Vec<TransactionRecord>,
    pub markers: Vec<Marker>,
    pub response: R,
}

impl<R> TransactionResult<R> {
    fn only(response: R) -> Self {
        Self { records: Vec::new(), markers: Vec::new(), response }
    }
}

/// The end of a transaction in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub partition: TopicPartition,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub committed: bool,
}

/// A producer as it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerIdRequest {
    /// `None` for an idempotent producer without transactions.
    pub transactional_id: Option<String>,
    pub timeout_ms: i32,
    /// The producer that wants a new epoch after an error (KIP-360).
    pub producer: Option<Producer>,
}

/// Which transaction of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOf {
    pub transactional_id: String,
    pub producer: Producer,
}

/// All transactional ids of the broker. `state` is changed by [`Self::replay`] alone; the rest
/// is soft.
#[derive(Clone, Debug)]
pub struct TransactionCoordinator {
    config: Config,
    state: State,
    /// The next producer id to hand out, below the end of the block in `state`.
    next_producer_id: i64,
    /// The epoch before the last bump, where its owner asked for the bump: it may ask again.
    last_epochs: BTreeMap<String, ProducerEpoch>,
    deadlines: Timers<String>,
}

impl TransactionCoordinator {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::default(),
            next_producer_id: 0,
            last_epochs: BTreeMap::new(),
            deadlines: Timers::default(),
        }
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn replay(&mut self, record: &TransactionRecord) {
        self.state.replay(record);
        let id = &record.transactional_id;
        match &record.value {
            Some(value) if id != PRODUCER_IDS => {
                let deadline = self.deadline(value);
                self.deadlines.set(id.clone(), u64::try_from(deadline.0).unwrap_or(0));
            }
            Some(_) | None => self.deadlines.cancel(id),
        }
        if record.value.is_none() {
            self.last_epochs.remove(id);
        }
    }

    /// Takes up what was replayed at load: ids of a block begun before are not used again, and a
    /// transaction that was begun while the clock was ahead lasts no longer than others from now on. If
    /// the clock is behind instead, one is aborted too early, and not left open for years.
    pub fn loaded(&mut self, now: Now) {
        self.next_producer_id = self.state.producer_id_block_end();
        for (id, metadata) in self.state.begun_after(now.timestamp) {
            let deadline = now.timestamp.0.saturating_add(i64::from(metadata.timeout_ms));
            self.deadlines.set(id.clone(), u64::try_from(deadline).unwrap_or(0));
        }
    }

    /// The wall clock time at which [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        self.deadlines.next().map(|at| TimestampMs(i64::try_from(at).unwrap_or(i64::MAX)))
    }

    /// Ends one transaction whose time is up, or forgets one unused id; `None` when none is left.
    pub fn expire(&mut self, now: Now) -> Option<TransactionResult<()>> {
        let id = self.deadlines.pop_expired(u64::try_from(now.timestamp.0).unwrap_or(0))?;
        let metadata = self.state.get(&id)?.clone();
        let mut result = TransactionResult::only(());
        match metadata.status {
            TransactionStatus::Ongoing => {
                self.last_epochs.remove(&id);
                end::finish(now, (&id, &metadata), end::fenced(&metadata), &mut result);
            }
            TransactionStatus::PrepareCommit
            | TransactionStatus::PrepareAbort
            | TransactionStatus::PrepareEpochFence => {
                let ending = end::Ending {
                    committed: metadata.status == TransactionStatus::PrepareCommit,
                    marker_epoch: metadata.producer_epoch,
                    next: Producer { id: metadata.producer_id, epoch: metadata.producer_epoch },
                    client_transaction_version: metadata.client_transaction_version,
                };
                end::finish(now, (&id, &metadata), ending, &mut result);
            }
            TransactionStatus::Empty
            | TransactionStatus::CompleteCommit
            | TransactionStatus::CompleteAbort
            | TransactionStatus::Dead => {
                result.records.push(TransactionRecord { transactional_id: id, value: None });
            }
        }
        Some(result)
    }

    /// When the transaction is to be aborted, or its unused id forgotten.
    fn deadline(&self, metadata: &TransactionMetadata) -> TimestampMs {
        match metadata.status {
            TransactionStatus::Ongoing => {
                // It was begun while the clock was ahead if a later record says an earlier time.
                let begun = metadata.start_timestamp.min(metadata.last_update_timestamp);
                TimestampMs(begun.0.saturating_add(i64::from(metadata.timeout_ms)))
            }
            TransactionStatus::PrepareCommit
            | TransactionStatus::PrepareAbort
            | TransactionStatus::PrepareEpochFence => TimestampMs(0),
            TransactionStatus::Empty
            | TransactionStatus::CompleteCommit
            | TransactionStatus::CompleteAbort
            | TransactionStatus::Dead => TimestampMs(
                metadata.last_update_timestamp.0 + self.config.transactional_id_expiration_ms,
            ),
        }
    }

    /// The id's metadata, if the producer is its present one.
    fn owned(&self, of: &TransactionOf) -> Result<&TransactionMetadata, ErrorCode> {
        let metadata = self
            .state
            .get(&of.transactional_id)
            .filter(|metadata| metadata.producer_id == of.producer.id)
            .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        if metadata.producer_epoch == of.producer.epoch {
            Ok(metadata)
        } else {
            Err(ErrorCode::PRODUCER_FENCED)
        }
    }

    /// A producer id never given before, and the record that sets its block aside if needed.
    fn allocate(&mut self, now: Now, records: &mut Vec<TransactionRecord>) -> ProducerId {
        let end = self.state.producer_id_block_end();
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        if id >= end {
            records.push(TransactionRecord {
                transactional_id: PRODUCER_IDS.to_owned(),
                value: Some(state::block(ProducerId(id + PRODUCER_ID_BLOCK), now.timestamp)),
            });
        }
        ProducerId(id)
    }
}

#[cfg(test)]
mod tests;
