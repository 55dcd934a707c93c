//! `EndTxn`: the decision, a marker in every partition, and the completion, in one plan.

use std::collections::BTreeSet;

use wire::{ErrorCode, ProducerEpoch};

use super::{Marker, Producer, TransactionCoordinator, TransactionOf, TransactionResult};
use crate::{
    Now,
    record::{TransactionMetadata, TransactionRecord, TransactionStatus},
};

/// How a transaction ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) committed: bool,
    pub(super) marker_epoch: ProducerEpoch,
    /// Who may use the transactional id afterwards.
    pub(super) next: Producer,
    pub(super) client_transaction_version: i16,
}

/// An abort that its producer did not ask for: the raised epoch shuts it out.
pub(super) fn fenced(metadata: &TransactionMetadata) -> Ending {
    let epoch = ProducerEpoch(metadata.producer_epoch.0.saturating_add(1));
    Ending {
        committed: false,
        marker_epoch: epoch,
        next: Producer { id: metadata.producer_id, epoch },
        client_transaction_version: metadata.client_transaction_version,
    }
}

/// Adds decision, markers and completion to a plan.
pub(super) fn finish<R>(
    now: Now,
    (id, metadata): (&str, &TransactionMetadata),
    ending: Ending,
    result: &mut TransactionResult<R>,
) {
    let (decided, completed) = if ending.committed {
        (TransactionStatus::PrepareCommit, TransactionStatus::CompleteCommit)
    } else {
        (TransactionStatus::PrepareAbort, TransactionStatus::CompleteAbort)
    };
    let record = |status, producer: Producer, partitions| TransactionRecord {
        transactional_id: id.to_owned(),
        value: Some(TransactionMetadata {
            producer_id: producer.id,
            previous_producer_id: if producer.id == metadata.producer_id {
                metadata.previous_producer_id
            } else {
                metadata.producer_id
            },
            producer_epoch: producer.epoch,
            timeout_ms: metadata.timeout_ms,
            status,
            partitions,
            last_update_timestamp: now.timestamp,
            start_timestamp: metadata.start_timestamp,
            client_transaction_version: ending.client_transaction_version,
        }),
    };
    let ended = Producer { id: metadata.producer_id, epoch: ending.marker_epoch };
    result.records.push(record(decided, ended, metadata.partitions.clone()));
    result.markers.extend(metadata.partitions.iter().map(|partition| Marker {
        partition: partition.clone(),
        producer_id: ended.id,
        producer_epoch: ended.epoch,
        committed: ending.committed,
    }));
    result.records.push(record(completed, ending.next, BTreeSet::new()));
}

impl TransactionCoordinator {
    /// Commits or aborts; answers who may go on. With `bumps_epoch` (KIP-890, `EndTxn` v5) that
    /// is the next epoch, else the same.
    pub fn end_transaction(
        &mut self,
        now: Now,
        of: &TransactionOf,
        committed: bool,
        bumps_epoch: bool,
    ) -> TransactionResult<Result<Producer, ErrorCode>> {
        if let Some(answer) = self.ended_before(of, committed, bumps_epoch) {
            return TransactionResult::only(Ok(answer));
        }
        let metadata = match self.owned(of) {
            Ok(metadata) => metadata.clone(),
            Err(error) => return TransactionResult::only(Err(error)),
        };
        if let Err(error) = may_end(metadata.status, committed, bumps_epoch) {
            return TransactionResult::only(Err(error));
        }
        let mut result = TransactionResult::only(Ok(of.producer));
        let mut ending = Ending {
            committed,
            marker_epoch: of.producer.epoch,
            next: of.producer,
            client_transaction_version: 0,
        };
        if bumps_epoch {
            ending.marker_epoch = ProducerEpoch(of.producer.epoch.0.saturating_add(1));
            ending.client_transaction_version = 2;
            ending.next.epoch = ending.marker_epoch;
            if ending.marker_epoch.0 == i16::MAX {
                let id = self.allocate(now, &mut result.records);
                ending.next = Producer { id, epoch: ProducerEpoch(0) };
            }
        }
        self.last_epochs.remove(&of.transactional_id);
        finish(now, (&of.transactional_id, &metadata), ending, &mut result);
        result.response = Ok(ending.next);
        result
    }

    /// The answer to a request that was carried out before and whose answer was lost.
    fn ended_before(
        &self,
        of: &TransactionOf,
        committed: bool,
        bumps_epoch: bool,
    ) -> Option<Producer> {
        let metadata = self.state.get(&of.transactional_id)?;
        let completed = if committed {
            TransactionStatus::CompleteCommit
        } else {
            TransactionStatus::CompleteAbort
        };
        if metadata.status != completed {
            return None;
        }
        let present = Producer { id: metadata.producer_id, epoch: metadata.producer_epoch };
        let asked = if !bumps_epoch {
            of.producer == present
        } else if present.epoch.0 == 0 {
            of.producer.id == metadata.previous_producer_id && of.producer.epoch.0 == i16::MAX - 1
        } else {
            of.producer.id == present.id && of.producer.epoch.0 == present.epoch.0 - 1
        };
        asked.then_some(present)
    }
}

fn may_end(status: TransactionStatus, committed: bool, bumps_epoch: bool) -> Result<(), ErrorCode> {
    match status {
        TransactionStatus::Ongoing => Ok(()),
        // A KIP-890 client that does not know whether it began may abort to be sure.
        TransactionStatus::Empty
        | TransactionStatus::CompleteCommit
        | TransactionStatus::CompleteAbort
            if bumps_epoch && !committed =>
        {
            Ok(())
        }
        TransactionStatus::PrepareCommit if committed => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
        TransactionStatus::PrepareAbort | TransactionStatus::PrepareEpochFence if !committed => {
            Err(ErrorCode::CONCURRENT_TRANSACTIONS)
        }
        TransactionStatus::Empty
        | TransactionStatus::PrepareCommit
        | TransactionStatus::PrepareAbort
        | TransactionStatus::PrepareEpochFence
        | TransactionStatus::CompleteCommit
        | TransactionStatus::CompleteAbort
        | TransactionStatus::Dead => Err(ErrorCode::INVALID_TXN_STATE),
    }
}
