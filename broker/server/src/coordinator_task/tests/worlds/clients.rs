//! Those who commit: consumers that are no members, a member, transactional producers.

mod answers;

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use bytes::Bytes;
use coordinator::{
    CONSUMER_OFFSETS, group_partition,
    groups::{
        Commit, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, MemberIdentity,
        SyncGroupRequest, SyncGroupResponse,
    },
    transactions::{InitProducerIdRequest, Producer, TransactionOf},
};
use storage::{Append, AppendError, Appended, Durability, simulation::Tally};
use tokio::sync::oneshot;
use wire::{
    ErrorCode, PartitionIndex, Sequence,
    batch::{BatchBuilder, NewRecord},
};

use super::{
    super::{
        super::{Held, Plan, Waiting},
        commit_of,
    },
    Check, check,
    world::{DATA, DATA_PARTITIONS, World},
};

type Outcome = Result<Vec<ErrorCode>, ErrorCode>;

/// What was committed for one partition, one after another; none is a deletion.
#[derive(Debug, Default)]
pub(super) struct Commits {
    asked: Vec<Option<i64>>,
    /// How many of them are answered.
    answered: usize,
}

impl Commits {
    /// What is there was asked for, and nothing that was answered is behind it. From now on it is
    /// what counts.
    pub(super) fn verify(&mut self, found: Option<i64>) -> Check {
        let known: Vec<Option<i64>> = std::iter::once(None).chain(self.asked.clone()).collect();
        let at = known.iter().enumerate().skip(self.answered).find(|(_, one)| **one == found);
        let Some((at, _)) = at else {
            return Err(format!("{found:?} is there; {} of {known:?} answered", self.answered));
        };
        self.asked.truncate(at);
        self.answered = at;
        Ok(())
    }
}

/// Which commit of whom.
pub(super) struct Committing {
    key: (String, i32),
    index: usize,
    note: &'static str,
}

/// An answer, or what a client is told in its place.
pub(super) type Answer<R> = Pin<Box<dyn Future<Output = Result<R, ErrorCode>>>>;

/// Waits as the handlers do.
pub(super) fn held<R: 'static>(answer: oneshot::Receiver<R>) -> Answer<R> {
    Box::pin(Held(Some(answer)).wait())
}

/// An answer that is waited for.
pub(super) enum Pending {
    Commit(Committing, Answer<Outcome>),
    Joined(Answer<JoinGroupResponse>),
    Synced(Answer<SyncGroupResponse>),
    Begun(usize, Answer<Result<Producer, ErrorCode>>),
    Added(usize, Answer<Result<(), ErrorCode>>),
    Written(usize, Answer<Vec<Result<Appended, AppendError>>>),
    Offsets(usize, Answer<Outcome>),
    Ended(usize, Answer<Result<Producer, ErrorCode>>),
}

/// The one member of a group.
#[derive(Debug, Default)]
pub(super) struct Member {
    id: String,
    generation: i32,
    is_stable: bool,
    is_waiting: bool,
    has_crashed: bool,
}

const MEMBERS: &str = "members";

/// How far a transactional producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Without an epoch of its own.
    New,
    Ready,
    /// Partitions are added.
    Open,
    /// Something was written to each.
    Written,
    /// It was asked to end like this.
    Ending(bool),
}

/// A transaction, as its producer knows it.
#[derive(Debug, Default)]
struct Transaction {
    /// By partition.
    values: Vec<(usize, String)>,
    has_offset: bool,
    /// Whether it was to commit, once that was asked.
    asked: Option<bool>,
    answered: bool,
    was_unanswered: bool,
}

/// A producer that writes to each partition and commits an offset, the number of its transaction.
#[derive(Debug)]
pub(super) struct Transactional {
    index: usize,
    producer: Option<Producer>,
    stage: Stage,
    is_waiting: bool,
    number: i64,
    sequences: [i32; 2],
    transactions: BTreeMap<i64, Transaction>,
}

impl Transactional {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            producer: None,
            stage: Stage::New,
            is_waiting: false,
            number: 0,
            sequences: [0; 2],
            transactions: BTreeMap::new(),
        }
    }

    fn id(&self) -> String {
        format!("producer-{}", self.index)
    }

    pub(super) fn group(&self) -> String {
        format!("group-of-{}", self.index)
    }

    fn of(&self) -> TransactionOf {
        TransactionOf { transactional_id: self.id(), producer: self.producer.unwrap() }
    }

    /// The present one.
    fn transaction(&mut self) -> &mut Transaction {
        self.transactions.entry(self.number).or_default()
    }

    /// Whether the end of a transaction raises its epoch (KIP-890).
    fn bumps(&self) -> bool {
        self.index.is_multiple_of(2)
    }

    /// Each transaction is whole or absent, with its offset, and as it was answered.
    pub(super) fn verify(
        &mut self,
        committed: &[Vec<String>],
        offset: Option<i64>,
        tally: &Tally,
    ) -> Check {
        let mut newest = None;
        let id = self.id();
        for (number, one) in &mut self.transactions {
            let is_there = |(at, value): &&(usize, String)| committed[*at].contains(value);
            let there = one.values.iter().filter(is_there).count();
            let name = format!("transaction {number} of {id}");
            check(there == 0 || there == one.values.len(), || format!("{name} is torn"))?;
            let counts = there > 0;
            check(!counts || one.asked == Some(true), || format!("{name} counts unasked"))?;
            let must = one.answered && one.asked == Some(true);
            check(counts || !must, || format!("{name}, answered as committed, is gone"))?;
            if std::mem::take(&mut one.was_unanswered) && one.asked == Some(true) {
                tally.note(if counts {
                    "transaction's end unanswered at a crash, and it counts"
                } else {
                    "transaction's end unanswered at a crash, and it does not"
                });
            }
            if counts && one.has_offset {
                newest = Some(*number);
            }
        }
        check(offset == newest, || format!("{id} committed offset {offset:?}, not {newest:?}"))
    }
}

fn commit(group_id: String, partition: i32, offset: i64) -> Commit {
    commit_of(group_id, (DATA.to_owned(), PartitionIndex(partition)), offset)
}

impl World {
    /// One thing that happens.
    pub(super) fn act(&mut self) -> Check {
        self.machine.pass(3);
        match self.dice.below(24) {
            kind @ 0..=12 if self.takes_more() => self.ask(kind),
            13..=17 => drop(self.machine.step()),
            18 => self.machine.keep(),
            19 => {
                self.settle()?;
                self.machine.idle(1500);
            }
            20 => {
                self.settle()?;
                self.machine.idle(7000);
                self.machine.keep();
            }
            21..=22 => self.clean_up()?,
            // The floor of plans is 64 MiB, that of produce 128 MiB.
            23 if self.dice.one_in(3) && self.takes_more() => {
                self.ask_at_once(6);
                if self.dice.one_in(3) {
                    let reads = self.dice.below(40);
                    self.machine.disk.faults(|faults| faults.read_fails_after = Some(reads));
                }
                self.run_short(Some(32 << 20), None);
                self.machine.step();
                self.make_space();
            }
            23 if self.dice.one_in(4) => match self.dice.below(6) {
                0 => self.run_short(Some(32 << 20), None),
                1 => self.run_short(Some(100 << 20), None),
                2 => {
                    let writable = self.dice.below_len(20_000);
                    self.run_short(None, Some(writable));
                }
                _ => self.work_again()?,
            },
            _ => {}
        }
        self.pump()?;
        self.end_with_the_disk()
    }

    /// Much is asked for at once, and only some of it is done.
    pub(super) fn leave_some_queued(&mut self) -> Check {
        if self.takes_more() {
            self.ask_at_once(12);
        }
        for _ in 0..self.dice.below(6) {
            self.machine.step();
        }
        self.pump()
    }

    pub(super) fn ask_at_once(&mut self, count: u64) {
        for _ in 0..count {
            let kind = self.dice.below(13);
            self.ask(kind);
        }
    }

    /// Somebody wants something of a coordinator.
    fn ask(&mut self, kind: u64) {
        match kind {
            0..=2 => {
                let group = format!("plain-{}", self.dice.below(3));
                let index = i32::try_from(self.dice.below(2)).unwrap();
                let commit = commit(group.clone(), index, self.next_offset(&group, index));
                self.commit(&commit, (group, index), "offset committed");
            }
            3 => self.delete_offset(),
            4..=5 => self.be_member(),
            6 => {
                let now = self.now();
                let plan = self.task().groups.expire(now);
                self.apply_alone(plan.into());
            }
            _ => self.go_on(),
        }
    }

    fn next_offset(&self, group: &str, index: i32) -> i64 {
        let commits = self.commits.get(&(group.to_owned(), index));
        commits.and_then(|it| it.asked.iter().flatten().max().copied()).unwrap_or(0) + 1
    }

    fn commit(&mut self, commit: &Commit, key: (String, i32), note: &'static str) {
        let now = self.now();
        let offset = commit.partitions[0].offset.0;
        let plan = self.task().groups.commit_offsets(now, commit);
        let accepted = !plan.records.is_empty();
        let answer = self.apply(plan.into());
        if accepted {
            self.committing(key, Some(offset), (note, answer));
        }
    }

    fn committing(
        &mut self,
        key: (String, i32),
        asked: Option<i64>,
        (note, answer): (&'static str, Answer<Outcome>),
    ) {
        let commits = self.commits.entry(key.clone()).or_default();
        commits.asked.push(asked);
        let index = commits.asked.len();
        self.pending.push(Pending::Commit(Committing { key, index, note }, answer));
    }

    fn delete_offset(&mut self) {
        let group = format!("plain-{}", self.dice.below(3));
        let partition = [(DATA.to_owned(), PartitionIndex(0))];
        let plan = self.task().groups.delete_offsets(&group, &partition);
        let accepted = !plan.records.is_empty();
        let answer = self.apply(plan.into());
        if accepted {
            self.committing((group, 0), None, ("offset deleted", answer));
        }
    }

    /// The member joins, or commits in its generation.
    fn be_member(&mut self) {
        if self.member.is_waiting {
            return;
        }
        if !self.member.is_stable {
            self.join();
            return;
        }
        let now = self.now();
        let member = MemberIdentity { member_id: self.member.id.clone(), group_instance_id: None };
        let generation_id = self.member.generation;
        let heartbeat = HeartbeatRequest {
            group_id: MEMBERS.to_owned(),
            generation_id,
            member: member.clone(),
        };
        let alive = self.task().groups.heartbeat(now, &heartbeat).response == ErrorCode::NONE;
        if !alive || self.dice.one_in(10) {
            self.member.is_stable = false;
            return;
        }
        if std::mem::take(&mut self.member.has_crashed) {
            self.note("member went on after a crash");
        }
        let offset = self.next_offset(MEMBERS, 0);
        let commit = Commit { generation_id, member, ..commit(MEMBERS.to_owned(), 0, offset) };
        self.commit(&commit, (MEMBERS.to_owned(), 0), "offset committed as a member");
    }

    fn join(&mut self) {
        let now = self.now();
        let request = JoinGroupRequest {
            group_id: MEMBERS.to_owned(),
            member_id: self.member.id.clone(),
            group_instance_id: None,
            client_id: "world".to_owned(),
            client_host: "nowhere".to_owned(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::from_static(b"data"))],
            requires_known_member_id: false,
            supports_skipping_assignment: false,
            fresh: format!("{:x}", self.dice.draw()),
        };
        let (deliver, answer) = oneshot::channel();
        let ticket = self.task().wait(Waiting::Join(deliver));
        let plan = self.task().groups.join_group(now, &request, ticket);
        self.apply_alone(plan.into());
        self.member.is_waiting = true;
        self.pending.push(Pending::Joined(held(answer)));
    }

    fn take_joined(&mut self, joined: JoinGroupResponse) {
        if joined.error != ErrorCode::NONE {
            (self.member.is_waiting, self.member.id) = (false, String::new());
            return;
        }
        (self.member.id, self.member.generation) = (joined.member_id, joined.generation_id);
        let member = MemberIdentity { member_id: self.member.id.clone(), group_instance_id: None };
        let request = SyncGroupRequest {
            group_id: MEMBERS.to_owned(),
            generation_id: joined.generation_id,
            member,
            protocol_type: None,
            protocol_name: None,
            assignments: vec![(self.member.id.clone(), Bytes::from_static(b"all"))],
        };
        let now = self.now();
        let (deliver, answer) = oneshot::channel();
        let ticket = self.task().wait(Waiting::Sync(deliver));
        let plan = self.task().groups.sync_group(now, &request, ticket);
        self.apply_alone(plan.into());
        self.pending.push(Pending::Synced(held(answer)));
    }

    /// A transactional producer takes its next step.
    fn go_on(&mut self) {
        let index = self.dice.below_len(self.transactional.len());
        if self.transactional[index].is_waiting {
            return;
        }
        self.transactional[index].is_waiting = true;
        match self.transactional[index].stage {
            Stage::New => self.begin(index),
            Stage::Ready => self.add_partitions(index),
            Stage::Open => self.write(index),
            Stage::Written if self.dice.one_in(4) => self.write(index),
            Stage::Written if self.dice.one_in(2) => self.add_offset(index),
            Stage::Written => {
                let commits = !self.dice.one_in(3);
                self.end(index, commits);
            }
            Stage::Ending(commits) => {
                self.note("lost answer to a transaction's end asked for again");
                self.end(index, commits);
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let now = self.now();
        let request = InitProducerIdRequest {
            transactional_id: Some(self.transactional[index].id()),
            timeout_ms: 600_000,
            producer: None,
        };
        let plan = self.task().transactions.init_producer_id(now, &request);
        if !plan.markers.is_empty() {
            self.note("transaction aborted by its successor");
        }
        let answer = self.apply(plan.into());
        self.pending.push(Pending::Begun(index, answer));
    }

    fn add_partitions(&mut self, index: usize) {
        let now = self.now();
        let of = self.transactional[index].of();
        let partitions: Vec<_> =
            (0..DATA_PARTITIONS).map(|index| (DATA.to_owned(), PartitionIndex(index))).collect();
        let plan = self.task().transactions.add_partitions(now, &of, &partitions);
        let answer = self.apply(plan.into());
        self.pending.push(Pending::Added(index, answer));
    }

    fn write(&mut self, index: usize) {
        let ids: Vec<_> =
            (0..DATA_PARTITIONS).filter_map(|index| self.data_partition(index)).collect();
        let timestamp = self.machine.now();
        let one = &mut self.transactional[index];
        let (producer, number) = (one.producer.unwrap(), one.number);
        let mut batches = Vec::new();
        for (at, partition) in ids.into_iter().enumerate() {
            let sequence = one.sequences[at];
            one.sequences[at] += 1;
            let value = format!("{index}.{number}.{at}.{sequence}");
            let mut builder = BatchBuilder::new()
                .producer(producer.id, producer.epoch, Sequence(sequence))
                .transactional();
            let value_bytes = Some(value.as_bytes());
            builder.push(NewRecord { timestamp, key: None, value: value_bytes, headers: &[] });
            batches.push(Append { partition, batch: builder.build() });
            one.transaction().values.push((at, value));
        }
        let (report, answer) = oneshot::channel();
        let done = Box::new(move |results| drop(report.send(results)));
        self.task().chain.append(batches, Durability::Synced, Duration::MAX, done);
        self.pending.push(Pending::Written(index, held(answer)));
    }

    fn add_offset(&mut self, index: usize) {
        let now = self.now();
        let one = &self.transactional[index];
        let (of, commit) = (one.of(), commit(one.group(), 0, one.number));
        let commit = Commit { transactional: true, ..commit };
        let partition = (CONSUMER_OFFSETS.to_owned(), group_partition(&commit.group_id));
        let added = self.task().transactions.add_partitions(now, &of, &[partition]);
        let plan = match added.response {
            Err(error) => Plan::only(Err(error)),
            Ok(()) => Plan::from(self.task().groups.commit_offsets(now, &commit))
                .in_transaction_of(of.producer)
                .after(added),
        };
        let answer = self.apply(plan);
        self.pending.push(Pending::Offsets(index, answer));
    }

    fn end(&mut self, index: usize, commits: bool) {
        let now = self.now();
        let one = &mut self.transactional[index];
        let (of, bumps) = (one.of(), one.bumps());
        one.stage = Stage::Ending(commits);
        one.transaction().asked = Some(commits);
        let plan = self.task().transactions.end_transaction(now, &of, commits, bumps);
        let answer = self.apply(plan.into());
        self.pending.push(Pending::Ended(index, answer));
    }
}
