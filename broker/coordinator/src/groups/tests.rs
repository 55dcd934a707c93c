mod cases;
mod expiry;
mod histories;

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, ProducerId, TimestampMs};

use super::*;
use crate::group_partition;

/// What a log holds: records, and markers among them.
#[derive(Clone, Debug)]
enum Entry {
    Record(Option<ProducerId>, GroupRecord),
    Marker(PartitionIndex, ProducerId, bool),
}

/// A coordinator with a clock that is turned by hand, and the log it would have written.
struct Bench {
    groups: GroupCoordinator,
    log: Vec<Entry>,
    answers: BTreeMap<Ticket, Answer>,
    now_ms: u64,
    tickets: u64,
}

impl Bench {
    fn new(initial_rebalance_delay_ms: u64) -> Self {
        let config = Config { initial_rebalance_delay_ms, ..Config::default() };
        Self {
            groups: GroupCoordinator::new(config),
            log: Vec::new(),
            answers: BTreeMap::new(),
            now_ms: 1_000,
            tickets: 0,
        }
    }

    fn now(&self) -> Now {
        let timestamp = TimestampMs(i64::try_from(self.now_ms).unwrap());
        Now { timestamp, monotonic_ms: self.now_ms }
    }

    fn take<R>(&mut self, producer: Option<ProducerId>, result: CoordinatorResult<R>) -> R {
        for record in result.records {
            self.groups.replay(producer, &record);
            self.log.push(Entry::Record(producer, record));
        }
        for (ticket, answer) in result.answers {
            assert!(self.answers.insert(ticket, answer).is_none(), "{ticket:?} answered twice");
        }
        assert_eq!(self.rebuilt().state, self.groups.state);
        result.response
    }

    fn rebuilt(&self) -> GroupCoordinator {
        let mut groups = GroupCoordinator::new(self.groups.config.clone());
        for entry in &self.log {
            match entry {
                Entry::Record(producer, record) => {
                    let (key, value) = record.encode();
                    let record = GroupRecord::decode(&key, value.as_deref()).unwrap();
                    groups.replay(*producer, &record);
                }
                Entry::Marker(partition, producer, committed) => {
                    groups.replay_marker(*partition, *producer, *committed);
                }
            }
        }
        groups
    }

    fn restart(&mut self) {
        self.groups = self.rebuilt();
        let now = self.now();
        self.groups.loaded(now);
    }

    fn marker(&mut self, group_id: &str, producer: ProducerId, committed: bool) {
        let partition = group_partition(group_id);
        self.groups.replay_marker(partition, producer, committed);
        self.log.push(Entry::Marker(partition, producer, committed));
        assert_eq!(self.rebuilt().state, self.groups.state);
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        let result = self.groups.expire(self.now());
        self.take(None, result);
    }

    fn join(&mut self, request: &JoinGroupRequest) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let result = self.groups.join_group(self.now(), request, ticket);
        self.take(None, result);
        ticket
    }

    fn sync(&mut self, request: &SyncGroupRequest) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let result = self.groups.sync_group(self.now(), request, ticket);
        self.take(None, result);
        ticket
    }

    fn joined(&self, ticket: Ticket) -> &JoinGroupResponse {
        match self.answers.get(&ticket) {
            Some(Answer::Join(response)) => response,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn synced(&self, ticket: Ticket) -> &SyncGroupResponse {
        match self.answers.get(&ticket) {
            Some(Answer::Sync(response)) => response,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member_id: &str, generation_id: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation_id,
            member: member(member_id, None),
        };
        let result = self.groups.heartbeat(self.now(), &request);
        self.take(None, result)
    }

    fn leave(&mut self, members: Vec<MemberIdentity>) -> Result<Vec<LeftMember>, ErrorCode> {
        let request = LeaveGroupRequest { group_id: GROUP.to_owned(), members };
        let result = self.groups.leave_group(self.now(), &request);
        self.take(None, result)
    }

    fn commit(
        &mut self,
        producer: Option<ProducerId>,
        commit: &Commit,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let result = self.groups.commit_offsets(self.now(), commit);
        self.take(producer, result)
    }

    /// Brings a group of dynamic members to `Stable`; they are assigned their own names.
    fn stable(&mut self, names: &[&str]) -> i32 {
        let tickets: Vec<Ticket> = names.iter().map(|name| self.join(&old_join(name))).collect();
        let generation = self.joined(*tickets.last().unwrap()).generation_id;
        self.assign(generation, names);
        generation
    }

    fn assign(&mut self, generation: i32, names: &[&str]) -> Vec<Ticket> {
        let leader = self.groups.live.groups[GROUP].leader.clone().unwrap();
        let assignments: Vec<(String, Bytes)> =
            names.iter().map(|n| (id(n), Bytes::from((*n).to_owned()))).collect();
        names
            .iter()
            .map(|name| {
                let mut request = sync_of(&id(name), generation);
                if id(name) == leader {
                    request.assignments.clone_from(&assignments);
                }
                self.sync(&request)
            })
            .collect()
    }

    fn phase(&self) -> Phase {
        self.groups.describe_group(GROUP).unwrap().phase
    }
}

const GROUP: &str = "group";

fn id(name: &str) -> String {
    format!("client-{name}")
}

fn member(member_id: &str, instance: Option<&str>) -> MemberIdentity {
    MemberIdentity {
        member_id: member_id.to_owned(),
        group_instance_id: instance.map(str::to_owned),
    }
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xff; 4]);
    bytes.into()
}

/// A join as clients before v4 send it; the member will be called `client-<name>`.
fn old_join(name: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.to_owned(),
        member_id: String::new(),
        group_instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(&["topic"]))],
        requires_known_member_id: false,
        supports_skipping_assignment: false,
        fresh: name.to_owned(),
    }
}

fn static_join(instance: &str, fresh: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_instance_id: Some(instance.to_owned()),
        requires_known_member_id: true,
        supports_skipping_assignment: true,
        ..old_join(fresh)
    }
}

fn sync_of(member_id: &str, generation_id: i32) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: GROUP.to_owned(),
        generation_id,
        member: member(member_id, None),
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    }
}

fn commit_of(member_id: &str, generation_id: i32, offset: i64) -> Commit {
    Commit {
        group_id: GROUP.to_owned(),
        generation_id,
        member: member(member_id, None),
        transactional: false,
        retention_time_ms: None,
        knows_group_id_not_found: false,
        partitions: vec![CommitPartition {
            partition: ("topic".to_owned(), PartitionIndex(0)),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(0),
            metadata: "note".to_owned(),
        }],
    }
}
