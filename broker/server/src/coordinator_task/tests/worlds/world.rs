//! The coordinators' task without its runtime: the test decides when what happens.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use coordinator::{
    CONSUMER_OFFSETS, Now, PARTITION_COUNT, TRANSACTION_STATE, groups, transactions,
};
use storage::{
    CatalogueChange, OpenError, PartitionId, ReadError, Topic,
    simulation::{Crash, Dice, Machine, SimDisk, Sizes},
};
use tokio::sync::oneshot;
use wire::{PartitionIndex, TimestampMs};

use super::{
    super::super::{LoadError, Plan, Settings, Task, Unreadable, load},
    Check, check,
    clients::{Answer, Commits, Member, Pending, Transactional, held},
};

/// The topic that transactions write to.
pub(super) const DATA: &str = "data";
pub(super) const DATA_PARTITIONS: i32 = 2;

thread_local! {
    static TIME: Cell<i64> = const { Cell::new(0) };
}

/// Why a start, or a load, led to nothing.
#[derive(Debug)]
pub(super) enum Refused {
    Engine(OpenError),
    Load(LoadError),
    /// It should have.
    Wrong(String),
}

impl From<Refused> for String {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Engine(error) => error.to_string(),
            Refused::Load(error) => error.to_string(),
            Refused::Wrong(error) => error,
        }
    }
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
    /// The states after plans that a crash lost: they may come back from a mirror as long as nothing else is written.
    pub(super) lost: Vec<States>,
    /// A plan was refused, and so are those behind it, which stand on it.
    is_disturbed: bool,
    /// There was less space than there could be since everything was last seen to work.
    pub(super) is_short: bool,
    /// Somebody was refused something since then.
    pub(super) was_refused: bool,
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
            lost: Vec::new(),
            is_disturbed: false,
            is_short: false,
            was_refused: false,
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
    pub(super) fn start(&mut self) -> Result<(), Refused> {
        self.machine.start().map_err(Refused::Engine)?;
        let settings = Settings {
            groups: groups::Config { initial_rebalance_delay_ms: 0, ..groups::Config::default() },
            transactions: transactions::Config::default(),
            offsets_check_interval: Duration::from_mins(10),
            clock: || TimestampMs(TIME.get()),
        };
        self.task = Some(Task::new(self.machine.storage(), settings));
        self.load().inspect_err(|_| self.task = None)?;
        let state = self.state();
        self.recognise(state)?;
        // Without the reserve produce is refused.
        self.is_short = !self.machine.has_reserve();
        (self.is_disturbed, self.was_refused) = (false, false);
        Ok(())
    }

    /// Nobody lost a marker, so every transaction that is open in a log goes on or is about to end.
    pub(super) fn abandon_nothing(&mut self) -> Check {
        let task = self.task();
        let abandoned = task.keep_abandoned();
        if abandoned.is_empty() {
            return Ok(());
        }
        Err(format!("would abort {abandoned:?} beside {:?}", task.transactions.state()))
    }

    fn recognise(&mut self, state: States) -> Result<(), Refused> {
        if self.states.is_empty() {
            self.states.push_back(state);
            return Ok(());
        }
        let found = self.states.iter().position(|known| *known == state);
        let Some(found) = found else {
            if self.lost.contains(&state) {
                self.states = VecDeque::from([state]);
                return Ok(());
            }
            let wrong = format!("loaded {state:?}, which is none of {:?}", self.states);
            return Err(Refused::Wrong(wrong));
        };
        if found > 0 {
            self.note("unanswered plans survived a crash");
        }
        if found + 1 < self.states.len() {
            self.note("plans lost in a crash");
        }
        self.states.drain(..found);
        Ok(())
    }

    /// Loads both machines. Nothing that could not be read is passed over.
    fn load(&mut self) -> Result<(), Refused> {
        let now = self.now();
        // Others may have read in vain before.
        self.machine.disk.has_read_failed();
        let task = self.task();
        let loaded = load::load(&task.storage, &task.settings);
        let failed = self.machine.disk.has_read_failed();
        match loaded {
            Ok(_) if failed => Err(Refused::Wrong("loaded what could not be read".to_owned())),
            Ok(machines) => {
                self.task().take_up(machines, now);
                Ok(())
            }
            Err(error) => {
                if failed {
                    self.note("EIO on a read while groups and transactions were loaded");
                }
                Err(Refused::Load(error))
            }
        }
    }

    /// Loads both machines again, which then know what they knew.
    pub(super) fn load_again(&mut self) -> Result<(), Refused> {
        self.load()?;
        let state = self.state();
        if self.states.front().is_none_or(|known| *known == state) {
            self.states = VecDeque::from([state]);
            return Ok(());
        }
        Err(Refused::Wrong(format!("loaded {state:?} again, and not {:?}", self.states)))
    }

    fn state(&mut self) -> States {
        let task = self.task();
        (task.groups.state().clone(), task.transactions.state().clone())
    }

    /// Carries a plan out as the task does.
    pub(super) fn apply<R: Send + 'static>(&mut self, plan: Plan<R>) -> Answer<R> {
        let (deliver, answer) = oneshot::channel();
        let before = self.task().in_flight.len();
        self.task().apply(plan, deliver);
        self.planned(before);
        held(answer)
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

    /// Gives out what is appended; after a refused plan both machines are loaded again, as soon as
    /// that can be done.
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
                self.lost.clear();
            }
            self.is_disturbed |= refused;
        }
        if self.is_disturbed && self.task().in_flight.is_empty() && !self.machine.has_ended() {
            self.task().waiting.clear();
            match self.load_again() {
                Ok(()) => {
                    self.note("a coordinator's plan was refused, and it loaded again");
                    self.is_disturbed = false;
                }
                Err(Refused::Load(error)) if is_eio(&error) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        self.take_answers()
    }

    /// The cleaner's work, and what follows from it.
    pub(super) fn clean_up(&mut self) -> Check {
        self.settle()?;
        self.machine.clean();
        self.settle()?;
        self.machine.keep();
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

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.machine.storage().catalogue().by_name.get(name).cloned()
    }

    pub(super) fn data_partition(&self, index: i32) -> Option<PartitionId> {
        let topic = self.topic(DATA)?;
        Some(PartitionId { topic: topic.id, partition: PartitionIndex(index) })
    }

    /// What was promised to those who commit.
    pub(super) fn verify(&mut self) -> Check {
        let committed = self.committed_values().map_err(|error| error.to_string())?;
        self.verify_with(&committed)
    }

    /// The same, of those whose transactions have left these values in each partition.
    pub(super) fn verify_with(&mut self, committed: &[Vec<String>]) -> Check {
        // From now on what is there is what counts.
        self.lost.extend(self.states.drain(1..));
        let task = self.task.as_ref().unwrap();
        for ((group, index), commits) in &mut self.commits {
            let found = fetch(task, group, *index);
            commits.verify(found).map_err(|error| format!("{group} {index}: {error}"))?;
        }
        let tally = self.machine.disk.tally();
        for one in &mut self.transactional {
            one.verify(committed, fetch(task, &one.group(), 0), &tally)?;
        }
        let count: usize = committed.iter().map(Vec::len).sum();
        let distinct: BTreeSet<&String> = committed.iter().flatten().collect();
        check(count == distinct.len(), || "a record is there twice".to_owned())
    }
}

/// Whether the disk failed, and nothing else.
pub(super) fn is_eio(error: &LoadError) -> bool {
    let LoadError::Unreadable { cause, .. } = error else { return false };
    let (Unreadable::Io(error) | Unreadable::Read(ReadError::Io(error))) = cause else {
        return false;
    };
    error.raw_os_error() == Some(5)
}

/// The offset that a group has committed for a partition of the data, if any.
fn fetch(task: &Task, group: &str, index: i32) -> Option<i64> {
    let of = [(DATA.to_owned(), PartitionIndex(index))];
    let fetched = task.groups.fetch_offsets(group, Some(&of), false);
    fetched.first().map(|one| one.offset.0).filter(|offset| *offset >= 0)
}
