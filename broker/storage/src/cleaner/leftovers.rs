//! What is left of deleted topics on the disk.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::shared::Shared;

/// Directories of deleted topics that are still there. Nobody waits for them: gigabytes of files
/// take seconds to remove, and what is left at a crash is found again by the next start.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<Vec<PathBuf>>);

impl Leftovers {
    pub(crate) fn new(dirs: Vec<PathBuf>) -> Self {
        Self(Mutex::new(dirs))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, dir: PathBuf) {
        self.lock().push(dir);
    }

    /// Removes what it can. Into a directory that the keeper or the cleaner was just writing a file
    /// comes after it was listed: the next look tries again.
    pub(super) fn remove(&self, shared: &Shared) {
        let dirs = std::mem::take(&mut *self.lock());
        if dirs.is_empty() {
            return;
        }
        let disk = shared.host.disk.as_ref();
        for dir in dirs {
            match disk.remove_dir_all(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, dir = %dir.display(), "files of a deleted topic stay as yet");
                    self.add(dir);
                }
            }
        }
        if let Err(error) = disk.sync_dir(&shared.paths.topics) {
            tracing::warn!(%error, "directories of deleted topics may come back");
        }
    }
}
