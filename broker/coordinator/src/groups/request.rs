//! Requests and responses as the machine sees them: Kafka's, without their versions.

use bytes::Bytes;
use wire::{ErrorCode, LeaderEpoch, Offset};

use crate::{groups::Phase, record::TopicPartition};

/// A request whose answer may come later; numbered by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a waiting request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupRequest {
    pub group_id: String,
    /// Empty where the member has none yet.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// Most preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// From v4 on a dynamic member is first told its id and joins again with it.
    pub requires_known_member_id: bool,
    /// From v9 on a returning static leader is told not to assign.
    pub supports_skipping_assignment: bool,
    /// Random text for a new member's id.
    pub fresh: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupResponse {
    pub error: ErrorCode,
    pub generation_id: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// For the leader alone.
    pub members: Vec<JoinedMember>,
}

impl JoinGroupResponse {
    pub(crate) fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

/// Who a member says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberIdentity {
    pub member_id: String,
    pub group_instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupRequest {
    pub group_id: String,
    pub generation_id: i32,
    pub member: MemberIdentity,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// From the leader alone.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupResponse {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

impl SyncGroupResponse {
    pub(crate) fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatRequest {
    pub group_id: String,
    pub generation_id: i32,
    pub member: MemberIdentity,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupRequest {
    pub group_id: String,
    pub members: Vec<LeavingMember>,
}

/// A member to go: by its id, or by its instance id with an empty member id.
pub type LeavingMember = MemberIdentity;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    pub member: LeavingMember,
    pub error: ErrorCode,
}

/// `OffsetCommit` and `TxnOffsetCommit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub group_id: String,
    /// -1 where the committer is no member.
    pub generation_id: i32,
    pub member: MemberIdentity,
    /// A transactional commit becomes visible by its marker.
    pub transactional: bool,
    /// Before v5 a client could say how long its offsets live.
    pub retention_time_ms: Option<i64>,
    /// From v9 on an unknown group has an error of its own.
    pub knows_group_id_not_found: bool,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    pub partition: TopicPartition,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: TopicPartition,
    /// -1 where nothing is committed.
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
    pub error: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    pub phase: Phase,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    pub phase: Phase,
    pub protocol_type: String,
}
