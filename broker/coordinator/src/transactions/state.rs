//! The hard state: a function of the records alone.

use std::collections::{BTreeMap, BTreeSet};

use wire::{ProducerEpoch, ProducerId, TimestampMs};

use super::PRODUCER_IDS;
use crate::record::{TransactionMetadata, TransactionRecord, TransactionStatus};

/// What the records say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    transactions: BTreeMap<String, TransactionMetadata>,
}

impl State {
    pub(super) fn replay(&mut self, record: &TransactionRecord) {
        match &record.value {
            Some(value) => {
                self.transactions.insert(record.transactional_id.clone(), value.clone());
            }
            None => {
                self.transactions.remove(&record.transactional_id);
            }
        }
    }

    /// What is known of a transactional id.
    #[must_use]
    pub fn get(&self, transactional_id: &str) -> Option<&TransactionMetadata> {
        self.transactions.get(transactional_id).filter(|_| transactional_id != PRODUCER_IDS)
    }

    /// Transactions that go on or are about to end.
    pub fn open(&self) -> impl Iterator<Item = &TransactionMetadata> {
        self.transactions.values().filter(|metadata| match metadata.status {
            TransactionStatus::Ongoing
            | TransactionStatus::PrepareCommit
            | TransactionStatus::PrepareAbort
            | TransactionStatus::PrepareEpochFence => true,
            TransactionStatus::Empty
            | TransactionStatus::CompleteCommit
            | TransactionStatus::CompleteAbort
            | TransactionStatus::Dead => false,
        })
    }

    /// Open transactions that were begun later than this.
    pub(super) fn begun_after(
        &self,
        now: TimestampMs,
    ) -> impl Iterator<Item = (&String, &TransactionMetadata)> {
        self.transactions.iter().filter(move |(_, metadata)| {
            metadata.status == TransactionStatus::Ongoing && metadata.start_timestamp > now
        })
    }

    pub(super) fn producer_id_block_end(&self) -> i64 {
        self.transactions.get(PRODUCER_IDS).map_or(0, |block| block.producer_id.0)
    }
}

/// The reserved record that sets producer ids below `end` aside.
pub(super) fn block(end: ProducerId, now: TimestampMs) -> TransactionMetadata {
    TransactionMetadata {
        producer_id: end,
        previous_producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(0),
        timeout_ms: 0,
        status: TransactionStatus::Empty,
        partitions: BTreeSet::new(),
        last_update_timestamp: now,
        start_timestamp: TimestampMs::NONE,
        client_transaction_version: 0,
    }
}
