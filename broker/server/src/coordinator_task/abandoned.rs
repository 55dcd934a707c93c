//! Transactions that were open in the logs at a start, and that nobody would ever end: after damage their markers may
//! be lost.

use std::collections::HashMap;

use coordinator::record::{TransactionMetadata, TransactionStatus};
use coordinator::transactions::{Marker, TransactionResult};
use storage::OpenTransaction;
use wire::ProducerId;

use super::Task;

impl Task {
    /// Whether there may be such transactions, and nothing in flight that ends them.
    pub(super) fn has_abandoned(&self) -> bool {
        !self.found_open.is_empty() && !self.in_flight.iter().any(|one| one.ends_abandoned)
    }

    /// Aborts them. What is refused comes back after a rest.
    pub(super) fn end_abandoned(&mut self) {
        let markers = self.keep_abandoned();
        if markers.is_empty() {
            return;
        }
        tracing::warn!(
            count = markers.len(),
            "transactions whose end is lost are aborted in the partitions that still wait for it"
        );
        let result = TransactionResult { records: Vec::new(), markers, response: () };
        self.apply_alone(result.into());
        match self.in_flight.back_mut() {
            Some(last) => last.ends_abandoned = true,
            None => self.found_open.clear(),
        }
    }

    /// Forgets of what was found open all that somebody is at, and answers with what aborts the rest.
    pub(super) fn keep_abandoned(&mut self) -> Vec<Marker> {
        let catalogue = self.storage.catalogue();
        let open: HashMap<ProducerId, &TransactionMetadata> = self
            .transactions
            .state()
            .open()
            .map(|metadata| (metadata.producer_id, metadata))
            .collect();
        let mut markers = Vec::new();
        self.found_open.retain(|found| {
            let &OpenTransaction { partition, producer_id, producer_epoch, first_offset } = found;
            let Some(topic) = catalogue.by_id.get(&partition.topic) else { return false };
            let offsets = self.storage.offsets(partition);
            if offsets.is_none_or(|offsets| offsets.last_stable_offset > first_offset) {
                return false;
            }
            let partition = (topic.name.clone(), partition.partition);
            // What is about to end may have an epoch that is raised already; its markers close everything before it.
            let goes_on = open.get(&producer_id).is_some_and(|metadata| {
                // After a refusal it may have come back, and what it has written since must not be aborted.
                self.has_refused_abort
                    || metadata.partitions.contains(&partition)
                        && (metadata.status != TransactionStatus::Ongoing
                            || metadata.producer_epoch == producer_epoch)
            });
            if !goes_on {
                markers.push(Marker { partition, producer_id, producer_epoch, committed: false });
            }
            !goes_on
        });
        markers
    }
}
