//! A file of a partition's log, opened when it is needed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use wire::Offset;

use crate::{
    api::PartitionId,
    host::{Disk, DiskFile, Open},
};

/// Where a partition's files are.
pub(crate) fn partition_dir(topics: &Path, partition: PartitionId) -> PathBuf {
    topics.join(partition.topic.0.to_string()).join(partition.partition.0.to_string())
}

/// `<base offset, 20 digits>.<extension>`.
pub(crate) fn file_name(base: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", base.0)
}

/// The base offset in the name of a log file.
pub(crate) fn base_of(name: &str, extension: &str) -> Option<Offset> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Offset)).flatten()
}

/// Removes the log files in front of `first` and what is written beside them, all but the newest
/// `.meta`: it knows the producers.
pub(crate) fn remove_in_front(disk: &dyn Disk, dir: &Path, first: Offset) -> io::Result<()> {
    let mut metas = Vec::new();
    for name in disk.list(dir)? {
        if base_of(&name, "log").is_some_and(|base| base < first) {
            disk.remove_file(&dir.join(name))?;
        } else if base_of(&name, "meta").is_some_and(|base| base < first) {
            metas.push(name);
        }
    }
    // Names are sorted, and all are 20 digits long.
    metas.pop();
    metas.iter().try_for_each(|name| disk.remove_file(&dir.join(name)))
}

/// A log file by its place. It stays open between uses until [`SegmentFile::rest`].
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) base: Offset,
    pub(crate) dir: PathBuf,
    open: Mutex<Option<Arc<dyn DiskFile>>>,
    used: AtomicBool,
    retired: AtomicBool,
}

impl SegmentFile {
    pub(crate) fn new(dir: PathBuf, base: Offset) -> Arc<Self> {
        Arc::new(Self {
            base,
            dir,
            open: Mutex::new(None),
            used: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(file_name(self.base, "log"))
    }

    fn with(
        &self,
        open: impl FnOnce(&Path) -> io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        self.used.store(true, Ordering::Relaxed);
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = held.as_ref() {
            return Ok(Arc::clone(file));
        }
        if self.retired.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = open(&self.path())?;
        *held = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The file, made with its directory if it does not exist.
    pub(crate) fn for_writing(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        self.with(|path| match disk.open(path, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create_dir_all(&self.dir)?;
                disk.open(path, Open::Write)
            }
            opened => opened,
        })
    }

    /// The file, which exists. It is opened for writing too, so that one descriptor does for both.
    pub(crate) fn for_reading(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        self.with(|path| {
            if disk.exists(path) {
                disk.open(path, Open::Write)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        })
    }

    /// Closes the file for good: its place is no longer its own. Who has it open keeps it.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Closes the file unless it was used since the last call. Nothing unsynced may be in it.
    pub(crate) fn rest(&self) {
        if !self.used.swap(false, Ordering::Relaxed) {
            *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
