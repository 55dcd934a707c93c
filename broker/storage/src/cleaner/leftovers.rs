//! Space that deleted and replaced files have not given back yet.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    host::{Disk, DiskFile},
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

    /// Frees what it can; the next look tries the rest again.
    pub(crate) fn free(&self, shared: &Shared) {
        let waiting = std::mem::take(&mut *self.lock());
        let step = STEP_BYTES.max(waiting.bytes() / MOST_STEPS);
        let Waiting { topics, files } = waiting;
        for file in files {
            self.shorten(shared, file, step);
        }
        let disk = shared.host.disk.as_ref();
        let some_went = !topics.is_empty();
        for topic in topics {
            for partition in &topic.partitions {
                let segments = partition.published().segments.clone();
                for segment in segments {
                    let held = self.retire(disk, std::slice::from_ref(&segment));
                    // Whether it worked shows when the directory is to go.
                    drop(disk.remove_file(&segment.file.path()));
                    for file in held {
                        self.shorten(shared, file, step);
                    }
                }
            }
            match disk.remove_dir_all(&topic.dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The keeper or the cleaner was just writing a file there.
                Err(error) => {
                    let dir = topic.dir.display();
                    tracing::warn!(%error, %dir, "files of a deleted topic stay as yet");
                    self.add_topic(topic);
                }
            }
        }
        if some_went && let Err(error) = disk.sync_dir(&shared.paths.topics) {
            tracing::warn!(%error, "directories of deleted topics may come back");
        }
    }

    /// Gives a file's space back in steps, unless somebody still reads it.
    fn shorten(&self, shared: &Shared, file: Nameless, step: u64) {
        if file.iter().any(|open| Arc::strong_count(open) > 1) {
            self.lock().files.push(file);
            return;
        }
        let Some(open) = file.first() else { return };
        let Ok(length) = open.len() else { return };
        let mut left = length.saturating_sub(step);
        // What is not shortened is freed when it is closed.
        while left > 0 && open.set_len(left).is_ok() && shared.cleaning.wait(STEP_PAUSE) {
            left = left.saturating_sub(step);
        }
    }
}
