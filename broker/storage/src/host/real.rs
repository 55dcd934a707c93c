//! This machine's disk, clock, threads and randomness.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSliceMut},
    num::NonZeroU64,
    ops::Range,
    os::{
        fd::BorrowedFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Advice, FallocateFlags, FlockOperation, OFlags},
    io::{Errno, ReadWriteFlags},
};
use wire::TimestampMs;

use super::{
    Clock, Disk, DiskFile, Host, Lock, Open, Random, Running, Threads,
    behind::{Behind, PageCache, WINDOW_BYTES},
};
use crate::aligned::AlignedBuffer;

/// From this many files on, one `syncfs` is cheaper than a sync of each.
const SYNC_TOGETHER: usize = 24;

/// A file system in a process of its own: Linux answers `syncfs` there without asking that process.
const FUSE_SUPER_MAGIC: rustix::fs::FsWord = 0x6573_5546;

#[expect(clippy::disallowed_methods, reason = "the one place where the engine's clock starts")]
pub(super) fn host() -> Host {
    Host {
        disk: Arc::new(RealDisk { syncfs: syncfs_tells_errors(), witness: OnceLock::new() }),
        clock: Arc::new(RealClock(Instant::now())),
        threads: Arc::new(RealThreads),
        random: Arc::new(RealRandom),
    }
}

/// Since Linux 5.8 syncfs reports the errors of writeback.
fn syncfs_tells_errors() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}

#[derive(Debug)]
struct RealDisk {
    syncfs: bool,
    /// Open since before anything was written: an error of the file system that another process has been told
    /// of since then is not told again to a descriptor that is younger.
    witness: OnceLock<File>,
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if how == Open::Read {
            return Ok(RealFile::new(File::open(path)?));
        }
        if how == Open::Direct
            && let Some(file) = direct(&options(), path)
        {
            return Ok(RealFile::new(file));
        }
        Ok(RealFile::new(options().open(path)?))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn modified(&self, path: &Path) -> io::Result<TimestampMs> {
        Ok(milliseconds(fs::metadata(path)?.modified()?))
    }

    fn set_modified(&self, path: &Path, time: TimestampMs) -> io::Result<()> {
        let since = Duration::from_millis(time.0.try_into().unwrap_or(0));
        File::open(path)?.set_modified(UNIX_EPOCH + since)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(File::open(path)?)?)
    }

    fn sync_files(&self, files: &[Arc<dyn DiskFile>]) -> io::Result<()> {
        if let Some(first) = files.first()
            && self.syncfs
            && files.len() >= SYNC_TOGETHER
        {
            let is_beside = |witness: &&File| {
                rustix::fs::fstat(witness).is_ok_and(|stat| Some(stat.st_dev) == first.device())
            };
            let synced = match self.witness.get().filter(is_beside) {
                Some(witness) => sync_file_system(witness),
                None => first.sync_file_system(),
            };
            match synced {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                result => return result,
            }
        }
        files.iter().try_for_each(|file| file.sync())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Not a clone of the other, which would keep the lock.
        let witness = File::open(path)?;
        self.witness.get_or_init(|| witness);
        Ok(Box::new(HeldLock(file)))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn identity(&self, path: &Path) -> Option<[u8; 32]> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = uuid::Uuid::parse_str(boot.trim()).ok()?;
        let metadata = fs::metadata(path).ok()?;
        let mut identity = [0; 32];
        let parts = boot
            .into_bytes()
            .into_iter()
            .chain(metadata.dev().to_le_bytes())
            .chain(metadata.ino().to_le_bytes());
        identity.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        Some(identity)
    }

    fn is_real(&self) -> bool {
        true
    }
}

fn sync_file_system(file: &File) -> io::Result<()> {
    if rustix::fs::fstatfs(file)?.f_type == FUSE_SUPER_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(rustix::fs::syncfs(file)?)
}

/// How files are opened that are written.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// The file opened with `O_DIRECT`, if a trial read of it works.
pub(super) fn direct(options: &OpenOptions, path: &Path) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    let file = options.clone().custom_flags(flags).open(path).ok()?;
    let mut block = AlignedBuffer::zeroed(4096);
    let read = file.read_at(block.bytes_mut(), 0).ok()?;
    (read == 0 || file.write_all_at(block.bytes(), 0).is_ok()).then_some(file)
}

#[derive(Debug)]
struct HeldLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Lock for HeldLock {}

/// Less than this part of the memory is free where the page cache has taken the rest.
const MOST_FREE: u64 = 16;
/// A window that is just being read cannot be forgotten: so it is tried as often.
const MOST_FORGOTTEN: u32 = 32;

#[derive(Debug)]
struct RealFile {
    file: File,
    /// How often what was read ahead is still to be forgotten, once nobody wants it any more.
    windows_left: AtomicU32,
    behind: Behind,
}

impl RealFile {
    fn new(file: File) -> Arc<Self> {
        Arc::new(Self { file, windows_left: AtomicU32::new(0), behind: Behind::default() })
    }

    /// A hint; reads work without it. A length of 0 means up to the end.
    fn advise(&self, advice: Advice, position: u64, length: u64) {
        let _hint = rustix::fs::fadvise(&self.file, position, NonZeroU64::new(length), advice);
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = position.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn sync_file_system(&self) -> io::Result<()> {
        sync_file_system(&self.file)
    }

    fn device(&self) -> Option<u64> {
        Some(rustix::fs::fstat(&self.file).ok()?.st_dev)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length)?)
    }

    fn forgo_read_ahead(&self) {
        self.advise(Advice::Random, 0, 0);
    }

    /// The kernel reads ahead in windows that grow, into large folios, which takes half of the CPU time of ranges
    /// that it is told to read. But a mark in each window begins the next one, whoever comes to it and whatever he
    /// advised: so that this ends, what was read ahead is forgotten. Where the file ends, it ends by itself.
    fn set_read_ahead(&self, on: bool, position: u64) {
        if on {
            if self.windows_left.swap(MOST_FORGOTTEN, Ordering::Relaxed) != MOST_FORGOTTEN {
                self.advise(Advice::Normal, 0, 0);
            }
            return;
        }
        let is_far_from_end = || self.len().is_ok_and(|end| position + WINDOW_BYTES < end);
        if self.windows_left.load(Ordering::Relaxed) > 0 && is_far_from_end() {
            let count_down = |left: u32| Some(left.saturating_sub(1));
            let order = Ordering::Relaxed;
            self.windows_left.fetch_update(order, order, count_down).unwrap_or_default();
            self.advise(Advice::Random, 0, 0);
            self.advise(Advice::DontNeed, position, WINDOW_BYTES);
        }
    }

    /// Asks for the first and the last byte: what lies between came with them, in one read.
    fn is_cached(&self, position: u64, length: usize) -> bool {
        let last = position + u64::try_from(length.saturating_sub(1)).unwrap_or(u64::MAX);
        [position, last].into_iter().all(|at| {
            let mut byte = [0];
            let into = &mut [IoSliceMut::new(&mut byte)];
            // A file system that cannot tell is read as if it were in memory.
            rustix::io::preadv2(&self.file, into, at, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
        })
    }

    fn passed(&self, bytes: Range<u64>, was_cold: bool) {
        self.behind.passed(bytes, was_cold, self);
    }

    fn send_to(&self, socket: BorrowedFd<'_>, position: u64, length: usize) -> io::Result<usize> {
        let mut at = position;
        match rustix::fs::sendfile(socket, &self.file, Some(&mut at), length) {
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            sent => Ok(sent?),
        }
    }
}

impl PageCache for RealFile {
    fn has(&self, position: u64) -> bool {
        self.is_cached(position, 1)
    }

    fn is_short(&self) -> bool {
        let memory = rustix::system::sysinfo();
        memory.freeram < memory.totalram / MOST_FREE
    }

    fn forget(&self, bytes: Range<u64>) {
        self.advise(Advice::DontNeed, bytes.start, bytes.end - bytes.start);
    }
}

fn milliseconds(time: SystemTime) -> TimestampMs {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[derive(Debug)]
struct RealClock(Instant);

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the engine's clock")]
    fn now(&self) -> TimestampMs {
        milliseconds(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Debug)]
struct RealThreads;

#[derive(Debug)]
struct RealThread(thread::JoinHandle<()>);

impl Running for RealThread {
    fn join(self: Box<Self>) {
        // A panic of a storage thread has ended the process already.
        let _joined: thread::Result<()> = self.0.join();
    }
}

impl Threads for RealThreads {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Running>> {
        let named = name.to_owned();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
                tracing::error!(thread = named, "a storage thread panicked");
                std::process::abort();
            }
        })?;
        Ok(Box::new(RealThread(thread)))
    }

    fn end_process(&self, reason: &str) {
        tracing::error!(
            reason,
            "the storage cannot go on; the process ends, and the next start recovers"
        );
        std::process::abort();
    }
}

#[derive(Debug)]
struct RealRandom;

impl Random for RealRandom {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}
