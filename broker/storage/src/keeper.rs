//! The keeper: checkpoints, new journal segments, the map. Everything that may take its time.

mod meta;
pub(crate) mod swap;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use wire::Offset;

use crate::{
    api::PartitionId,
    journal::{checkpoint::Checkpoint, ring::FIRST_SEGMENTS},
    log_state::LogState,
    partition::Partition,
    queue::Request,
    segment_file::{SegmentFile, remove_in_front},
    shared::Shared,
};

pub(crate) use meta::{LogRow, Meta, Rolled, encode_log_row, meta_in_front, state_behind};
pub(crate) use swap::{Clean, Swap};

/// What a checkpoint may write to the map, by far.
const LEAST_FREE_FOR_MAP: u64 = 16 << 20;

/// What the ring leaves where it grows: a checkpoint that cannot be written ends the process.
const LEAST_FREE_BESIDE_JOURNAL: u64 = 64 << 20;

/// What a checkpoint has to do, seen at a published cycle.
#[derive(Debug)]
pub(crate) struct CheckpointPlan {
    pub(crate) checkpoint: Checkpoint,
    /// Files written since the last one.
    pub(crate) files: BTreeMap<(PartitionId, Offset), Arc<SegmentFile>>,
    /// Directories in which names were made or removed.
    pub(crate) dirs: BTreeSet<PathBuf>,
    pub(crate) rolled: Vec<Rolled>,
    /// Partitions written since the last one, and their ends.
    pub(crate) touched: Vec<(Arc<Partition>, LogState)>,
    /// Partitions that were deleted.
    pub(crate) removed: Vec<PartitionId>,
    pub(crate) swaps: Vec<Swap>,
    /// The last of a clean stop.
    pub(crate) last: bool,
}

impl CheckpointPlan {
    /// What is synced of the logs: also a full file that was not written to since the last checkpoint.
    /// A start may have cut it, and once it is full nobody cuts again what a power cut brings back.
    fn logs(&self) -> Vec<&Arc<SegmentFile>> {
        let full = self.rolled.iter().map(|rolled| &rolled.file);
        let mut logs: Vec<_> = self.files.values().chain(full).collect();
        logs.sort_by(|one, other| (&one.dir, one.base).cmp(&(&other.dir, other.base)));
        logs.dedup_by(|one, other| Arc::ptr_eq(one, other));
        logs
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a job of its own")]
#[derive(Debug, Default)]
struct State {
    plan: Option<Box<CheckpointPlan>>,
    busy: bool,
    make_segment: bool,
    make_reserve: bool,
    stopping: bool,
    stopped: bool,
}

/// What the keeper is asked to do.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    changed: Condvar,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a checkpoint would be begun at once.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        !state.busy && state.plan.is_none()
    }

    pub(crate) fn checkpoint(&self, plan: CheckpointPlan) {
        let before = self.lock().plan.replace(Box::new(plan));
        assert!(before.is_none(), "what one checkpoint covers is not lost to the next");
        self.changed.notify_all();
    }

    /// Takes a plan back that was not begun.
    pub(crate) fn withdraw(&self) -> Option<Box<CheckpointPlan>> {
        self.lock().plan.take()
    }

    pub(crate) fn make_segment(&self) {
        self.lock().make_segment = true;
        self.changed.notify_all();
    }

    pub(crate) fn make_reserve(&self) {
        let mut state = self.lock();
        if !state.make_reserve {
            state.make_reserve = true;
            self.changed.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits until the keeper has stopped; `false` if it takes longer.
    pub(crate) fn wait_until_stopped(&self, longest: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, longest, |state| !state.stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    fn wait(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.plan.is_some() || state.make_segment || state.make_reserve {
                return true;
            }
            if state.stopping {
                state.stopped = true;
                self.changed.notify_all();
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Works the jobs off until told to stop.
pub(crate) fn run(shared: &Shared) {
    while shared.jobs.wait() {
        step(shared);
        if shared.has_ended() {
            shared.jobs.lock().stopped = true;
            shared.jobs.changed.notify_all();
            return;
        }
    }
}

/// Does what there is to do now. `false` if there was nothing.
pub(crate) fn step(shared: &Shared) -> bool {
    let mut state = shared.jobs.lock();
    let plan = state.plan.take();
    state.busy = plan.is_some();
    let stopping = state.stopping;
    let make_segment = std::mem::take(&mut state.make_segment);
    let make_reserve = state.make_reserve;
    drop(state);
    if let Some(plan) = &plan
        && let Err(error) = timed(shared, || take_checkpoint(shared, plan))
    {
        if plan.last || stopping {
            // The process ends anyway, and the journal has everything.
            tracing::warn!(%error, "the last checkpoint failed; the next start replays the journal");
            shared.ended.store(true, Ordering::SeqCst);
        } else {
            shared.end_process("a checkpoint failed", &error);
        }
        return true;
    }
    if plan.is_some() && !shared.reserve.is_held() {
        // An idle committer has to learn that it looks for space from now on.
        shared.queue.push(Request::Probe { done: Box::new(drop) });
    }
    if make_segment && let Some(segment) = shared.segments.wanted() {
        match add_segment(shared, segment) {
            Ok(()) => shared.segments.add(segment),
            Err(error) => {
                tracing::warn!(%error, segment, "no further journal segment could be made");
            }
        }
    }
    if make_reserve && let Err(error) = shared.reserve.make(shared.segments.count()) {
        tracing::warn!(%error, "no space for the reserve yet; produce is refused");
    }
    let mut state = shared.jobs.lock();
    state.busy = false;
    state.make_reserve = false;
    plan.is_some() || make_segment || make_reserve
}

/// Makes a segment of the journal. The reserve is as large as the ring, so it grows first; without
/// a second segment nothing could be written at all, so that one may have the reserve's space.
pub(crate) fn add_segment(shared: &Shared, segment: u32) -> io::Result<()> {
    if segment < FIRST_SEGMENTS {
        return shared.reserve.write(|| shared.ring_files.make(segment));
    }
    // The journal may have a disk of its own, of which the reserve knows nothing.
    let free = shared.host.disk.free_bytes(&shared.paths.journal)?;
    let needed = shared.ring_files.segment_bytes.saturating_add(LEAST_FREE_BESIDE_JOURNAL);
    if !shared.reserve.is_held() || free < needed {
        return Err(io::ErrorKind::StorageFull.into());
    }
    shared.reserve.make(segment + 1)?;
    shared.ring_files.make(segment)
}

/// A deleted topic's files and directories may go at any moment.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn timed(shared: &Shared, take: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let began = shared.host.clock.monotonic();
    take()?;
    shared.counters.checkpoint(shared.host.clock.monotonic().saturating_sub(began));
    Ok(())
}

/// sled takes nothing any more once a write of its own has failed, so it is not let near the end of
/// the disk.
fn make_room_for_map(shared: &Shared) {
    let free = || shared.host.disk.free_bytes(&shared.paths.data);
    if shared.map.keeps()
        && free().is_ok_and(|free| free < LEAST_FREE_FOR_MAP)
        && let Err(error) = shared.reserve.release()
    {
        tracing::warn!(%error, "the reserve could not be given up");
    }
}

fn take_checkpoint(shared: &Shared, plan: &CheckpointPlan) -> io::Result<()> {
    let disk = shared.host.disk.as_ref();
    make_room_for_map(shared);
    swap::swap_files(shared, &plan.swaps)?;
    let logs = plan.logs();
    let mut files = Vec::with_capacity(logs.len() + plan.rolled.len());
    for rolled in &plan.rolled {
        // The topic may have been deleted meanwhile.
        files.extend(unless_gone(shared.reserve.write(|| meta::write(disk, rolled)))?);
    }
    for file in &logs {
        files.extend(unless_gone(file.for_syncing(disk))?);
    }
    let newest = shared.checkpoint.load(Ordering::SeqCst);
    let number = plan.checkpoint.number;
    assert!(newest + 1 == number, "a checkpoint is never written over the newest");
    disk.sync_files(&files)?;
    for dir in &plan.dirs {
        unless_gone(disk.sync_dir(dir))?;
    }
    let journal = &shared.paths.journal;
    shared.reserve.write(|| plan.checkpoint.write(disk, journal))?.sync()?;
    shared.checkpoint.fetch_max(plan.checkpoint.number, Ordering::SeqCst);
    shared.segments.free_up_to(plan.checkpoint.cycle);
    for (partition, log) in &plan.touched {
        partition.published().covered = log.segment;
    }
    let trimmed = delete_files(shared, plan);
    if let Err(error) = update_map(shared, plan, &trimmed) {
        // The rows stay in memory, and the next start catches up from the logs.
        tracing::warn!(%error, "the map could not be written");
    } else if plan.last {
        let number = plan.checkpoint.number + 1;
        let clean = Checkpoint { number, clean: true, ..plan.checkpoint.clone() };
        clean.store(disk, journal)?;
    }
    shared.open_files.rest(logs.into_iter());
    swap::finish_swaps(shared, &plan.swaps);
    Ok(())
}

/// Deletes what lies in front of the log starts that the checkpoint knows. Answers the partitions
/// that lost files, and where their first one begins.
fn delete_files(shared: &Shared, plan: &CheckpointPlan) -> Vec<(PartitionId, Offset)> {
    let mut trimmed = Vec::new();
    for (partition, log) in &plan.touched {
        let Some(end) = plan.checkpoint.logs.get(&partition.id) else { continue };
        let mut published = partition.published();
        let gone = published.take_deletable(end.log_start_offset, log.segment);
        let first = published.segments.first().map_or(log.segment, |first| first.file.base);
        drop(published);
        if gone.is_empty() {
            continue;
        }
        shared.counters.deleted(gone.iter().map(|segment| segment.length));
        let disk = shared.host.disk.as_ref();
        // Once they are gone, nothing else says what is written beside the last of them.
        let said = state_behind(disk, &gone);
        let files = shared.leftovers.retire(disk, &gone);
        let removed = said.and_then(|_state| remove_in_front(disk, &partition.dir, first));
        if let Err(error) = unless_gone(removed) {
            // The next deletion or start finds them again.
            tracing::warn!(%error, dir = %partition.dir.display(), "deleted records stay on disk");
        }
        shared.leftovers.add_files(files);
        trimmed.push((partition.id, first));
    }
    trimmed
}

/// Rows first, the position they reach last.
fn update_map(
    shared: &Shared,
    plan: &CheckpointPlan,
    trimmed: &[(PartitionId, Offset)],
) -> io::Result<()> {
    let map = &shared.map;
    if !map.keeps() {
        return Ok(());
    }
    for partition in &plan.removed {
        map.remove(*partition)?;
    }
    for (partition, first) in trimmed {
        map.trim(*partition, *first)?;
    }
    swap::update_map(shared, &plan.swaps)?;
    let mut logs = Vec::with_capacity(plan.touched.len());
    for (partition, log) in &plan.touched {
        if shared.partition(partition.id).is_none() {
            continue;
        }
        let published = partition.published();
        let below = |offset: Offset| offset < log.next_offset;
        let rows: Vec<_> = published.rows.iter().copied().filter(|row| below(row.offset)).collect();
        let aborted: Vec<_> =
            published.aborted.iter().copied().filter(|one| below(one.last_offset)).collect();
        logs.push((partition.id, meta::log_row(&published, log)));
        drop(published);
        for row in &rows {
            map.put_row(partition.id, row)?;
        }
        for one in &aborted {
            map.put_aborted(partition.id, one)?;
        }
    }
    map.put_logs(&logs)?;
    if map.shrink()? {
        tracing::debug!("the map was far larger than its rows; it was written anew");
    }
    if plan.last {
        map.sync(shared.host.disk.as_ref())?;
    }
    for (partition, log) in &plan.touched {
        let mut published = partition.published();
        let mapped = published.rows.partition_point(|row| row.offset < log.next_offset);
        // The newest row stays, so that reading the end of the log does not need the map.
        published.rows.drain(..mapped.saturating_sub(1));
        let mapped = published.aborted.partition_point(|one| one.last_offset < log.next_offset);
        let last = published.aborted.drain(..mapped).next_back();
        if let Some(last) = last {
            published.mapped_aborted = Some(last.last_offset);
        }
    }
    Ok(())
}
