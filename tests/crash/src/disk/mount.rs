//! The disk as a file system that the kernel mounts: FUSE, in this process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{Directory, Disk, File, Kind, Node, Sign};
use crate::time::pause;

/// Nobody but the kernel changes the disk, so what it knows stays true.
const TTL: Duration = Duration::from_mins(1);
/// The sync that the power cut meets is answered no sooner, if anybody is there by then.
const LAST_SYNC_TAKES: Duration = Duration::from_millis(3);
/// The size that the file system pretends to have.
const BLOCKS: u64 = 1 << 24;
const BLOCK_BYTES: u32 = 4096;

/// A mounted disk; ends with the last handle of the process that used it.
#[derive(Debug)]
pub(crate) struct Mounted {
    disk: Arc<Mutex<Disk>>,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Needs `/dev/fuse` and the right to mount.
    pub(crate) fn new(disk: Disk, at: &Path) -> io::Result<Self> {
        let disk = Arc::new(Mutex::new(disk));
        let mut mounted = Self { disk, at: at.to_owned(), session: None };
        mounted.mount()?;
        Ok(mounted)
    }

    pub(crate) fn mount(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("ottla-crash".to_owned())];
        let view = View(Arc::clone(&self.disk));
        self.session = Some(fuser::spawn_mount(view, &self.at, &config)?);
        Ok(())
    }

    pub(crate) fn unmount(&mut self) -> io::Result<()> {
        self.session.take().map_or(Ok(()), BackgroundSession::umount_and_join)
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}

struct View(Arc<Mutex<Disk>>);

impl View {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a change of a file or name of this kind tells about the program.
fn sign_of(name: &OsStr, is_write: bool, goes: bool) -> Sign {
    let name = name.to_string_lossy();
    let is_log = Path::new(name.as_ref()).extension().is_some_and(|found| found == "log");
    let is_meta = name.ends_with(".meta");
    if name.starts_with("checkpoint-") {
        Sign::Checkpoint
    } else if name.ends_with(".cleaned") {
        if is_write || !goes { Sign::Compact } else { Sign::Swap }
    } else if (is_log || is_meta) && goes {
        // A failure of that is no reason to end.
        Sign::Clean
    } else if (is_log && !is_write) || is_meta {
        Sign::Seal
    } else {
        Sign::Anything
    }
}

fn attributes(disk: &mut Disk, node: Node) -> Option<FileAttr> {
    let entry = disk.nodes.get(&node)?;
    let (kind, size, perm) = match &entry.kind {
        Kind::File(file) => (FileType::RegularFile, file.length(), 0o600),
        Kind::Directory(_) => (FileType::Directory, 0, 0o700),
    };
    let time = UNIX_EPOCH;
    Some(FileAttr {
        ino: INodeNo(node),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn name_of(disk: &Disk, node: Node) -> OsString {
    disk.nodes.get(&node).map(|entry| entry.name.clone()).unwrap_or_default()
}

/// Names come from where they are and go to where they will be.
fn rename(disk: &mut Disk, from: (Node, &OsStr), to: (Node, &OsStr)) -> Result<(), Errno> {
    let node = disk.find(from.0, from.1).ok_or(Errno::ENOENT)?;
    let gone = (from.1.to_owned(), None);
    let come = (to.1.to_owned(), Some(node));
    if from.0 == to.0 {
        disk.directory(from.0).ok_or(Errno::ENOTDIR)?.change(vec![gone, come]);
    } else {
        disk.directory(to.0).ok_or(Errno::ENOTDIR)?.change(vec![come]);
        disk.directory(from.0).ok_or(Errno::ENOTDIR)?.change(vec![gone]);
    }
    if let Some(entry) = disk.nodes.get_mut(&node) {
        to.1.clone_into(&mut entry.name);
    }
    Ok(())
}

fn remove(disk: &mut Disk, parent: Node, name: &OsStr) -> Result<(), Errno> {
    let node = disk.find(parent, name).ok_or(Errno::ENOENT)?;
    if disk.directory(node).is_some_and(|directory| !directory.live.is_empty()) {
        return Err(Errno::ENOTEMPTY);
    }
    disk.grow(node, 0);
    disk.directory(parent).ok_or(Errno::ENOTDIR)?.change(vec![(name.to_owned(), None)]);
    Ok(())
}

/// Answers after a while, and others in between.
fn later(after: Duration, answer: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        pause(after);
        answer();
    });
}

fn finish(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for View {
    fn init(&mut self, _request: &Request, _config: &mut KernelConfig) -> io::Result<()> {
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let node = disk.find(parent.0, name);
        match node.and_then(|node| attributes(&mut disk, node)) {
            Some(found) => reply.entry(&TTL, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&mut self.disk(), node.0) {
            Some(found) => reply.attr(&TTL, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        if let Some(size) = size {
            if !disk.pass(Sign::Anything) {
                return reply.error(Errno::EIO);
            }
            if !disk.grow(node.0, size) {
                return reply.error(Errno::ENOSPC);
            }
            if let Some(file) = disk.file(node.0) {
                file.set_length(size);
            }
        }
        match attributes(&mut disk, node.0) {
            Some(found) => reply.attr(&TTL, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut disk = self.disk();
        if !disk.pass(Sign::Anything) {
            return reply.error(Errno::EIO);
        }
        let node = disk.add(parent.0, name, Kind::Directory(Directory::default()));
        match node.and_then(|node| attributes(&mut disk, node)) {
            Some(found) => reply.entry(&TTL, &found, Generation(0)),
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        if !disk.pass(sign_of(name, false, false)) {
            return reply.error(Errno::EIO);
        }
        let node = disk.add(parent.0, name, Kind::File(File::default()));
        match node.and_then(|node| attributes(&mut disk, node)) {
            Some(found) => {
                let flags = FopenFlags::empty();
                reply.created(&TTL, &found, Generation(0), FileHandle(0), flags);
            }
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        if !disk.pass(sign_of(name, false, true)) {
            return reply.error(Errno::EIO);
        }
        finish(reply, remove(&mut disk, parent.0, name));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        if !disk.pass(Sign::Anything) {
            return reply.error(Errno::EIO);
        }
        finish(reply, remove(&mut disk, parent.0, name));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        if !disk.pass(sign_of(name, false, true)) {
            return reply.error(Errno::EIO);
        }
        finish(reply, rename(&mut disk, (parent.0, name), (new_parent.0, new_name)));
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().file(node.0) {
            Some(file) => reply.data(&file.read(offset, size.into())),
            None => reply.error(Errno::EISDIR),
        }
    }

    /// A write that the power cut meets may be there in part, like any that was not synced.
    fn write(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        let had_power = disk.has_power;
        let sign = sign_of(&name_of(&disk, node.0), true, false);
        let passed = disk.pass(sign);
        let has_failed = had_power && !passed && disk.has_power;
        let end = offset + u64::try_from(bytes.len()).unwrap();
        let length = disk.file(node.0).map_or(0, |file| file.length());
        if passed && end > length && !disk.grow(node.0, end) {
            return reply.error(Errno::ENOSPC);
        }
        if had_power
            && !has_failed
            && let Some(file) = disk.file(node.0)
        {
            file.write(offset, bytes);
        }
        if passed {
            reply.written(u32::try_from(bytes.len()).unwrap());
        } else {
            reply.error(Errno::EIO);
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        let sign = sign_of(&name_of(&disk, node.0), true, false);
        let sign = disk.sign_of_sync(node.0, sign);
        let is_journal = matches!(sign, Sign::Sync | Sign::Turn);
        if !disk.pass(sign) {
            drop(disk);
            // A sync takes its time, also one that fails; meanwhile others do what they do.
            return later(LAST_SYNC_TAKES, move || reply.error(Errno::EIO));
        }
        if is_journal || disk.sync_takes.is_zero() {
            disk.sync(node.0);
            return reply.ok();
        }
        let takes = disk.sync_takes;
        drop(disk);
        let disk = Arc::clone(&self.0);
        later(takes, move || {
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            if disk.has_power {
                disk.sync(node.0);
                reply.ok();
            } else {
                reply.error(Errno::EIO);
            }
        });
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        if !disk.pass(Sign::Anything) {
            return reply.error(Errno::EIO);
        }
        disk.sync(node.0);
        reply.ok();
    }

    fn fallocate(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        if !disk.pass(Sign::Anything) {
            return reply.error(Errno::EIO);
        }
        let length = (offset + length).max(disk.file(node.0).map_or(0, |file| file.length()));
        if !disk.grow(node.0, length) {
            return reply.error(Errno::ENOSPC);
        }
        if let Some(file) = disk.file(node.0) {
            file.set_length(length);
        }
        reply.ok();
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut disk = self.disk();
        let names: BTreeMap<OsString, Node> =
            disk.directory(node.0).map(|directory| directory.live.clone()).unwrap_or_default();
        for (number, (name, node)) in (1..).zip(names) {
            let is_file = disk.file(node).is_some();
            let kind = if is_file { FileType::RegularFile } else { FileType::Directory };
            if number > offset && reply.add(INodeNo(node), number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let free = self.disk().room.map_or(BLOCKS, |room| room / u64::from(BLOCK_BYTES));
        reply.statfs(BLOCKS, free, free, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}
