//! What the engine asks of the disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::TimestampMs;

use super::{Inode, NameChange, REMOVED, RENAMED, SimDisk, eio, is_due};
use crate::host::{Disk, DiskFile, Lock, Open};

/// How a cycle in the journal begins.
const CYCLE: &[u8] = b"ottlacy1";

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

    fn modified(&self, path: &Path) -> io::Result<TimestampMs> {
        let state = self.state();
        let inode = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.inodes[*inode].modified)
    }

    fn set_modified(&self, path: &Path, time: TimestampMs) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        state.inodes[inode].modified = time;
        Ok(())
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
            changes.into_iter().partition(|change| change.parent() == path);
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
        let now = state.now;
        state.inodes[self.inode].write(position, &bytes[..reached]);
        state.inodes[self.inode].modified = now;
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
            state.log_ahead = None;
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
