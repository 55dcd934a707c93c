//! What was promised to producers, readers and administrators, and whether an engine keeps it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use bytes::Bytes;
use wire::{Offset, ProducerId, TimestampMs, TopicId, batch::BatchView};

use super::{super::support::partition, Crash, Kind, Tally, compacted, files, times};
use crate::{Durability, Isolation, PartitionId, ReadLimit, engine::Opened, read::Reading};

pub(in crate::tests) type Check = Result<(), String>;

pub(in crate::tests) fn check(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

/// A batch that was handed over.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Sent {
    pub(in crate::tests) partition: PartitionId,
    pub(in crate::tests) batch: Bytes,
    /// When.
    pub(in crate::tests) at: TimestampMs,
}

/// What happens between the engine and those outside.
#[derive(Clone, Debug)]
pub(in crate::tests) enum Event {
    Sent(Sent),
    /// Those sent with these numbers are all or nothing.
    Group(Range<usize>),
    Answered {
        sent: usize,
        durability: Durability,
        offset: Offset,
    },
    Refused(usize),
    Seen(PartitionId, Offset, Bytes),
    /// The topic has at least so many partitions.
    Topic(TopicId, i32, Kind),
    /// The topic's deletion was asked for.
    Forgotten,
    /// Its deletion was answered.
    Gone(TopicId),
    /// Records in front of this were to be deleted.
    StartAsked(PartitionId, Offset),
    /// They are deleted.
    StartMoved(PartitionId, Offset),
    /// A start has found these ends of the logs.
    Started(BTreeMap<PartitionId, Offset>),
}

/// Everything that was promised.
#[derive(Clone, Debug, Default)]
pub(in crate::tests) struct Model {
    pub(in crate::tests) sent: Vec<Sent>,
    pub(super) by_content: HashMap<Bytes, usize>,
    /// Records of compacted logs, and in which batch they were sent.
    pub(super) by_name: HashMap<Bytes, (usize, compacted::Kept)>,
    pub(super) by_marker: HashMap<(PartitionId, ProducerId, TimestampMs), usize>,
    /// Batches that were seen: later they may be deleted, or not be there as they were.
    pub(super) known: BTreeMap<(PartitionId, Offset), usize>,
    groups: Vec<Range<usize>>,
    pub(super) synced: BTreeMap<(PartitionId, Offset), usize>,
    pub(super) written: BTreeMap<(PartitionId, Offset), usize>,
    pub(super) refused: BTreeSet<usize>,
    /// What a reader has seen: it may never change again.
    seen: BTreeMap<(PartitionId, Offset), Bytes>,
    pub(in crate::tests) topic: Option<(TopicId, i32)>,
    kinds: BTreeMap<TopicId, Kind>,
    gone: BTreeSet<TopicId>,
    starts_asked: BTreeMap<PartitionId, Offset>,
    starts_moved: BTreeMap<PartitionId, Offset>,
}

/// What a check sees, and when.
pub(in crate::tests) struct Seeing<'a> {
    pub(super) engine: &'a Opened,
    pub(super) how: Crash,
    pub(super) now: TimestampMs,
    pub(super) tally: &'a Tally,
    pub(super) has_flipped: bool,
}

impl Seeing<'_> {
    pub(super) fn is_kill(&self) -> bool {
        self.how == Crash::Kill
    }
}

/// The batches of a partition, by base offset.
pub(in crate::tests) type Log = BTreeMap<Offset, Bytes>;

/// What of a batch the log does not patch.
pub(super) fn content(batch: &Bytes) -> Bytes {
    batch.slice(16..)
}

fn raise(starts: &mut BTreeMap<PartitionId, Offset>, id: PartitionId, offset: Offset) {
    let start = starts.entry(id).or_default();
    *start = offset.max(*start);
}

impl Model {
    pub(in crate::tests) fn is_alive(&self, topic: TopicId) -> bool {
        self.topic.is_some_and(|(alive, _)| alive == topic)
    }

    pub(in crate::tests) fn kind(&self, topic: TopicId) -> Kind {
        self.kinds.get(&topic).copied().unwrap_or_default()
    }

    /// Where a log begins at least.
    pub(super) fn start_moved(&self, id: PartitionId) -> Offset {
        self.starts_moved.get(&id).copied().unwrap_or_default()
    }

    pub(in crate::tests) fn synced(&self) -> usize {
        self.synced.len()
    }

    /// An error is something that can never be right.
    pub(in crate::tests) fn take(&mut self, event: Event) -> Check {
        match event {
            Event::Sent(sent) => self.take_sent(sent)?,
            Event::Group(group) => self.groups.push(group),
            Event::Answered { sent, durability, offset } => {
                let partition = self.sent[sent].partition;
                if self.is_alive(partition.topic) {
                    let other = match durability {
                        Durability::Synced => self.synced.insert((partition, offset), sent),
                        Durability::Written => self.written.insert((partition, offset), sent),
                    };
                    let own = other.is_none_or(|other| other == sent);
                    check(own, || format!("offset {offset} of {partition:?} was given twice"))?;
                }
            }
            Event::Refused(sent) => drop(self.refused.insert(sent)),
            Event::Seen(partition, offset, bytes) => {
                if let Some(sent) = self.identify(partition, &bytes)? {
                    let before = self.known.insert((partition, offset), sent);
                    check(before.is_none_or(|before| before == sent), || {
                        format!("{offset} of {partition:?} has become another batch")
                    })?;
                }
                if self.kind(partition.topic).is_compacted() {
                    return Ok(());
                }
                let before = self.seen.insert((partition, offset), bytes.clone());
                check(before.is_none_or(|before| before == bytes), || {
                    format!("{offset} of {partition:?} has changed")
                })?;
            }
            Event::Topic(id, partitions, kind) => {
                self.topic = Some((id, partitions));
                self.kinds.insert(id, kind);
            }
            // If it is there after all, for the crash came first, it is as it was.
            Event::Forgotten => self.topic = None,
            Event::Gone(id) => drop(self.gone.insert(id)),
            Event::StartAsked(id, offset) => raise(&mut self.starts_asked, id, offset),
            Event::StartMoved(id, offset) => raise(&mut self.starts_moved, id, offset),
            Event::Started(ends) => {
                // What is there is durable now, and what is not is forgotten.
                for (key, sent) in std::mem::take(&mut self.written) {
                    if ends.get(&key.0) > Some(&key.1) {
                        self.synced.insert(key, sent);
                    }
                }
            }
        }
        Ok(())
    }

    fn take_sent(&mut self, sent: Sent) -> Check {
        let number = self.sent.len();
        self.by_content.insert(content(&sent.batch), number);
        let header = BatchView::parse(&sent.batch).unwrap().header;
        if self.kind(sent.partition.topic).is_compacted() {
            for record in compacted::kept(&sent.batch)? {
                if header.is_control() {
                    let key = (sent.partition, header.producer_id, record.timestamp());
                    self.by_marker.insert(key, number);
                } else {
                    self.by_name.insert(record.name(), (number, record));
                }
            }
        }
        self.sent.push(sent);
        Ok(())
    }

    /// Everything that was promised is there, nothing twice, and nothing that nobody sent. Answers
    /// what was seen.
    pub(in crate::tests) fn verify(&self, seeing: &Seeing<'_>) -> Result<Vec<Event>, String> {
        let engine = seeing.engine;
        let catalogue = engine.shared.catalogue();
        for id in &self.gone {
            check(!catalogue.by_id.contains_key(id), || "a deleted topic is back".to_owned())?;
        }
        if let Some((id, partitions)) = self.topic {
            let found = catalogue.by_id.get(&id).map(|topic| topic.partitions);
            check(found >= Some(partitions), || {
                format!("a topic with {partitions} partitions has now {found:?}")
            })?;
        }
        let (mut present, mut seen) = (BTreeSet::new(), Vec::new());
        for topic in catalogue.by_id.values() {
            let kind = self.kind(topic.id);
            let compacted = kind.is_compacted();
            for index in 0..topic.partitions {
                let id = partition(topic.id, index);
                let log = read(engine, (id, compacted), Isolation::ReadUncommitted)?;
                let start = self.verify_start(engine, id)?;
                if compacted {
                    self.verify_compacted((id, start), &log, seeing, &mut present)?;
                } else {
                    self.verify_log(id, (&log, start), seeing.how, &mut present)?;
                }
                self.verify_committed(id, &log, seeing)?;
                times::verify(id, (&log, start), seeing)?;
                files::verify(id, (&log, kind), seeing)?;
                let batches = log.into_iter();
                seen.extend(batches.map(|(offset, bytes)| Event::Seen(id, offset, bytes)));
            }
            let untouched = self.starts_asked.keys().all(|id| id.topic != topic.id);
            if untouched && !compacted {
                self.verify_groups(topic.id, &present)?;
            }
        }
        Ok(seen)
    }

    /// A log's start is not in front of what was answered, and not behind what was asked for.
    fn verify_start(&self, engine: &Opened, id: PartitionId) -> Result<Offset, String> {
        let zero = Offset(0);
        let Some(log) = engine.shared.partition(id) else { return Ok(zero) };
        let start = log.published().offsets.log_start_offset;
        let moved = self.starts_moved.get(&id).copied().unwrap_or(zero);
        let asked = self.starts_asked.get(&id).copied().unwrap_or(zero);
        check(moved <= start && start <= asked, || {
            format!("{id:?} starts at {start}, not between {moved} and {asked}")
        })?;
        Ok(start)
    }

    fn verify_log(
        &self,
        id: PartitionId,
        (log, start): (&Log, Offset),
        how: Crash,
        present: &mut BTreeSet<usize>,
    ) -> Check {
        let of = |key: &&(PartitionId, Offset)| key.0 == id && key.1 >= start;
        let end = log.last_key_value().map_or(start, |(offset, _)| offset.plus(1));
        for (key, sent) in self.synced.iter().filter(|(key, _)| of(key)) {
            self.is_at(log, *key, *sent, "synced")?;
        }
        for (key, sent) in self.written.iter().filter(|(key, _)| of(key)) {
            // A power cut may take a suffix, and nothing from the midst of a log.
            if how == Crash::Kill || key.1 < end {
                self.is_at(log, *key, *sent, "written")?;
            }
        }
        for ((_, offset), bytes) in self.seen.iter().filter(|(key, _)| of(key)) {
            check(log.get(offset) == Some(bytes), || format!("seen {offset} of {id:?} is gone"))?;
        }
        for (offset, bytes) in log {
            let sent = self.by_content.get(&content(bytes)).copied();
            let sent = sent.filter(|sent| self.sent[*sent].partition == id);
            let Some(sent) = sent else { return Err(format!("nobody sent {offset} of {id:?}")) };
            let fresh = present.insert(sent);
            check(fresh, || format!("{offset} of {id:?} is there twice"))?;
            check(!self.refused.contains(&sent), || format!("{offset} of {id:?} was refused"))?;
        }
        Ok(())
    }

    fn is_at(&self, log: &Log, key: (PartitionId, Offset), sent: usize, name: &str) -> Check {
        let (id, offset) = key;
        let sent_content = content(&self.sent[sent].batch);
        let held = log.get(&offset).is_some_and(|bytes| content(bytes) == sent_content);
        check(held, || format!("{name} batch {sent} is not at {offset} of {id:?}"))
    }

    fn verify_groups(&self, topic: TopicId, present: &BTreeSet<usize>) -> Check {
        let own = |group: &&Range<usize>| self.sent[group.start].partition.topic == topic;
        for group in self.groups.iter().filter(own) {
            let there = group.clone().filter(|sent| present.contains(sent)).count();
            check(there == 0 || there == group.len(), || {
                format!("{there} of {} that are all or nothing", group.len())
            })?;
        }
        Ok(())
    }
}

pub(super) fn limit(isolation: Isolation) -> ReadLimit {
    ReadLimit { max_bytes: 5000, isolation, at_least_one_batch: true }
}

/// How an error begins that says that a batch cannot be read.
pub(in crate::tests) const UNREADABLE: &str = "unreadable";

pub(super) fn unreadable(error: &dyn std::fmt::Debug) -> String {
    format!("{UNREADABLE}: {error:?}")
}

/// The batches of a partition that a reader gets.
pub(in crate::tests) fn read(
    engine: &Opened,
    (id, compacted): (PartitionId, bool),
    isolation: Isolation,
) -> Result<Log, String> {
    let shared = &engine.shared;
    let mut found = Log::new();
    let Some(log) = shared.partition(id) else { return Ok(found) };
    let reading = Reading::of(shared);
    let offsets = log.published().offsets;
    check(
        offsets.last_stable_offset <= offsets.high_watermark
            && offsets.high_watermark <= offsets.log_end_offset
            && offsets.log_start_offset <= offsets.last_stable_offset,
        || format!("{offsets:?}"),
    )?;
    let start = offsets.log_start_offset;
    let mut from = start;
    loop {
        let read =
            reading.read(&log, from, limit(isolation)).map_err(|error| unreadable(&error))?;
        let Some(slice) = read.slices.first() else { break };
        let mut bytes = slice.load().map_err(|error| unreadable(&error))?;
        while !bytes.is_empty() {
            let view = BatchView::parse(&bytes).map_err(|error| unreadable(&error))?;
            view.verify_crc().map_err(|error| unreadable(&error))?;
            let base = view.header.base_offset;
            // The log may start in the midst of a batch, and compaction leaves gaps.
            let dense =
                base == from || (from == start && base < start) || (compacted && base > from);
            check(dense, || format!("no dense offsets at {from}"))?;
            let length = view.bytes().len();
            from = view.header.next_offset();
            found.insert(base, bytes.split_to(length));
        }
    }
    let end = match isolation {
        Isolation::ReadUncommitted => offsets.high_watermark,
        Isolation::ReadCommitted => offsets.last_stable_offset,
    };
    check(from == end, || format!("{id:?} ends at {from}, not at {end}"))?;
    Ok(found)
}
