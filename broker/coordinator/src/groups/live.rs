//! The soft state: sessions, waiting joins and the rebalance that is going on. After a restart it
//! is made again from the hard state, and clients that were waiting ask again.

use std::collections::{BTreeMap, BTreeSet};

use wire::{ErrorCode, TimestampMs};

use super::{
    Answer, Config, CoordinatorResult, HeartbeatRequest, JoinGroupResponse, LeaveGroupRequest,
    LeftMember, MemberIdentity, State, SyncGroupResponse, Ticket, member::Member,
};
use crate::{
    Now,
    record::{GroupMetadata, GroupRecord},
    timers::Timers,
};

/// Where a group is in its life. A group that nobody knows is `Dead` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl Phase {
    /// Kafka's name of the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// Of a member, or of an id that was given out and has not joined yet.
    Session {
        group_id: String,
        member_id: String,
    },
    Rebalance(String),
    PendingSync(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) timers: Timers<TimerKey>,
    /// What the members of each group said of themselves, and of all.
    sizes: BTreeMap<String, usize>,
    size_in_bytes: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// From instance id to member id.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids given out whose members have not joined yet.
    pub(super) pending_joins: BTreeSet<String>,
    /// Members of the new generation that have not synchronised yet.
    pub(super) pending_syncs: BTreeSet<String>,
    pub(super) initial: Option<InitialDelay>,
    pub(super) current_state_timestamp: TimestampMs,
}

/// The wait of an empty group for more members than the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitialDelay {
    pub(super) remaining_ms: u64,
    pub(super) new_member_added: bool,
}

/// One operation on one group, and what it brings about.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) config: &'a Config,
    pub(super) now: Now,
    pub(super) group_id: &'a str,
    pub(super) timers: &'a mut Timers<TimerKey>,
    /// What the members of this group said of themselves so far, and those of all others.
    pub(super) own_bytes: usize,
    pub(super) other_bytes: usize,
    pub(super) records: Vec<GroupRecord>,
    pub(super) answers: Vec<(Ticket, Answer)>,
}

impl Step<'_> {
    pub(super) fn answer_join(&mut self, ticket: Ticket, response: JoinGroupResponse) {
        self.answers.push((ticket, Answer::Join(response)));
    }

    pub(super) fn answer_sync(&mut self, ticket: Ticket, response: SyncGroupResponse) {
        self.answers.push((ticket, Answer::Sync(response)));
    }

    pub(super) fn session(&mut self, member_id: &str, timeout_ms: i32) {
        let at = self.now.monotonic_ms + u64::from(timeout_ms.max(0).unsigned_abs());
        self.timers.set(self.session_key(member_id), at);
    }

    pub(super) fn end_session(&mut self, member_id: &str) {
        let key = self.session_key(member_id);
        self.timers.cancel(&key);
    }

    pub(super) fn rebalance_in(&mut self, delay_ms: u64) {
        let key = TimerKey::Rebalance(self.group_id.to_owned());
        self.timers.set(key, self.now.monotonic_ms + delay_ms);
    }

    pub(super) fn result<R>(self, response: R) -> CoordinatorResult<R> {
        CoordinatorResult { records: self.records, answers: self.answers, response }
    }

    fn session_key(&self, member_id: &str) -> TimerKey {
        TimerKey::Session { group_id: self.group_id.to_owned(), member_id: member_id.to_owned() }
    }
}

impl Live {
    pub(super) fn restore(config: &Config, state: &State, now: Now) -> Self {
        let mut live = Self::default();
        for (group_id, metadata) in state.groups() {
            let (_, mut step) = live.step(config, now, group_id);
            let group = Group::restore(metadata);
            for member in group.members.values() {
                step.session(&member.member_id, member.session_timeout_ms);
            }
            live.groups.insert(group_id.clone(), group);
            live.weigh(group_id);
        }
        live
    }

    pub(super) fn step<'a>(
        &'a mut self,
        config: &'a Config,
        now: Now,
        group_id: &'a str,
    ) -> (&'a mut BTreeMap<String, Group>, Step<'a>) {
        let own_bytes = self.sizes.get(group_id).copied().unwrap_or(0);
        let step = Step {
            config,
            now,
            group_id,
            timers: &mut self.timers,
            own_bytes,
            other_bytes: self.size_in_bytes.saturating_sub(own_bytes),
            records: Vec::new(),
            answers: Vec::new(),
        };
        (&mut self.groups, step)
    }

    /// After a change of members: forgets a group that never came to a generation and has nobody left.
    pub(super) fn prune(&mut self, group_id: &str) {
        if self.groups.get(group_id).is_some_and(Group::is_unused) {
            self.groups.remove(group_id);
        }
        self.weigh(group_id);
    }

    /// Takes note of how large a group is now.
    pub(super) fn weigh(&mut self, group_id: &str) {
        let members =
            self.groups.get(group_id).into_iter().flat_map(|group| group.members.values());
        let size = members.map(|member| member.size_in_bytes() + member.assignment.len()).sum();
        let before = if size == 0 {
            self.sizes.remove(group_id)
        } else {
            self.sizes.insert(group_id.to_owned(), size)
        };
        self.size_in_bytes = self.size_in_bytes + size - before.unwrap_or(0);
    }

    /// Forgets a group that is deleted; it is empty, so nobody waits.
    pub(super) fn remove(&mut self, group_id: &str) {
        self.groups.remove(group_id);
        self.weigh(group_id);
        self.timers.cancel(&TimerKey::Rebalance(group_id.to_owned()));
    }

    pub(super) fn heartbeat(
        &mut self,
        config: &Config,
        now: Now,
        request: &HeartbeatRequest,
    ) -> ErrorCode {
        let (groups, mut step) = self.step(config, now, &request.group_id);
        let Some(group) = groups.get(&request.group_id) else {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        };
        if let Err(error) = group.validate(&request.member) {
            return error;
        }
        if request.generation_id != group.generation_id {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        group.touch(&mut step, &request.member.member_id);
        match group.phase {
            Phase::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            Phase::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            Phase::CompletingRebalance | Phase::Stable => ErrorCode::NONE,
        }
    }

    pub(super) fn leave(
        &mut self,
        config: &Config,
        now: Now,
        request: &LeaveGroupRequest,
    ) -> CoordinatorResult<Result<Vec<LeftMember>, ErrorCode>> {
        if request.group_id.is_empty() {
            return CoordinatorResult::only(Err(ErrorCode::INVALID_GROUP_ID));
        }
        let (groups, mut step) = self.step(config, now, &request.group_id);
        let Some(group) = groups.get_mut(&request.group_id) else {
            return CoordinatorResult::only(Err(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        let mut left = Vec::new();
        let before = group.members.len();
        for member in &request.members {
            let error = group.leave(&mut step, member).err().unwrap_or(ErrorCode::NONE);
            left.push(LeftMember { member: member.clone(), error });
        }
        if left.iter().any(|member| member.error.is_none()) {
            group.go_on_without(&mut step, before);
        }
        let result = step.result(Ok(left));
        self.prune(&request.group_id);
        result
    }

    pub(super) fn expire(&mut self, config: &Config, now: Now) -> CoordinatorResult<()> {
        let mut total = CoordinatorResult::only(());
        while let Some(key) = self.timers.pop_expired(now.monotonic_ms) {
            let group_id = match &key {
                TimerKey::Session { group_id, .. }
                | TimerKey::Rebalance(group_id)
                | TimerKey::PendingSync(group_id) => group_id.clone(),
            };
            let (groups, mut step) = self.step(config, now, &group_id);
            if let Some(group) = groups.get_mut(&group_id) {
                match &key {
                    TimerKey::Session { member_id, .. } => {
                        group.session_expired(&mut step, member_id);
                    }
                    TimerKey::Rebalance(_) => group.rebalance_expired(&mut step),
                    TimerKey::PendingSync(_) => group.pending_sync_expired(&mut step),
                }
            }
            let CoordinatorResult { records, answers, response: () } = step.result(());
            total.records.extend(records);
            total.answers.extend(answers);
            self.prune(&group_id);
        }
        total
    }
}

impl Group {
    fn restore(metadata: &GroupMetadata) -> Self {
        let protocol = metadata.protocol.as_deref().unwrap_or_default();
        let members: BTreeMap<String, Member> = metadata
            .members
            .iter()
            .map(|member| (member.member_id.clone(), Member::restore(member, protocol)))
            .collect();
        let static_members = members
            .values()
            .filter_map(|m| Some((m.group_instance_id.clone()?, m.member_id.clone())))
            .collect();
        Self {
            phase: if members.is_empty() { Phase::Empty } else { Phase::Stable },
            generation_id: metadata.generation_id,
            protocol_type: Some(metadata.protocol_type.clone()).filter(|name| !name.is_empty()),
            protocol: metadata.protocol.clone(),
            leader: metadata.leader.clone(),
            members,
            static_members,
            current_state_timestamp: metadata.current_state_timestamp,
            ..Self::default()
        }
    }

    fn is_unused(&self) -> bool {
        self.phase == Phase::Empty
            && self.generation_id == 0
            && self.members.is_empty()
            && self.pending_joins.is_empty()
    }

    /// Whether the group has this member, and its instance id has not gone to another one.
    pub(super) fn validate(&self, member: &MemberIdentity) -> Result<(), ErrorCode> {
        if let Some(instance) = &member.group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if *current != member.member_id => {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(&member.member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// Begins the member's session anew.
    pub(super) fn touch(&self, step: &mut Step<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            step.session(member_id, member.session_timeout_ms);
        }
    }

    pub(super) fn record(&self, group_id: &str) -> GroupRecord {
        let protocol = self.protocol.as_deref();
        GroupRecord::Group {
            group_id: group_id.to_owned(),
            value: Some(GroupMetadata {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation_id: self.generation_id,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                current_state_timestamp: self.current_state_timestamp,
                members: self.members.values().map(|m| m.to_metadata(protocol)).collect(),
            }),
        }
    }

    pub(super) fn enter(&mut self, step: &Step<'_>, phase: Phase) {
        self.phase = phase;
        self.current_state_timestamp = step.now.timestamp;
    }

    /// Takes a member out; whoever waited as it is told that it is unknown.
    pub(super) fn remove(&mut self, step: &mut Step<'_>, member_id: &str) {
        step.end_session(member_id);
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance) = &member.group_instance_id
            && self.static_members.get(instance) == Some(&member.member_id)
        {
            self.static_members.remove(instance);
        }
        if self.leader.as_ref() == Some(&member.member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        let error = ErrorCode::UNKNOWN_MEMBER_ID;
        if let Some(ticket) = member.awaiting_join {
            step.answer_join(ticket, JoinGroupResponse::refused(error, member_id));
        }
        if let Some(ticket) = member.awaiting_sync {
            step.answer_sync(ticket, SyncGroupResponse::refused(error));
        }
    }

    fn leave(&mut self, step: &mut Step<'_>, member: &MemberIdentity) -> Result<(), ErrorCode> {
        let member_id = match &member.group_instance_id {
            Some(instance) if member.member_id.is_empty() => {
                self.static_members.get(instance).cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
            }
            None if self.pending_joins.contains(&member.member_id) => member.member_id.clone(),
            Some(_) | None => {
                self.validate(member)?;
                member.member_id.clone()
            }
        };
        self.remove(step, &member_id);
        Ok(())
    }

    fn session_expired(&mut self, step: &mut Step<'_>, member_id: &str) {
        // A member that waits for an answer cannot send heartbeats; one that never had an answer
        // may have gone while it waited.
        let waits = self.members.get(member_id).is_some_and(|member| {
            !member.is_new && (member.awaiting_join.is_some() || member.awaiting_sync.is_some())
        });
        if !waits {
            let before = self.members.len();
            self.remove(step, member_id);
            self.go_on_without(step, before);
        }
    }

    /// Behind the removal of members; an id that was given out and has not joined is none, and its end
    /// disturbs nobody.
    fn go_on_without(&mut self, step: &mut Step<'_>, members_before: usize) {
        if self.members.len() < members_before || self.phase == Phase::PreparingRebalance {
            self.rebalance(step);
        }
    }
}
