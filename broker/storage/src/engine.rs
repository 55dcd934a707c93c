//! The handle that callers hold, and the threads behind it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use uuid::Uuid;
use wire::{LeaderEpoch, Offset, TimestampMs, TopicId};

use crate::{
    api::{
        Append, AppendError, Appended, Catalogue, CatalogueChange, CatalogueError, Config,
        DeleteRecordsError, Done, Durability, LogOffsetSnapshot, OpenTransaction, PartitionId,
        ReadError, ReadLimit, ReadResult, RecoveryReport,
    },
    cleaner::{self, CleanerStatus, Cleaning, Leftovers},
    committer::{Committer, Entry, Start},
    damage::OpenError,
    data_dir::{self, at},
    epochs,
    host::{Host, Running},
    keeper::{self, Jobs},
    log_writer::LogWriter,
    partition::Partition,
    queue::{AppendRequest, Chain, DeleteRecords, Queue, Request},
    read::{Patience, Reading},
    recovery::{Recovered, recover},
    segment_file::{MAX_OPEN_FOR_READING, OpenFiles},
    shared::{Observer, Shared},
    stats::{Counters, StorageStats},
};

/// How long a clean stop waits for its checkpoint; the next start replays what is missing.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// A handle; clones share the engine. The data directory is free again once the last is dropped
/// and the last checkpoint is done.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    running: Mutex<Vec<Box<dyn Running>>>,
}

/// Who forgets to stop it leaves no thread behind that writes to the directory.
impl Drop for Inner {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !running.is_empty() {
            // Not waited for: this may be one of them.
            self.shared.queue.stop();
            self.shared.cleaning.stop();
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storage").field(&self.0.shared).finish()
    }
}

/// A recovered engine whose steps nobody runs yet.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) committer: Committer,
    pub(crate) report: RecoveryReport,
}

/// Recovers; `writer` does the writes to the logs.
pub(crate) fn open(
    config: &Config,
    host: Host,
    writer: LogWriter,
    threaded: bool,
) -> Result<Opened, OpenError> {
    let began = host.clock.monotonic();
    let dir = data_dir::open(config, &host)?;
    let recovered = recover(config, &host, &dir)?;
    let Recovered { ring_files, segments, ring, map, catalogue, entries, logs, .. } = recovered;
    let partitions =
        entries.iter().map(|(id, entry)| (*id, Arc::clone(&entry.partition))).collect();
    let shared = Arc::new(Shared {
        paths: dir.paths,
        data_id: dir.data_id,
        leader_epoch: recovered.origin.leader_epoch,
        default_segment_bytes: config.segment_bytes,
        clean_every: config.clean_every,
        ring_files,
        segments,
        queue: Queue::default(),
        jobs: Jobs::default(),
        cleaning: Cleaning::default(),
        leftovers: Leftovers::new(recovered.leftovers),
        counters: Counters::default(),
        map,
        partitions: RwLock::new(partitions),
        open_files: OpenFiles::new(MAX_OPEN_FOR_READING),
        catalogue: RwLock::new(Arc::new(catalogue)),
        checkpoint: AtomicU64::new(recovered.origin.checkpoint),
        reserve: recovered.reserve,
        committed: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        observer: RwLock::new(None),
        found_open: Mutex::new(open_transactions(&entries)),
        lock: dir.lock,
        host,
    });
    let committer = Committer::new(Start {
        shared: Arc::clone(&shared),
        ring,
        writer,
        entries,
        logs,
        written: recovered.written,
        origin: recovered.origin,
        threaded,
    });
    let report = RecoveryReport {
        cycles_replayed: recovered.cycles,
        bytes_replayed: recovered.bytes,
        torn_tail: recovered.torn_tail,
        took: shared.host.clock.monotonic().saturating_sub(began),
    };
    Ok(Opened { shared, committer, report })
}

fn open_transactions(entries: &HashMap<PartitionId, Entry>) -> Vec<OpenTransaction> {
    let mut found = Vec::new();
    for (partition, entry) in entries {
        let producers = &entry.log.producers;
        found.extend(producers.open().map(|(first_offset, producer_id)| OpenTransaction {
            partition: *partition,
            producer_id,
            producer_epoch: producers.epoch_of(producer_id),
            first_offset,
        }));
    }
    found.sort_unstable_by_key(|one| (one.partition, one.first_offset));
    found
}

/// Appends that stand on one another: once a plan is refused, so is every later append of the chain,
/// whatever it was refused for. Who plans ahead begins another from the state that is in the logs.
#[derive(Clone, Debug)]
pub struct AppendChain {
    storage: Storage,
    chain: Chain,
}

impl AppendChain {
    /// All or nothing, in one cycle, answered when synced; first in, first out with every other
    /// append. What does not fit one cycle, 32 MiB in a journal as shipped, is refused.
    pub fn append_atomic(
        &self,
        batches: Vec<Append>,
        done: Done<Result<Vec<Appended>, AppendError>>,
    ) {
        let chain = self.chain.clone();
        self.storage.0.shared.queue.push(Request::Atomic { chain, batches, done });
    }

    /// Like [`Storage::append`], behind the plans so far. What becomes of it is of no consequence for
    /// the chain.
    pub fn append(
        &self,
        batches: Vec<Append>,
        durability: Durability,
        timeout: Duration,
        done: Done<Vec<Result<Appended, AppendError>>>,
    ) {
        let request = AppendRequest::new(batches, durability, done);
        let request = AppendRequest { chain: Some(self.chain.clone()), ..request };
        self.storage.request(request, timeout);
    }
}

impl Storage {
    /// Opens the data directory, recovers it and starts the threads.
    #[expect(clippy::needless_pass_by_value, reason = "the engine keeps what it is given")]
    pub fn open(config: Config, host: Host) -> Result<(Self, RecoveryReport), OpenError> {
        let threads = Arc::clone(&host.threads);
        let data = config.data_dir.clone();
        let writer = at(&data, LogWriter::threaded(&host))?;
        let opened = open(&config, host, writer, true)?;
        let Opened { shared, committer, report } = opened;
        if shared.segments.wanted().is_some() {
            shared.jobs.make_segment();
        }
        let kept = Arc::clone(&shared);
        let [cleaned, retained] = [Arc::clone(&shared), Arc::clone(&shared)];
        let keeper = Box::new(move || keeper::run(&kept));
        let retention = Box::new(move || cleaner::run_retention(&retained));
        let running = vec![
            at(&data, threads.spawn("ottla-committer", Box::new(move || committer.run())))?,
            at(&data, threads.spawn("ottla-cleaner", Box::new(move || cleaner::run(&cleaned))))?,
            at(&data, threads.spawn("ottla-retention", retention))?,
            at(&data, threads.spawn("ottla-keeper", keeper))?,
        ];
        Ok((Self(Arc::new(Inner { shared, running: Mutex::new(running) })), report))
    }

    /// Does what is queued, refuses what comes after, leaves a checkpoint if that takes no more
    /// than half a second, and joins the threads.
    pub fn shutdown(&self) {
        let running =
            std::mem::take(&mut *self.0.running.lock().unwrap_or_else(PoisonError::into_inner));
        if running.is_empty() {
            return;
        }
        self.0.shared.queue.stop();
        self.0.shared.cleaning.stop();
        let mut running = running.into_iter();
        // All but the keeper, which may take longer.
        running.by_ref().take(3).for_each(Running::join);
        if self.0.shared.jobs.wait_until_stopped(STOP_TIMEOUT) {
            running.for_each(Running::join);
        } else {
            tracing::warn!(
                "the last checkpoint takes too long; the next start replays the journal"
            );
        }
    }

    /// A handle to an engine whose steps somebody else runs.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn stepped(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Inner { shared, running: Mutex::default() }))
    }

    /// The random id of this data directory.
    pub fn cluster_id(&self) -> Uuid {
        self.0.shared.data_id
    }

    /// The topics as of the last synced change.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.0.shared.catalogue()
    }

    /// Durable when `done` is called.
    pub fn change_catalogue(
        &self,
        change: CatalogueChange,
        done: Done<Result<TopicId, CatalogueError>>,
    ) {
        self.0.shared.queue.push(Request::Catalogue { change, done });
    }

    /// One result per batch, in order. What has not entered a cycle within `timeout` is dropped with
    /// [`AppendError::TimedOut`].
    pub fn append(
        &self,
        batches: Vec<Append>,
        durability: Durability,
        timeout: Duration,
        done: Done<Vec<Result<Appended, AppendError>>>,
    ) {
        self.request(AppendRequest::new(batches, durability, done), timeout);
    }

    fn request(&self, mut request: AppendRequest, timeout: Duration) {
        request.deadline = self.0.shared.host.clock.monotonic().saturating_add(timeout);
        self.0.shared.queue.push(Request::Append(request));
    }

    /// The transactions that were open in the logs when the storage was opened; told once.
    pub fn take_open_transactions(&self) -> Vec<OpenTransaction> {
        let mut found = self.0.shared.found_open.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *found)
    }

    /// A chain that nothing stands on yet.
    pub fn chain(&self) -> AppendChain {
        AppendChain { storage: self.clone(), chain: Chain::default() }
    }

    /// Moves the log's start to `before`, or to the high watermark if none is given. Answers where
    /// it is then, once that is durable; files wholly in front of it go at once.
    pub fn delete_records(
        &self,
        partition: PartitionId,
        before: Option<Offset>,
        done: Done<Result<Offset, DeleteRecordsError>>,
    ) {
        let request = DeleteRecords { partition, before, done };
        self.0.shared.queue.push(Request::DeleteRecords(request));
    }

    /// Whole batches from the one that holds `from`; nothing beyond what the isolation allows.
    pub fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<ReadResult, ReadError> {
        self.reading().read(self.partition(partition)?.as_ref(), from, limit)
    }

    /// Like [`Storage::read`], but fails with [`std::io::ErrorKind::WouldBlock`] where it would
    /// have to wait for the disk.
    pub fn try_read(
        &self,
        partition: PartitionId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<ReadResult, ReadError> {
        let reading = Reading { patience: Patience::None, ..self.reading() };
        reading.read(self.partition(partition)?.as_ref(), from, limit)
    }

    /// Whether somebody may be waiting for the journal: something was committed within the last
    /// tenth of a second.
    pub fn is_committing(&self) -> bool {
        self.0.shared.since_commit() < Duration::from_millis(100)
    }

    /// How far the partition has got.
    pub fn offsets(&self, partition: PartitionId) -> Option<LogOffsetSnapshot> {
        Some(self.0.shared.partition(partition)?.published().offsets)
    }

    /// The epoch under which batches are appended; a repair raises it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.0.shared.leader_epoch
    }

    /// The newest epoch up to `epoch` that the partition has, and the first offset behind it.
    pub fn epoch_end(
        &self,
        partition: PartitionId,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        let epochs = (epoch, self.leader_epoch());
        epochs::epoch_end(&self.reading(), self.partition(partition)?.as_ref(), epochs)
    }

    /// The first record at or after `timestamp`, searched inside batches.
    pub fn offset_for_timestamp(
        &self,
        partition: PartitionId,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        self.reading().offset_for_timestamp(self.partition(partition)?.as_ref(), timestamp)
    }

    /// The record with the largest timestamp.
    pub fn max_timestamp(
        &self,
        partition: PartitionId,
    ) -> Result<Option<(Offset, TimestampMs)>, ReadError> {
        self.reading().max_timestamp(self.partition(partition)?.as_ref())
    }

    /// Calls `done` behind everything that was handed over before: never, if the disk hangs.
    pub fn probe(&self, done: Done<()>) {
        self.0.shared.queue.push(Request::Probe { done });
    }

    /// Calls `done` once everything below `upto` is synced; drops it if the partition goes first.
    pub fn when_durable(&self, partition: PartitionId, upto: Offset, done: Done<()>) {
        if let Some(partition) = self.0.shared.partition(partition) {
            partition.when_durable(upto, done);
        }
    }

    /// How compaction keeps up.
    pub fn cleaner_status(&self) -> CleanerStatus {
        self.0.shared.cleaning.status_at(self.0.shared.host.clock.monotonic())
    }

    /// What was counted since the start.
    pub fn stats(&self) -> StorageStats {
        self.0.shared.counters.read(self.0.shared.segments.count())
    }

    /// Called once per published cycle with the partitions whose high watermark or last stable
    /// offset rose. It must not block.
    pub fn set_observer(&self, observer: Observer) {
        *self.0.shared.observer.write().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    /// Every row of the map.
    #[cfg(test)]
    pub(crate) fn map_rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.shared.map.dump()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn partition(&self, id: PartitionId) -> Result<Arc<Partition>, ReadError> {
        self.0.shared.partition(id).ok_or(ReadError::UnknownPartition)
    }

    fn reading(&self) -> Reading<'_> {
        Reading::of(&self.0.shared)
    }
}
