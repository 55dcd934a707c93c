//! `InitProducerId`: a producer begins, fences its predecessor and ends what that left open.

use std::collections::BTreeSet;

use wire::{ErrorCode, ProducerEpoch, ProducerId, TimestampMs};

use super::{
    InitProducerIdRequest, PRODUCER_IDS, Producer, TransactionCoordinator, TransactionResult, end,
};
use crate::{
    Now,
    record::{TransactionMetadata, TransactionRecord, TransactionStatus},
};

/// The last epoch that a producer id is given; the next bump gives a new producer id, as one
/// more epoch must be left to fence with.
const LAST_EPOCH: i16 = i16::MAX - 1;

impl TransactionCoordinator {
    /// The producer's id and epoch. An open transaction is aborted in the same plan.
    pub fn init_producer_id(
        &mut self,
        now: Now,
        request: &InitProducerIdRequest,
    ) -> TransactionResult<Result<Producer, ErrorCode>> {
        let mut result = TransactionResult::only(Err(ErrorCode::NONE));
        let Some(id) = &request.transactional_id else {
            let id = self.allocate(now, &mut result.records);
            result.response = Ok(Producer { id, epoch: ProducerEpoch(0) });
            return result;
        };
        if id.is_empty() || id == PRODUCER_IDS {
            return TransactionResult::only(Err(ErrorCode::INVALID_REQUEST));
        }
        if !(1..=self.config.max_timeout_ms).contains(&request.timeout_ms) {
            return TransactionResult::only(Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT));
        }
        let Some(metadata) = self.state.get(id).cloned() else {
            let producer = self.rotated(now, &mut result.records);
            result.records.push(begun(now, request, (id, producer, ProducerId::NONE)));
            result.response = Ok(producer);
            return result;
        };
        match self.claim(id, &metadata, request.producer) {
            Err(error) => return TransactionResult::only(Err(error)),
            Ok(Claim::Repeated(producer)) => return TransactionResult::only(Ok(producer)),
            Ok(Claim::Bump) => {}
        }
        let mut epoch = metadata.producer_epoch;
        if metadata.status == TransactionStatus::Ongoing {
            let ending = end::fenced(&metadata);
            epoch = ending.next.epoch;
            end::finish(now, (id, &metadata), ending, &mut result);
        }
        let exhausted = epoch.0 >= LAST_EPOCH;
        let producer = if exhausted {
            self.rotated(now, &mut result.records)
        } else {
            Producer { id: metadata.producer_id, epoch: ProducerEpoch(epoch.0 + 1) }
        };
        let previous = if exhausted { metadata.producer_id } else { ProducerId::NONE };
        result.records.push(begun(now, request, (id, producer, previous)));
        match request.producer {
            Some(expected) => self.last_epochs.insert(id.clone(), expected.epoch),
            None => self.last_epochs.remove(id),
        };
        result.response = Ok(producer);
        result
    }

    fn rotated(&mut self, now: Now, records: &mut Vec<TransactionRecord>) -> Producer {
        Producer { id: self.allocate(now, records), epoch: ProducerEpoch(0) }
    }

    /// Whether who asks may have the id: a newcomer always; a producer that names itself if it
    /// is the present one, or the one whose answer to this very request was lost.
    fn claim(
        &self,
        id: &str,
        metadata: &TransactionMetadata,
        expected: Option<Producer>,
    ) -> Result<Claim, ErrorCode> {
        match metadata.status {
            TransactionStatus::PrepareCommit
            | TransactionStatus::PrepareAbort
            | TransactionStatus::PrepareEpochFence => {
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            TransactionStatus::Empty
            | TransactionStatus::Ongoing
            | TransactionStatus::CompleteCommit
            | TransactionStatus::CompleteAbort
            | TransactionStatus::Dead => {}
        }
        let Some(expected) = expected else { return Ok(Claim::Bump) };
        let present = Producer { id: metadata.producer_id, epoch: metadata.producer_epoch };
        if expected == present {
            return Ok(Claim::Bump);
        }
        let asked_before = self.last_epochs.get(id) == Some(&expected.epoch)
            && [metadata.producer_id, metadata.previous_producer_id].contains(&expected.id)
            && metadata.status == TransactionStatus::Empty;
        if asked_before { Ok(Claim::Repeated(present)) } else { Err(ErrorCode::PRODUCER_FENCED) }
    }
}

enum Claim {
    Bump,
    Repeated(Producer),
}

fn begun(
    now: Now,
    request: &InitProducerIdRequest,
    (id, producer, previous_producer_id): (&str, Producer, ProducerId),
) -> TransactionRecord {
    TransactionRecord {
        transactional_id: id.to_owned(),
        value: Some(TransactionMetadata {
            producer_id: producer.id,
            previous_producer_id,
            producer_epoch: producer.epoch,
            timeout_ms: request.timeout_ms,
            status: TransactionStatus::Empty,
            partitions: BTreeSet::new(),
            last_update_timestamp: now.timestamp,
            start_timestamp: TimestampMs::NONE,
            client_transaction_version: 0,
        }),
    }
}
