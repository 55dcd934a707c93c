//! A file of a partition's log, opened when it is needed.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use wire::Offset;

use crate::{
    api::PartitionId,
    cleaner::Nameless,
    host::{Disk, DiskFile, Open},
    keeper::Meta,
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

/// A file that was written anew, beside those whose place it is to take.
pub(crate) fn cleaned_name(base: Offset, generation: u64, extension: &str) -> String {
    format!("{:020}-{generation:016x}.{extension}.cleaned", base.0)
}

/// The base offset and the generation in such a name.
pub(crate) fn cleaned_of(name: &str) -> Option<(Offset, u64)> {
    let (base, rest) = name.strip_suffix(".cleaned")?.split_once('-')?;
    let (generation, _) = rest.split_once('.')?;
    Some((Offset(base.parse().ok()?), u64::from_str_radix(generation, 16).ok()?))
}

/// Puts the file of that generation in the place of those in the range. It may be repeated, also
/// when a start in between did not see that it was decided and removed the file: then the others
/// stay.
pub(crate) fn put_in_place(
    disk: &dyn Disk,
    dir: &Path,
    range: Range<Offset>,
    generation: u64,
) -> io::Result<()> {
    let path = |extension| dir.join(cleaned_name(range.start, generation, extension));
    let place = |extension| dir.join(file_name(range.start, extension));
    let (log, meta) = (path("log"), path("meta"));
    match (disk.exists(&log), disk.exists(&meta)) {
        (true, true) => disk.rename(&log, &place("log"))?,
        (false, true) => {}
        // Somebody began to remove it.
        (true, false) => return Ok(()),
        (false, false) => {
            let file = SegmentFile::new(dir.to_path_buf(), range.start);
            let in_place = Meta::read(disk, &file)?;
            if in_place.is_none_or(|meta| meta.state.next_offset != range.end) {
                return Ok(());
            }
        }
    }
    if disk.exists(&meta) {
        disk.rename(&meta, &place("meta"))?;
    }
    for name in disk.list(dir)? {
        let base = base_of(&name, "log").or_else(|| base_of(&name, "meta"));
        if base.is_some_and(|base| range.start < base && base < range.end) {
            disk.remove_file(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes files that were written anew and take nobody's place, what is written beside them
/// first: a log without that is not put in place any more.
pub(crate) fn remove_cleaned(
    disk: &dyn Disk,
    dir: &Path,
    unwanted: impl Fn(Offset, u64) -> bool,
) -> io::Result<()> {
    let mut names = disk.list(dir)?;
    names.retain(|name| {
        cleaned_of(name).is_some_and(|(base, generation)| unwanted(base, generation))
    });
    names.sort_by_key(|name| !name.contains(".meta."));
    names.iter().try_for_each(|name| disk.remove_file(&dir.join(name)))
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

/// How many log files readers keep open, beside those that are written to.
pub(crate) const MAX_OPEN_FOR_READING: usize = 256;

/// An end that was not looked for yet.
const UNKNOWN: u64 = u64::MAX;

type Slot = Mutex<Option<Arc<dyn DiskFile>>>;

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Arc<dyn DiskFile>>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A log file by its place. Opened for writing it stays open until [`SegmentFile::rest`], which
/// comes after a sync; opened for reading, until [`OpenFiles`] needs the place.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) base: Offset,
    pub(crate) dir: PathBuf,
    written: Slot,
    is_written: AtomicBool,
    read: Slot,
    is_read: AtomicBool,
    retired: AtomicBool,
    /// Where the next batch goes, once one was written.
    end: AtomicU64,
    /// Set until a file written anew has its place.
    cleaned: Mutex<Option<u64>>,
}

impl SegmentFile {
    pub(crate) fn new(dir: PathBuf, base: Offset) -> Arc<Self> {
        let [is_written, is_read, retired] = [const { AtomicBool::new(false) }; 3];
        let [written, read] = [Mutex::new(None), Mutex::new(None)];
        let (end, cleaned) = (AtomicU64::new(UNKNOWN), Mutex::new(None));
        Arc::new(Self { base, dir, written, is_written, read, is_read, retired, end, cleaned })
    }

    /// A file written anew that has not taken its place yet.
    pub(crate) fn cleaned(dir: PathBuf, base: Offset, generation: u64) -> Arc<Self> {
        let file = Self::new(dir, base);
        *file.generation() = Some(generation);
        file
    }

    fn generation(&self) -> MutexGuard<'_, Option<u64>> {
        self.cleaned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes its place by what `put` does; nobody opens it meanwhile.
    pub(crate) fn settle(&self, put: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let held = (lock(&self.written), lock(&self.read));
        put()?;
        *self.generation() = None;
        drop(held);
        Ok(())
    }

    /// Whether another file has its place.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    pub(crate) fn path(&self) -> PathBuf {
        let name = match *self.generation() {
            Some(generation) => cleaned_name(self.base, generation, "log"),
            None => file_name(self.base, "log"),
        };
        self.dir.join(name)
    }

    fn with(
        &self,
        open: impl FnOnce(&Path) -> io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let mut held = lock(&self.written);
        self.is_written.store(true, Ordering::Relaxed);
        if let Some(file) = held.as_ref() {
            return Ok(Arc::clone(file));
        }
        if self.retired.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = open(&self.path())?;
        file.forgo_read_ahead();
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

    /// Writes at the end of the file, which is at `position`.
    pub(crate) fn append(&self, disk: &dyn Disk, bytes: &[u8], position: u64) -> io::Result<()> {
        let file = self.for_writing(disk)?;
        let end = match self.end.load(Ordering::Relaxed) {
            UNKNOWN => file.len()?,
            end => end,
        };
        assert!(end == position, "{} ends at {end}, not at {position}", self.path().display());
        // A write that fails halfway may be repeated.
        self.end.store(position, Ordering::Relaxed);
        file.write_at(bytes, position)?;
        self.end.store(position + crate::codec::position(bytes.len()), Ordering::Relaxed);
        Ok(())
    }

    /// The file that was written, which exists, to sync it or to read it back.
    pub(crate) fn for_syncing(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        self.with(|path| {
            if disk.exists(path) {
                disk.open(path, Open::Write)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        })
    }

    /// Nobody is to open it any more: its place is no longer its own.
    pub(crate) fn mark_retired(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Closes the file for good. Who has it open keeps it.
    pub(crate) fn retire(&self) {
        self.mark_retired();
        *lock(&self.written) = None;
        *lock(&self.read) = None;
    }

    /// The same with a file that is about to lose its name: the answer holds its space.
    pub(crate) fn retire_held(&self, disk: &dyn Disk) -> io::Result<Nameless> {
        let (mut written, mut read) = (lock(&self.written), lock(&self.read));
        self.mark_retired();
        let (written, read) = (written.take(), read.take());
        let path = self.path();
        let written = match written {
            Some(file) => file,
            None if disk.exists(&path) => disk.open(&path, Open::Write)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok([Some(written), read].into_iter().flatten().collect())
    }

    /// The file, which exists, for as long as the caller holds it.
    pub(crate) fn for_reading(
        self: &Arc<Self>,
        disk: &dyn Disk,
        open: &OpenFiles,
    ) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = lock(&self.written).as_ref() {
            return Ok(Arc::clone(file));
        }
        self.is_read.store(true, Ordering::Relaxed);
        let mut held = lock(&self.read);
        if let Some(file) = held.as_ref() {
            return Ok(Arc::clone(file));
        }
        if self.retired.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = disk.open(&self.path(), Open::Read)?;
        file.forgo_read_ahead();
        *held = Some(Arc::clone(&file));
        drop(held);
        open.add(self);
        Ok(file)
    }

    /// Closes the file for writing unless it was used since the last call. Nothing unsynced may be
    /// in it. Answers whether it is still open.
    fn rest(&self) -> bool {
        let mut held = lock(&self.written);
        if !self.is_written.swap(false, Ordering::Relaxed) {
            *held = None;
        }
        held.is_some()
    }
}

/// The files that are open. Those of readers are bounded: who was not read lately is closed first.
/// Those that are written to stay open from one checkpoint to the next.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    limit: usize,
    files: Mutex<VecDeque<Weak<SegmentFile>>>,
    written: Mutex<Vec<Weak<SegmentFile>>>,
}

impl OpenFiles {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, files: Mutex::default(), written: Mutex::default() }
    }

    /// Behind a checkpoint that synced these: closes files that nobody has written to since the one
    /// before.
    pub(crate) fn rest<'a>(&self, synced: impl Iterator<Item = &'a Arc<SegmentFile>>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has those of deleted topics any more, and so they are closed.
        let before = written.iter().filter_map(Weak::upgrade);
        let mut files: Vec<_> = before.chain(synced.cloned()).collect();
        // One that was there before and is again has been written to.
        files.sort_unstable_by_key(Arc::as_ptr);
        files.dedup_by(|one, other| Arc::ptr_eq(one, other));
        files.retain(|file| file.rest());
        *written = files.iter().map(Arc::downgrade).collect();
    }

    /// A file that was read since it last stood in front goes to the back once.
    fn add(&self, file: &Arc<SegmentFile>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.push_back(Arc::downgrade(file));
        while files.len() > self.limit {
            let Some(front) = files.pop_front() else { return };
            let Some(file) = front.upgrade() else { continue };
            if file.is_read.swap(false, Ordering::Relaxed) {
                files.push_back(front);
            } else {
                *lock(&file.read) = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{OpenFiles, SegmentFile, lock};
    use crate::Host;
    use wire::Offset;

    #[test]
    fn a_closed_file_that_is_marked_is_held_for_writing_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Host::real().disk;
        let file = SegmentFile::new(dir.path().to_owned(), Offset(0));
        file.for_writing(disk.as_ref()).unwrap().write_at(&[1; 9], 0).unwrap();
        assert!(file.rest() && !file.rest());
        file.mark_retired();
        let held = file.retire_held(disk.as_ref()).unwrap();
        disk.remove_file(&file.path()).unwrap();
        held[0].set_len(4).unwrap();
        assert_eq!(held[0].len().unwrap(), 4);
        assert!(file.retire_held(disk.as_ref()).is_err(), "nobody else has it");
    }

    #[test]
    fn who_was_not_read_lately_is_closed_first() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Host::real().disk;
        let open = OpenFiles::new(2);
        let files: Vec<_> = (0..4)
            .map(|base| {
                let file = SegmentFile::new(dir.path().to_owned(), Offset(base));
                std::fs::write(file.path(), b"x").unwrap();
                file
            })
            .collect();
        let is_open = |index: usize| lock(&files[index].read).is_some();
        for file in &files[..3] {
            file.for_reading(disk.as_ref(), &open).unwrap();
        }
        assert_eq!([is_open(0), is_open(1), is_open(2)], [false, true, true]);
        files[1].for_reading(disk.as_ref(), &open).unwrap();
        files[3].for_reading(disk.as_ref(), &open).unwrap();
        assert_eq!([is_open(1), is_open(2), is_open(3)], [true, false, true]);
    }

    #[test]
    fn a_file_that_is_written_to_no_more_is_closed_two_checkpoints_later() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Host::real().disk;
        let open = OpenFiles::new(2);
        let [idle, busy] = [0, 1].map(|base| SegmentFile::new(dir.path().to_owned(), Offset(base)));
        let is_open = |file: &SegmentFile| lock(&file.written).is_some();
        let checkpoint = |files: &[&Arc<SegmentFile>]| {
            for file in files {
                file.for_syncing(disk.as_ref()).unwrap();
            }
            open.rest(files.iter().copied());
        };
        idle.for_writing(disk.as_ref()).unwrap();
        busy.for_writing(disk.as_ref()).unwrap();
        checkpoint(&[&idle, &busy]);
        assert_eq!([is_open(&idle), is_open(&busy)], [true, true]);
        busy.for_writing(disk.as_ref()).unwrap();
        checkpoint(&[&busy]);
        assert_eq!([is_open(&idle), is_open(&busy)], [false, true]);
        checkpoint(&[]);
        assert_eq!([is_open(&idle), is_open(&busy)], [false, false]);
        assert!(open.written.lock().unwrap().is_empty());
        busy.for_writing(disk.as_ref()).unwrap();
        checkpoint(&[&busy]);
        let deleted = Arc::downgrade(&busy);
        drop(busy);
        assert!(deleted.upgrade().is_none(), "what is deleted gives its space back at once");
    }
}
