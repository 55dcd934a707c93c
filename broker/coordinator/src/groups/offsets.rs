//! Committing, fetching and deleting offsets, and deleting groups.

use std::collections::BTreeSet;

use wire::{ErrorCode, LeaderEpoch, Offset, TimestampMs};

use super::{
    Commit, CommitPartition, CoordinatorResult, FetchedOffset, GroupCoordinator,
    live::{Group, Phase},
};
use crate::{
    Now,
    record::{CommittedOffset, GroupRecord, TopicPartition},
};

/// The records of one commit, which are one batch in the journal.
const MAX_COMMIT_BYTES: usize = 16 << 20;

pub(super) const CONSUMER_PROTOCOL: &str = "consumer";

impl GroupCoordinator {
    /// Commits offsets; the records of a transactional commit belong in a transactional batch of
    /// its producer. `Err` is the error of every partition.
    pub fn commit_offsets(
        &mut self,
        now: Now,
        commit: &Commit,
    ) -> CoordinatorResult<Result<Vec<ErrorCode>, ErrorCode>> {
        if let Err(error) = self.validate_commit(commit) {
            return CoordinatorResult::only(Err(error));
        }
        let (groups, mut step) = self.live.step(&self.config, now, &commit.group_id);
        if let Some(group) = groups.get(&commit.group_id) {
            group.touch(&mut step, &commit.member.member_id);
        }
        let sizes = commit.partitions.iter().map(|one| size_in_bytes(commit, one));
        if sizes.sum::<usize>() > MAX_COMMIT_BYTES {
            return CoordinatorResult::only(Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE));
        }
        let mut errors = Vec::new();
        for partition in &commit.partitions {
            if partition.metadata.len() > step.config.max_offset_metadata_bytes {
                errors.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
            } else {
                step.records.push(offset_record(now, commit, partition));
                errors.push(ErrorCode::NONE);
            }
        }
        step.result(Ok(errors))
    }

    fn validate_commit(&self, commit: &Commit) -> Result<(), ErrorCode> {
        let anonymous =
            commit.member.member_id.is_empty() && commit.member.group_instance_id.is_none();
        let Some(group) = self.live.groups.get(&commit.group_id) else {
            return match commit.generation_id {
                ..0 => Ok(()),
                _ if commit.knows_group_id_not_found => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                _ => Err(ErrorCode::ILLEGAL_GENERATION),
            };
        };
        if commit.generation_id < 0 && group.phase == Phase::Empty {
            return Ok(());
        }
        if commit.generation_id >= 0 || !anonymous {
            group.validate(&commit.member)?;
            if commit.generation_id != group.generation_id {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if !commit.transactional && group.phase != Phase::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if !commit.transactional && group.phase == Phase::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// The committed offsets; no partitions named means all that the group has.
    #[must_use]
    pub fn fetch_offsets(
        &self,
        group_id: &str,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Vec<FetchedOffset> {
        let pending = if require_stable { self.state.pending(group_id) } else { BTreeSet::new() };
        let fetch = |partition: &TopicPartition| {
            if pending.contains(partition) {
                return fetched(partition, None, ErrorCode::UNSTABLE_OFFSET_COMMIT);
            }
            fetched(partition, self.state.offset(group_id, partition), ErrorCode::NONE)
        };
        match partitions {
            Some(partitions) => partitions.iter().map(fetch).collect(),
            None => self.state.offsets(group_id).map(|(partition, _)| fetch(partition)).collect(),
        }
    }

    /// Deletes single offsets of a group that does not read their topics.
    #[must_use]
    pub fn delete_offsets(
        &self,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> CoordinatorResult<Result<Vec<ErrorCode>, ErrorCode>> {
        let mut subscribed = BTreeSet::new();
        match self.live.groups.get(group_id) {
            None if !self.state.contains(group_id) => {
                return CoordinatorResult::only(Err(ErrorCode::GROUP_ID_NOT_FOUND));
            }
            Some(group) if group.phase != Phase::Empty => {
                if group.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL) {
                    return CoordinatorResult::only(Err(ErrorCode::NON_EMPTY_GROUP));
                }
                subscribed = group.subscribed_topics();
            }
            None | Some(_) => {}
        }
        let known = self.state.partitions(group_id);
        let mut result = CoordinatorResult::only(Ok(Vec::new()));
        let mut errors = Vec::new();
        for partition in partitions {
            if subscribed.contains(&partition.0) {
                errors.push(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
                continue;
            }
            if known.binary_search(partition).is_ok() {
                result.records.push(tombstone(group_id, partition));
            }
            errors.push(ErrorCode::NONE);
        }
        result.response = Ok(errors);
        result
    }

    /// Deletes a group that has no members, with its offsets.
    pub fn delete_group(&mut self, group_id: &str) -> CoordinatorResult<ErrorCode> {
        match self.live.groups.get(group_id) {
            Some(group) if group.phase != Phase::Empty || !group.pending_joins.is_empty() => {
                return CoordinatorResult::only(ErrorCode::NON_EMPTY_GROUP);
            }
            None if !self.state.contains(group_id) => {
                return CoordinatorResult::only(ErrorCode::GROUP_ID_NOT_FOUND);
            }
            None | Some(_) => {}
        }
        self.live.remove(group_id);
        let mut result = CoordinatorResult::only(ErrorCode::NONE);
        let partitions = self.state.partitions(group_id);
        result.records.extend(partitions.iter().map(|partition| tombstone(group_id, partition)));
        if self.state.group(group_id).is_some() {
            result.records.push(GroupRecord::Group { group_id: group_id.to_owned(), value: None });
        }
        result
    }

    /// Deletes the offsets of a topic that is gone, in every group.
    #[must_use]
    pub fn forget_topic(&self, topic: &str) -> CoordinatorResult<()> {
        let mut result = CoordinatorResult::only(());
        for group_id in self.state.offset_group_ids() {
            let partitions = self.state.partitions(group_id);
            result.records.extend(
                partitions
                    .iter()
                    .filter(|(name, _)| name == topic)
                    .map(|partition| tombstone(group_id, partition)),
            );
        }
        result
    }

    /// Every topic with an offset of any group.
    #[must_use]
    pub fn topics_with_offsets(&self) -> BTreeSet<String> {
        let groups = self.state.offset_group_ids().into_iter();
        groups.flat_map(|id| self.state.partitions(id)).map(|(topic, _)| topic).collect()
    }
}

impl Group {
    fn subscribed_topics(&self) -> BTreeSet<String> {
        let protocols =
            |name: &str| self.members.values().flat_map(|m| m.topics(Some(name))).collect();
        match &self.protocol {
            Some(protocol) => protocols(protocol),
            None => BTreeSet::new(),
        }
    }
}

/// About what a partition's offset takes as a record.
fn size_in_bytes(commit: &Commit, partition: &CommitPartition) -> usize {
    commit.group_id.len() + partition.partition.0.len() + partition.metadata.len() + 64
}

fn offset_record(now: Now, commit: &Commit, partition: &CommitPartition) -> GroupRecord {
    let (topic, index) = partition.partition.clone();
    GroupRecord::Offset {
        group_id: commit.group_id.clone(),
        topic,
        partition: index,
        value: Some(CommittedOffset {
            offset: partition.offset,
            leader_epoch: if commit.retention_time_ms.is_some() {
                LeaderEpoch(-1)
            } else {
                partition.leader_epoch
            },
            metadata: partition.metadata.clone(),
            commit_timestamp: now.timestamp,
            expire_timestamp: commit
                .retention_time_ms
                .map(|retention| TimestampMs(now.timestamp.0.saturating_add(retention))),
        }),
    }
}

pub(super) fn tombstone(group_id: &str, (topic, partition): &TopicPartition) -> GroupRecord {
    GroupRecord::Offset {
        group_id: group_id.to_owned(),
        topic: topic.clone(),
        partition: *partition,
        value: None,
    }
}

fn fetched(
    partition: &TopicPartition,
    committed: Option<&CommittedOffset>,
    error: ErrorCode,
) -> FetchedOffset {
    FetchedOffset {
        partition: partition.clone(),
        offset: committed.map_or(Offset(-1), |c| c.offset),
        leader_epoch: committed.map_or(LeaderEpoch(-1), |c| c.leader_epoch),
        metadata: committed.map(|c| c.metadata.clone()).unwrap_or_default(),
        error,
    }
}
