//! The second half of a rebalance: the leader assigns, and everyone is told.

use std::collections::HashMap;

use bytes::Bytes;
use wire::ErrorCode;

use super::{
    Config, CoordinatorResult, SyncGroupRequest, SyncGroupResponse, Ticket,
    live::{Group, Live, Phase, Step, TimerKey},
    member::Member,
};
use crate::Now;

impl Live {
    pub(super) fn sync(
        &mut self,
        config: &Config,
        now: Now,
        request: &SyncGroupRequest,
        ticket: Ticket,
    ) -> CoordinatorResult<()> {
        let (groups, mut step) = self.step(config, now, &request.group_id);
        let outcome = groups
            .get_mut(&request.group_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
            .and_then(|group| group.sync(&mut step, request, ticket));
        if let Err(error) = outcome {
            step.answer_sync(ticket, SyncGroupResponse::refused(error));
        }
        let result = step.result(());
        self.weigh(&request.group_id);
        result
    }
}

impl Group {
    fn sync(
        &mut self,
        step: &mut Step<'_>,
        request: &SyncGroupRequest,
        ticket: Ticket,
    ) -> Result<(), ErrorCode> {
        self.validate(&request.member)?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |theirs: &Option<String>, ours| theirs.is_some() && theirs != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let member_id = request.member.member_id.as_str();
        match self.phase {
            Phase::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::CompletingRebalance => {
                let is_leader = self.leader.as_deref() == Some(member_id);
                if is_leader && !self.has_room_for(step, &request.assignments) {
                    return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
                }
                self.synced(step, member_id);
                self.wait_for_assignment(step, member_id, ticket);
                if is_leader {
                    self.assign(step, &request.assignments);
                }
                Ok(())
            }
            Phase::Stable => {
                self.synced(step, member_id);
                step.answer_sync(ticket, self.assigned(member_id));
                self.touch(step, member_id);
                Ok(())
            }
        }
    }

    /// Joins leave a quarter of the memory of all groups to those that are in.
    fn has_room_for(&self, step: &Step<'_>, assignments: &[(String, Bytes)]) -> bool {
        let bytes = self.members.values().map(Member::size_in_bytes).sum::<usize>()
            + assignments.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        bytes <= step.own_bytes || bytes + step.other_bytes <= step.config.max_bytes_of_groups
    }

    fn wait_for_assignment(&mut self, step: &mut Step<'_>, member_id: &str, ticket: Ticket) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(earlier) = member.awaiting_sync.replace(ticket) {
            let error = ErrorCode::REBALANCE_IN_PROGRESS;
            step.answer_sync(earlier, SyncGroupResponse::refused(error));
        }
    }

    /// The leader's word: who is not named gets nothing.
    fn assign(&mut self, step: &mut Step<'_>, assignments: &[(String, Bytes)]) {
        let assignments: HashMap<&str, &Bytes> =
            assignments.iter().rev().map(|(id, assignment)| (id.as_str(), assignment)).collect();
        for member in self.members.values_mut() {
            let assignment = assignments.get(member.member_id.as_str());
            member.assignment = assignment.map(|bytes| Bytes::clone(bytes)).unwrap_or_default();
        }
        self.enter(step, Phase::Stable);
        step.records.push(self.record(step.group_id));
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in ids {
            let ticket = self.members.get_mut(&member_id).and_then(|m| m.awaiting_sync.take());
            if let Some(ticket) = ticket {
                step.answer_sync(ticket, self.assigned(&member_id));
                self.touch(step, &member_id);
            }
        }
    }

    fn assigned(&self, member_id: &str) -> SyncGroupResponse {
        SyncGroupResponse {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    pub(super) fn refuse_waiting_syncs(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.awaiting_sync.take() {
                step.answer_sync(ticket, SyncGroupResponse::refused(error));
            }
        }
    }

    fn synced(&mut self, step: &mut Step<'_>, member_id: &str) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.end_pending_syncs(step);
        }
    }

    pub(super) fn end_pending_syncs(&mut self, step: &mut Step<'_>) {
        self.pending_syncs.clear();
        step.timers.cancel(&TimerKey::PendingSync(step.group_id.to_owned()));
    }

    /// Members that were told of the generation and never asked for their assignment are gone.
    pub(super) fn pending_sync_expired(&mut self, step: &mut Step<'_>) {
        let rebalanced = matches!(self.phase, Phase::CompletingRebalance | Phase::Stable);
        let missing = std::mem::take(&mut self.pending_syncs);
        if !rebalanced || missing.is_empty() {
            return;
        }
        for member_id in missing {
            self.remove(step, &member_id);
        }
        self.rebalance(step);
    }
}
