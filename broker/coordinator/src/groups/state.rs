//! The hard state: a function of the records alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use wire::{PartitionIndex, ProducerId};

use crate::{
    group_partition,
    record::{CommittedOffset, GroupMetadata, GroupRecord, TopicPartition},
};

/// What the records say. Two are equal if no further record tells them apart.
#[derive(Clone, Debug, Default)]
pub struct State {
    groups: BTreeMap<String, GroupMetadata>,
    offsets: BTreeMap<String, Offsets>,
    /// Offsets of open transactions.
    pending: BTreeMap<ProducerId, BTreeMap<String, Offsets>>,
    replayed: u64,
}

type Offsets = BTreeMap<TopicPartition, Committed>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Committed {
    value: CommittedOffset,
    /// The position among all records: of a plain commit and a transactional one, the later
    /// record wins, not the later marker.
    position: u64,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.groups == other.groups && self.in_order() == other.in_order()
    }
}

impl Eq for State {}

/// The offsets of a partition, and of which open transaction, in the order of their records.
type InOrder<'a> = BTreeMap<(&'a String, &'a TopicPartition), Vec<OfTransaction<'a>>>;
type OfTransaction<'a> = (Option<ProducerId>, &'a CommittedOffset);

impl State {
    /// Positions count only beside those of the same partition: compaction and the order in which
    /// partitions are loaded change them.
    fn in_order(&self) -> InOrder<'_> {
        let committed = self.offsets.iter().map(|(group, offsets)| (None, group, offsets));
        let pending = self.pending.iter().flat_map(|(producer, groups)| {
            groups.iter().map(|(group, offsets)| (Some(*producer), group, offsets))
        });
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (producer, group, offsets) in committed.chain(pending) {
            for (partition, offset) in offsets {
                let all = found.entry((group, partition)).or_default();
                all.push((offset.position, producer, &offset.value));
            }
        }
        let in_order = |mut all: Vec<(u64, Option<ProducerId>, _)>| {
            all.sort_by_key(|(position, ..)| *position);
            all.into_iter().map(|(_, producer, value)| (producer, value)).collect()
        };
        found.into_iter().map(|(key, all)| (key, in_order(all))).collect()
    }

    pub(super) fn replay(&mut self, producer: Option<ProducerId>, record: &GroupRecord) {
        self.replayed += 1;
        match record {
            GroupRecord::Group { group_id, value: Some(value) } => {
                self.groups.insert(group_id.clone(), value.clone());
            }
            GroupRecord::Group { group_id, value: None } => {
                self.groups.remove(group_id);
            }
            GroupRecord::Offset { group_id, topic, partition, value: Some(value) } => {
                let committed = Committed { value: value.clone(), position: self.replayed };
                let groups = match producer {
                    Some(producer) => self.pending.entry(producer).or_default(),
                    None => &mut self.offsets,
                };
                groups
                    .entry(group_id.clone())
                    .or_default()
                    .insert((topic.clone(), *partition), committed);
            }
            GroupRecord::Offset { group_id, topic, partition, value: None } => {
                self.remove_offset(group_id, &(topic.clone(), *partition));
            }
        }
    }

    /// A deleted offset is gone from open transactions too, or their marker would revive it.
    fn remove_offset(&mut self, group_id: &str, partition: &TopicPartition) {
        let remove = |groups: &mut BTreeMap<String, Offsets>| {
            if let Some(offsets) = groups.get_mut(group_id) {
                offsets.remove(partition);
                if offsets.is_empty() {
                    groups.remove(group_id);
                }
            }
        };
        remove(&mut self.offsets);
        self.pending.values_mut().for_each(remove);
        self.pending.retain(|_, groups| !groups.is_empty());
    }

    pub(super) fn replay_marker(
        &mut self,
        partition: PartitionIndex,
        producer_id: ProducerId,
        committed: bool,
    ) {
        let Some(groups) = self.pending.remove(&producer_id) else { return };
        let (ended, open): (BTreeMap<_, _>, BTreeMap<_, _>) =
            groups.into_iter().partition(|(group_id, _)| group_partition(group_id) == partition);
        if !open.is_empty() {
            self.pending.insert(producer_id, open);
        }
        if !committed {
            return;
        }
        for (group_id, offsets) in ended {
            let group = self.offsets.entry(group_id).or_default();
            for (partition, pending) in offsets {
                let newer = group.get(&partition).is_some_and(|c| c.position > pending.position);
                if !newer {
                    group.insert(partition, pending);
                }
            }
        }
    }

    /// Whether any record of the group lives.
    pub(super) fn contains(&self, group_id: &str) -> bool {
        self.groups.contains_key(group_id)
            || self.offsets.contains_key(group_id)
            || self.pending.values().any(|groups| groups.contains_key(group_id))
    }

    pub(super) fn group(&self, group_id: &str) -> Option<&GroupMetadata> {
        self.groups.get(group_id)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = (&String, &GroupMetadata)> {
        self.groups.iter()
    }

    /// The first group by name, from `group_id` on, of which a record lives outside transactions.
    pub(super) fn group_at_or_after(&self, group_id: &str) -> Option<&String> {
        self.first_from(Bound::Included(group_id))
    }

    pub(super) fn group_after(&self, group_id: &str) -> Option<&String> {
        self.first_from(Bound::Excluded(group_id))
    }

    fn first_from(&self, from: Bound<&str>) -> Option<&String> {
        let range = (from, Bound::Unbounded);
        let group = self.groups.range::<str, _>(range).next().map(|(group_id, _)| group_id);
        let offsets = self.offsets.range::<str, _>(range).next().map(|(group_id, _)| group_id);
        group.into_iter().chain(offsets).min()
    }

    /// Groups with any offset, committed or in an open transaction.
    pub(super) fn offset_group_ids(&self) -> BTreeSet<&String> {
        self.offsets.keys().chain(self.pending.values().flat_map(BTreeMap::keys)).collect()
    }

    /// Groups that have only committed offsets.
    pub(super) fn offset_groups(&self) -> impl Iterator<Item = &String> {
        self.offsets.keys().filter(|group_id| !self.groups.contains_key(*group_id))
    }

    pub(super) fn offset(
        &self,
        group_id: &str,
        partition: &TopicPartition,
    ) -> Option<&CommittedOffset> {
        Some(&self.offsets.get(group_id)?.get(partition)?.value)
    }

    pub(super) fn offsets(
        &self,
        group_id: &str,
    ) -> impl Iterator<Item = (&TopicPartition, &CommittedOffset)> {
        let offsets = self.offsets.get(group_id);
        offsets.into_iter().flatten().map(|(partition, committed)| (partition, &committed.value))
    }

    /// Partitions of which an open transaction is about to commit the group's offset.
    pub(super) fn pending(&self, group_id: &str) -> BTreeSet<&TopicPartition> {
        self.pending
            .values()
            .filter_map(|groups| groups.get(group_id))
            .flat_map(BTreeMap::keys)
            .collect()
    }

    /// Partitions with an offset of the group, committed or in an open transaction.
    pub(super) fn partitions(&self, group_id: &str) -> Vec<TopicPartition> {
        let pending = self.pending.values().filter_map(|groups| groups.get(group_id));
        let mut partitions: Vec<TopicPartition> = self
            .offsets
            .get(group_id)
            .into_iter()
            .chain(pending)
            .flat_map(|offsets| offsets.keys().cloned())
            .collect();
        partitions.sort();
        partitions.dedup();
        partitions
    }
}
