//! A file system in memory. A crash keeps what was synced; of the rest, each 512-byte sector and
//! each name may or may not have reached the disk, in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::Dice;
use crate::host::{Disk, DiskFile, Lock, Open};

const SECTOR: usize = 512;

/// How the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Crash {
    /// The process is killed; the kernel keeps what was written.
    Kill,
    /// The power is cut.
    Power,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// A file's contents: as the processes see it, as the disk has it, and what lies between.
#[derive(Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Sectors that a power cut has lost on one half of a mirror: the other half may show them
    /// after any later cut, until something else is synced there.
    ghosts: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Syncs until the disk fails for ever.
    syncs_left: Option<u64>,
    /// Sync nothing, and say that it worked.
    lies: bool,
    writes_left: Option<u64>,
    pub(super) syncs: u64,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(in crate::tests) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From so many writes on, every write and sync fails: the machine has stopped there.
    pub(in crate::tests) fn stop_after_writes(&self, writes: Option<u64>) {
        self.state().writes_left = writes;
    }

    /// Every sync says that it worked and does nothing.
    pub(in crate::tests) fn lie(&self) {
        self.state().lies = true;
    }

    /// How many syncs there were.
    pub(in crate::tests) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// What the next start finds.
    pub(in crate::tests) fn crash(&self, how: Crash, dice: &mut Dice) {
        let mut state = self.state();
        state.writes_left = None;
        state.syncs_left = None;
        if how == Crash::Kill {
            return;
        }
        let State { inodes, names, durable_names, changes, .. } = &mut *state;
        for inode in inodes.iter_mut() {
            inode.lose(dice);
        }
        // Names change in order within the file system, up to some point.
        let kept = dice.below_len(changes.len() + 1);
        for change in changes.drain(..).take(kept) {
            change.apply(durable_names);
        }
        *names = durable_names.clone();
    }

    /// Flips a bit of what the disk has.
    pub(in crate::tests) fn flip(&self, path: &Path, position: usize) {
        let mut state = self.state();
        let inode = state.names[path];
        for bytes in [0, 1] {
            let inode = &mut state.inodes[inode];
            let bytes = if bytes == 0 { &mut inode.seen } else { &mut inode.durable };
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= 1;
            }
        }
    }

    pub(in crate::tests) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|inode| state.inodes[*inode].seen.clone())
    }

    /// Every file and its bytes.
    pub(in crate::tests) fn image(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let files = state.names.iter();
        files.map(|(path, inode)| (path.clone(), state.inodes[*inode].seen.clone())).collect()
    }
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

fn put(target: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    if target.len() < position + bytes.len() {
        target.resize(position + bytes.len(), 0);
    }
    target[position..position + bytes.len()].copy_from_slice(bytes);
}

impl Inode {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        put(&mut self.seen, position, bytes);
        self.unsynced.push(Unsynced::Write { position, bytes: bytes.to_vec() });
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::Write { position, bytes } => {
                    let end = position + bytes.len();
                    self.ghosts.retain(|(at, ghost)| at + ghost.len() <= position || *at >= end);
                    put(&mut self.durable, position, &bytes);
                }
                Unsynced::SetLen(length) => self.set_durable_len(length),
            }
        }
    }

    fn set_durable_len(&mut self, length: usize) {
        self.ghosts.retain(|(at, ghost)| at + ghost.len() <= length);
        self.durable.resize(length, 0);
    }

    fn show_ghosts(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.ghosts) {
            put(&mut self.durable, at, &bytes);
        }
    }

    /// Sectors reach the disk in any order, or not at all.
    fn lose(&mut self, dice: &mut Dice) {
        let mood = dice.below(4);
        if !self.ghosts.is_empty() && dice.one_in(2) {
            self.show_ghosts();
        }
        let mut sectors = Vec::new();
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::SetLen(length) => {
                    if dice.one_in(2) {
                        self.set_durable_len(length);
                    }
                }
                Unsynced::Write { position, bytes } => {
                    let mut at = position;
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let length = rest.len().min(SECTOR - at % SECTOR);
                        sectors.push((at, rest[..length].to_vec()));
                        rest = &rest[length..];
                        at += length;
                    }
                }
            }
        }
        while !sectors.is_empty() {
            let index = dice.below_len(sectors.len());
            let (at, bytes) = sectors.swap_remove(index);
            let kept = match mood {
                0 => false,
                1 => true,
                2 => dice.one_in(2),
                _ => !dice.one_in(16),
            };
            if kept {
                put(&mut self.durable, at, &bytes);
            } else {
                self.ghosts.push((at, bytes));
            }
        }
        // What is beyond the end was never given blocks.
        self.set_durable_len(self.durable.len());
        self.seen.clone_from(&self.durable);
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl State {
    fn may_write(&mut self) -> io::Result<()> {
        match &mut self.writes_left {
            Some(0) => Err(stopped()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn may_sync(&mut self) -> io::Result<bool> {
        self.syncs += 1;
        if self.writes_left == Some(0) { Err(stopped()) } else { Ok(!self.lies) }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None if how == Open::Read => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let parent = path.parent().unwrap();
                if !state.dirs.contains(parent) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.may_write()?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(path.to_path_buf(), inode);
                state.changes.push(NameChange::Add(path.to_path_buf(), inode));
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
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
        state.may_write()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_write()?;
        let inside: Vec<_> =
            state.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        for name in inside {
            state.names.remove(&name);
            state.changes.push(NameChange::Remove(name));
        }
        state.dirs.retain(|dir| !dir.starts_with(path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_write()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        state.changes.push(NameChange::Remove(from.to_path_buf()));
        state.changes.push(NameChange::Add(to.to_path_buf(), inode));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.may_sync()? {
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
        Ok(u64::MAX)
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
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> T) -> T {
        act(&mut self.disk.state().inodes[self.inode])
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let position = usize::try_from(position).unwrap();
        self.with(|inode| {
            let found = inode.seen.get(position..).unwrap_or_default();
            let length = found.len().min(buffer.len());
            buffer[..length].copy_from_slice(&found[..length]);
            Ok(length)
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let position = usize::try_from(position).unwrap();
        let may = self.disk.state().may_write();
        if let Err(error) = may {
            // The machine stopped in the middle of it.
            self.with(|inode| inode.write(position, &bytes[..bytes.len() / 2]));
            return Err(error);
        }
        self.with(|inode| inode.write(position, bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.disk.state().may_sync()? {
            self.with(Inode::sync);
        }
        Ok(())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.state().may_write()?;
        let length = usize::try_from(length).unwrap();
        self.with(|inode| {
            inode.seen.resize(length, 0);
            inode.unsynced.push(Unsynced::SetLen(length));
        });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|inode| crate::codec::position(inode.seen.len())))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.len()? < length { self.set_len(length) } else { Ok(()) }
    }
}
