//! The cleaner: what may go. One thread compacts: it decides, reads, and writes files anew. Another
//! does what must not wait for that: retention, and what deleted files have left. What changes a
//! log goes through the committer's queue, and its files are removed and replaced by the checkpoint
//! that knows of it.

mod batches;
mod candidate;
mod compaction;
mod keys;
mod leftovers;
mod output;
mod retention;
mod status;
mod throttle;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use wire::{Offset, TimestampMs};

use crate::{
    api::PartitionId,
    catalogue::METADATA,
    host::{Open, read_exact},
    keeper::{Clean, Swap, state_behind},
    partition::{Segment, with_ends},
    queue::Request,
    settings::TopicSettings,
    shared::Shared,
};
use batches::Batches;
use candidate::Candidate;
use compaction::{Failure, Pass};

pub(crate) use keys::MOST_KEYS;
pub(crate) use leftovers::{DeletedTopic, Leftovers, Nameless};
pub(crate) use output::Output;
pub(crate) use retention::Retention;
pub use status::CleanerStatus;
pub(crate) use status::Cleaning;

/// The first look waits until a start is over, as Kafka's waits for
/// `log.initial.task.delay.ms`: so much longer than the others.
const FIRST_LOOK_LATER: u32 = 3;
/// What failed, on a full disk for example, is tried again after so long.
const POSTPONED_FOR: Duration = Duration::from_mins(1);
/// Compaction leaves so much of the disk to others.
const LEAST_FREE_BYTES: u64 = 512 << 20;

/// What the cleaner remembers between two looks.
#[derive(Debug)]
pub(crate) struct Cleaner {
    most_keys: usize,
    /// When the last look began, by both clocks.
    looked: (TimestampMs, Duration),
    /// What it found due, the dirtiest first, and was not begun yet.
    due: VecDeque<Candidate>,
    /// What is compacted now.
    pass: Option<Pass>,
    /// Logs with a batch that cannot be read: they stay as they are.
    damaged: HashSet<PartitionId>,
    /// Logs that could not be compacted, and when that is tried again, by the monotonic clock.
    postponed: HashMap<PartitionId, Duration>,
}

/// Compacts until told to stop.
pub(crate) fn run(shared: &Shared) {
    let mut cleaner = Cleaner::new(MOST_KEYS);
    repeat(shared, || cleaner.step(shared));
}

/// Sees to retention until told to stop.
pub(crate) fn run_retention(shared: &Shared) {
    let mut retention = Retention::default();
    repeat(shared, || retention.step(shared));
}

fn repeat(shared: &Shared, mut step: impl FnMut()) {
    let mut pause = shared.clean_every * FIRST_LOOK_LATER;
    while shared.cleaning.wait(pause) && !shared.has_ended() {
        step();
        pause = shared.clean_every;
    }
}

impl Cleaner {
    pub(crate) fn new(most_keys: usize) -> Self {
        Self {
            most_keys,
            looked: (TimestampMs::NONE, Duration::ZERO),
            due: VecDeque::new(),
            pass: None,
            damaged: HashSet::new(),
            postponed: HashMap::new(),
        }
    }

    /// One look at every log, and compaction of those that are due, until it is time for the next
    /// look.
    pub(crate) fn step(&mut self, shared: &Shared) {
        self.look(shared);
        while self.go_on(shared) {}
        self.due.clear();
    }

    /// Finds what is due. A pass that was not ended is given up.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let now = shared.host.clock.now();
        let began = shared.host.clock.monotonic();
        self.postponed.retain(|_, until| *until > began);
        self.looked = (now, began);
        self.pass = None;
        let mut due = self.find_due(shared, now);
        due.sort_by(|one, other| other.dirty_percent.total_cmp(&one.dirty_percent));
        shared.cleaning.seen(&due, self.damaged.len(), began);
        due.retain(|one| !self.postponed.contains_key(&one.partition.id));
        self.due = due.into();
    }

    /// The next part of what is due: learns the keys of a log, or writes some of its files anew.
    /// `false` once nothing is left, or it is time for the next look.
    pub(crate) fn go_on(&mut self, shared: &Shared) -> bool {
        let (now, began) = self.looked;
        let (id, outcome) = if let Some(mut pass) = self.pass.take() {
            let written = write_next(shared, &mut pass);
            (pass.candidate.partition.id, written.map(|more| more.then_some(pass)))
        } else if let Some(candidate) = self.due.pop_front() {
            let id = candidate.partition.id;
            (id, Pass::begin(shared, candidate, self.most_keys, now).map(Some))
        } else {
            return false;
        };
        match outcome {
            Ok(Some(pass)) => {
                self.pass = Some(pass);
                return true;
            }
            Ok(None) => shared.cleaning.cleaned(shared.host.clock.monotonic()),
            Err(Failure::Stopping) => return false,
            // The topic was deleted, or the file: the next look sees what there is.
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(Failure::Io(error)) => {
                tracing::warn!(%error, "a log cannot be compacted now");
                self.postponed.insert(id, began + POSTPONED_FOR);
            }
            Err(Failure::Damaged { path, position }) => {
                let path = path.display();
                tracing::error!(%path, position, "a damaged log is not compacted any more");
                self.damaged.insert(id);
            }
        }
        shared.host.clock.monotonic().saturating_sub(began) <= shared.clean_every
    }

    /// The log that is compacted in part.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn in_the_midst(&self) -> Option<&crate::partition::Partition> {
        self.pass.as_ref().filter(|pass| pass.done > 0).map(|pass| &*pass.candidate.partition)
    }

    /// What is to be compacted.
    fn find_due(&self, shared: &Shared, now: TimestampMs) -> Vec<Candidate> {
        let catalogue = shared.catalogue();
        let mut due = Vec::new();
        for (id, topic) in catalogue.partitions().filter(|(id, _)| *id != METADATA) {
            let Some(partition) = shared.partition(id) else { continue };
            let settings = TopicSettings::of(&catalogue, topic, shared.default_segment_bytes);
            if settings.compact && !self.damaged.contains(&id) {
                let candidate = Candidate::of(&partition, settings, now, shared.host.disk.as_ref());
                due.extend(candidate.filter(|one| one.is_due() || is_overdue(shared, one, now)));
            }
        }
        due
    }
}

/// Whether a record has waited longer than `max.compaction.lag.ms`.
fn is_overdue(shared: &Shared, candidate: &Candidate, now: TimestampMs) -> bool {
    let longest = candidate.settings.max_compaction_lag_ms;
    if longest == i64::MAX {
        return false;
    }
    let first = |segment: &Segment| -> io::Result<TimestampMs> {
        let file = shared.host.disk.open(&segment.file.path(), Open::Read)?;
        let mut header = [0; wire::batch::HEADER_BYTES];
        read_exact(file.as_ref(), &mut header, 0)?;
        let header = wire::batch::BatchHeader::parse(&header);
        header.map(|header| header.max_timestamp).map_err(io::Error::other)
    };
    let is_overdue = |segment: &Segment| {
        first(segment).is_ok_and(|first| first.0 > 0 && now.0.saturating_sub(first.0) > longest)
    };
    candidate.dirty_segments().iter().any(is_overdue)
}

/// Every file up to where the keys are known is written anew if anything in it goes, those that
/// fit into one together. `false` once that is done.
fn write_next(shared: &Shared, pass: &mut Pass) -> Result<bool, Failure> {
    let (candidate, upto) = (&pass.candidate, pass.upto());
    let files = candidate.segments.partition_point(|segment| segment.file.base < upto);
    let rest = candidate.segments.get(pass.done..files).unwrap_or_default();
    let group = group(candidate, rest).to_vec();
    if group.is_empty() {
        shared.queue.push(Request::Clean(Clean::CleanedTo(candidate.partition.id, upto)));
        return Ok(false);
    }
    let end = end_of(candidate, &group);
    pass.done += group.len();
    write_anew(shared, pass, &group, end)?;
    Ok(true)
}

/// Files that fit into one, from the first on.
fn group<'a>(candidate: &Candidate, rest: &'a [Segment]) -> &'a [Segment] {
    let Some(first) = rest.first() else { return rest };
    let mut bytes = 0;
    let fits = |segment: &&Segment| {
        bytes += segment.length;
        let span = end_of(candidate, std::slice::from_ref(*segment)).0 - first.file.base.0;
        bytes <= candidate.settings.segment_bytes && span <= i64::from(i32::MAX)
    };
    let count = rest.iter().take_while(fits).count().max(1);
    rest.get(..count).unwrap_or(rest)
}

/// Where the last of these files ends.
fn end_of(candidate: &Candidate, group: &[Segment]) -> Offset {
    let last = group.last().map_or(Offset(0), |last| last.file.base);
    let next = candidate.segments.iter().map(|segment| segment.file.base).find(|base| *base > last);
    next.unwrap_or(candidate.end)
}

/// Writes a group anew and hands it over, unless nothing would change.
fn write_anew(
    shared: &Shared,
    pass: &mut Pass,
    group: &[Segment],
    end: Offset,
) -> Result<(), Failure> {
    let disk = shared.host.disk.as_ref();
    let Some(first) = group.first() else { return Ok(()) };
    let needed: u64 = group.iter().map(|segment| segment.length).sum();
    if disk.free_bytes(&shared.paths.data)? < needed.saturating_add(LEAST_FREE_BYTES) {
        return Err(Failure::Io(io::ErrorKind::StorageFull.into()));
    }
    let mut generation = [0; 8];
    shared.host.random.fill(&mut generation)?;
    let generation = u64::from_le_bytes(generation);
    let (base, partition) = (first.file.base, Arc::clone(&pass.candidate.partition));
    let discard =
        || crate::segment_file::remove_cleaned(disk, &partition.dir, |_, of| of == generation);
    let output = Output::create(disk, &partition.dir, base, generation)?;
    pass.changed = group.len() > 1;
    let (segment, rows, dropped_markers) = match fill(shared, pass, (group, end), output) {
        Ok(filled) => filled,
        Err(failure) => {
            discard()?;
            return Err(failure);
        }
    };
    if !pass.changed {
        discard()?;
        return Ok(());
    }
    // Records without a timestamp are as old as their file.
    if let Some(last) = group.last()
        && let Ok(written) = disk.modified(&last.file.path())
        && let Err(error) = disk.set_modified(&segment.file.path(), written)
    {
        tracing::debug!(%error, "a file written anew is younger than it was");
    }
    shared.counters.reclaimed(needed.saturating_sub(segment.length));
    partition.published().pending_swaps += 1;
    let partition = partition.id;
    let swap = Swap { partition, base, end, generation, segment, rows, dropped_markers };
    shared.queue.push(Request::Clean(Clean::Swap(Box::new(swap))));
    Ok(())
}

type Filled = (Segment, Vec<crate::log_state::Row>, Vec<Offset>);

fn fill(
    shared: &Shared,
    pass: &mut Pass,
    (group, end): (&[Segment], Offset),
    mut output: Output<'_>,
) -> Result<Filled, Failure> {
    let (mut dropped, mut aborted, mut producers) = (Vec::new(), Vec::new(), None);
    for (segment, segment_end) in with_ends(group, end) {
        let all = &pass.candidate.segments;
        let upto = all.partition_point(|other| other.file.base <= segment.file.base);
        let state = state_behind(shared.host.disk.as_ref(), all.get(..upto).unwrap_or_default())?;
        aborted.extend(state.segment_aborted);
        producers = Some(state.producers);
        let batches = Batches::of(shared, segment, segment_end)?;
        dropped.extend(pass.filter(shared, batches, end, |batch| Ok(output.push(batch)?))?);
    }
    aborted.retain(|one| !dropped.contains(&one.last_offset));
    let (segment, rows) = output.finish(producers.unwrap_or_default(), aborted)?;
    Ok((segment, rows, dropped))
}
