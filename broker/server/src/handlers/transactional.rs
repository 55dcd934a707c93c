//! What the APIs of transactions have in common.

use coordinator::transactions::{Producer, TransactionOf};
use kafka_protocol::messages::{ProducerId as WireProducerId, TransactionalId};
use wire::{ErrorCode, ProducerEpoch, ProducerId};

/// The producer as a request names it.
pub(crate) fn producer(id: WireProducerId, epoch: i16) -> Producer {
    Producer { id: ProducerId(id.0), epoch: ProducerEpoch(epoch) }
}

/// Whose transaction a request is about.
pub(crate) fn of(transactional_id: &TransactionalId, producer: Producer) -> TransactionOf {
    TransactionOf { transactional_id: transactional_id.to_string(), producer }
}

/// Clients before a certain version know `PRODUCER_FENCED` by another name.
pub(crate) fn fenced_before(first_version: i16, version: i16, error: ErrorCode) -> ErrorCode {
    if error == ErrorCode::PRODUCER_FENCED && version < first_version {
        ErrorCode::INVALID_PRODUCER_EPOCH
    } else {
        error
    }
}
