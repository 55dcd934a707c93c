//! The committer: takes what is queued, gives offsets, writes one cycle, syncs it, publishes.
//!
//! One thread, so that everything happens in the order of calls. [`Committer::step`] is one cycle;
//! a simulation calls it by itself.

mod checkpointing;
mod entry;
mod planning;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use wire::{LeaderEpoch, Offset, TopicId};

use crate::{
    aligned::AlignedBuffer,
    api::{
        Append, AppendError, Appended, Catalogue, CatalogueError, DeleteRecordsError, Done,
        Durability, PartitionId,
    },
    codec::position,
    journal::{
        checkpoint::LogEnd,
        cycle::{
            CycleHeader, EXTENT_BYTES, Extent, MAX_CYCLE_BYTES, Secret, cycle_bytes, payload_start,
            seal,
        },
        ring::{FIRST_CYCLE, Ring},
    },
    keeper::{Rolled, Swap},
    log_writer::{Job, LogWriter, Piece},
    mutant::{self, Mutant},
    queue::Request,
    recovery::Written,
    segment_file::SegmentFile,
    shared::Shared,
};

pub(crate) use entry::Entry;

/// How much of what is queued a cycle takes.
const CYCLE_BYTES: usize = 4 << 20;
/// A buffer that grew beyond this is not kept.
const KEPT_BUFFER_BYTES: usize = 5 << 20;

/// Where a start found the journal to continue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The last cycle; it is synced.
    pub(crate) cycle: u64,
    pub(crate) cycle_start: u64,
    pub(crate) start: u64,
    pub(crate) checkpoint: u64,
    /// The cycle at which that checkpoint stands.
    pub(crate) checkpoint_cycle: u64,
    pub(crate) secret: Secret,
    pub(crate) leader_epoch: LeaderEpoch,
}

/// An answer that waits for the cycle.
enum Answer {
    Append(Done<Vec<Result<Appended, AppendError>>>, Vec<Result<Appended, AppendError>>),
    Atomic(Done<Result<Vec<Appended>, AppendError>>, Result<Vec<Appended>, AppendError>),
    Catalogue(Done<Result<TopicId, CatalogueError>>, Result<TopicId, CatalogueError>),
    DeleteRecords(Done<Result<Offset, DeleteRecordsError>>, Result<Offset, DeleteRecordsError>),
    Probe(Done<()>),
}

impl Answer {
    fn give(self) {
        match self {
            Self::Append(done, results) => done(results),
            Self::Atomic(done, result) => done(result),
            Self::Catalogue(done, result) => done(result),
            Self::DeleteRecords(done, result) => done(result),
            Self::Probe(done) => done(()),
        }
    }
}

/// A batch with its place.
struct Planned {
    partition: PartitionId,
    file: Arc<SegmentFile>,
    position: u64,
    base_offset: Offset,
    append_time: Option<wire::TimestampMs>,
    batch: bytes::Bytes,
}

/// The cycle that is being made.
#[derive(Default)]
struct Draft {
    planned: Vec<Planned>,
    /// Given once the journal's write has returned.
    written: Vec<Answer>,
    /// Given once its sync has.
    synced: Vec<Answer>,
    /// Those that are appended to.
    partitions: Vec<PartitionId>,
    created: Vec<PartitionId>,
    deleted: Vec<(TopicId, Vec<PartitionId>)>,
    swaps: Vec<Swap>,
    catalogue_changed: bool,
}

/// What the next checkpoint has to cover.
#[derive(Default)]
struct Uncovered {
    files: BTreeMap<(PartitionId, Offset), Arc<SegmentFile>>,
    dirs: BTreeSet<PathBuf>,
    rolled: Vec<Rolled>,
    touched: BTreeSet<PartitionId>,
    removed: Vec<PartitionId>,
    swaps: Vec<Swap>,
}

/// The one that gives offsets.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    ring: Ring,
    writer: LogWriter,
    entries: HashMap<PartitionId, Entry>,
    catalogue: Arc<Catalogue>,
    backlog: VecDeque<Request>,
    draft: Draft,
    buffer: AlignedBuffer,
    cycle: u64,
    cycle_start: u64,
    origin: Origin,
    /// The newest cycle that a later one says was synced.
    proved: u64,
    checkpoint: u64,
    checkpoint_cycle: u64,
    checkpoint_wanted: bool,
    uncovered: Uncovered,
    logs: BTreeMap<PartitionId, LogEnd>,
    last_activity: Duration,
    full: bool,
    /// A cycle takes no further request beyond this, unless one alone is larger.
    most_bytes: usize,
    /// Whether other threads do the keeper's work.
    threaded: bool,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("cycle", &self.cycle).finish_non_exhaustive()
    }
}

/// What a start hands to the committer.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ring: Ring,
    pub(crate) writer: LogWriter,
    pub(crate) entries: HashMap<PartitionId, Entry>,
    pub(crate) logs: BTreeMap<PartitionId, LogEnd>,
    pub(crate) written: Written,
    pub(crate) origin: Origin,
    pub(crate) threaded: bool,
}

impl Committer {
    pub(crate) fn new(start: Start) -> Self {
        let Start { shared, ring, writer, entries, logs, origin, threaded, .. } = start;
        let uncovered = Uncovered {
            files: start.written.files,
            dirs: start.written.dirs,
            rolled: start.written.rolled,
            touched: start.written.touched,
            removed: Vec::new(),
            swaps: Vec::new(),
        };
        Self {
            catalogue: shared.catalogue(),
            last_activity: shared.host.clock.monotonic(),
            shared,
            ring,
            writer,
            entries,
            backlog: VecDeque::new(),
            draft: Draft::default(),
            buffer: AlignedBuffer::zeroed(0),
            cycle: origin.cycle,
            cycle_start: origin.cycle_start,
            origin,
            // Nothing in the ring says yet that the last of the replayed cycles is synced.
            proved: origin.checkpoint_cycle.max(origin.cycle.saturating_sub(1)),
            checkpoint: origin.checkpoint,
            checkpoint_cycle: origin.checkpoint_cycle,
            checkpoint_wanted: false,
            uncovered,
            logs,
            full: false,
            most_bytes: CYCLE_BYTES,
            threaded,
        }
    }

    /// Commits until told to stop; then leaves a checkpoint.
    pub(crate) fn run(mut self) {
        loop {
            let worked = self.step();
            if self.shared.has_ended() {
                return;
            }
            if worked {
                continue;
            }
            let timeout = self.idle();
            if !self.shared.queue.wait(timeout) {
                break;
            }
        }
        self.finish();
        self.writer.stop();
    }

    /// One cycle. `false` if there was nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        if self.backlog.is_empty() {
            self.shared.queue.drain_into(&mut self.backlog);
        }
        if self.backlog.is_empty() || self.shared.has_ended() {
            return false;
        }
        self.look_for_space();
        let (count, bytes) = self.select();
        let longest = cycle_bytes(count, bytes).min(self.longest_cycle());
        if !self.make_room(longest) {
            return false;
        }
        self.plan(count);
        if !self.draft.planned.is_empty() {
            if let Err((what, error)) = self.commit() {
                self.shared.end_process(what, &error);
                return false;
            }
            self.last_activity = self.shared.host.clock.monotonic();
            self.shared.committed_at(self.last_activity);
        }
        self.publish();
        self.offer_checkpoint();
        true
    }

    /// One cycle that ends early, as one does for which more is queued than it takes. `true` if some
    /// of that is left for the next.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn step_briefly(&mut self, most_bytes: usize) -> (bool, bool) {
        self.most_bytes = most_bytes;
        let worked = self.step();
        self.most_bytes = CYCLE_BYTES;
        (worked, !self.backlog.is_empty())
    }

    /// How long a cycle may be so that it lies in one segment.
    fn longest_cycle(&self) -> usize {
        let segment = self.shared.ring_files.segment_bytes - FIRST_CYCLE;
        MAX_CYCLE_BYTES.min(usize::try_from(segment).unwrap_or(usize::MAX))
    }

    /// How many batches from the front of the backlog go into this cycle, and their bytes.
    fn select(&self) -> (usize, usize) {
        let longest = self.longest_cycle() - payload_start(0);
        let most = self.most_bytes.min(longest);
        let (mut count, mut bytes) = (0, 0);
        for request in &self.backlog {
            let (more, more_bytes) = request.size();
            let fits = |limit: usize| bytes + more_bytes + (count + more) * EXTENT_BYTES <= limit;
            if let Request::Append(request) = request
                && !fits(if count == 0 { longest } else { most })
            {
                // Batches are answered one by one, so a request may be split.
                for append in request.batches.iter().skip(request.results.len()) {
                    let with = bytes + append.batch.len() + (count + 1) * EXTENT_BYTES;
                    if count > 0 && with > most {
                        break;
                    }
                    count += 1;
                    bytes += append.batch.len();
                }
                break;
            }
            if count > 0 && !fits(most) {
                break;
            }
            count += more;
            bytes += more_bytes;
        }
        (count, bytes)
    }

    /// Sees to it that a cycle of this length fits. Produce waits here for a free segment.
    fn make_room(&mut self, length: usize) -> bool {
        while !self.ring.has_room(length) {
            match self.ring.advance() {
                Ok(true) => {
                    self.checkpoint_wanted = true;
                    self.offer_checkpoint();
                    if !self.shared.segments.has_free() {
                        self.shared.jobs.make_segment();
                    }
                }
                Ok(false) => {
                    self.checkpoint_wanted = true;
                    self.offer_checkpoint();
                    self.shared.jobs.make_segment();
                    if self.threaded {
                        self.shared.segments.wait_for_free();
                    } else {
                        crate::keeper::step(&self.shared);
                    }
                    if self.shared.has_ended() {
                        return false;
                    }
                }
                Err(error) => {
                    self.shared.end_process("a journal segment cannot be opened", &error);
                    return false;
                }
            }
        }
        true
    }

    /// Writes the cycle to the journal and the logs, and syncs the journal.
    fn commit(&mut self) -> Result<(), (&'static str, io::Error)> {
        let (extents, pieces) = self.lay_out();
        let header = CycleHeader {
            number: self.cycle + 1,
            start: self.origin.start,
            synced: self.cycle,
            checkpoint: self.shared.checkpoint.load(Ordering::SeqCst),
        };
        let mut buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::zeroed(0));
        let length = seal(&mut buffer, header, &extents, &self.origin.secret);
        let buffer = Arc::new(buffer);
        let job = Job::new(Arc::clone(&buffer), pieces, Arc::clone(&self.shared.reserve));
        self.writer.start(job).map_err(|error| ("a log cannot be written", error))?;
        let bytes = buffer.bytes().get(..length).unwrap_or_default();
        self.ring
            .write(header.number, bytes)
            .map_err(|error| ("the journal cannot be written", error))?;
        self.publish_ends();
        self.draft.written.drain(..).for_each(Answer::give);
        if mutant::is(Mutant::EarlyAnswer) {
            self.draft.synced.drain(..).for_each(Answer::give);
        }
        let clock = &self.shared.host.clock;
        let began = clock.monotonic();
        self.ring.sync().map_err(|error| ("the journal cannot be synced", error))?;
        self.shared.counters.cycle(length, clock.monotonic().saturating_sub(began));
        self.writer.finish().map_err(|error| ("a log cannot be written", error))?;
        self.proved = self.cycle;
        self.cycle = header.number;
        self.cycle_start = header.start;
        if buffer.len() <= KEPT_BUFFER_BYTES
            && let Ok(buffer) = Arc::try_unwrap(buffer)
        {
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Copies the batches into the buffer, those of a partition behind one another, and patches
    /// them. One place for each run of batches that lie behind one another in a file.
    fn lay_out(&mut self) -> (Vec<Extent>, Vec<Piece>) {
        let mut planned = std::mem::take(&mut self.draft.planned);
        planned.sort_by_key(|planned| planned.partition);
        let mut extents: Vec<Extent> = Vec::new();
        for batch in &planned {
            let length = u32::try_from(batch.batch.len()).unwrap_or(u32::MAX);
            match extents.last_mut() {
                Some(last)
                    if last.partition == batch.partition
                        && last.segment == batch.file.base
                        && last.position + u64::from(last.length) == batch.position =>
                {
                    last.length += length;
                }
                _ => extents.push(Extent {
                    partition: batch.partition,
                    segment: batch.file.base,
                    position: batch.position,
                    length,
                }),
            }
        }
        let payload: usize = planned.iter().map(|batch| batch.batch.len()).sum();
        self.buffer.reserve(cycle_bytes(extents.len(), payload));
        let memory = self.buffer.bytes_mut();
        let mut pieces: Vec<Piece> = Vec::with_capacity(extents.len());
        let mut at = payload_start(extents.len());
        for batch in planned.drain(..) {
            let range = at..at + batch.batch.len();
            at = range.end;
            let Some(target) = memory.get_mut(range.clone()) else { continue };
            target.copy_from_slice(&batch.batch);
            wire::batch::set_base_offset(target, batch.base_offset);
            wire::batch::set_leader_epoch(target, self.origin.leader_epoch);
            if let Some(time) = batch.append_time {
                wire::batch::set_log_append_time(target, time);
            }
            match pieces.last_mut() {
                Some(last)
                    if Arc::ptr_eq(&last.file, &batch.file)
                        && last.position + position(last.range.len()) == batch.position =>
                {
                    last.range.end = range.end;
                }
                _ => pieces.push(Piece { file: batch.file, position: batch.position, range }),
            }
        }
        self.draft.planned = planned;
        self.draft.partitions.extend(extents.iter().map(|extent| extent.partition));
        self.draft.partitions.dedup();
        for (extent, piece) in extents.iter().zip(&pieces) {
            let key = (extent.partition, extent.segment);
            self.uncovered.files.entry(key).or_insert_with(|| Arc::clone(&piece.file));
        }
        (extents, pieces)
    }

    /// The state of every log.
    #[cfg(test)]
    pub(crate) fn states(&self) -> BTreeMap<PartitionId, crate::log_state::LogState> {
        self.entries.iter().map(|(id, entry)| (*id, entry.log.clone())).collect()
    }

    /// Writes an empty cycle, which says that the one before was synced.
    fn prove(&mut self) -> io::Result<()> {
        let length = cycle_bytes(0, 0);
        if !self.make_room(length) {
            return Ok(());
        }
        match self.commit() {
            Ok(()) => {
                self.proved = self.cycle;
                Ok(())
            }
            Err((what, error)) => {
                self.shared.end_process(what, &error);
                Err(error)
            }
        }
    }
}

/// The part of a request that stays for the next cycle is answered then.
fn is_whole(request: &crate::queue::AppendRequest) -> bool {
    request.results.len() == request.batches.len()
}

/// The list that an append's answer goes to.
fn answers(draft: &mut Draft, durability: Durability) -> &mut Vec<Answer> {
    match durability {
        Durability::Written => &mut draft.written,
        Durability::Synced => &mut draft.synced,
    }
}

/// Batches with the header they will have, for a plan that is all or nothing.
type Checked<'a> = (&'a Append, wire::batch::BatchHeader);
