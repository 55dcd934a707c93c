//! Space that deleted and replaced files have not given back yet.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    host::{Disk, DiskFile, Open},
    partition::{Partition, Segment},
    shared::Shared,
};

/// So much of a file goes at once, with a pause behind it: a file system that frees a large file at
/// once lets no write of the journal through meanwhile.
const STEP_BYTES: u64 = 2 << 20;
const STEP_PAUSE: Duration = Duration::from_millis(1);
/// Everything is gone after about as many pauses, so that much takes no longer than it has to.
const MOST_STEPS: u64 = 4096;

/// So many of them are held open; what is more is freed at once.
const MOST_FILES: usize = 256;

/// A file without a name, as it is open: for writing first.
pub(crate) type Nameless = Vec<Arc<dyn DiskFile>>;

/// The directory of a deleted topic, and its partitions unless a start has found it.
#[derive(Debug)]
pub(crate) struct DeletedTopic {
    pub(crate) dir: PathBuf,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

#[derive(Debug, Default)]
struct Waiting {
    topics: Vec<DeletedTopic>,
    files: Vec<Nameless>,
}

impl Waiting {
    fn bytes(&self) -> u64 {
        let of_partition = |partition: &Arc<Partition>| -> u64 {
            partition.published().segments.iter().map(|segment| segment.length).sum()
        };
        let topics = self.topics.iter().flat_map(|topic| &topic.partitions).map(of_partition);
        let files = self.files.iter().filter_map(|file| file.first()?.len().ok());
        topics.chain(files).sum()
    }
}

/// What is still to be freed. Nobody waits for it; what is left at a crash is found by the next start,
/// or freed by the file system if it has no name.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<Waiting>);

impl Leftovers {
    /// Those that a start has found.
    pub(crate) fn new(dirs: Vec<PathBuf>) -> Self {
        let topics = dirs.into_iter().map(|dir| DeletedTopic { dir, partitions: Vec::new() });
        Self(Mutex::new(Waiting { topics: topics.collect(), files: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_topic(&self, topic: DeletedTopic) {
        self.lock().topics.push(topic);
    }

    /// Closes files that are about to lose their names, and holds the large ones.
    pub(crate) fn retire(&self, disk: &dyn Disk, segments: &[Segment]) -> Vec<Nameless> {
        let mut held = Vec::new();
        let room = MOST_FILES.saturating_sub(self.lock().files.len());
        for segment in segments {
            if segment.length > STEP_BYTES && held.len() < room {
                held.extend(segment.file.retire_held(disk));
            } else {
                segment.file.retire();
            }
        }
        held
    }

    /// Frees them once nobody reads them.
    pub(crate) fn add_files(&self, files: impl IntoIterator<Item = Nameless>) {
        self.lock().files.extend(files);
    }

    /// Frees what it can; the next look tries the rest again. A stop leaves topics to the next start.
    pub(crate) fn free(&self, shared: &Shared) {
        let waiting = std::mem::take(&mut *self.lock());
        let mut pace = Pace::new(shared, waiting.bytes());
        for file in waiting.files {
            self.shorten(&mut pace, file);
        }
        let some_went = !waiting.topics.is_empty();
        for topic in waiting.topics {
            match self.remove(&mut pace, &topic) {
                Ok(()) => {}
                Err(_) if shared.cleaning.is_stopping() => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The keeper or the cleaner was just writing a file there.
                Err(error) => {
                    let dir = topic.dir.display();
                    tracing::warn!(%error, %dir, "files of a deleted topic stay as yet");
                    self.add_topic(topic);
                }
            }
        }
        if some_went && let Err(error) = shared.host.disk.sync_dir(&shared.paths.topics) {
            tracing::warn!(%error, "directories of deleted topics may come back");
        }
    }

    /// First the files that this start knows, which somebody may be reading, then all others.
    fn remove(&self, pace: &mut Pace<'_>, topic: &DeletedTopic) -> io::Result<()> {
        let disk = pace.shared.host.disk.as_ref();
        for partition in &topic.partitions {
            let segments = partition.published().segments.clone();
            for segment in segments {
                let held = self.retire(disk, std::slice::from_ref(&segment));
                // Whether it worked shows when the directory is to go.
                drop(disk.remove_file(&segment.file.path()));
                for file in held {
                    self.shorten(pace, file);
                }
                pace.stopped()?;
            }
        }
        for partition in disk.list(&topic.dir)? {
            let dir = topic.dir.join(partition);
            for name in disk.list(&dir).unwrap_or_default() {
                let path = dir.join(name);
                if path.extension().is_some_and(|extension| extension == "log") {
                    let file = disk.open(&path, Open::Write)?;
                    disk.remove_file(&path)?;
                    self.shorten(pace, vec![file]);
                    pace.stopped()?;
                }
            }
        }
        disk.remove_dir_all(&topic.dir)
    }

    /// Gives a file's space back in steps, unless somebody still reads it.
    fn shorten(&self, pace: &mut Pace<'_>, file: Nameless) {
        if file.iter().any(|open| Arc::strong_count(open) > 1) {
            self.lock().files.push(file);
            return;
        }
        let Some(open) = file.first() else { return };
        let Ok(mut left) = open.len() else { return };
        // What is not shortened is freed when it is closed.
        while left > pace.step && open.set_len(left - pace.step).is_ok() {
            left -= pace.step;
            if !pace.freed(pace.step) {
                return;
            }
        }
        drop(file);
        pace.freed(left);
    }
}

/// Rests whenever a step's bytes are gone.
#[derive(Debug)]
struct Pace<'a> {
    shared: &'a Shared,
    step: u64,
    since_rest: u64,
}

impl<'a> Pace<'a> {
    fn new(shared: &'a Shared, bytes: u64) -> Self {
        Self { shared, step: STEP_BYTES.max(bytes / MOST_STEPS), since_rest: 0 }
    }

    /// `false` when the engine stops.
    fn freed(&mut self, bytes: u64) -> bool {
        self.since_rest += bytes;
        if self.since_rest < self.step {
            return true;
        }
        self.since_rest = 0;
        self.shared.cleaning.wait(STEP_PAUSE)
    }

    fn stopped(&self) -> io::Result<()> {
        if self.shared.cleaning.is_stopping() {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            Ok(())
        }
    }
}
