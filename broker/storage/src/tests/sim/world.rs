//! The engine on the simulated machine, and everyone who talks to it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use wire::{Offset, TimestampMs, TopicId, batch::BatchView};

use super::{
    Check, Crash, Dice, Event, Model, SimDisk, check,
    load::SimProducer,
    model::{Sent, read},
};
use crate::{
    Append, AppendError, Appended, CatalogueChange, CatalogueError, Config, DeleteRecordsError,
    Durability, Host, Isolation, OpenError, PartitionId,
    engine::{Opened, open},
    host::{Clock, Random, Running, Threads},
    keeper,
    log_state::LogState,
    log_writer::LogWriter,
    partition::Partition,
    queue::{AppendRequest, DeleteRecords, Request},
};

pub(super) const PARTITIONS: i32 = 3;

#[derive(Debug, Default)]
struct SimClock(AtomicI64);

impl Clock for SimClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(1_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).try_into().unwrap())
    }
}

#[derive(Debug)]
struct SimThreads;

impl Threads for SimThreads {
    fn spawn(&self, _name: &str, _body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Running>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn end_process(&self, _reason: &str) {}
}

#[derive(Debug)]
struct SimRandom(Mutex<Dice>);

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut dice = self.0.lock().unwrap();
        bytes.fill_with(|| u8::try_from(dice.below(256)).unwrap());
        Ok(())
    }
}

/// What the engine has answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Append(usize, Durability, Result<Appended, AppendError>),
    Topic(Result<TopicId, CatalogueError>, i32),
    Deleted(TopicId, bool),
    LogStart(PartitionId, Offset),
    /// Answered as synced while the journal was not.
    Early,
}

/// Answers with the number of changes that the disk had seen before.
type Answers = Arc<Mutex<Vec<(u64, Answer)>>>;

/// How large things are in this world.
#[derive(Clone, Copy, Debug)]
pub(in crate::tests) struct Sizes {
    pub(in crate::tests) segment_bytes: u64,
    pub(in crate::tests) journal_segment_bytes: u64,
}

/// Everything.
pub(in crate::tests) struct World {
    pub(in crate::tests) disk: SimDisk,
    pub(in crate::tests) dice: Dice,
    clock: Arc<SimClock>,
    host: Host,
    sizes: Sizes,
    pub(in crate::tests) engine: Option<Opened>,
    pub(in crate::tests) model: Model,
    /// Everything that happened, in front of which change of the disk.
    pub(in crate::tests) history: Vec<(u64, Event)>,
    answers: Answers,
    pub(super) producers: Vec<SimProducer>,
    pub(super) last_producer: i64,
    pub(super) life: u64,
    /// Whether a catalogue change is asked for and not answered.
    pub(super) changing: Option<&'static str>,
    /// Whether an answer before its sync is an error in itself, and not only by what it loses.
    pub(in crate::tests) watches_syncs: bool,
}

impl World {
    pub(in crate::tests) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let sizes = Sizes {
            segment_bytes: [3000, 9000, 9000, 30_000][dice.below_len(4)],
            journal_segment_bytes: [48 << 10, 96 << 10, 96 << 10][dice.below_len(3)],
        };
        Self { dice, ..Self::on(SimDisk::default(), seed, sizes) }
    }

    /// A world that begins with this disk.
    pub(in crate::tests) fn on(disk: SimDisk, seed: u64, sizes: Sizes) -> Self {
        let clock = Arc::new(SimClock::default());
        let host = Host {
            disk: Arc::new(disk.clone()),
            clock: Arc::<SimClock>::clone(&clock),
            threads: Arc::new(SimThreads),
            random: Arc::new(SimRandom(Mutex::new(Dice::new(seed ^ 0xabcd)))),
        };
        Self {
            disk,
            dice: Dice::new(seed),
            clock,
            host,
            sizes,
            engine: None,
            model: Model::default(),
            history: Vec::new(),
            answers: Arc::default(),
            producers: Vec::new(),
            last_producer: 0,
            life: 0,
            changing: None,
            watches_syncs: true,
        }
    }

    pub(in crate::tests) fn start(&mut self) -> Result<(), OpenError> {
        let config = Config {
            segment_bytes: self.sizes.segment_bytes,
            journal_segment_bytes: self.sizes.journal_segment_bytes,
            ..Config::new(PathBuf::from("/data"))
        };
        let writer = LogWriter::inline(Arc::clone(&self.host.disk));
        self.engine = None;
        self.engine = Some(open(&config, self.host.clone(), writer, false)?);
        self.life += 1;
        Ok(())
    }

    pub(in crate::tests) fn engine(&mut self) -> &mut Opened {
        self.engine.as_mut().unwrap()
    }

    pub(super) fn note(&self, what: &'static str) {
        self.disk.tally().note(what);
    }

    pub(super) fn pass(&self, milliseconds: i64) {
        self.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Remembers what has happened just now.
    pub(super) fn tell(&mut self, event: Event) -> Check {
        self.tell_at(self.disk.changes_made(), event)
    }

    fn tell_at(&mut self, at: u64, event: Event) -> Check {
        self.history.push((at, event.clone()));
        self.model.take(event)
    }

    /// Works everything off that is queued.
    pub(in crate::tests) fn settle(&mut self) -> Check {
        while self.engine().committer.step() {}
        self.take_answers()
    }

    /// One cycle.
    pub(in crate::tests) fn step(&mut self) -> Check {
        self.engine().committer.step();
        self.take_answers()
    }

    /// The keeper's work.
    pub(in crate::tests) fn keep(&mut self) {
        if self.has_ended() {
            return;
        }
        let shared = &self.engine().shared;
        let had_checkpoint = !shared.jobs.is_idle();
        keeper::step(shared);
        let note = match (had_checkpoint, shared.has_ended()) {
            (true, true) => "stopped while checkpointing",
            (true, false) => "checkpoint",
            (false, _) => return,
        };
        self.note(note);
    }

    /// Seconds without anything to do.
    pub(in crate::tests) fn idle(&mut self, milliseconds: i64) {
        self.pass(milliseconds);
        if !self.has_ended() {
            self.engine().committer.idle();
        }
    }

    /// Stops as a clean stop does.
    pub(in crate::tests) fn finish(&mut self) -> Check {
        self.engine().committer.finish();
        self.take_answers()?;
        self.keep();
        Ok(())
    }

    pub(in crate::tests) fn change(&mut self, change: CatalogueChange) -> Check {
        let answers = Arc::clone(&self.answers);
        let disk = self.disk.clone();
        let (deleted, partitions) = match &change {
            CatalogueChange::DeleteTopic { id } => (Some(*id), 0),
            CatalogueChange::CreateTopic { partitions, .. } => (None, *partitions),
            CatalogueChange::AddPartitions { count, .. } => (None, *count),
            _ => (None, 0),
        };
        self.changing = Some(match &change {
            CatalogueChange::DeleteTopic { .. } => "stopped while deleting a topic",
            CatalogueChange::CreateTopic { .. } => "stopped while creating a topic",
            _ => "stopped while adding partitions",
        });
        let done = Box::new(move |result: Result<TopicId, CatalogueError>| {
            let answer = match deleted {
                Some(id) => Answer::Deleted(id, result.is_ok()),
                None => Answer::Topic(result, partitions),
            };
            answers.lock().unwrap().push((disk.changes_made(), answer));
        });
        if let Some(id) = deleted {
            // Whether it is answered or not, nothing is promised of its records any more.
            self.tell(Event::Forgotten(id))?;
            self.producers.clear();
        }
        self.engine().shared.queue.push(Request::Catalogue { change, done });
        Ok(())
    }

    /// Deletes the records of a partition up to somewhere.
    pub(in crate::tests) fn delete_records(&mut self) -> Check {
        let Some(id) = self.some_partition() else { return Ok(()) };
        let Some(log) = self.engine().shared.partition(id) else { return Ok(()) };
        let end = log.published().offsets.high_watermark.0;
        let before = Offset(i64::try_from(self.dice.below(end.unsigned_abs() + 1)).unwrap());
        self.tell(Event::StartAsked(id, before))?;
        let (answers, disk) = (Arc::clone(&self.answers), self.disk.clone());
        let done = Box::new(move |result: Result<Offset, DeleteRecordsError>| {
            if let Ok(offset) = result {
                let answer = Answer::LogStart(id, offset);
                answers.lock().unwrap().push((disk.changes_made(), answer));
            }
        });
        let request = DeleteRecords { partition: id, before: Some(before), done };
        self.engine().shared.queue.push(Request::DeleteRecords(request));
        Ok(())
    }

    /// Sees to it that there is a topic, unless the machine stops.
    pub(in crate::tests) fn create_topic(&mut self) -> Check {
        self.settle()?;
        if self.has_ended() {
            return Ok(());
        }
        let catalogue = self.engine().shared.catalogue();
        if let Some(topic) = catalogue.by_name.get("t") {
            return self.tell(Event::Topic(topic.id, topic.partitions));
        }
        let (name, configs) = ("t".to_owned(), BTreeMap::new());
        self.change(CatalogueChange::CreateTopic { name, partitions: PARTITIONS, configs })?;
        self.settle()
    }

    /// Hands a batch over.
    pub(super) fn send(&mut self, append: Append, durability: Durability) -> Result<usize, String> {
        let number = self.model.sent.len();
        let Append { partition, batch } = append;
        self.tell(Event::Sent(Sent { partition, batch }))?;
        self.send_again(number, durability);
        Ok(number)
    }

    pub(super) fn send_again(&mut self, number: usize, durability: Durability) {
        let Sent { partition, batch } = self.model.sent[number].clone();
        let (answers, disk) = (Arc::clone(&self.answers), self.disk.clone());
        let done = Box::new(move |mut results: Vec<Result<Appended, AppendError>>| {
            if durability == Durability::Synced && !disk.journal_is_synced() {
                answers.lock().unwrap().push((0, Answer::Early));
            }
            let answer = Answer::Append(number, durability, results.remove(0));
            answers.lock().unwrap().push((disk.changes_made(), answer));
        });
        let request = AppendRequest {
            batches: vec![Append { partition, batch }],
            results: Vec::new(),
            durability,
            deadline: Duration::MAX,
            done,
        };
        self.engine().shared.queue.push(Request::Append(request));
    }

    /// Hands batches over that are all or nothing.
    pub(super) fn send_group(&mut self, batches: Vec<Append>) -> Check {
        let first = self.model.sent.len();
        let group = first..first + batches.len();
        for Append { partition, batch } in batches.iter().cloned() {
            self.tell(Event::Sent(Sent { partition, batch }))?;
        }
        self.tell(Event::Group(group.clone()))?;
        let (answers, disk) = (Arc::clone(&self.answers), self.disk.clone());
        let done = Box::new(move |result: Result<Vec<Appended>, AppendError>| {
            if !disk.journal_is_synced() {
                answers.lock().unwrap().push((0, Answer::Early));
            }
            for (index, number) in group.enumerate() {
                let result = result.as_ref().map(|all| all[index]).map_err(|error| *error);
                let answer = Answer::Append(number, Durability::Synced, result);
                answers.lock().unwrap().push((disk.changes_made(), answer));
            }
        });
        self.engine().shared.queue.push(Request::Atomic { batches, done });
        Ok(())
    }

    pub(in crate::tests) fn take_answers(&mut self) -> Check {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for (at, answer) in answers {
            match answer {
                Answer::Append(sent, durability, result) => {
                    self.take_appended(at, (sent, durability), result)?;
                }
                Answer::Topic(result, partitions) => {
                    self.changing = None;
                    if let Ok(id) = result {
                        self.note("topic created or extended");
                        self.tell_at(at, Event::Topic(id, partitions))?;
                    }
                }
                Answer::LogStart(id, offset) => {
                    self.note("records deleted");
                    self.tell_at(at, Event::StartMoved(id, offset))?;
                }
                Answer::Early => {
                    check(!self.watches_syncs, || "answered before its sync".to_owned())?;
                }
                Answer::Deleted(id, deleted) => {
                    self.changing = None;
                    if deleted {
                        self.note("topic deleted");
                        self.tell_at(at, Event::Gone(id))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_appended(
        &mut self,
        at: u64,
        (sent, durability): (usize, Durability),
        result: Result<Appended, AppendError>,
    ) -> Check {
        let life = self.life;
        let waiting =
            self.producers.iter().position(|one| one.unanswered.is_some_and(|(it, _)| it == sent));
        match result {
            Ok(appended) => {
                if let Some(index) = waiting {
                    let asked = self.producers[index].unanswered.take();
                    if asked.is_some_and(|(_, asked)| asked < life) {
                        self.note(if appended.duplicate {
                            "retry after a crash was a duplicate"
                        } else {
                            "retry after a crash was appended"
                        });
                    }
                }
                let offset = appended.base_offset;
                self.tell_at(at, Event::Answered { sent, durability, offset })
            }
            Err(error) => {
                self.note(match error {
                    AppendError::DiskFull => "produce refused, the disk is full",
                    AppendError::OutOfOrderSequence => "sequence with a gap refused",
                    _ => "append refused otherwise",
                });
                if let Some(index) = waiting {
                    // What was sent before may be there: this producer gives up.
                    self.producers.remove(index);
                    return Ok(());
                }
                let header = BatchView::parse(&self.model.sent[sent].batch).unwrap().header;
                if header.base_sequence.0 >= 0 {
                    return Ok(());
                }
                self.tell_at(at, Event::Refused(sent))
            }
        }
    }

    /// Remembers what readers see.
    pub(in crate::tests) fn look(&mut self) -> Check {
        let Some((topic, partitions)) = self.model.topic else { return Ok(()) };
        for index in 0..partitions {
            let id = super::super::support::partition(topic, index);
            let found = read(self.engine.as_ref().unwrap(), id, Isolation::ReadUncommitted);
            if self.disk.has_read_failed() && found.is_err() {
                self.note("a failed read was reported");
                return Ok(());
            }
            let found: BTreeMap<Offset, Bytes> = found?;
            for (offset, bytes) in found {
                self.tell(Event::Seen(id, offset, bytes))?;
            }
        }
        Ok(())
    }

    pub(super) fn some_partition(&mut self) -> Option<PartitionId> {
        let (topic, partitions) = self.model.topic?;
        let index = i32::try_from(self.dice.below(partitions.unsigned_abs().into())).unwrap();
        Some(super::super::support::partition(topic, index))
    }

    /// Everything that was promised is there.
    pub(in crate::tests) fn verify(&mut self, how: Crash) -> Check {
        let engine = self.engine.as_ref().unwrap();
        self.model.verify(engine, how)?;
        let partitions = engine.shared.partitions.read().unwrap();
        let end = |log: &Partition| log.published().offsets.high_watermark;
        let ends = partitions.iter().map(|(id, log)| (*id, end(log))).collect();
        drop(partitions);
        self.tell(Event::Started(ends))
    }

    /// The state of every log.
    pub(in crate::tests) fn states(&mut self) -> BTreeMap<PartitionId, LogState> {
        self.engine().committer.states()
    }

    /// The engine ends here.
    pub(in crate::tests) fn crash(&mut self, how: Crash) -> Check {
        self.take_answers()?;
        if let Some(changing) = self.changing.take() {
            self.note(changing);
        }
        if let Some((path, position)) = self.disk.stopped_at() {
            self.note(place(&path, position));
        }
        self.engine = None;
        self.disk.crash(how, &mut self.dice);
        Ok(())
    }

    pub(in crate::tests) fn has_ended(&self) -> bool {
        self.engine.as_ref().is_none_or(|engine| engine.shared.has_ended())
    }

    pub(in crate::tests) fn journal_file(segment: u32) -> PathBuf {
        Path::new("/data/journal").join(format!("segment-{segment}"))
    }
}

/// What the machine was doing when it stopped.
pub(in crate::tests) fn place(path: &Path, position: usize) -> &'static str {
    let is = |extension: &str| path.extension().is_some_and(|it| it == extension);
    let is_new = position == 0 && is("log");
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.starts_with("segment-") {
        "stopped while writing the journal"
    } else if name.starts_with("checkpoint-") {
        "stopped while writing a checkpoint's file"
    } else if is_new && name.trim_matches('0') == ".log" {
        "stopped while creating a log"
    } else if is_new {
        "stopped while rolling a segment"
    } else if is("log") {
        "stopped while writing or cutting a log"
    } else if is("meta") {
        "stopped while sealing a segment"
    } else if path.parent().is_some_and(|parent| parent.ends_with("topics")) {
        "stopped while deleting a topic's files"
    } else {
        "stopped elsewhere"
    }
}
