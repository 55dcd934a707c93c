//! A file system in memory. A crash keeps what was synced; of the rest, each 512-byte sector may or
//! may not have reached the disk, in any order, and of the names of each directory the first few.

mod calls;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use wire::TimestampMs;

use super::{
    Dice, Faults, Tally,
    inode::{Inode, Loss},
};

/// Where a machine stops that stops in front of a rename.
pub(super) const RENAMED: usize = usize::MAX;
pub(super) const REMOVED: usize = usize::MAX - 1;

/// That of a sync.
const SYNC: usize = 1;

/// How the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed; the kernel keeps what was written.
    Kill,
    /// The power is cut.
    Power,
    /// The power is cut, and nothing was written but what was synced.
    PowerLosesAll,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Clone, Debug, Default)]
pub struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    faults: Faults,
    syncs: u64,
    /// Of the clock, as far as the disk was told.
    now: TimestampMs,
    /// Where a cycle is that is not synced.
    unsynced_cycle: Option<usize>,
    /// What of the next cycle is in the logs already, in words.
    log_ahead: Option<&'static str>,
    /// Writes, syncs and changes of names so far.
    changes_made: u64,
    /// The state in front of each of them.
    recording: Option<Vec<State>>,
    /// Where the machine stopped.
    stopped_at: Option<(PathBuf, usize)>,
    /// Whether a read has failed since this was last asked.
    read_failed: bool,
    /// Of which file a write or a sync has failed since the last start.
    failed_at: Option<PathBuf>,
    tally: Tally,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Another disk, with these contents.
    pub fn with(state: State) -> Self {
        Self(Arc::new(Mutex::new(State { tally: Tally::default(), ..state })))
    }

    pub fn faults(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.state().faults);
    }

    /// From so many writes on, the machine has stopped.
    pub fn stop_after_writes(&self, writes: Option<u64>) {
        self.faults(|faults| faults.writes_left = writes);
    }

    /// What is written from now on is written then.
    pub(crate) fn set_time(&self, now: TimestampMs) {
        self.state().now = now;
    }

    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub fn changes_made(&self) -> u64 {
        self.state().changes_made
    }

    /// From now on, the state in front of each change is remembered.
    pub fn record(&self) {
        let mut state = self.state();
        state.recording = Some(Vec::new());
        state.changes_made = 0;
    }

    /// What was recorded, and how it is now.
    pub fn recorded(&self) -> Vec<State> {
        let mut state = self.state();
        let mut points = state.recording.take().unwrap_or_default();
        points.push(state.clone());
        points
    }

    pub fn used(&self) -> usize {
        self.state().used()
    }

    pub fn has_read_failed(&self) -> bool {
        std::mem::take(&mut self.state().read_failed)
    }

    /// Where the machine stopped, if it did.
    pub fn stopped_at(&self) -> Option<(PathBuf, usize)> {
        self.state().stopped_at.clone()
    }

    /// Of which file a write or a sync has failed since the last start, if one did.
    pub fn failed_at(&self) -> Option<PathBuf> {
        self.state().failed_at.clone()
    }

    /// The next thing written is a part of a cycle that is not in the journal yet.
    pub(super) fn run_ahead(&self, words: &'static str) {
        self.state().log_ahead = Some(words);
    }

    /// Whether every cycle that was written is synced.
    pub fn journal_is_synced(&self) -> bool {
        self.state().unsynced_cycle.is_none()
    }

    /// What the next start finds.
    pub fn crash(&self, how: Crash, dice: &mut Dice) {
        let mut state = self.state();
        state.faults = Faults { lies: state.faults.lies, ..Faults::default() };
        state.failed_at = None;
        let at_the_journal =
            state.stopped_at.take().is_some_and(|(path, at)| is_journal(&path) && at > SYNC);
        if let Some(words) = state.log_ahead.take().filter(|_| at_the_journal) {
            state.tally.note(words);
        }
        state.unsynced_cycle = None;
        state.tally.note(if how == Crash::Kill { "kill" } else { "power cut" });
        if how == Crash::Kill {
            return;
        }
        let State { inodes, names, durable_names, changes, tally, dirs, .. } = &mut *state;
        let journal: BTreeSet<usize> =
            names.iter().filter(|(path, _)| is_journal(path)).map(|(_, inode)| *inode).collect();
        for (number, inode) in inodes.iter_mut().enumerate() {
            if how == Crash::PowerLosesAll {
                inode.lose_all();
                continue;
            }
            let Loss { kept, lost, shown } = inode.lose(dice);
            if kept && lost {
                tally.note("unsynced sectors kept and lost in one file");
            }
            if kept && lost && journal.contains(&number) {
                tally.note("torn tail of the journal");
            }
            if shown {
                tally.note("lost sectors come back from a mirror");
            }
        }
        // Names change in order within a directory, up to some point.
        let mut by_dir: BTreeMap<PathBuf, Vec<NameChange>> = BTreeMap::new();
        for change in changes.drain(..) {
            by_dir.entry(change.parent().to_path_buf()).or_default().push(change);
        }
        for changes in by_dir.into_values() {
            let kept = if how == Crash::Power { dice.below_len(changes.len() + 1) } else { 0 };
            if kept < changes.len() {
                tally.note("unsynced names lost");
            }
            changes.into_iter().take(kept).for_each(|change| change.apply(durable_names));
        }
        *names = durable_names.clone();
        // A file whose removal was lost has its directory.
        for dir in names.keys().flat_map(|path| path.ancestors().skip(1)) {
            if dirs.insert(dir.to_path_buf()) {
                tally.note("removed directory came back");
            }
        }
    }

    /// Flips a bit of what the disk has.
    pub fn flip(&self, path: &Path, position: usize, bit: u32) {
        let mut state = self.state();
        let inode = state.names[path];
        state.inodes[inode].flip(position, bit);
    }

    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|inode| state.inodes[*inode].seen().to_vec())
    }

    /// Every file and its length.
    pub fn files(&self) -> BTreeMap<PathBuf, usize> {
        let state = self.state();
        let files = state.names.iter();
        files.map(|(path, inode)| (path.clone(), state.inodes[*inode].seen().len())).collect()
    }
}

fn is_journal(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|it| it.starts_with("segment-"))
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, inode) => drop(names.insert(path, inode)),
            Self::Remove(path) => drop(names.remove(&path)),
        }
    }

    fn parent(&self) -> &Path {
        match self {
            Self::Add(path, _) | Self::Remove(path) => path.parent().unwrap(),
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// Whether it is this one's turn.
fn is_due(after: &mut Option<u64>) -> bool {
    match after {
        Some(0) => {
            *after = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl State {
    fn point(&mut self, path: &Path, position: usize) {
        self.changes_made += 1;
        if let Some(mut points) = self.recording.take() {
            points.push(Self { stopped_at: Some((path.to_path_buf(), position)), ..self.clone() });
            self.recording = Some(points);
        }
    }

    fn may_write(&mut self, path: &Path, position: usize) -> io::Result<()> {
        self.point(path, position);
        match &mut self.faults.writes_left {
            Some(0) => {
                let _first = self.stopped_at.get_or_insert((path.to_path_buf(), position));
                return Err(stopped());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if is_due(&mut self.faults.write_fails_after) {
            self.tally.note("EIO on a write");
            if position < REMOVED {
                self.failed_at = Some(path.to_path_buf());
            }
            return Err(eio());
        }
        Ok(())
    }

    fn may_sync(&mut self, path: &Path) -> io::Result<bool> {
        self.point(path, SYNC);
        self.syncs += 1;
        let has_stopped = self.faults.writes_left == Some(0);
        if has_stopped { Err(stopped()) } else { Ok(!self.faults.lies) }
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].seen().len()).sum()
    }

    fn has_space(&self, inode: usize, length: usize) -> io::Result<()> {
        let Some(capacity) = self.faults.capacity else { return Ok(()) };
        let more = length.saturating_sub(self.inodes[inode].seen().len());
        if more > 0 && self.used() + more > capacity {
            self.tally.note("ENOSPC on a write");
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}
