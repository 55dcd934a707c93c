//! The engine on the simulated machine, and everyone who talks to it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use wire::{Offset, TopicId, batch::BatchView};

use super::{
    Check, Crash, Dice, Event, Kind, Model, SimDisk, check,
    load::SimProducer,
    model::{Seeing, Sent, read},
};
use crate::{
    Append, AppendError, Appended, CatalogueChange, CatalogueError, DeleteRecordsError, Durability,
    Isolation, OpenError, PartitionId,
    engine::Opened,
    log_state::LogState,
    partition::Partition,
    queue::{AppendRequest, Chain, DeleteRecords, Request},
    simulation::{Machine, Sizes},
};

pub(super) const PARTITIONS: i32 = 3;

/// What the engine has answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Append(usize, Durability, Result<Appended, AppendError>),
    Topic(Result<TopicId, CatalogueError>, i32, Kind),
    Deleted(TopicId, bool),
    LogStart(PartitionId, Offset),
    /// Answered as synced while the journal was not.
    Early,
}

/// Answers with the number of changes that the disk had seen before.
type Answers = Arc<Mutex<Vec<(u64, Answer)>>>;

/// Everything.
pub(in crate::tests) struct World {
    pub(in crate::tests) disk: SimDisk,
    pub(in crate::tests) dice: Dice,
    pub(super) machine: Machine,
    pub(in crate::tests) model: Model,
    /// Everything that happened, in front of which change of the disk.
    pub(in crate::tests) history: Vec<(u64, Event)>,
    answers: Answers,
    pub(super) producers: Vec<SimProducer>,
    pub(super) last_producer: i64,
    pub(super) life: u64,
    /// Whether a catalogue change is asked for and not answered.
    pub(super) changing: Option<&'static str>,
    /// What the topics are, if not chance decides.
    pub(in crate::tests) kind: Option<Kind>,
    /// Whether an answer before its sync is an error in itself, and not only by what it loses.
    pub(in crate::tests) watches_syncs: bool,
    /// Whether a file was damaged, or not to be read, that knows more than the log does after a compaction.
    pub(in crate::tests) has_flipped: bool,
}

impl World {
    pub(in crate::tests) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let sizes = Sizes::some(&mut dice);
        Self { dice, kind: None, ..Self::on(SimDisk::default(), seed, sizes) }
    }

    /// A world that begins with this disk.
    pub(in crate::tests) fn on(disk: SimDisk, seed: u64, sizes: Sizes) -> Self {
        Self {
            disk: disk.clone(),
            dice: Dice::new(seed),
            machine: Machine::on(disk, seed, sizes),
            model: Model::default(),
            history: Vec::new(),
            answers: Arc::default(),
            producers: Vec::new(),
            last_producer: 0,
            life: 0,
            changing: None,
            kind: Some(Kind::Plain),
            watches_syncs: true,
            has_flipped: false,
        }
    }

    pub(in crate::tests) fn start(&mut self) -> Result<(), OpenError> {
        self.machine.start()?;
        self.life += 1;
        Ok(())
    }

    pub(in crate::tests) fn engine(&mut self) -> &mut Opened {
        self.machine.engine()
    }

    pub(super) fn note(&self, what: &'static str) {
        self.disk.tally().note(what);
    }

    pub(in crate::tests) fn pass(&self, milliseconds: i64) {
        self.machine.pass(milliseconds);
    }

    /// Milliseconds that have passed.
    pub(in crate::tests) fn elapsed(&self) -> i64 {
        self.machine.elapsed()
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
        while self.machine.step() {}
        self.take_answers()
    }

    /// One cycle.
    pub(in crate::tests) fn step(&mut self) -> Check {
        self.machine.step();
        self.take_answers()
    }

    /// The keeper's work.
    pub(in crate::tests) fn keep(&mut self) {
        self.machine.keep();
    }

    /// Seconds without anything to do.
    pub(in crate::tests) fn idle(&mut self, milliseconds: i64) {
        self.machine.idle(milliseconds);
    }

    /// Stops as a clean stop does.
    pub(in crate::tests) fn finish(&mut self) -> Check {
        self.machine.finish();
        self.take_answers()?;
        self.keep();
        Ok(())
    }

    pub(in crate::tests) fn change(&mut self, change: CatalogueChange) -> Check {
        let answers = Arc::clone(&self.answers);
        let disk = self.disk.clone();
        let (deleted, partitions, kind) = match &change {
            CatalogueChange::DeleteTopic { id } => (Some(*id), 0, Kind::Plain),
            CatalogueChange::CreateTopic { partitions, configs, .. } => {
                (None, *partitions, Kind::of(configs))
            }
            CatalogueChange::AddPartitions { id, count } => (None, *count, self.model.kind(*id)),
            _ => (None, 0, Kind::Plain),
        };
        self.changing = Some(match &change {
            CatalogueChange::DeleteTopic { .. } => "stopped while deleting a topic",
            CatalogueChange::CreateTopic { .. } => "stopped while creating a topic",
            _ => "stopped while adding partitions",
        });
        let done = Box::new(move |result: Result<TopicId, CatalogueError>| {
            let answer = match deleted {
                Some(id) => Answer::Deleted(id, result.is_ok()),
                None => Answer::Topic(result, partitions, kind),
            };
            answers.lock().unwrap().push((disk.changes_made(), answer));
        });
        if deleted.is_some() {
            // Whether it is answered or not, nothing is promised of its records any more.
            self.tell(Event::Forgotten)?;
            self.producers.clear();
        }
        self.engine().shared.queue.push(Request::Catalogue { change, done });
        Ok(())
    }

    /// Deletes the records of a partition up to somewhere.
    pub(in crate::tests) fn delete_records(&mut self) -> Check {
        self.some_partition().map_or(Ok(()), |id| self.delete_records_of(id))
    }

    /// The same in this partition.
    pub(super) fn delete_records_of(&mut self, id: PartitionId) -> Check {
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
            let kind = Kind::of(&topic.configs);
            return self.tell(Event::Topic(topic.id, topic.partitions, kind));
        }
        let kind = self.kind.unwrap_or_else(|| Kind::some(&mut self.dice));
        let (name, configs) = ("t".to_owned(), kind.configs());
        self.change(CatalogueChange::CreateTopic { name, partitions: PARTITIONS, configs })?;
        self.settle()
    }

    /// Hands a batch over.
    pub(super) fn send(&mut self, append: Append, durability: Durability) -> Result<usize, String> {
        let number = self.model.sent.len();
        let (Append { partition, batch }, at) = (append, self.machine.now());
        self.tell(Event::Sent(Sent { partition, batch, at }))?;
        self.send_again(number, durability);
        Ok(number)
    }

    pub(super) fn send_again(&mut self, number: usize, durability: Durability) {
        let Sent { partition, batch, .. } = self.model.sent[number].clone();
        let (answers, disk) = (Arc::clone(&self.answers), self.disk.clone());
        let done = Box::new(move |mut results: Vec<Result<Appended, AppendError>>| {
            let result = results.remove(0);
            // A refusal promises nothing, and a stop refuses what is left after a failed write.
            let is_promise = durability == Durability::Synced && result.is_ok();
            if is_promise && !disk.journal_is_synced() {
                answers.lock().unwrap().push((0, Answer::Early));
            }
            let answer = Answer::Append(number, durability, result);
            answers.lock().unwrap().push((disk.changes_made(), answer));
        });
        let request = AppendRequest::new(vec![Append { partition, batch }], durability, done);
        self.engine().shared.queue.push(Request::Append(request));
    }

    /// Hands batches over that are all or nothing.
    pub(super) fn send_group(&mut self, batches: Vec<Append>) -> Check {
        let first = self.model.sent.len();
        let group = first..first + batches.len();
        for Append { partition, batch } in batches.iter().cloned() {
            let at = self.machine.now();
            self.tell(Event::Sent(Sent { partition, batch, at }))?;
        }
        self.tell(Event::Group(group.clone()))?;
        let (answers, disk) = (Arc::clone(&self.answers), self.disk.clone());
        let done = Box::new(move |result: Result<Vec<Appended>, AppendError>| {
            if result.is_ok() && !disk.journal_is_synced() {
                answers.lock().unwrap().push((0, Answer::Early));
            }
            for (index, number) in group.enumerate() {
                let result = result.as_ref().map(|all| all[index]).map_err(|error| *error);
                let answer = Answer::Append(number, Durability::Synced, result);
                answers.lock().unwrap().push((disk.changes_made(), answer));
            }
        });
        let chain = Chain::default();
        self.engine().shared.queue.push(Request::Atomic { chain, batches, done });
        Ok(())
    }

    pub(in crate::tests) fn take_answers(&mut self) -> Check {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for (at, answer) in answers {
            match answer {
                Answer::Append(sent, durability, result) => {
                    self.take_appended(at, (sent, durability), result)?;
                }
                Answer::Topic(result, partitions, kind) => {
                    self.changing = None;
                    if let Ok(id) = result {
                        self.note("topic created or extended");
                        self.tell_at(at, Event::Topic(id, partitions, kind))?;
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
                    AppendError::ShuttingDown => "append refused while the engine stops",
                    other => return Err(format!("an append was refused: {other}")),
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
        if self.look_through()? && self.dice.one_in(4) {
            return self.verify_transactions();
        }
        Ok(())
    }

    /// What is committed is so while everything goes on, too.
    fn verify_transactions(&mut self) -> Check {
        let Some((topic, partitions)) = self.model.topic else { return Ok(()) };
        let (now, tally) = (self.machine.now(), &self.disk.tally());
        let engine = self.machine.engine.as_ref().unwrap();
        let seeing = Seeing { engine, how: Crash::Kill, now, tally, has_flipped: self.has_flipped };
        for index in 0..partitions {
            let id = super::super::support::partition(topic, index);
            let compacted = self.model.kind(topic).is_compacted();
            let verified = read(engine, (id, compacted), Isolation::ReadUncommitted)
                .and_then(|log| self.model.verify_committed(id, &log, &seeing));
            let has_failed = self.disk.has_read_failed();
            self.has_flipped |= has_failed;
            if has_failed && verified.is_err() {
                return Ok(());
            }
            verified?;
        }
        Ok(())
    }

    /// The same; `false` if a read failed.
    pub(super) fn look_through(&mut self) -> Result<bool, String> {
        let Some((topic, partitions)) = self.model.topic else { return Ok(true) };
        for index in 0..partitions {
            let id = super::super::support::partition(topic, index);
            let compacted = self.model.kind(topic).is_compacted();
            let engine = self.machine.engine.as_ref().unwrap();
            let start =
                engine.shared.partition(id).map(|log| log.published().offsets.log_start_offset);
            let found = read(engine, (id, compacted), Isolation::ReadUncommitted);
            // Also beside the log, in what is made again from it.
            let has_failed = self.disk.has_read_failed();
            self.has_flipped |= has_failed;
            if has_failed && found.is_err() {
                self.note("a failed read was reported");
                return Ok(false);
            }
            let found: BTreeMap<Offset, Bytes> = found?;
            self.see_start(id, start.unwrap_or_default(), &found)?;
            for (offset, bytes) in found {
                self.tell(Event::Seen(id, offset, bytes))?;
            }
        }
        Ok(true)
    }

    pub(super) fn some_partition(&mut self) -> Option<PartitionId> {
        let (topic, partitions) = self.model.topic?;
        let index = i32::try_from(self.dice.below(partitions.unsigned_abs().into())).unwrap();
        Some(super::super::support::partition(topic, index))
    }

    /// Everything that was promised is there.
    pub(in crate::tests) fn verify(&mut self, how: Crash) -> Check {
        let engine = self.machine.engine.as_ref().unwrap();
        let (now, tally) = (self.machine.now(), &self.disk.tally());
        // What nobody was answered is settled now, and may be compacted or deleted before anybody
        // reads it.
        let has_flipped = self.has_flipped;
        let settled = self.model.verify(&Seeing { engine, how, now, tally, has_flipped })?;
        let partitions = engine.shared.partitions.read().unwrap();
        let end = |log: &Partition| log.published().offsets.high_watermark;
        let ends = partitions.iter().map(|(id, log)| (*id, end(log))).collect();
        drop(partitions);
        settled.into_iter().try_for_each(|event| self.tell(event))?;
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
        self.machine.crash(how, &mut self.dice);
        Ok(())
    }

    /// Whether a start has led to an engine.
    pub(in crate::tests) fn is_running(&self) -> bool {
        self.machine.engine.is_some()
    }

    pub(in crate::tests) fn has_ended(&self) -> bool {
        self.machine.has_ended()
    }

    pub(in crate::tests) fn journal_file(segment: u32) -> PathBuf {
        Path::new("/data/journal").join(format!("segment-{segment}"))
    }
}
