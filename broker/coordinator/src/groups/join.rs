//! The first half of a rebalance: members join, and a generation is formed.

use std::collections::{BTreeMap, BTreeSet};

use wire::ErrorCode;

use super::{
    Config, CoordinatorResult, JoinGroupRequest, JoinGroupResponse, MemberIdentity,
    SyncGroupResponse, Ticket,
    live::{Group, InitialDelay, Live, Phase, Step, TimerKey},
    member::Member,
};
use crate::Now;

/// How long a member that has never been answered is kept while it waits in a rebalance.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 300_000;

impl Live {
    pub(super) fn join(
        &mut self,
        config: &Config,
        now: Now,
        request: &JoinGroupRequest,
        ticket: Ticket,
    ) -> CoordinatorResult<()> {
        let (groups, mut step) = self.step(config, now, &request.group_id);
        let outcome = check(config, request).and_then(|()| {
            if request.member_id.is_empty() {
                Ok(groups.entry(request.group_id.clone()).or_default())
            } else {
                groups.get_mut(&request.group_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
            }
        });
        if let Err(error) = outcome.and_then(|group| group.join(&mut step, request, ticket)) {
            step.answer_join(ticket, JoinGroupResponse::refused(error, &request.member_id));
        }
        let result = step.result(());
        self.prune(&request.group_id);
        result
    }
}

/// All are compared with every other member's; clients have two or three.
const MAX_PROTOCOLS: usize = 32;
/// Of a client's or an instance's name in the id that its member is given.
const MAX_PREFIX_BYTES: usize = 1000;
/// When nobody has come back, others are waited for so long at least.
const LEAST_WAIT_MS: u64 = 1000;

fn check(config: &Config, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    let session = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if request.group_id.is_empty() {
        Err(ErrorCode::INVALID_GROUP_ID)
    } else if !session.contains(&request.session_timeout_ms) {
        Err(ErrorCode::INVALID_SESSION_TIMEOUT)
    } else if request.protocols.len() > MAX_PROTOCOLS {
        Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
    } else {
        Ok(())
    }
}

impl Group {
    fn join(
        &mut self,
        step: &mut Step<'_>,
        request: &JoinGroupRequest,
        ticket: Ticket,
    ) -> Result<(), ErrorCode> {
        if !self.has_room(step, request) {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if !self.supports(request) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if request.member_id.is_empty() {
            self.join_new(step, request, ticket);
            Ok(())
        } else {
            self.join_known(step, request, ticket)
        }
    }

    fn has_room(&self, step: &Step<'_>, request: &JoinGroupRequest) -> bool {
        let returning = self.members.contains_key(&request.member_id)
            || self.pending_joins.contains(&request.member_id)
            || request
                .group_instance_id
                .as_ref()
                .is_some_and(|i| self.static_members.contains_key(i));
        let others = self.members.values().filter(|member| member.member_id != request.member_id);
        let bytes = Member::new(request, &request.member_id).size_in_bytes()
            + others.map(Member::size_in_bytes).sum::<usize>();
        let has_place =
            returning || self.members.len() + self.pending_joins.len() < step.config.max_group_size;
        // Who was there before the others came is not kept out by them.
        let most = step.config.max_bytes_of_groups / 4 * 3;
        let fits_with_others = bytes <= step.own_bytes || bytes + step.other_bytes <= most;
        has_place && bytes <= step.config.max_group_bytes && fits_with_others
    }

    /// Whether the member shares a protocol with all others.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let common = self.common_protocols();
        self.protocol_type.as_deref() == Some(request.protocol_type.as_str())
            && request.protocols.iter().any(|(name, _)| common.contains(name.as_str()))
    }

    /// Those that every member supports.
    fn common_protocols(&self) -> BTreeSet<&str> {
        let mut members = self.members.values().map(Member::protocol_names);
        let mut common = members.next().unwrap_or_default();
        for names in members {
            common.retain(|name| names.contains(name));
        }
        common
    }

    fn join_new(&mut self, step: &mut Step<'_>, request: &JoinGroupRequest, ticket: Ticket) {
        let prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let prefix = prefix.split_at(prefix.floor_char_boundary(MAX_PREFIX_BYTES)).0;
        let member_id = format!("{prefix}-{}", request.fresh);
        let known =
            request.group_instance_id.as_ref().and_then(|i| self.static_members.get(i)).cloned();
        if let Some(old) = known {
            self.replace(step, request, (&old, &member_id), ticket);
        } else if request.group_instance_id.is_none() && request.requires_known_member_id {
            self.pending_joins.insert(member_id.clone());
            step.session(&member_id, request.session_timeout_ms);
            let error = ErrorCode::MEMBER_ID_REQUIRED;
            step.answer_join(ticket, JoinGroupResponse::refused(error, &member_id));
        } else {
            self.add(step, request, &member_id, ticket);
        }
    }

    fn join_known(
        &mut self,
        step: &mut Step<'_>,
        request: &JoinGroupRequest,
        ticket: Ticket,
    ) -> Result<(), ErrorCode> {
        let member_id = request.member_id.as_str();
        if self.pending_joins.contains(member_id) && request.group_instance_id.is_none() {
            self.add(step, request, member_id, ticket);
            return Ok(());
        }
        self.validate(&MemberIdentity {
            member_id: member_id.to_owned(),
            group_instance_id: request.group_instance_id.clone(),
        })?;
        let unchanged =
            self.members.get(member_id).is_some_and(|m| m.protocols == request.protocols);
        let is_leader = self.leader.as_deref() == Some(member_id);
        let repeated = match self.phase {
            Phase::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::PreparingRebalance => false,
            Phase::CompletingRebalance => unchanged,
            // The leader joins again to ask for a new assignment.
            Phase::Stable => unchanged && !is_leader,
        };
        if repeated {
            self.touch(step, member_id);
            step.answer_join(ticket, self.joined(member_id));
            return Ok(());
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.update(request);
            wait(step, member, ticket);
        }
        self.rebalance(step);
        Ok(())
    }

    fn add(&mut self, step: &mut Step<'_>, request: &JoinGroupRequest, id: &str, ticket: Ticket) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(initial) = &mut self.initial {
            initial.new_member_added = true;
        }
        self.pending_joins.remove(id);
        let mut member = Member::new(request, id);
        wait(step, &mut member, ticket);
        if let Some(instance) = &request.group_instance_id {
            self.static_members.insert(instance.clone(), id.to_owned());
        }
        self.leader.get_or_insert_with(|| id.to_owned());
        self.members.insert(id.to_owned(), member);
        step.session(id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.rebalance(step);
    }

    /// A static member came back under a new member id; whoever used the old one is fenced.
    fn replace(
        &mut self,
        step: &mut Step<'_>,
        request: &JoinGroupRequest,
        (old, new): (&str, &str),
        ticket: Ticket,
    ) {
        let Some(mut member) = self.members.remove(old) else { return };
        step.end_session(old);
        fence(step, &mut member);
        let topics = member.topics(self.protocol.as_deref());
        let previous_leader = self.leader.clone().unwrap_or_default();
        if previous_leader == old {
            self.leader = Some(new.to_owned());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.to_owned());
        }
        new.clone_into(&mut member.member_id);
        member.update(request);
        let same_topics = member.topics(self.protocol.as_deref()) == topics;
        step.session(new, member.session_timeout_ms);
        self.static_members.extend(request.group_instance_id.clone().map(|i| (i, new.to_owned())));
        self.members.insert(new.to_owned(), member);

        let keeps = self.phase == Phase::Stable && same_topics && self.select() == self.protocol;
        if !keeps {
            if let Some(member) = self.members.get_mut(new) {
                wait(step, member, ticket);
            }
            self.rebalance(step);
            return;
        }
        step.records.push(self.record(step.group_id));
        let mut response = self.joined(new);
        if request.supports_skipping_assignment {
            response.skip_assignment = self.leader.as_deref() == Some(new);
        } else {
            // An old client that is named leader would assign anew, so it is not named.
            response.leader = previous_leader;
            response.members.clear();
        }
        step.answer_join(ticket, response);
    }

    /// Starts a rebalance, or looks whether the one that is going on is complete.
    pub(super) fn rebalance(&mut self, step: &mut Step<'_>) {
        if self.phase == Phase::PreparingRebalance {
            self.complete_if_all_joined(step);
            return;
        }
        if self.phase == Phase::Empty && self.members.is_empty() {
            return;
        }
        self.refuse_waiting_syncs(step, ErrorCode::REBALANCE_IN_PROGRESS);
        self.end_pending_syncs(step);
        let first = self.phase == Phase::Empty;
        self.enter(step, Phase::PreparingRebalance);
        if !first {
            step.rebalance_in(self.rebalance_timeout_ms());
            self.complete_if_all_joined(step);
            return;
        }
        let delay_ms = step.config.initial_rebalance_delay_ms;
        let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
        self.initial = Some(InitialDelay { remaining_ms, new_member_added: false });
        if delay_ms == 0 {
            self.complete_join(step);
        } else {
            step.rebalance_in(delay_ms);
        }
    }

    fn complete_if_all_joined(&mut self, step: &mut Step<'_>) {
        let all = self.pending_joins.is_empty()
            && self.members.values().all(|member| member.awaiting_join.is_some());
        if self.initial.is_none() && all {
            self.complete_join(step);
        }
    }

    pub(super) fn rebalance_expired(&mut self, step: &mut Step<'_>) {
        if self.phase != Phase::PreparingRebalance {
            return;
        }
        if let Some(initial) = &mut self.initial
            && initial.new_member_added
            && initial.remaining_ms > 0
        {
            let delay_ms = step.config.initial_rebalance_delay_ms.min(initial.remaining_ms);
            initial.new_member_added = false;
            initial.remaining_ms -= delay_ms;
            step.rebalance_in(delay_ms);
            return;
        }
        self.complete_join(step);
    }

    /// Forms the next generation of those who joined; static members keep their place.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        step.timers.cancel(&TimerKey::Rebalance(step.group_id.to_owned()));
        self.initial = None;
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|m| m.awaiting_join.is_none() && m.group_instance_id.is_none())
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in absent {
            self.remove(step, &member_id);
        }
        if self.members.is_empty() {
            self.generation_id = self.generation_id.wrapping_add(1).max(0);
            self.protocol = None;
            self.leader = None;
            self.enter(step, Phase::Empty);
            step.records.push(self.record(step.group_id));
            return;
        }
        if !self.elect_leader() {
            step.rebalance_in(self.rebalance_timeout_ms().max(LEAST_WAIT_MS));
            return;
        }
        self.generation_id = self.generation_id.wrapping_add(1).max(0);
        self.protocol = self.select();
        self.enter(step, Phase::CompletingRebalance);
        self.answer_joins(step);
    }

    fn answer_joins(&mut self, step: &mut Step<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        self.pending_syncs = ids.iter().cloned().collect();
        for member_id in ids {
            let response = self.joined(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.is_new = false;
            if let Some(ticket) = member.awaiting_join.take() {
                step.session(&member_id, member.session_timeout_ms);
                step.answer_join(ticket, response);
            }
        }
        let key = TimerKey::PendingSync(step.group_id.to_owned());
        step.timers.set(key, step.now.monotonic_ms + self.rebalance_timeout_ms());
    }

    /// Sees to it that the leader is one who joined; false if nobody did.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|m| m.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(next) = self.members.values().find(|member| member.awaiting_join.is_some()) else {
            return false;
        };
        self.leader = Some(next.member_id.clone());
        true
    }

    /// The protocol that all support and most prefer; among equals the first by name.
    pub(super) fn select(&self) -> Option<String> {
        let common = self.common_protocols();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) =
                member.protocols.iter().find(|(name, _)| common.contains(name.as_str()))
            {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, member_id: &str) -> JoinGroupResponse {
        let protocol = self.protocol.as_deref();
        let is_leader = self.leader.as_deref() == Some(member_id);
        JoinGroupResponse {
            error: ErrorCode::NONE,
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if is_leader {
                self.members.values().map(|member| member.to_joined(protocol)).collect()
            } else {
                Vec::new()
            },
        }
    }

    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        u64::from(longest.unwrap_or(0).max(0).unsigned_abs())
    }
}

/// Lets a join wait; a request that waited before was given up by its client.
fn wait(step: &mut Step<'_>, member: &mut Member, ticket: Ticket) {
    if let Some(earlier) = member.awaiting_join.replace(ticket) {
        let error = ErrorCode::REBALANCE_IN_PROGRESS;
        step.answer_join(earlier, JoinGroupResponse::refused(error, &member.member_id));
    }
}

/// Whoever waits under a member id that was replaced is told so.
fn fence(step: &mut Step<'_>, member: &mut Member) {
    let error = ErrorCode::FENCED_INSTANCE_ID;
    if let Some(ticket) = member.awaiting_join.take() {
        step.answer_join(ticket, JoinGroupResponse::refused(error, &member.member_id));
    }
    if let Some(ticket) = member.awaiting_sync.take() {
        step.answer_sync(ticket, SyncGroupResponse::refused(error));
    }
}
