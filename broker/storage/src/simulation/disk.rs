//! A file system in memory. A crash keeps what was synced; of the rest, each 512-byte sector and
//! each name may or may not have reached the disk, in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    Dice, Faults, Tally,
    inode::{Inode, Loss},
};
use crate::host::{Disk, DiskFile, Lock, Open};

/// Where a machine stops that stops in front of a rename.
pub(super) const RENAMED: usize = usize::MAX;
pub(super) const REMOVED: usize = usize::MAX - 1;

/// How a cycle in the journal begins.
const CYCLE: &[u8] = b"ottlacy1";

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
    /// Where a cycle is that is not synced.
    unsynced_cycle: Option<usize>,
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

    /// Whether every cycle that was written is synced.
    pub fn journal_is_synced(&self) -> bool {
        self.state().unsynced_cycle.is_none()
    }

    /// What the next start finds.
    pub fn crash(&self, how: Crash, dice: &mut Dice) {
        let mut state = self.state();
        state.faults = Faults { lies: state.faults.lies, ..Faults::default() };
        (state.stopped_at, state.failed_at) = (None, None);
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
        // Names change in order within the file system, up to some point.
        let kept = if how == Crash::Power { dice.below_len(changes.len() + 1) } else { 0 };
        if kept < changes.len() {
            tally.note("unsynced names lost");
        }
        for change in changes.drain(..).take(kept) {
            change.apply(durable_names);
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

    fn parent(&self) -> Option<&Path> {
        match self {
            Self::Add(path, _) | Self::Remove(path) => path.parent(),
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
        self.point(path, 1);
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

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None if how == Open::Read => return Err(io::ErrorKind::NotFound.into()),
            None => {
                if !state.dirs.contains(path.parent().unwrap()) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.may_write(path, 0)?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(path.to_path_buf(), inode);
                state.changes.push(NameChange::Add(path.to_path_buf(), inode));
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path: path.to_path_buf() }))
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state();
        state.names.contains_key(path) || state.dirs.contains(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for dir in path.ancestors() {
            state.dirs.insert(dir.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let under = |entry: &&PathBuf| entry.parent() == Some(path);
        // An empty directory may have been lost with a crash; nobody minds.
        let names = state.names.keys().chain(state.dirs.iter()).filter(under);
        let mut names: Vec<String> =
            names.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_write(path, REMOVED)?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inside: Vec<_> =
            state.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        for name in inside {
            state.may_write(path, REMOVED)?;
            state.names.remove(&name);
            state.changes.push(NameChange::Remove(name));
        }
        state.may_write(path, REMOVED)?;
        state.dirs.retain(|dir| !dir.starts_with(path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_write(from, RENAMED)?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        // Either name may survive, but never none.
        state.changes.push(NameChange::Add(to.to_path_buf(), inode));
        state.changes.push(NameChange::Remove(from.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.may_sync(path)? {
            return Ok(());
        }
        let changes = std::mem::take(&mut state.changes);
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.parent() == Some(path));
        for change in here {
            change.apply(&mut state.durable_names);
        }
        state.changes = elsewhere;
        Ok(())
    }

    fn sync_files(&self, files: &[Arc<dyn DiskFile>]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(SimLock))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.state().faults.free.unwrap_or(u64::MAX))
    }

    fn identity(&self, _path: &Path) -> Option<[u8; 32]> {
        None
    }

    fn is_real(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct SimLock;

impl Lock for SimLock {}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    path: PathBuf,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let position = usize::try_from(position).unwrap();
        let mut state = self.disk.state();
        if is_due(&mut state.faults.read_fails_after) {
            state.tally.note("EIO on a read");
            state.read_failed = true;
            return Err(eio());
        }
        let found = state.inodes[self.inode].seen().get(position..).unwrap_or_default();
        let length = found.len().min(buffer.len());
        buffer[..length].copy_from_slice(&found[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let position = usize::try_from(position).unwrap();
        let mut state = self.disk.state();
        state.has_space(self.inode, position + bytes.len())?;
        let before = state.inodes[self.inode].seen().get(position..).unwrap_or_default();
        // The first cycle of a segment stands at 4096.
        if position == 4096 && before.starts_with(CYCLE) && !before.starts_with(bytes) {
            state.tally.note("journal segment used again");
        }
        let may = state.may_write(&self.path, position);
        // The machine stopped in the middle of it, or the disk failed there.
        let reached = if may.is_ok() { bytes.len() } else { bytes.len() / 2 };
        if bytes.starts_with(CYCLE) {
            state.unsynced_cycle = Some(self.inode);
        }
        state.inodes[self.inode].write(position, &bytes[..reached]);
        may
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if !state.may_sync(&self.path)? {
            return Ok(());
        }
        if is_due(&mut state.faults.sync_fails_after) {
            state.tally.note("EIO on a sync");
            state.failed_at = Some(self.path.clone());
            state.inodes[self.inode].fail_sync();
            return Err(eio());
        }
        if state.unsynced_cycle == Some(self.inode) {
            state.unsynced_cycle = None;
        }
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        let mut state = self.disk.state();
        state.has_space(self.inode, length)?;
        state.may_write(&self.path, length)?;
        state.inodes[self.inode].set_len(length);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(crate::codec::position(self.disk.state().inodes[self.inode].seen().len()))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.len()? < length { self.set_len(length) } else { Ok(()) }
    }
}
