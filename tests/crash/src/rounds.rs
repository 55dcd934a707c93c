//! One run: a broker under load, fault after fault, and at the end the history is judged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::history::{Acks, Cleanup, Fault, History, Isolation, Outcome, Topic, Violation, check};
use crate::load::{self, External, Producer, Recorder};
use crate::random::Random;
use crate::subject::{Setup, Subject};
use crate::tally::Tally;
use crate::time::{Stopwatch, eventually};
use crate::watch::{Moment, wait_for};

/// How many records each producer may send per life.
const RECORDS_PER_LIFE: u64 = 200;
/// More when the fault waits for something that only bytes bring about.
const RECORDS_TO_WAIT: u64 = 1_000;
/// Progress is shown so often.
const SHOWN_EVERY: u64 = 20;

const LEADER: usize = 0;
const ALL: usize = 1;
const IDEMPOTENT: usize = 2;
const TRANSACTIONAL: usize = 3;
const DELETED: usize = 4;
const COMPACTED: usize = 5;
const JAVA_IDEMPOTENT: usize = 6;
const JAVA_TRANSACTIONAL: usize = 7;
const GO: usize = 8;

/// A topic and the settings that bring its cleanup about.
struct Wanted {
    name: &'static str,
    /// What the tally calls its records.
    acknowledged: &'static str,
    partitions: i32,
    cleanup: Cleanup,
    settings: &'static [(&'static str, &'static str)],
}

const fn kept(name: &'static str, acknowledged: &'static str, partitions: i32) -> Wanted {
    Wanted { name, acknowledged, partitions, cleanup: Cleanup::Never, settings: &[] }
}

/// In the order of the constants above. Different counts of partitions, so that not all logs go on in a new file at once.
const TOPICS: [Wanted; 9] = [
    kept("crash-leader", "records acknowledged: acks=1", 2),
    kept("crash-all", "records acknowledged: acks=all", 3),
    kept("crash-idempotent", "records acknowledged: idempotent", 1),
    kept("crash-transactional", "records acknowledged: transactional", 2),
    Wanted {
        name: "crash-deleted",
        acknowledged: "records acknowledged: on a log that is deleted from",
        partitions: 1,
        cleanup: Cleanup::Delete,
        settings: &[("retention.bytes", "4194304")],
    },
    Wanted {
        name: "crash-compacted",
        acknowledged: "records acknowledged: on a compacted log",
        partitions: 1,
        cleanup: Cleanup::Compact,
        settings: &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")],
    },
    kept("crash-java-idempotent", "records acknowledged: Java, idempotent", 2),
    kept("crash-java-transactional", "records acknowledged: Java, transactional", 2),
    kept("crash-go", "records acknowledged: kafka-go, acks=all", 2),
];

const PRODUCERS: &[Producer] = &[
    Producer { number: 1, topic: LEADER, acks: Acks::Leader, idempotent: false },
    Producer { number: 2, topic: ALL, acks: Acks::All, idempotent: false },
    Producer { number: 3, topic: IDEMPOTENT, acks: Acks::All, idempotent: true },
    Producer { number: 4, topic: TRANSACTIONAL, acks: Acks::All, idempotent: true },
    Producer { number: 10, topic: TRANSACTIONAL, acks: Acks::All, idempotent: true },
    Producer { number: 11, topic: TRANSACTIONAL, acks: Acks::All, idempotent: true },
    Producer { number: 5, topic: DELETED, acks: Acks::All, idempotent: true },
    Producer { number: 12, topic: DELETED, acks: Acks::All, idempotent: true },
    Producer { number: 13, topic: DELETED, acks: Acks::All, idempotent: true },
    Producer { number: 6, topic: COMPACTED, acks: Acks::All, idempotent: true },
];

/// Producers of Apache Kafka's Java client, from the jars at `libs`.
pub(crate) fn java(repository: &Path, libs: &Path) -> External {
    let class_path = format!("{}/*", libs.display());
    let words = ["java", "-Xmx256m", "-cp", &class_path, "tests/crash/clients/CrashProducers.java"];
    External {
        command: words.map(str::to_owned).to_vec(),
        directory: repository.to_owned(),
        producers: vec![
            Producer { number: 7, topic: JAVA_IDEMPOTENT, acks: Acks::All, idempotent: true },
            Producer { number: 8, topic: JAVA_TRANSACTIONAL, acks: Acks::All, idempotent: true },
        ],
    }
}

/// A producer of kafka-go, compiled into `directory` first.
pub(crate) fn go(repository: &Path, directory: &Path) -> External {
    let module = repository.join("tests/interop/kafka-go");
    let program = directory.join("crash-go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg("./crash").current_dir(&module);
    assert!(build.status().unwrap().success(), "go build");
    External {
        command: vec![program.display().to_string()],
        directory: module,
        producers: vec![Producer { number: 9, topic: GO, acks: Acks::All, idempotent: false }],
    }
}

/// Situations of which a count of 0 fails the run.
const REQUIRED: &[&str] = &[
    "faults under load",
    "faults while starting",
    "faults while checkpointing",
    "faults while sealing",
    "faults while ending a transaction",
    "faults while cleaning",
    "recoveries from the journal",
    "transactions committed",
    "transactions aborted",
    "steps of groups",
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
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// The broker did something that clients do not see, such as not starting again.
    pub(crate) failures: Vec<String>,
    pub(crate) tally: Tally,
}

impl Verdict {
    pub(crate) fn is_guilty(&self) -> bool {
        !self.violations.is_empty() || !self.failures.is_empty()
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
    /// Nothing of it stays behind.
    fn shut_down(&mut self) {}
    /// Ends the process, and with it whatever the fault takes along.
    fn strike(
        &mut self,
        subject: &mut Subject,
        moment: Moment,
        recorder: &Recorder,
        tally: &mut Tally,
    );
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
    ) {
        let happened = wait_for(moment, subject.data_dir(), recorder);
        subject.kill();
        tally.count(if happened {
            moment.name()
        } else {
            "faults of which the moment did not come"
        });
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
    for situation in REQUIRED.iter().chain(power.required()) {
        run.verdict.tally.require(situation);
    }
    run.subject.launch();
    assert!(run.subject.wait_ready_or_ended(), "not even once\n{}", run.subject.tail());
    create_topics(&run.subject.brokers());
    let brokers = run.subject.brokers();
    thread::scope(|scope| {
        let (producers, recorder) = start_loads(scope, &brokers, plan, &run.recorder);
        run.wait_for_everyone();
        run.faults(power);
        if run.verdict.failures.is_empty() {
            run.recorder.stop_producers();
            for producer in producers {
                if producer.join().is_err() {
                    run.verdict.failures.push("a producer gave up".to_owned());
                }
            }
        }
        if !run.verdict.failures.is_empty() {
            // Clients wait for ever for a broker that does not come back.
            run.subject.kill();
            power.shut_down();
            std::process::exit(crate::finish(plan, &run.verdict).into());
        }
        run.read_back(&brokers);
        recorder.stop_readers();
    });
    run.judge()
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
            if load.topic == TRANSACTIONAL {
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
    for topic in 0..topics().len() {
        for isolation in [Isolation::Uncommitted, Isolation::Committed] {
            let recorder = Arc::clone(recorder);
            scope.spawn(move || load::read_on(brokers, topic, isolation, &recorder));
        }
    }
    for (group, topic) in [ALL, IDEMPOTENT].into_iter().enumerate() {
        let recorder = Arc::clone(recorder);
        scope.spawn(move || load::commit_offsets(brokers, group, topic, &recorder));
    }
    (producers, Arc::clone(recorder))
}

impl Run<'_> {
    /// No fault before every producer got a first answer: a virtual machine or compiler may be slow to start.
    fn wait_for_everyone(&mut self) {
        self.recorder.next_life(RECORDS_PER_LIFE);
        let external = self.plan.externals.iter().flat_map(|external| &external.producers);
        let expected = PRODUCERS.iter().chain(external).map(|producer| producer.number);
        for number in expected {
            eventually("every producer's first acknowledgement", || {
                let history = self.recorder.history();
                history.acks.iter().any(|ack| History::producer(ack.id) == number).then_some(())
            });
        }
    }

    /// Fault after fault; ends with a broker that runs, or a failure.
    fn faults(&mut self, power: &mut dyn Power) {
        let mut running = Stopwatch::start();
        let mut round = 0;
        while let Some(moment) = self.next_moment(round + 1, power) {
            round += 1;
            self.recorder.next_life(match moment {
                Moment::Checkpointing | Moment::Sealing | Moment::Cleaning => RECORDS_TO_WAIT,
                _ => RECORDS_PER_LIFE,
            });
            if !matches!(moment, Moment::Starting(_)) && !self.wait_ready() {
                return;
            }
            power.strike(&mut self.subject, moment, &self.recorder, &mut self.verdict.tally);
            self.look_at_log();
            self.subject.launch();
            if round % SHOWN_EVERY == 0 {
                eprintln!(
                    "{round} of {} faults, {} records acknowledged, {:.1} s",
                    self.plan.rounds,
                    self.recorder.acks(),
                    running.elapsed().as_secs_f64()
                );
                running = Stopwatch::start();
            }
        }
        self.recorder.next_life(RECORDS_PER_LIFE);
        self.wait_ready();
    }

    /// When to strike in this round, or `None` at the end: after as many rounds as were asked for, and up to as many
    /// again for what belongs to a run and has not come about in a short one.
    fn next_moment(&mut self, round: u64, power: &dyn Power) -> Option<Moment> {
        if round <= self.plan.rounds {
            return Some(self.moment(round));
        }
        let missing = self.verdict.tally.missing();
        let lacks = |situation: &str| missing.contains(&situation);
        let moments =
            [Moment::Checkpointing, Moment::Sealing, Moment::Cleaning, Moment::Committing];
        let lacking = moments.into_iter().find(|moment| lacks(moment.name()));
        let other = power.required().iter().any(|situation| lacks(situation));
        let goes_on = round <= self.plan.rounds * 2 && (lacking.is_some() || other);
        goes_on.then(|| lacking.unwrap_or_else(|| self.moment(round)))
    }

    fn moment(&mut self, round: u64) -> Moment {
        match round % 10 {
            1 => Moment::Starting(self.random.below(20_000)),
            3 | 8 => Moment::Checkpointing,
            5 => Moment::Sealing,
            9 => Moment::Cleaning,
            7 => Moment::Committing,
            _ => Moment::Acks(self.random.below(600)),
        }
    }

    /// `false` if it ended instead, which it must not.
    fn wait_ready(&mut self) -> bool {
        let ready = self.subject.wait_ready_or_ended();
        if !ready {
            self.verdict.failures.push(format!("does not start:\n{}", self.subject.tail()));
        }
        ready
    }

    /// What the broker said about its start.
    fn look_at_log(&mut self) {
        for line in self.subject.new_lines() {
            if line.contains("storage recovered") {
                self.verdict.tally.count("recoveries from the journal");
            }
            if line.contains("\"torn_tail\":true") {
                self.verdict.tally.count("torn tails cut by a recovery");
            }
        }
    }

    fn read_back(&mut self, brokers: &str) {
        for (topic, named) in topics().iter().enumerate() {
            let logs = load::read_all(brokers, topic, named);
            self.recorder.history().logs.extend(logs);
        }
    }

    fn judge(mut self) -> Verdict {
        if self.verdict.failures.is_empty() {
            let status = self.subject.stop();
            if !status.success() {
                self.verdict.failures.push(format!("stopped with {status}"));
            }
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
            for ack in &history.acks {
                if let Some(send) = history.sends.get(&ack.id) {
                    tally.count(TOPICS[send.slot.topic].acknowledged);
                }
            }
            tally.add("records read", u64::try_from(history.reads.len()).unwrap());
            tally.add("steps of groups", u64::try_from(history.group_steps.len()).unwrap());
            self.verdict.violations = check(&history);
        }
        self.verdict
    }
}

fn topics() -> Vec<Topic> {
    let topic = |wanted: &Wanted| Topic {
        name: wanted.name.to_owned(),
        partitions: wanted.partitions,
        cleanup: wanted.cleanup,
    };
    TOPICS.iter().map(topic).collect()
}

fn create_topics(brokers: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    for wanted in TOPICS {
        let one = TopicReplication::Fixed(1);
        let mut new =
            NewTopic::new(wanted.name, wanted.partitions, one).set("segment.bytes", "1048576");
        for (key, value) in wanted.settings {
            new = new.set(key, value);
        }
        let created = runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert_eq!(created, [Ok(wanted.name.to_owned())]);
    }
}
