//! Disk, clock, threads and randomness, behind traits, so that a test can be all four.

mod behind;
pub mod measure;
mod real;

use std::{
    fmt, io,
    ops::Range,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use wire::TimestampMs;

/// What the engine stands on.
#[derive(Clone, Debug)]
pub struct Host {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub threads: Arc<dyn Threads>,
    pub random: Arc<dyn Random>,
}

impl Host {
    /// This machine.
    pub fn real() -> Self {
        real::host()
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; it exists.
    Read,
    /// For reading and writing; it is made if it does not exist.
    Write,
    /// For aligned writes past the page cache where the file system can do that, else like `Write`.
    Direct,
}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    fn exists(&self, path: &Path) -> bool;
    /// The length of a file, which need not be opened for that.
    fn length(&self, path: &Path) -> io::Result<u64> {
        self.open(path, Open::Read)?.len()
    }
    /// When a file was last written to; `Unsupported` where nobody knows.
    fn modified(&self, _path: &Path) -> io::Result<TimestampMs> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes it seem that a file was last written to then.
    fn set_modified(&self, _path: &Path, _time: TimestampMs) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the contents of all these files durable.
    fn sync_files(&self, files: &[Arc<dyn DiskFile>]) -> io::Result<()>;
    /// Takes the lock file for as long as the answer lives; `WouldBlock` if another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Bytes that may still be written to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// What stays the same as long as neither the machine was booted nor the directory replaced;
    /// `None` if that cannot be known.
    fn identity(&self, path: &Path) -> Option<[u8; 32]>;
    /// Whether paths are those of this machine, so that sled can keep its files there.
    fn is_real(&self) -> bool;
}

/// A held lock.
pub trait Lock: Send + Sync + fmt::Debug {}

/// An open file. Closing is dropping.
#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills as much of `buffer` as the file has; less only at its end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// Syncs everything that was written to the file's file system; `Unsupported` where that cannot be had.
    fn sync_file_system(&self) -> io::Result<()>;
    /// The number of the device that it lies on, if that is known.
    fn device(&self) -> Option<u64> {
        None
    }
    fn set_len(&self, length: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Reserves space without writing it.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// From now on a read fetches what it asks for and no more.
    fn forgo_read_ahead(&self) {}
    /// Whether reads of old bytes from `position` on fetch what probably comes next as well. What others
    /// have not read yet there may be forgotten when they no longer do.
    fn set_read_ahead(&self, _on: bool, _position: u64) {}
    /// Whether a read of this range would most likely not wait for the disk.
    fn is_cached(&self, _position: u64, _length: usize) -> bool {
        true
    }
    /// Somebody has read these bytes to the end, and had to wait for the disk if `was_cold`: what came from there for
    /// him may be forgotten.
    fn passed(&self, _bytes: Range<u64>, _was_cold: bool) {}
    /// Writes up to `length` bytes from `position` on to a socket, without passing them through
    /// this process, and answers how many; `Unsupported` where that cannot be done.
    fn send_to(
        &self,
        _socket: BorrowedFd<'_>,
        _position: u64,
        _length: usize,
    ) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day.
    fn now(&self) -> TimestampMs;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// A running thread that can be waited for.
pub trait Running: Send + Sync + fmt::Debug {
    fn join(self: Box<Self>);
}

/// Where threads come from, and how the process ends.
pub trait Threads: Send + Sync + fmt::Debug {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Running>>;
    /// Ends the process: what is on the disk is no longer known, and only a recovery can tell. A
    /// simulation may return; the caller does nothing more then.
    fn end_process(&self, reason: &str);
}

/// Randomness for ids and secrets.
pub trait Random: Send + Sync + fmt::Debug {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// Says in the error which file it is about.
pub(crate) fn naming<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|source| {
        io::Error::new(source.kind(), FileError { path: path.to_path_buf(), source })
    })
}

/// An error of a file, for people.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// Whether the disk cannot give back what it took.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG))
}

/// Reads exactly `buffer`, or fails with `UnexpectedEof`.
pub(crate) fn read_exact(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<()> {
    if file.read_at(buffer, position)? == buffer.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The whole file.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
