//! Which partitions a transaction touches.

use wire::ErrorCode;

use super::{TransactionCoordinator, TransactionOf, TransactionResult};
use crate::{
    Now,
    record::{TopicPartition, TransactionMetadata, TransactionRecord, TransactionStatus},
};

impl TransactionCoordinator {
    /// Adds partitions; the first ones begin the transaction.
    #[must_use]
    pub fn add_partitions(
        &self,
        now: Now,
        of: &TransactionOf,
        partitions: &[TopicPartition],
    ) -> TransactionResult<Result<(), ErrorCode>> {
        match self.with_partitions(now, of, partitions) {
            Err(error) => TransactionResult::only(Err(error)),
            Ok(None) => TransactionResult::only(Ok(())),
            Ok(Some(metadata)) => TransactionResult {
                records: vec![TransactionRecord {
                    transactional_id: of.transactional_id.clone(),
                    value: Some(metadata),
                }],
                markers: Vec::new(),
                response: Ok(()),
            },
        }
    }

    fn with_partitions(
        &self,
        now: Now,
        of: &TransactionOf,
        partitions: &[TopicPartition],
    ) -> Result<Option<TransactionMetadata>, ErrorCode> {
        if of.transactional_id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let metadata = self.owned(of)?;
        let ongoing = match metadata.status {
            TransactionStatus::Ongoing => true,
            TransactionStatus::Empty
            | TransactionStatus::CompleteCommit
            | TransactionStatus::CompleteAbort => false,
            TransactionStatus::PrepareCommit
            | TransactionStatus::PrepareAbort
            | TransactionStatus::PrepareEpochFence => {
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            TransactionStatus::Dead => return Err(ErrorCode::INVALID_TXN_STATE),
        };
        if ongoing && partitions.iter().all(|p| metadata.partitions.contains(p)) {
            return Ok(None);
        }
        let mut next = metadata.clone();
        next.partitions.extend(partitions.iter().cloned());
        if next.partitions.len() > self.config.max_partitions {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        next.status = TransactionStatus::Ongoing;
        next.last_update_timestamp = now.timestamp;
        if !ongoing {
            next.start_timestamp = now.timestamp;
        }
        Ok(Some(next))
    }

    /// Whether the producer may write to the partition within its open transaction.
    pub fn verify(&self, of: &TransactionOf, partition: &TopicPartition) -> Result<(), ErrorCode> {
        let metadata = self.owned(of)?;
        if metadata.status == TransactionStatus::Ongoing && metadata.partitions.contains(partition)
        {
            Ok(())
        } else {
            Err(ErrorCode::INVALID_TXN_STATE)
        }
    }
}
