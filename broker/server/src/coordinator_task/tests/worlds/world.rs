//! The coordinators' task without its runtime: the test decides when what happens.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use coordinator::{CONSUMER_OFFSETS, Now, PARTITION_COUNT, TRANSACTION_STATE, groups, transactions};
use storage::{
    CatalogueChange, Isolation, PartitionId, ReadLimit, Topic,
    simulation::{Crash, Dice, Machine, SimDisk, Sizes},
};
use tokio::sync::oneshot;
use wire::{
    Offset, PartitionIndex, ProducerId, TimestampMs,
    batch::{self, Marker, RecordLimits},
};

use super::{
    super::super::{Plan, Settings, Task, load},
    Check, check,
    clients::{Commits, Member, Pending, Transactional},
};

/// The topic that transactions write to.
pub(super) const DATA: &str = "data";
pub(super) const DATA_PARTITIONS: i32 = 2;

thread_local! {
    static TIME: Cell<i64> = const { Cell::new(0) };
}

/// What the records say, of both machines.
type States = (groups::State, transactions::State);

/// Everything.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) machine: Machine,
    pub(super) task: Option<Task>,
    /// The state after the newest plan that was answered, and after each one since.
    states: VecDeque<States>,
    /// A plan was refused, and so are those behind it, which stand on it.
    is_disturbed: bool,
    pub(super) commits: BTreeMap<(String, i32), Commits>,
    pub(super) transactional: Vec<Transactional>,
    pub(super) member: Member,
    pub(super) pending: Vec<Pending>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let sizes = Sizes::some(&mut dice);
        Self {
            machine: Machine::on(SimDisk::default(), seed, sizes),
            dice,
            task: None,
            states: VecDeque::new(),
            is_disturbed: false,
            commits: BTreeMap::new(),
            transactional: (0..3).map(Transactional::new).collect(),
            member: Member::default(),
            pending: Vec::new(),
        }
    }

    pub(super) fn note(&self, what: &'static str) {
        self.machine.disk.tally().note(what);
    }

    pub(super) fn now(&self) -> Now {
        let timestamp = self.machine.now();
        TIME.set(timestamp.0);
        Now { timestamp, monotonic_ms: timestamp.0.unsigned_abs() }
    }

    pub(super) fn task(&mut self) -> &mut Task {
        self.task.as_mut().unwrap()
    }

    /// Starts the engine and loads both machines: they then know what they knew after some plan,
    /// and none that was answered is missing.
    pub(super) fn start(&mut self) -> Check {
        self.machine.start().map_err(|error| error.to_string())?;
        let settings = Settings {
            groups: groups::Config { initial_rebalance_delay_ms: 0, ..groups::Config::default() },
            transactions: transactions::Config::default(),
            offsets_check_interval: Duration::from_mins(10),
            clock: || TimestampMs(TIME.get()),
        };
        self.task = Some(Task::new(self.machine.storage(), settings));
        self.load()?;
        let state = self.state();
        if !self.states.is_empty() {
            let found = self.states.iter().position(|known| *known == state);
            let Some(found) = found else {
                return Err(format!("loaded {state:?}, which is none of {:?}", self.states));
            };
            if found > 0 {
                self.note("unanswered plans survived a crash");
            }
            if found + 1 < self.states.len() {
                self.note("plans lost in a crash");
            }
        }
        self.is_disturbed = false;
        self.states = VecDeque::from([state]);
        Ok(())
    }

    fn load(&mut self) -> Check {
        let now = self.now();
        let task = self.task();
        let machines = load::load(&task.storage, &task.settings);
        task.take_up(machines.map_err(|error| error.to_string())?, now);
        Ok(())
    }

    fn state(&mut self) -> States {
        let task = self.task();
        (task.groups.state().clone(), task.transactions.state().clone())
    }

    /// Carries a plan out as the task does.
    pub(super) fn apply<R: Send + 'static>(&mut self, plan: Plan<R>) -> oneshot::Receiver<R> {
        let (deliver, answer) = oneshot::channel();
        let before = self.task().in_flight.len();
        self.task().apply(plan, deliver);
        self.planned(before);
        answer
    }

    /// The same for what nobody waits for.
    pub(super) fn apply_alone(&mut self, plan: Plan<()>) {
        let before = self.task().in_flight.len();
        self.task().apply_alone(plan);
        self.planned(before);
    }

    fn planned(&mut self, in_flight_before: usize) {
        if self.task().in_flight.len() > in_flight_before {
            let state = self.state();
            self.states.push_back(state);
        }
    }

    /// Gives out what is appended; after a refused plan both machines are loaded again.
    pub(super) fn pump(&mut self) -> Check {
        while let Some(first) = self.task().in_flight.front_mut() {
            // What the engine dropped with its end is never answered.
            let Ok(result) = first.done.try_recv() else { break };
            let refused = self.task().appended(result.err());
            if refused {
                // Neither it nor what stands on it is ever there.
                self.states.truncate(1);
            } else if !self.is_disturbed {
                self.states.pop_front();
            }
            self.is_disturbed |= refused;
        }
        if self.is_disturbed && self.task().in_flight.is_empty() && !self.machine.has_ended() {
            self.note("a coordinator's plan was refused, and it loaded again");
            self.task().waiting.clear();
            self.load()?;
            let state = self.state();
            check(self.states.front().is_none_or(|known| *known == state), || {
                format!("{state:?} behind a refused plan, and not {:?}", self.states)
            })?;
            self.states = VecDeque::from([state]);
            self.is_disturbed = false;
        }
        self.take_answers();
        Ok(())
    }

    /// Whether the task takes operations: after a refusal it first waits for those in flight.
    pub(super) fn takes_more(&self) -> bool {
        !self.is_disturbed
    }

    /// Does everything that is queued.
    pub(super) fn settle(&mut self) -> Check {
        while self.machine.step() {}
        self.pump()
    }

    pub(super) fn crash(&mut self, how: Crash) -> Check {
        if self.task.is_some() {
            self.pump()?;
        }
        self.forget_unanswered();
        self.task = None;
        self.machine.crash(how, &mut self.dice);
        Ok(())
    }

    /// Ends as a clean stop does.
    pub(super) fn stop(&mut self) -> Check {
        self.machine.finish();
        self.pump()?;
        self.machine.keep();
        if !self.machine.has_ended() {
            self.note("clean stop");
        }
        Ok(())
    }

    /// The internal topics with files so small that they are compacted.
    pub(super) fn create_topics(&mut self) -> Check {
        let small = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1200"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("delete.retention.ms", "3000"),
        ];
        let topics = [
            (CONSUMER_OFFSETS, PARTITION_COUNT, &small[..]),
            (TRANSACTION_STATE, PARTITION_COUNT, &small[..]),
            (DATA, DATA_PARTITIONS, &[]),
        ];
        for (name, partitions, configs) in topics {
            if self.machine.has_ended() || self.topic(name).is_some() {
                continue;
            }
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let configs = configs.iter().map(own).collect();
            let name = name.to_owned();
            let change = CatalogueChange::CreateTopic { name, partitions, configs };
            self.machine.storage().change_catalogue(change, Box::new(drop));
            self.settle()?;
        }
        Ok(())
    }

    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.machine.storage().catalogue().by_name.get(name).cloned()
    }

    pub(super) fn data_partition(&self, index: i32) -> Option<PartitionId> {
        let topic = self.topic(DATA)?;
        Some(PartitionId { topic: topic.id, partition: PartitionIndex(index) })
    }

    /// What of a data partition was committed, by value.
    fn committed_values(&self, index: i32) -> Result<Vec<String>, String> {
        let mut committed = Vec::new();
        let Some(id) = self.data_partition(index) else { return Ok(committed) };
        let storage = self.machine.storage();
        let mut open: BTreeMap<ProducerId, Vec<String>> = BTreeMap::new();
        let mut from = Offset(0);
        loop {
            let isolation = Isolation::ReadUncommitted;
            let limit = ReadLimit { max_bytes: 20_000, isolation, at_least_one_batch: true };
            let read = storage.read(id, from, limit).map_err(|error| error.to_string())?;
            let Some(slice) = read.slices.first() else { return Ok(committed) };
            let bytes = slice.load().map_err(|error| error.to_string())?;
            for view in batch::batches(&bytes) {
                from = view.header.next_offset();
                let producer = view.header.producer_id;
                if let Some((end, _)) = batch::marker(&view).unwrap() {
                    let ended = open.remove(&producer).unwrap_or_default();
                    committed.extend(ended.into_iter().filter(|_| end == Marker::Commit));
                    continue;
                }
                let mut records = batch::records(&view, RecordLimits::default()).unwrap();
                while let Some(record) = records.next_record() {
                    let value = record.unwrap().value.unwrap().to_vec();
                    open.entry(producer).or_default().push(String::from_utf8(value).unwrap());
                }
            }
        }
    }

    /// What was promised to those who commit.
    pub(super) fn verify(&mut self) -> Check {
        let committed: Vec<Vec<String>> = (0..DATA_PARTITIONS)
            .map(|index| self.committed_values(index))
            .collect::<Result<_, _>>()?;
        let task = self.task.as_ref().unwrap();
        for ((group, index), commits) in &mut self.commits {
            let found = fetch(task, group, *index);
            commits.verify(found).map_err(|error| format!("{group} {index}: {error}"))?;
        }
        let tally = self.machine.disk.tally();
        for one in &mut self.transactional {
            one.verify(&committed, fetch(task, &one.group(), 0), &tally)?;
        }
        let count: usize = committed.iter().map(Vec::len).sum();
        let distinct: BTreeSet<&String> = committed.iter().flatten().collect();
        check(count == distinct.len(), || "a record is there twice".to_owned())
    }
}

/// The offset that a group has committed for a partition of the data, if any.
fn fetch(task: &Task, group: &str, index: i32) -> Option<i64> {
    let of = [(DATA.to_owned(), PartitionIndex(index))];
    let fetched = task.groups.fetch_offsets(group, Some(&of), false);
    fetched.first().map(|one| one.offset.0).filter(|offset| *offset >= 0)
}
