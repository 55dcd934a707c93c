//! What either machine planned, as batches for the storage.

use std::collections::BTreeMap;

use coordinator::groups::{Answer, CoordinatorResult, GroupCoordinator, Ticket};
use coordinator::record::{Encoded, GroupRecord, TransactionRecord};
use coordinator::transactions::{Marker, Producer, TransactionCoordinator, TransactionResult};
use coordinator::{CONSUMER_OFFSETS, TRANSACTION_STATE, group_partition, transaction_partition};
use storage::{Append, Catalogue, PartitionId};
use wire::batch::{self, BatchBuilder, ControlMarker, NewRecord, control_marker};
use wire::{PartitionIndex, Sequence, TimestampMs};

/// The epoch of the transaction coordinator in markers; one coordinator on one node.
const COORDINATOR_EPOCH: i32 = 0;

/// Records, markers, and what is answered when they are durable.
#[derive(Debug)]
pub(crate) struct Plan<R> {
    groups: Vec<GroupRecord>,
    /// Whose transaction the group records belong to.
    producer: Option<Producer>,
    transactions: Vec<TransactionRecord>,
    markers: Vec<Marker>,
    pub(super) answers: Vec<(Ticket, Answer)>,
    response: R,
}

impl<R> From<CoordinatorResult<R>> for Plan<R> {
    fn from(result: CoordinatorResult<R>) -> Self {
        Self {
            groups: result.records,
            producer: None,
            transactions: Vec::new(),
            markers: Vec::new(),
            answers: result.answers,
            response: result.response,
        }
    }
}

impl<R> From<TransactionResult<R>> for Plan<R> {
    fn from(result: TransactionResult<R>) -> Self {
        Self {
            groups: Vec::new(),
            producer: None,
            transactions: result.records,
            markers: result.markers,
            answers: Vec::new(),
            response: result.response,
        }
    }
}

impl<R> Plan<R> {
    /// Nothing but an answer.
    pub(crate) fn only(response: R) -> Self {
        Self {
            groups: Vec::new(),
            producer: None,
            transactions: Vec::new(),
            markers: Vec::new(),
            answers: Vec::new(),
            response,
        }
    }

    /// The group records become part of the producer's transaction.
    pub(crate) fn in_transaction_of(mut self, producer: Producer) -> Self {
        self.producer = Some(producer);
        self
    }

    /// The same plan with what a transaction wants before it.
    pub(crate) fn after<S>(mut self, before: TransactionResult<S>) -> Self {
        self.transactions.extend(before.records);
        self.markers.extend(before.markers);
        self
    }

    pub(super) fn split(self) -> (Plan<()>, R) {
        let plan = Plan {
            groups: self.groups,
            producer: self.producer,
            transactions: self.transactions,
            markers: self.markers,
            answers: self.answers,
            response: (),
        };
        (plan, self.response)
    }

    /// One batch for each partition with records, then the markers. A partition that is gone
    /// needs no marker.
    pub(super) fn batches(&self, catalogue: &Catalogue, now: TimestampMs) -> Vec<Append> {
        let mut batches = Vec::new();
        let groups = self.groups.iter().map(|r| (group_partition(r.group_id()), r.encode()));
        let transactions = self
            .transactions
            .iter()
            .map(|r| (transaction_partition(&r.transactional_id), r.encode()));
        for (topic, producer, records) in [
            (CONSUMER_OFFSETS, self.producer, by_partition(groups)),
            (TRANSACTION_STATE, None, by_partition(transactions)),
        ] {
            for (partition, records) in records {
                if let Some(partition) = resolve(catalogue, topic, partition) {
                    batches.push(Append { partition, batch: encode(&records, producer, now) });
                }
            }
        }
        for marker in &self.markers {
            let (topic, partition) = &marker.partition;
            if let Some(partition) = resolve(catalogue, topic, *partition) {
                let kind =
                    if marker.committed { batch::Marker::Commit } else { batch::Marker::Abort };
                let batch = control_marker(&ControlMarker {
                    producer_id: marker.producer_id,
                    producer_epoch: marker.producer_epoch,
                    marker: kind,
                    coordinator_epoch: COORDINATOR_EPOCH,
                    timestamp: now,
                });
                batches.push(Append { partition, batch });
            }
        }
        batches
    }

    pub(super) fn replay(
        &self,
        groups: &mut GroupCoordinator,
        transactions: &mut TransactionCoordinator,
    ) {
        for record in &self.groups {
            groups.replay(self.producer.map(|producer| producer.id), record);
        }
        for record in &self.transactions {
            transactions.replay(record);
        }
        for marker in &self.markers {
            let (topic, partition) = &marker.partition;
            if topic == CONSUMER_OFFSETS {
                groups.replay_marker(*partition, marker.producer_id, marker.committed);
            }
        }
    }
}

fn by_partition(
    records: impl Iterator<Item = (PartitionIndex, Encoded)>,
) -> BTreeMap<PartitionIndex, Vec<Encoded>> {
    let mut partitions: BTreeMap<PartitionIndex, Vec<Encoded>> = BTreeMap::new();
    for (partition, record) in records {
        partitions.entry(partition).or_default().push(record);
    }
    partitions
}

fn resolve(catalogue: &Catalogue, topic: &str, partition: PartitionIndex) -> Option<PartitionId> {
    let topic = catalogue.by_name.get(topic)?;
    let exists = (0..topic.partitions).contains(&partition.0);
    exists.then_some(PartitionId { topic: topic.id, partition })
}

fn encode(records: &[Encoded], producer: Option<Producer>, now: TimestampMs) -> bytes::Bytes {
    let mut builder = BatchBuilder::new();
    if let Some(Producer { id, epoch }) = producer {
        builder = builder.producer(id, epoch, Sequence::NONE).transactional();
    }
    for (key, value) in records {
        builder.push(NewRecord {
            timestamp: now,
            key: Some(key),
            value: value.as_deref(),
            headers: &[],
        });
    }
    builder.build()
}
