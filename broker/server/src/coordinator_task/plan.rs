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
/// Of keys and values that are appended together, unless one record alone is larger.
const MOST_BYTES_OF_GROUPS: usize = 8 << 20;

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

    /// The batches of each append: records of groups, then what belongs to transactions. Groups
    /// are independent of each other, and so very many records are not one append.
    pub(super) fn appends(&self, catalogue: &Catalogue, now: TimestampMs) -> Vec<Vec<Append>> {
        let mut appends = Vec::new();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for record in &self.groups {
            let encoded = record.encode();
            let more = encoded.0.len() + encoded.1.as_ref().map_or(0, bytes::Bytes::len);
            if self.producer.is_none() && bytes > 0 && bytes + more > MOST_BYTES_OF_GROUPS {
                appends.push(self.batches_of_groups(std::mem::take(&mut part), catalogue, now));
                bytes = 0;
            }
            part.push((group_partition(record.group_id()), encoded));
            bytes += more;
        }
        let mut last = self.batches_of_groups(part, catalogue, now);
        last.extend(self.batches_of_transactions(catalogue, now));
        appends.push(last);
        appends.retain(|batches| !batches.is_empty());
        appends
    }

    fn batches_of_groups(
        &self,
        records: Vec<(PartitionIndex, Encoded)>,
        catalogue: &Catalogue,
        now: TimestampMs,
    ) -> Vec<Append> {
        batches_of(CONSUMER_OFFSETS, self.producer, records.into_iter(), catalogue, now)
    }

    /// One batch for each partition with records, then the markers. A partition that is gone
    /// needs no marker.
    fn batches_of_transactions(&self, catalogue: &Catalogue, now: TimestampMs) -> Vec<Append> {
        let records = self
            .transactions
            .iter()
            .map(|r| (transaction_partition(&r.transactional_id), r.encode()));
        let mut batches = batches_of(TRANSACTION_STATE, None, records, catalogue, now);
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

fn batches_of(
    topic: &str,
    producer: Option<Producer>,
    records: impl Iterator<Item = (PartitionIndex, Encoded)>,
    catalogue: &Catalogue,
    now: TimestampMs,
) -> Vec<Append> {
    let to_append = |(partition, records): (_, Vec<Encoded>)| {
        let partition = resolve(catalogue, topic, partition)?;
        Some(Append { partition, batch: encode(&records, producer, now) })
    };
    by_partition(records).into_iter().filter_map(to_append).collect()
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
