//! The engine on the simulated disk, a load, and what must be true after every crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use wire::{
    Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId,
    batch::{BatchBuilder, BatchView, ControlMarker, Marker, NewRecord, control_marker},
};

use super::{Crash, Dice, SimDisk};
use crate::{
    Append, AppendError, Appended, CatalogueChange, Config, Durability, Host, Isolation, OpenError,
    PartitionId, ReadLimit,
    engine::{Opened, open},
    host::{Clock, Random, Running, Threads},
    keeper,
    log_state::LogState,
    log_writer::LogWriter,
    queue::{AppendRequest, Request},
    read::Reading,
};

const PARTITIONS: i32 = 3;

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

/// What came of an append.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Its number in the world's list.
    sent: usize,
    durability: Durability,
    appended: Appended,
}

/// A batch that was handed over.
#[derive(Clone, Debug)]
struct Sent {
    partition: PartitionId,
    batch: Bytes,
}

/// A producer with sequences in one partition, and perhaps an open transaction.
#[derive(Debug)]
struct SimProducer {
    id: i64,
    partition: PartitionId,
    next_sequence: i32,
    /// Handed over and not answered.
    unanswered: Option<usize>,
    transactional: bool,
}

/// Everything.
pub(in crate::tests) struct World {
    pub(in crate::tests) disk: SimDisk,
    pub(in crate::tests) dice: Dice,
    clock: Arc<SimClock>,
    host: Host,
    pub(in crate::tests) engine: Option<Opened>,
    topic: Option<TopicId>,
    sent: Vec<Sent>,
    answers: Arc<Mutex<Vec<Outcome>>>,
    synced: BTreeMap<(PartitionId, Offset), usize>,
    written: BTreeMap<(PartitionId, Offset), usize>,
    /// What a reader has seen: offset, and the bytes.
    seen: BTreeMap<(PartitionId, Offset), Bytes>,
    producers: Vec<SimProducer>,
    last_producer: i64,
}

type Check = Result<(), String>;

fn check(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    pub(in crate::tests) fn new(seed: u64) -> Self {
        let disk = SimDisk::default();
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
            engine: None,
            topic: None,
            sent: Vec::new(),
            answers: Arc::default(),
            synced: BTreeMap::new(),
            written: BTreeMap::new(),
            seen: BTreeMap::new(),
            producers: Vec::new(),
            last_producer: 0,
        }
    }

    pub(in crate::tests) fn start(&mut self) -> Result<(), OpenError> {
        let config = Config {
            data_dir: PathBuf::from("/data"),
            journal_dir: None,
            segment_bytes: 9000,
            journal_segment_bytes: 96 << 10,
        };
        let writer = LogWriter::inline(Arc::clone(&self.host.disk));
        self.engine = Some(open(&config, self.host.clone(), writer, false)?);
        Ok(())
    }

    pub(in crate::tests) fn engine(&mut self) -> &mut Opened {
        self.engine.as_mut().unwrap()
    }

    /// Works everything off that is queued.
    pub(in crate::tests) fn settle(&mut self) {
        while self.engine().committer.step() {}
        self.take_answers();
    }

    pub(in crate::tests) fn create_topic(&mut self) {
        let created = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&created);
        let change = CatalogueChange::CreateTopic {
            name: "t".to_owned(),
            partitions: PARTITIONS,
            configs: BTreeMap::new(),
        };
        let done = Box::new(move |result| *tell.lock().unwrap() = Some(result));
        self.engine().shared.queue.push(Request::Catalogue { change, done });
        self.settle();
        self.topic = created.lock().unwrap().take().and_then(Result::ok);
        if self.has_ended() {
            // Whether an earlier topic of that name is deleted, the next start will tell.
            return;
        }
        let found = self.engine().shared.catalogue().by_name.get("t").map(|topic| topic.id);
        self.topic = self.topic.or(found);
    }

    fn delete_topic(&mut self) {
        let Some(id) = self.topic else { return };
        let change = CatalogueChange::DeleteTopic { id };
        let done = Box::new(|_| {});
        self.engine().shared.queue.push(Request::Catalogue { change, done });
        // Whether it is answered or not, nothing is promised of its records any more.
        self.topic = None;
        for map in [&mut self.synced, &mut self.written] {
            map.retain(|(partition, _), _| partition.topic != id);
        }
        self.seen.retain(|(partition, _), _| partition.topic != id);
        self.producers.clear();
        self.settle();
    }

    fn some_partition(&mut self) -> Option<PartitionId> {
        let index = i32::try_from(self.dice.below(PARTITIONS.unsigned_abs().into())).unwrap();
        self.topic.map(|topic| super::super::support::partition(topic, index))
    }

    fn records(&mut self, mut builder: BatchBuilder) -> Bytes {
        let number = self.sent.len();
        for index in 0..=self.dice.below(3) {
            let mut value = format!("{number}-{index} ").into_bytes();
            let length = usize::try_from(self.dice.below(1500)).unwrap();
            value.resize(value.len() + length, b'x');
            builder.push(NewRecord {
                timestamp: TimestampMs(i64::try_from(self.dice.below(10_000)).unwrap()),
                key: None,
                value: Some(&value),
                headers: &[],
            });
        }
        builder.build()
    }

    fn hand_over(&mut self, partition: PartitionId, batch: Bytes, durability: Durability) -> usize {
        self.sent.push(Sent { partition, batch });
        let number = self.sent.len() - 1;
        self.hand_over_again(number, durability);
        number
    }

    /// One acks=all append that nothing waits with.
    pub(in crate::tests) fn append_alone(&mut self) {
        let partition = self.some_partition().unwrap();
        let batch = self.records(BatchBuilder::new());
        self.hand_over(partition, batch, Durability::Synced);
        let answered = self.synced.len();
        self.settle();
        assert_eq!(self.synced.len(), answered + 1);
    }

    fn hand_over_again(&mut self, number: usize, durability: Durability) {
        let Sent { partition, batch } = self.sent[number].clone();
        let answers = Arc::clone(&self.answers);
        let done = Box::new(move |results: Vec<Result<Appended, AppendError>>| {
            if let Ok(appended) = results[0] {
                answers.lock().unwrap().push(Outcome { sent: number, durability, appended });
            }
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

    fn take_answers(&mut self) {
        for outcome in self.answers.lock().unwrap().drain(..) {
            let key = (self.sent[outcome.sent].partition, outcome.appended.base_offset);
            if Some(key.0.topic) != self.topic {
                continue;
            }
            let map = match outcome.durability {
                Durability::Synced => &mut self.synced,
                Durability::Written => &mut self.written,
            };
            map.insert(key, outcome.sent);
            for producer in &mut self.producers {
                if producer.unanswered == Some(outcome.sent) {
                    producer.unanswered = None;
                }
            }
        }
    }

    /// One thing that happens.
    pub(in crate::tests) fn act(&mut self) -> Check {
        self.clock.0.fetch_add(1, Ordering::Relaxed);
        let durability = if self.dice.one_in(2) { Durability::Synced } else { Durability::Written };
        match self.dice.below(16) {
            0..=5 => {
                if let Some(partition) = self.some_partition() {
                    let batch = self.records(BatchBuilder::new());
                    self.hand_over(partition, batch, durability);
                }
            }
            6..=8 => self.produce(durability),
            9 => self.end_transaction(),
            10..=12 => drop(self.engine().committer.step()),
            13 => drop(keeper::step(&self.engine().shared)),
            14 => {
                self.settle();
                self.clock.0.fetch_add(7000, Ordering::Relaxed);
                self.engine().committer.idle();
                if self.dice.one_in(12) {
                    self.delete_topic();
                    self.create_topic();
                }
            }
            _ => {
                self.take_answers();
                return self.look();
            }
        }
        self.take_answers();
        Ok(())
    }

    /// An idempotent producer sends on, or again what was not answered.
    fn produce(&mut self, durability: Durability) {
        let Some(partition) = self.some_partition() else { return };
        if self.producers.len() < 4 {
            self.last_producer += 1;
            let id = self.last_producer;
            let transactional = self.dice.one_in(2);
            self.producers.push(SimProducer {
                id,
                partition,
                next_sequence: 0,
                unanswered: None,
                transactional,
            });
        }
        let index = self.dice.below_len(self.producers.len());
        if let Some(number) = self.producers[index].unanswered {
            self.hand_over_again(number, durability);
            return;
        }
        let producer = &self.producers[index];
        let (id, partition, sequence) = (producer.id, producer.partition, producer.next_sequence);
        let mut builder =
            BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
        if producer.transactional {
            builder = builder.transactional();
        }
        let batch = self.records(builder);
        let count = BatchView::parse(&batch).unwrap().header.record_count;
        let number = self.hand_over(partition, batch, durability);
        self.producers[index].next_sequence += count;
        self.producers[index].unanswered = Some(number);
    }

    fn end_transaction(&mut self) {
        let marker = if self.dice.one_in(2) { Marker::Abort } else { Marker::Commit };
        let ended = self.producers.iter().find(|one| one.transactional && one.unanswered.is_none());
        let Some(producer) = ended else { return };
        let (partition, id) = (producer.partition, ProducerId(producer.id));
        let end = ControlMarker {
            producer_id: id,
            producer_epoch: ProducerEpoch(0),
            marker,
            coordinator_epoch: 0,
            timestamp: TimestampMs(5),
        };
        let batches = vec![Append { partition, batch: control_marker(&end) }];
        self.engine().shared.queue.push(Request::Atomic { batches, done: Box::new(|_| {}) });
    }

    /// The batches of a partition that a reader gets.
    fn read(
        &mut self,
        partition: PartitionId,
        isolation: Isolation,
    ) -> Result<BTreeMap<Offset, Bytes>, String> {
        let shared = Arc::clone(&self.engine().shared);
        let mut found = BTreeMap::new();
        let Some(log) = shared.partition(partition) else { return Ok(found) };
        let reading = Reading::of(&shared);
        let mut from = Offset(0);
        loop {
            let limit = ReadLimit { max_bytes: 5000, isolation, at_least_one_batch: true };
            let read = reading.read(&log, from, limit).map_err(|error| format!("{error:?}"))?;
            let Some(slice) = read.slices.first() else { return Ok(found) };
            let mut bytes = slice.load().unwrap();
            while !bytes.is_empty() {
                let view = BatchView::parse(&bytes).unwrap();
                check(view.verify_crc().is_ok(), || format!("a bad batch at {from}"))?;
                check(view.header.base_offset == from, || format!("no dense offsets at {from}"))?;
                let length = view.bytes().len();
                let next = view.header.next_offset();
                found.insert(from, bytes.split_to(length));
                from = next;
            }
        }
    }

    /// Remembers what readers see: it may never change again.
    fn look(&mut self) -> Check {
        for index in 0..PARTITIONS {
            let Some(topic) = self.topic else { return Ok(()) };
            let partition = super::super::support::partition(topic, index);
            for (offset, bytes) in self.read(partition, Isolation::ReadUncommitted)? {
                if let Some(before) = self.seen.insert((partition, offset), bytes.clone()) {
                    check(before == bytes, || format!("{offset} of {partition:?} has changed"))?;
                }
            }
        }
        Ok(())
    }

    /// Everything that was promised is there, and nothing twice.
    pub(in crate::tests) fn verify(&mut self, how: Crash) -> Check {
        if how == Crash::Power {
            // What only the kernel knew may be gone, and then its offset is given again.
            self.written.clear();
        }
        let Some(topic) = self.topic else { return Ok(()) };
        for index in 0..PARTITIONS {
            let partition = super::super::support::partition(topic, index);
            let found = self.read(partition, Isolation::ReadUncommitted)?;
            for (name, promised) in [("synced", &self.synced), ("written", &self.written)] {
                for ((_, offset), sent) in promised.iter().filter(|((of, _), _)| *of == partition) {
                    let held =
                        found.get(offset).is_some_and(|bytes| same(bytes, &self.sent[*sent].batch));
                    check(held, || {
                        format!("{name} batch {sent} is not at {offset} of {partition:?}")
                    })?;
                }
            }
            for ((_, offset), bytes) in self.seen.iter().filter(|((of, _), _)| *of == partition) {
                check(found.get(offset) == Some(bytes), || {
                    format!("seen {offset} of {partition:?} is gone")
                })?;
            }
            let mut payloads = BTreeSet::new();
            for bytes in found.values() {
                let view = BatchView::parse(bytes).unwrap();
                let own = self.sent.iter().any(|sent| same(bytes, &sent.batch));
                check(own || view.header.is_control(), || "nobody sent this".to_owned())?;
                let fresh = view.header.is_control() || payloads.insert(view.payload().to_vec());
                check(fresh, || format!("{} is there twice", view.header.base_offset))?;
            }
            self.verify_committed(partition, &found)?;
        }
        Ok(())
    }

    /// The last stable offset and the aborted transactions are what the log itself says.
    fn verify_committed(
        &mut self,
        partition: PartitionId,
        found: &BTreeMap<Offset, Bytes>,
    ) -> Check {
        let mut open: BTreeMap<ProducerId, Offset> = BTreeMap::new();
        let mut aborted = BTreeSet::new();
        for bytes in found.values() {
            let view = BatchView::parse(bytes).unwrap();
            let header = view.header;
            if header.is_control() {
                let first = open.remove(&header.producer_id);
                let marker = wire::batch::marker(&view).unwrap().unwrap().0;
                if let (Some(first), Marker::Abort) = (first, marker) {
                    aborted.insert((first, header.producer_id));
                }
            } else if header.is_transactional() {
                open.entry(header.producer_id).or_insert(header.base_offset);
            }
        }
        let shared = Arc::clone(&self.engine().shared);
        let log = shared.partition(partition).unwrap();
        let offsets = log.published().offsets;
        let stable = open.values().min().copied().unwrap_or(offsets.high_watermark);
        check(offsets.last_stable_offset == stable, || {
            format!("the last stable offset is {:?}, not {stable:?}", offsets.last_stable_offset)
        })?;
        let reading = Reading::of(&shared);
        let limit = ReadLimit {
            max_bytes: 5000,
            isolation: Isolation::ReadCommitted,
            at_least_one_batch: true,
        };
        let read = reading.read(&log, Offset(0), limit).map_err(|error| format!("{error:?}"))?;
        for one in &read.aborted {
            let known = aborted.contains(&(one.first_offset, one.producer_id));
            check(known, || format!("{one:?} was not aborted"))?;
        }
        let upper = read.slices.first().and_then(|slice| {
            wire::batch::batches(&slice.load().unwrap())
                .last()
                .map(|view| view.header.next_offset())
        });
        let expected = aborted.iter().filter(|(first, _)| Some(*first) < upper).count();
        check(read.aborted.len() == expected, || {
            format!("{} aborted transactions, not {expected}", read.aborted.len())
        })
    }

    /// The state of every log.
    pub(in crate::tests) fn states(&mut self) -> BTreeMap<PartitionId, LogState> {
        self.engine().committer.states()
    }

    pub(in crate::tests) fn crash(&mut self, how: Crash) {
        self.take_answers();
        self.engine = None;
        self.disk.crash(how, &mut self.dice);
    }

    pub(in crate::tests) fn has_ended(&self) -> bool {
        self.engine.as_ref().is_none_or(|engine| engine.shared.has_ended())
    }

    pub(in crate::tests) fn journal_file(segment: u32) -> PathBuf {
        Path::new("/data/journal").join(format!("segment-{segment}"))
    }
}

/// The same batch but for what the log patches.
fn same(stored: &[u8], sent: &[u8]) -> bool {
    stored.len() == sent.len() && stored.get(16..) == sent.get(16..)
}
