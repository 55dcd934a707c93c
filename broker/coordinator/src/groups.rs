//! The group coordinator: classic groups, and the offsets they commit.

mod describe;
mod expiry;
mod join;
mod live;
mod member;
mod offsets;
mod request;
mod state;
mod sync;

use wire::{ErrorCode, PartitionIndex, ProducerId};

use crate::{Now, record::GroupRecord};
use live::Live;

pub use live::Phase;
pub use member::subscribed_topics;
pub use request::{
    Answer, Commit, CommitPartition, DescribedGroup, DescribedMember, FetchedOffset,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, JoinedMember, LeaveGroupRequest,
    LeavingMember, LeftMember, ListedGroup, MemberIdentity, SyncGroupRequest, SyncGroupResponse,
    Ticket,
};
pub use state::State;

/// Limits of groups. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: u64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// Members of one group.
    pub max_group_size: usize,
    /// Bytes of all that the members of one group said of themselves; the group's record holds it.
    pub max_group_bytes: usize,
    /// The same of all groups together, with what their leaders assigned; it lies in memory.
    pub max_bytes_of_groups: usize,
    /// Bytes of the metadata string of one committed offset.
    pub max_offset_metadata_bytes: usize,
    /// How long committed offsets outlive their group's last member.
    pub offsets_retention_ms: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_group_size: 1_000,
            max_group_bytes: 4 << 20,
            max_bytes_of_groups: 80 << 20,
            max_offset_metadata_bytes: 4_096,
            offsets_retention_ms: 604_800_000,
        }
    }
}

/// What an operation wants: records to append, its own response, and the answers it brings to
/// requests that were waiting. All of them are given out only after the records are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorResult<R> {
    pub records: Vec<GroupRecord>,
    pub answers: Vec<(Ticket, Answer)>,
    pub response: R,
}

impl<R> CoordinatorResult<R> {
    pub(crate) fn only(response: R) -> Self {
        Self { records: Vec::new(), answers: Vec::new(), response }
    }
}

/// All groups of the broker. `state` is changed by [`Self::replay`] and [`Self::replay_marker`]
/// alone; `live` is soft.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    config: Config,
    state: State,
    live: Live,
}

impl GroupCoordinator {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, state: State::default(), live: Live::default() }
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies one record; `producer` is that of a transactional batch, whose offsets wait for
    /// its marker.
    pub fn replay(&mut self, producer: Option<ProducerId>, record: &GroupRecord) {
        self.state.replay(producer, record);
    }

    /// Applies a control marker in one partition of `__consumer_offsets`.
    pub fn replay_marker(
        &mut self,
        partition: PartitionIndex,
        producer_id: ProducerId,
        committed: bool,
    ) {
        self.state.replay_marker(partition, producer_id, committed);
    }

    /// Takes up the groups that were replayed at load: their members go on with heartbeats.
    pub fn loaded(&mut self, now: Now) {
        self.live = Live::restore(&self.config, &self.state, now);
    }

    /// The monotonic time at which [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.live.timers.next()
    }

    /// Removes members whose session ended and completes rebalances whose time is up.
    pub fn expire(&mut self, now: Now) -> CoordinatorResult<()> {
        self.live.expire(&self.config, now)
    }

    /// Joins; the answer comes to `ticket`, at once or when the rebalance completes.
    pub fn join_group(
        &mut self,
        now: Now,
        request: &JoinGroupRequest,
        ticket: Ticket,
    ) -> CoordinatorResult<()> {
        let mut result = self.live.join(&self.config, now, request, ticket);
        if result.records.is_empty() {
            result.records.extend(self.renamed(request));
        }
        result
    }

    /// The group as it was recorded last, with the present member id of a static member that has come
    /// back. It is told that id before its next generation is recorded; after a kill in between nobody
    /// would know it, and its client be fenced for good.
    fn renamed(&self, request: &JoinGroupRequest) -> Option<GroupRecord> {
        let instance = request.group_instance_id.as_ref()?;
        let present = self.live.groups.get(&request.group_id)?.static_members.get(instance)?;
        let mut value = self.state.group(&request.group_id)?.clone();
        let is_same = |id: &Option<String>| id.as_ref() == Some(instance);
        let member = value.members.iter_mut().find(|one| is_same(&one.group_instance_id))?;
        if member.member_id == *present {
            return None;
        }
        let before = std::mem::replace(&mut member.member_id, present.clone());
        if value.leader.as_ref() == Some(&before) {
            value.leader = Some(present.clone());
        }
        Some(GroupRecord::Group { group_id: request.group_id.clone(), value: Some(value) })
    }

    /// Synchronises; the answer comes to `ticket`, at once or when the leader has assigned.
    pub fn sync_group(
        &mut self,
        now: Now,
        request: &SyncGroupRequest,
        ticket: Ticket,
    ) -> CoordinatorResult<()> {
        self.live.sync(&self.config, now, request, ticket)
    }

    pub fn heartbeat(
        &mut self,
        now: Now,
        request: &HeartbeatRequest,
    ) -> CoordinatorResult<ErrorCode> {
        CoordinatorResult::only(self.live.heartbeat(&self.config, now, request))
    }

    /// Lets members go; `Err` is the error of the whole request.
    pub fn leave_group(
        &mut self,
        now: Now,
        request: &LeaveGroupRequest,
    ) -> CoordinatorResult<Result<Vec<LeftMember>, ErrorCode>> {
        self.live.leave(&self.config, now, request)
    }
}

#[cfg(test)]
mod tests;
