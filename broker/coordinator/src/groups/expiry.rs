//! Offsets that nobody has asked for in a long time go, and groups that have nothing left with
//! them: Kafka's `offsets.retention.minutes`, by its rules since KIP-211.

use std::collections::BTreeSet;

use wire::TimestampMs;

use super::{
    CoordinatorResult, GroupCoordinator,
    live::{Group, Phase},
    member::subscribed_topics,
    offsets::{CONSUMER_PROTOCOL, tombstone},
};
use crate::{
    Now,
    record::{CommittedOffset, GroupRecord, TopicPartition},
};

/// Groups and offsets that are looked at in one step, so that others wait for moments only.
const MOST_LOOKED_AT: usize = 10_000;
/// A step ends after the group with which it has so many records.
const MOST_RECORDS: usize = 1_000;

/// From when on the offsets of a group grow old.
enum Since {
    /// The group lost its last member.
    Empty(TimestampMs),
    Commit,
}

impl GroupCoordinator {
    /// Looks at the groups from `from` on, by name, and lets go what has expired. Answers with the
    /// group to go on with if there was more to look at than fits a step.
    pub fn expire_offsets(&mut self, now: Now, from: &str) -> CoordinatorResult<Option<String>> {
        let mut result = CoordinatorResult::only(None);
        let mut looked_at = 0;
        let mut next = self.state.group_at_or_after(from).cloned();
        while let Some(group_id) = next {
            if looked_at >= MOST_LOOKED_AT || result.records.len() >= MOST_RECORDS {
                result.response = Some(group_id);
                break;
            }
            looked_at += 1 + self.state.offsets(&group_id).count();
            self.expire_group(now.timestamp, &group_id, &mut result.records);
            next = self.state.group_after(&group_id).cloned();
        }
        result
    }

    fn expire_group(&mut self, now: TimestampMs, group_id: &str, records: &mut Vec<GroupRecord>) {
        let group = self.live.groups.get(group_id);
        let aging = group.map_or(Some((Since::Commit, BTreeSet::new())), Group::aging);
        let Some((since, subscribed)) = aging else { return };
        let pending = self.state.pending(group_id);
        let is_old = |committed: &CommittedOffset| match (committed.expire_timestamp, &since) {
            (Some(at), _) => now >= at,
            (None, Since::Empty(at)) => self.is_over(now, *at),
            (None, Since::Commit) => self.is_over(now, committed.commit_timestamp),
        };
        let goes = |(partition, committed): &(&TopicPartition, &CommittedOffset)| {
            is_old(committed) && !subscribed.contains(&partition.0) && !pending.contains(partition)
        };
        let before = records.len();
        let expired = self.state.offsets(group_id).filter(goes);
        records.extend(expired.map(|(partition, _)| tombstone(group_id, partition)));
        let is_bare =
            pending.is_empty() && records.len() - before == self.state.offsets(group_id).count();
        if is_bare && group.is_none_or(Group::is_deserted) {
            if self.state.group(group_id).is_some() {
                let group_id = group_id.to_owned();
                records.push(GroupRecord::Group { group_id, value: None });
            }
            self.live.remove(group_id);
        }
    }

    fn is_over(&self, now: TimestampMs, since: TimestampMs) -> bool {
        now.0.saturating_sub(since.0) >= self.config.offsets_retention_ms
    }
}

impl Group {
    /// From when on its offsets grow old, and the topics whose offsets do not; none if none does.
    fn aging(&self) -> Option<(Since, BTreeSet<String>)> {
        let uses_consumer_protocol = self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL);
        match self.phase {
            // Whoever commits here assigns partitions by itself.
            _ if self.protocol_type.is_none() => Some((Since::Commit, BTreeSet::new())),
            Phase::Empty => Some((Since::Empty(self.current_state_timestamp), BTreeSet::new())),
            Phase::Stable if uses_consumer_protocol => Some((Since::Commit, self.subscription()?)),
            Phase::Stable | Phase::PreparingRebalance | Phase::CompletingRebalance => None,
        }
    }

    /// All topics that a member subscribes to; none if one of the subscriptions cannot be read.
    fn subscription(&self) -> Option<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.append(&mut subscribed_topics(&member.metadata(self.protocol.as_deref())).ok()?);
        }
        Some(all)
    }

    /// Whether nobody is in it or about to be.
    fn is_deserted(&self) -> bool {
        self.phase == Phase::Empty && self.pending_joins.is_empty()
    }
}
