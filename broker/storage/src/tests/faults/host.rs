//! This machine's disk with faults at chosen places, and an end of the process that is only noted.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::host::{Disk, DiskFile, Host, Lock, Open, Running, Threads};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Operation {
    /// Fails with EIO, whatever is said.
    Read,
    Write,
    Sync,
    Allocate,
}

#[derive(Clone, Debug)]
struct Fault {
    operation: Operation,
    /// In the path of the file.
    part: &'static str,
    error: io::ErrorKind,
    /// How often it does not fail first.
    passes: u64,
    /// How often it still fails.
    left: u64,
}

/// Which faults there are, and what came of them. Clones are the same.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Faults(Arc<State>);

#[derive(Debug)]
struct State {
    faults: Mutex<Vec<Fault>>,
    free: AtomicU64,
    free_for_journal: AtomicU64,
    hits: AtomicU64,
    ends: Mutex<Vec<String>>,
    meanwhile: Mutex<Option<Meanwhile>>,
    /// What cannot be read, of files with this in their path.
    bad: Mutex<Option<(&'static str, Range<u64>)>>,
}

/// What happens while a file with this in its path is opened to be read.
struct Meanwhile(&'static str, Box<dyn FnOnce() + Send>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meanwhile").field(&self.0).finish_non_exhaustive()
    }
}

impl Faults {
    pub(in crate::tests) fn none() -> Self {
        Self(Arc::new(State {
            faults: Mutex::default(),
            free: AtomicU64::new(u64::MAX),
            free_for_journal: AtomicU64::new(u64::MAX),
            hits: AtomicU64::new(0),
            ends: Mutex::default(),
            meanwhile: Mutex::default(),
            bad: Mutex::default(),
        }))
    }

    pub(in crate::tests) fn host(&self) -> Host {
        let real = Host::real();
        Host {
            disk: Arc::new(FaultyDisk { real: real.disk, faults: self.clone() }),
            threads: Arc::new(NotingThreads { real: real.threads, faults: self.clone() }),
            ..real
        }
    }

    /// The operation fails so many times on files with `part` in their path.
    pub(in crate::tests) fn fail(
        &self,
        operation: Operation,
        part: &'static str,
        error: io::ErrorKind,
        times: u64,
    ) {
        let fault = Fault { operation, part, error, passes: 0, left: times };
        self.0.faults.lock().unwrap().push(fault);
    }

    /// The operation fails from then on, after it has worked so many times.
    pub(in crate::tests) fn fail_after(
        &self,
        operation: Operation,
        part: &'static str,
        passes: u64,
    ) {
        let fault = Fault { operation, part, error: io::ErrorKind::Other, passes, left: u64::MAX };
        self.0.faults.lock().unwrap().push(fault);
    }

    /// These bytes cannot be read any more of files with `part` in their path.
    pub(in crate::tests) fn spoil(&self, part: &'static str, bytes: Range<u64>) {
        *self.0.bad.lock().unwrap() = Some((part, bytes));
    }

    fn is_bad(&self, path: &Path, read: &Range<u64>) -> bool {
        let bad = self.0.bad.lock().unwrap();
        bad.as_ref().is_some_and(|(part, bytes)| {
            path.to_string_lossy().contains(part)
                && read.start < bytes.end
                && bytes.start < read.end
        })
    }

    pub(in crate::tests) fn set_free(&self, bytes: u64) {
        self.0.free.store(bytes, Ordering::SeqCst);
    }

    /// As if the journal had a disk of its own.
    pub(in crate::tests) fn set_free_for_journal(&self, bytes: u64) {
        self.0.free_for_journal.store(bytes, Ordering::SeqCst);
    }

    /// Does something once, while somebody opens a file with `part` in its path to read it.
    pub(in crate::tests) fn meanwhile(
        &self,
        part: &'static str,
        happens: impl FnOnce() + Send + 'static,
    ) {
        *self.0.meanwhile.lock().unwrap() = Some(Meanwhile(part, Box::new(happens)));
    }

    fn opened(&self, path: &Path) {
        let is_met = |it: &mut Meanwhile| path.to_string_lossy().contains(it.0);
        let met = self.0.meanwhile.lock().unwrap().take_if(is_met);
        if let Some(Meanwhile(_, happens)) = met {
            happens();
        }
    }

    /// How many operations failed.
    pub(in crate::tests) fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// Why the process would have ended.
    pub(in crate::tests) fn ends(&self) -> Vec<String> {
        self.0.ends.lock().unwrap().clone()
    }

    fn meet(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let path = path.to_string_lossy();
        let mut faults = self.0.faults.lock().unwrap();
        let met = faults.iter_mut().find(|fault| {
            fault.operation == operation && fault.left > 0 && path.contains(fault.part)
        });
        let Some(fault) = met else { return Ok(()) };
        if fault.passes > 0 {
            fault.passes -= 1;
            return Ok(());
        }
        fault.left -= 1;
        self.0.hits.fetch_add(1, Ordering::SeqCst);
        Err(fault.error.into())
    }
}

#[derive(Debug)]
struct FaultyDisk {
    real: Arc<dyn Disk>,
    faults: Faults,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.real.open(path, how)?;
        if how == Open::Read {
            self.faults.opened(path);
        }
        Ok(Arc::new(FaultyFile { file, path: path.to_path_buf(), faults: self.faults.clone() }))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.real.length(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.real.exists(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.real.list(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.real.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Operation::Sync, path)?;
        self.real.sync_dir(path)
    }

    fn sync_files(&self, files: &[Arc<dyn DiskFile>]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.real.lock(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let free = self.faults.0.free.load(Ordering::SeqCst);
        let of_journal = self.faults.0.free_for_journal.load(Ordering::SeqCst);
        Ok(if path.ends_with("journal") { free.min(of_journal) } else { free })
    }

    fn identity(&self, path: &Path) -> Option<[u8; 32]> {
        self.real.identity(path)
    }

    fn is_real(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    faults: Faults,
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let met = self.faults.meet(Operation::Read, &self.path);
        met.map_err(|_error| io::Error::from_raw_os_error(5))?;
        let end = position + crate::codec::position(buffer.len());
        if self.faults.is_bad(&self.path, &(position..end)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if let Err(error) = self.faults.meet(Operation::Write, &self.path) {
            // A disk that fills up takes the first part.
            let first = bytes.len() / 2 / 4096 * 4096;
            self.file.write_at(bytes.get(..first).unwrap_or_default(), position)?;
            return Err(error);
        }
        self.file.write_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.meet(Operation::Sync, &self.path)?;
        self.file.sync()
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.faults.meet(Operation::Sync, &self.path)?;
        self.file.sync_file_system()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.faults.meet(Operation::Allocate, &self.path)?;
        self.file.allocate(length)
    }
}

#[derive(Debug)]
struct NotingThreads {
    real: Arc<dyn Threads>,
    faults: Faults,
}

impl Threads for NotingThreads {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Running>> {
        self.real.spawn(name, body)
    }

    fn end_process(&self, reason: &str) {
        self.faults.0.ends.lock().unwrap().push(reason.to_owned());
    }
}
