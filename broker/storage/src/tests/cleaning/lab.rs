//! An engine without threads on a simulated disk, whose time and steps the test decides.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use wire::{Offset, TimestampMs, TopicId, batch::BatchView};

use crate::{
    Append, AppendError, Appended, CatalogueChange, Config, Damage, DeleteRecordsError, Durability,
    Host, Inspection, Isolation, OpenError, PartitionId, ReadLimit,
    cleaner::{Cleaner, Retention},
    engine::{Opened, open},
    host::{Clock, Random, Running, Threads},
    keeper,
    log_writer::LogWriter,
    queue::{AppendRequest, Chain, DeleteRecords, Request},
    read::Reading,
    tests::sim::SimDisk,
};

#[derive(Debug)]
pub(super) struct LabClock(AtomicI64);

impl Clock for LabClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).try_into().unwrap())
    }
}

#[derive(Debug)]
struct LabThreads;

impl Threads for LabThreads {
    fn spawn(&self, _name: &str, _body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Running>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn end_process(&self, _reason: &str) {}
}

#[derive(Debug)]
struct LabRandom(AtomicU8);

impl Random for LabRandom {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

pub(super) struct Lab {
    pub(super) disk: SimDisk,
    clock: Arc<LabClock>,
    host: Host,
    segment_bytes: u64,
    cleaner: Cleaner,
    retention: Retention,
    pub(super) engine: Option<Opened>,
}

impl Lab {
    pub(super) fn new(segment_bytes: u64) -> Self {
        let disk = SimDisk::default();
        let clock = Arc::new(LabClock(AtomicI64::new(1_000_000)));
        disk.set_time(clock.now());
        let host = Host {
            disk: Arc::new(disk.clone()),
            clock: Arc::<LabClock>::clone(&clock),
            threads: Arc::new(LabThreads),
            random: Arc::new(LabRandom(AtomicU8::new(1))),
        };
        let (cleaner, retention) = (Cleaner::new(1000), Retention::default());
        Self { disk, clock, host, segment_bytes, cleaner, retention, engine: None }
    }

    pub(super) fn start(&mut self) -> Result<(), OpenError> {
        self.engine = None;
        let writer = LogWriter::inline(Arc::clone(&self.host.disk), Box::new(|_: &[_]| 0));
        self.engine = Some(open(&self.config(), self.host.clone(), writer, false)?);
        Ok(())
    }

    fn config(&self) -> Config {
        Config {
            segment_bytes: self.segment_bytes,
            journal_segment_bytes: 256 << 10,
            ..Config::new(PathBuf::from("/data"))
        }
    }

    /// What a doctor finds.
    pub(super) fn damages(&mut self) -> Vec<Damage> {
        self.engine = None;
        let inspection = Inspection::open(&self.config(), &self.host).unwrap();
        inspection.damages(&mut |_, _| {}).unwrap()
    }

    pub(super) fn engine(&mut self) -> &mut Opened {
        self.engine.as_mut().unwrap()
    }

    /// How many keys the cleaner learns in one pass.
    pub(super) fn most_keys(&mut self, most: usize) {
        self.cleaner = Cleaner::new(most);
    }

    pub(super) fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn remove(&self, path: &std::path::Path) {
        self.host.disk.remove_file(path).unwrap();
    }

    /// Ends a transaction.
    pub(super) fn mark(&mut self, partition: PartitionId, end: &wire::batch::ControlMarker) {
        let batches = vec![Append { partition, batch: wire::batch::control_marker(end) }];
        let marked = self.ask(|done| Request::Atomic { chain: Chain::default(), batches, done });
        assert!(marked.is_some_and(|marked| marked.is_ok()), "the transaction is open");
    }

    pub(super) fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
        self.disk.set_time(self.now());
    }

    /// Works off what is queued, then takes the checkpoint that is wanted.
    pub(super) fn settle(&mut self) {
        while self.engine().committer.step() {}
        keeper::step(&self.engine().shared);
    }

    /// Goes on until a checkpoint covers everything.
    pub(super) fn checkpoint(&mut self) {
        self.settle();
        self.pass(10_000);
        self.engine().committer.idle();
        self.settle();
    }

    /// One look of the cleaner.
    pub(super) fn look(&mut self) {
        let shared = Arc::clone(&self.engine().shared);
        self.retention.step(&shared);
        self.cleaner.step(&shared);
    }

    /// One look of the cleaner, and what follows from it.
    pub(super) fn clean(&mut self) {
        self.look();
        self.settle();
    }

    fn ask<T: Send + 'static>(
        &mut self,
        request: impl FnOnce(crate::Done<T>) -> Request,
    ) -> Option<T> {
        let answer = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&answer);
        let done = Box::new(move |value| *tell.lock().unwrap() = Some(value));
        self.engine().shared.queue.push(request(done));
        while self.engine().committer.step() {}
        answer.lock().unwrap().take()
    }

    pub(super) fn change(&mut self, change: CatalogueChange) -> Option<TopicId> {
        self.ask(|done| Request::Catalogue { change, done }).and_then(Result::ok)
    }

    pub(super) fn create(&mut self, configs: &[(&str, &str)]) -> Option<PartitionId> {
        self.create_named("t", configs)
    }

    pub(super) fn create_named(
        &mut self,
        name: &str,
        configs: &[(&str, &str)],
    ) -> Option<PartitionId> {
        let configs: BTreeMap<_, _> =
            configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let name = name.to_owned();
        let topic = self.change(CatalogueChange::CreateTopic { name, partitions: 1, configs })?;
        Some(crate::tests::support::partition(topic, 0))
    }

    /// Appends; `None` if the machine stopped meanwhile.
    pub(super) fn append(
        &mut self,
        partition: PartitionId,
        batch: Bytes,
    ) -> Option<Result<Appended, AppendError>> {
        let answers = self.ask(|done| {
            let batches = vec![Append { partition, batch }];
            Request::Append(AppendRequest::new(batches, Durability::Synced, done))
        });
        answers.map(|mut answers: Vec<_>| answers.remove(0))
    }

    pub(super) fn delete(
        &mut self,
        partition: PartitionId,
        before: Option<i64>,
    ) -> Option<Result<Offset, DeleteRecordsError>> {
        let before = before.map(Offset);
        self.ask(|done| Request::DeleteRecords(DeleteRecords { partition, before, done }))
    }

    pub(super) fn offsets(&mut self, partition: PartitionId) -> crate::LogOffsetSnapshot {
        self.engine().shared.partition(partition).unwrap().published().offsets
    }

    /// All batches from the log's start on.
    pub(super) fn read(&mut self, partition: PartitionId) -> Vec<Bytes> {
        let shared = Arc::clone(&self.engine().shared);
        let log = shared.partition(partition).unwrap();
        let reading = Reading::of(&shared);
        let mut from = log.published().offsets.log_start_offset;
        let mut found = Vec::new();
        loop {
            let isolation = Isolation::ReadUncommitted;
            let limit = ReadLimit { max_bytes: 3000, isolation, at_least_one_batch: true };
            let read = reading.read(&log, from, limit).unwrap();
            let Some(slice) = read.slices.first() else { return found };
            let mut bytes = slice.load().unwrap();
            while !bytes.is_empty() {
                let view = BatchView::parse(&bytes).unwrap();
                view.verify_crc().unwrap();
                from = view.header.next_offset();
                let length = view.bytes().len();
                found.push(bytes.split_to(length));
            }
        }
    }

    /// The names of a partition's files.
    pub(super) fn files(&self, partition: PartitionId) -> Vec<String> {
        let dir = crate::segment_file::partition_dir(&PathBuf::from("/data/topics"), partition);
        self.host.disk.list(&dir).unwrap_or_default()
    }

    /// The base offsets of its log files.
    pub(super) fn logs(&self, partition: PartitionId) -> Vec<i64> {
        let files = self.files(partition);
        files
            .iter()
            .filter_map(|name| crate::segment_file::base_of(name, "log"))
            .map(|it| it.0)
            .collect()
    }
}
