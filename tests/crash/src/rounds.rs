//! One run: a broker under load, fault after fault, and at the end the history is judged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::history::{Cleanup, Fault, GroupAction, History, Isolation, Made, Outcome, check};
use crate::load::{self, External, Recorder};
use crate::random::Random;
use crate::subject::{Setup, Subject};
use crate::tally::Tally;
use crate::time::{DEADLINE, Stopwatch, pause, within};
use crate::topics::{
    ALL, DELETED, IDEMPOTENT, PRODUCERS, TOPICS, TRANSACTIONAL, create_topics, topics,
};
use crate::verdict::{Failure, IN_VAIN, Verdict};
use crate::watch::{Moment, PATIENCE, wait_for};

/// The topics of which groups commit offsets.
const GROUPS: [usize; 2] = [ALL, IDEMPOTENT];
/// How many records each producer may send per life.
const RECORDS_PER_LIFE: u64 = 200;
/// More when the fault waits for something that only bytes bring about.
const RECORDS_TO_WAIT: u64 = 1_000;
/// Progress is shown so often.
const SHOWN_EVERY: u64 = 20;

/// Situations of which a count of 0 fails the run.
const REQUIRED: &[&str] = &[
    "faults under load",
    "faults while starting",
    "faults while checkpointing",
    "faults while sealing",
    "faults while ending a transaction",
    "faults while cleaning",
    "faults while compacting",
    "faults while swapping a compacted file",
    "records compacted away",
    "recoveries from the journal",
    "transactions committed",
    "transactions aborted",
    "steps of groups",
    "topics created beside it",
    "topics deleted",
    "transactions with offsets, to the last",
];

/// What a run is about.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) program: PathBuf,
    /// Empty, and removed afterwards by whoever made it.
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    /// Clients in other languages.
    pub(crate) externals: Vec<External>,
    /// No other faults than these.
    pub(crate) focus: Option<Focus>,
}

/// Faults that a run may be about alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Focus {
    Load,
    Checkpointing,
    Syncing,
    Resurfacing,
}

impl Focus {
    fn moment(self, round: u64, random: &mut Random) -> Moment {
        match self {
            Self::Load => Moment::Acks(random.below(600)),
            Self::Checkpointing => Moment::Checkpointing,
            Self::Syncing => Moment::Syncing(random.below(200)),
            Self::Resurfacing if round % 2 == 1 => Moment::Turning,
            Self::Resurfacing => Moment::Resurfacing(1 + random.below(20)),
        }
    }
}

/// The power of the machine: what a fault does besides ending the process.
pub(crate) trait Power {
    fn fault(&self) -> Fault;
    /// Where the broker's data has to be, if that matters.
    fn data_dir(&self) -> Option<PathBuf> {
        None
    }
    /// Situations of its own of which a count of 0 fails the run.
    fn required(&self) -> &'static [&'static str] {
        &[]
    }
    /// When to strike in this round.
    fn moment(&self, round: u64, random: &mut Random) -> Moment {
        usual_moment(round, random)
    }
    /// Whether what clients and the broker complain of can be the fault's doing; a kill is nothing that it lives to see.
    fn excuses_errors(&self) -> bool {
        false
    }
    /// From now on nothing is in the broker's way.
    fn calm(&mut self) {}
    /// Nothing of it stays behind.
    fn shut_down(&mut self) {}
    /// Ends the process, and with it whatever the fault takes along; fails if the broker did what it must not.
    fn strike(
        &mut self,
        subject: &mut Subject,
        moment: Moment,
        recorder: &Recorder,
        tally: &mut Tally,
    ) -> Result<(), Failure>;
}

/// What belongs to every run, in turn.
pub(crate) fn usual_moment(round: u64, random: &mut Random) -> Moment {
    match round % 10 {
        1 => Moment::Starting(random.below(20_000)),
        2 | 7 => Moment::Committing(20 + random.below(80)),
        3 => Moment::Checkpointing,
        4 => Moment::Compacting,
        5 => Moment::Sealing,
        6 => Moment::Swapping,
        9 => Moment::Cleaning,
        _ => Moment::Acks(random.below(600)),
    }
}

/// SIGKILL, and nothing else.
#[derive(Debug)]
pub(crate) struct Kill;

impl Power for Kill {
    fn fault(&self) -> Fault {
        Fault::Kill
    }

    fn strike(
        &mut self,
        subject: &mut Subject,
        moment: Moment,
        recorder: &Recorder,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let happened = if let Moment::Starting(after) = moment {
            within(PATIENCE, || subject.is_starting().then_some(()));
            pause(Duration::from_micros(after));
            subject.is_starting()
        } else {
            wait_for(moment, subject.data_dir(), recorder)
        };
        subject.kill()?;
        tally.count(if happened { moment.name() } else { IN_VAIN });
        Ok(())
    }
}

/// Everything that belongs to one run.
struct Run<'a> {
    plan: &'a Plan,
    subject: Subject,
    recorder: Arc<Recorder>,
    random: Random,
    verdict: Verdict,
}

pub(crate) fn run(plan: &Plan, power: &mut dyn Power) -> Verdict {
    let setup = Setup {
        program: plan.program.clone(),
        data_dir: power.data_dir().unwrap_or_else(|| plan.directory.join("data")),
        log: plan.directory.join("log"),
        environment: plan.environment.clone(),
    };
    let history = History::new(power.fault(), topics());
    let mut run = Run {
        plan,
        subject: Subject::new(setup),
        recorder: Arc::new(Recorder::new(history)),
        random: Random::new(plan.seed),
        verdict: Verdict::default(),
    };
    if plan.focus.is_none() {
        for situation in REQUIRED.iter().chain(power.required()) {
            run.verdict.tally.require(situation);
        }
    }
    run.subject.launch();
    assert!(run.subject.wait_ready_or_ended(), "not even once\n{}", run.subject.tail());
    create_topics(&run.subject.brokers());
    let brokers = run.subject.brokers();
    thread::scope(|scope| {
        let (producers, recorder) = start_loads(scope, &brokers, plan, &run.recorder);
        // A panic, too, has to end the run, not to wait for the clients.
        let through = catch_unwind(AssertUnwindSafe(|| run.go_through(power, producers, &brokers)));
        if through.is_err() {
            run.verdict.failures.push(Failure::Stuck("the harness gave up".to_owned()));
        }
        if !run.verdict.failures.is_empty() {
            // Clients wait for ever for a broker that does not come back.
            run.subject.end();
            power.shut_down();
            std::process::exit(crate::finish(plan, &run.verdict).into());
        }
        recorder.stop_readers();
    });
    run.judge(power)
}

/// Every client in a thread of its own; the handles are those of the producers.
fn start_loads<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    brokers: &'env str,
    plan: &'env Plan,
    recorder: &Arc<Recorder>,
) -> (Vec<ScopedJoinHandle<'scope, ()>>, Arc<Recorder>) {
    let mut producers = Vec::new();
    for load in PRODUCERS {
        let recorder = Arc::clone(recorder);
        producers.push(scope.spawn(move || {
            if TOPICS[load.topic].transactional {
                load::produce_transactions(brokers, load, &recorder);
            } else {
                load::produce(brokers, load, &recorder);
            }
        }));
    }
    for external in &plan.externals {
        let recorder = Arc::clone(recorder);
        producers.push(scope.spawn(move || load::run_external(brokers, external, &recorder)));
    }
    let cleaned = Arc::clone(recorder);
    scope.spawn(move || load::delete_records(brokers, DELETED, &cleaned));
    // One of those that end first, so that its last answer is there when the topics are listed.
    let changed = Arc::clone(recorder);
    producers.push(scope.spawn(move || load::change_topics(brokers, &changed)));
    for topic in 0..topics().len() {
        for isolation in [Isolation::Uncommitted, Isolation::Committed] {
            let recorder = Arc::clone(recorder);
            scope.spawn(move || load::read_on(brokers, topic, isolation, &recorder));
        }
    }
    for (group, topic) in GROUPS.into_iter().enumerate() {
        let recorder = Arc::clone(recorder);
        scope.spawn(move || load::commit_offsets(brokers, group, topic, &recorder));
    }
    (producers, Arc::clone(recorder))
}

impl Run<'_> {
    /// All faults, then the last answers, then all that is there; or up to the first failure.
    fn go_through(
        &mut self,
        power: &mut dyn Power,
        producers: Vec<ScopedJoinHandle<'_, ()>>,
        brokers: &str,
    ) {
        // No fault before that: a virtual machine or compiler may be slow to start.
        self.recorder.next_life(RECORDS_PER_LIFE);
        self.wait_for_everyone().unwrap();
        self.faults(power);
        if !self.verdict.failures.is_empty() {
            return;
        }
        if let Err(who) = self.wait_for_everyone() {
            self.verdict.failures.push(Failure::NoAnswer(who));
            return;
        }
        let draining = Stopwatch::start();
        self.recorder.stop_producers();
        for producer in producers {
            if producer.join().is_err() {
                self.verdict.failures.push(Failure::Stuck("a producer gave up".to_owned()));
                return;
            }
        }
        let drained = draining.elapsed();
        self.read_back(brokers);
        let read_back = draining.elapsed().saturating_sub(drained);
        eprintln!(
            "the last answers took {:.1} s, reading all of it {:.1} s",
            drained.as_secs_f64(),
            read_back.as_secs_f64()
        );
    }

    /// Every client has got something done in this life; or who has not.
    fn wait_for_everyone(&mut self) -> Result<(), String> {
        let life = self.recorder.life();
        let external = self.plan.externals.iter().flat_map(|external| &external.producers);
        for producer in PRODUCERS.iter().chain(external) {
            let number = producer.number;
            let got_on = |history: &History| {
                let mut acks = history.acks.iter().rev().take_while(|ack| ack.life == life);
                let acked = acks.any(|ack| History::producer(ack.id) == number);
                let decided = history.decided.get(&number) == Some(&life);
                acked && (decided || !TOPICS[producer.topic].transactional)
            };
            within(DEADLINE, || got_on(&self.recorder.history()).then_some(()))
                .ok_or_else(|| format!("producer {number}, {}", TOPICS[producer.topic].name))?;
        }
        for (group, topic) in GROUPS.into_iter().enumerate() {
            let commits = |history: &History| {
                let mut steps =
                    history.group_steps.iter().rev().take_while(|step| step.life == life);
                steps.any(|step| {
                    step.group == group && matches!(step.what, GroupAction::Committed(_))
                })
            };
            within(DEADLINE, || commits(&self.recorder.history()).then_some(()))
                .ok_or_else(|| format!("the group on {}", TOPICS[topic].name))?;
        }
        Ok(())
    }

    /// Fault after fault; ends with a broker that runs, or a failure.
    fn faults(&mut self, power: &mut dyn Power) {
        let mut running = Stopwatch::start();
        let mut round = 0;
        while let Some(moment) = self.next_moment(round + 1, power) {
            round += 1;
            self.verdict.faults = round;
            self.recorder.next_life(match moment {
                Moment::Checkpointing
                | Moment::Sealing
                | Moment::Cleaning
                | Moment::Compacting
                | Moment::Swapping => RECORDS_TO_WAIT,
                _ => RECORDS_PER_LIFE,
            });
            if !matches!(moment, Moment::Starting(_)) && !self.wait_ready() {
                return;
            }
            let (subject, tally) = (&mut self.subject, &mut self.verdict.tally);
            if let Err(wrong) = power.strike(subject, moment, &self.recorder, tally) {
                self.verdict.failures.push(wrong);
                return;
            }
            self.look_at_log(power);
            if !self.verdict.failures.is_empty() {
                return;
            }
            self.subject.launch();
            if round % SHOWN_EVERY == 0 {
                eprintln!(
                    "{round} of {} faults, {} records acknowledged, {} steps of groups, {:.1} s",
                    self.plan.rounds,
                    self.recorder.acks(),
                    self.recorder.group_steps(),
                    running.elapsed().as_secs_f64()
                );
                running = Stopwatch::start();
            }
        }
        self.recorder.next_life(RECORDS_PER_LIFE);
        power.calm();
        self.wait_ready();
    }

    /// When to strike in this round, or `None` at the end: after as many rounds as were asked for, and up to as many
    /// again for what belongs to a run and has not come about in a short one.
    fn next_moment(&mut self, round: u64, power: &dyn Power) -> Option<Moment> {
        if round <= self.plan.rounds {
            return Some(match self.plan.focus {
                Some(focus) => focus.moment(round, &mut self.random),
                None => power.moment(round, &mut self.random),
            });
        }
        if self.plan.focus.is_some() {
            return None;
        }
        let missing = self.verdict.tally.missing();
        let lacks = |situation: &str| missing.contains(&situation);
        let moments = [
            Moment::Checkpointing,
            Moment::Sealing,
            Moment::Cleaning,
            Moment::Compacting,
            Moment::Swapping,
            Moment::Committing(0),
        ];
        let lacking = moments.into_iter().find(|moment| lacks(moment.name()));
        let other = power.required().iter().any(|situation| lacks(situation));
        let goes_on = round <= self.plan.rounds * 2 && (lacking.is_some() || other);
        goes_on.then(|| lacking.unwrap_or_else(|| power.moment(round, &mut self.random)))
    }

    /// `false` if it ended instead, which it must not.
    fn wait_ready(&mut self) -> bool {
        let ready = self.subject.wait_ready_or_ended();
        if !ready {
            let status = self.subject.end();
            let why = self.subject.obituary(status);
            self.verdict.failures.push(Failure::DoesNotStart(why));
        }
        ready
    }

    /// What the broker said in the life that is over.
    fn look_at_log(&mut self, power: &dyn Power) {
        for line in self.subject.new_lines() {
            if line.contains("storage recovered") {
                self.verdict.tally.count("recoveries from the journal");
            }
            if line.contains("\"torn_tail\":true") {
                self.verdict.tally.count("torn tails cut by a recovery");
            }
            let is_error = line.contains("\"level\":\"ERROR\"")
                && !line.contains("storage::mutant")
                && !power.excuses_errors();
            if is_error || line.contains("panicked") {
                self.verdict.failures.push(Failure::Logged(line));
            }
        }
    }

    fn read_back(&mut self, brokers: &str) {
        for (topic, named) in topics().iter().enumerate() {
            let logs = load::read_all(brokers, topic, named);
            self.recorder.history().logs.extend(logs);
        }
        let offset = load::committed_offset(brokers, &topics()[TRANSACTIONAL]).unwrap();
        let listed = load::made_topics(brokers);
        let mut history = self.recorder.history();
        history.offset_of = Some((load::COMMITS_OFFSETS, offset));
        history.listed = listed;
    }

    fn judge(mut self, power: &dyn Power) -> Verdict {
        if self.verdict.failures.is_empty() {
            let status = self.subject.stop();
            if !status.success() {
                let how = format!("stopped with {status}");
                self.verdict.failures.push(Failure::EndedByItself(how));
            }
            self.look_at_log(power);
            let history = self.recorder.history();
            let tally = &mut self.verdict.tally;
            let of = |outcome| {
                let all = history.transactions.values();
                u64::try_from(all.filter(|found| **found == outcome).count()).unwrap()
            };
            tally.add("transactions committed", of(Outcome::Committed));
            tally.add("transactions aborted", of(Outcome::Aborted));
            tally.add("transactions of unknown outcome", of(Outcome::Unknown));
            let deleted = history.starts.values().sum::<i64>();
            tally.add("records deleted", u64::try_from(deleted).unwrap());
            tally.add("records compacted away", compacted_away(&history));
            for ack in &history.acks {
                if let Some(send) = history.sends.get(&ack.id) {
                    tally.count(TOPICS[send.slot.topic].acknowledged);
                }
            }
            for (refusal, times) in &history.refusals {
                let how = if refusal.fatal { "producers replaced" } else { "errors" };
                tally.add(format!("{how}: {}", refusal.error), *times);
            }
            let replaced = self.recorder.members_replaced();
            tally.add("members of groups replaced after they were fenced", replaced);
            for (situation, wanted) in
                [("topics created beside it", Made::Created), ("topics deleted", Made::Deleted)]
            {
                let made = history.made.values().filter(|made| **made >= wanted);
                tally.add(situation, u64::try_from(made.count()).unwrap());
            }
            let offset = history.offset_of.map_or(0, |(_, offset)| offset.max(0));
            tally.add("transactions with offsets, to the last", u64::try_from(offset).unwrap());
            tally.add("records read", u64::try_from(history.reads.len()).unwrap());
            tally.add("steps of groups", u64::try_from(history.group_steps.len()).unwrap());
            self.verdict.violations = check(&history);
        }
        self.verdict
    }
}

/// Acknowledged records that a compacted log does not have any more.
fn compacted_away(history: &History) -> u64 {
    let gone = history.acks.iter().filter(|ack| {
        let Some(send) = history.sends.get(&ack.id) else { return false };
        let log = history.logs.get(&send.slot);
        history.cleanup(send.slot) == Cleanup::Compact
            && log.is_some_and(|log| !log.uncommitted.contains_key(&ack.offset))
    });
    u64::try_from(gone.count()).unwrap()
}
