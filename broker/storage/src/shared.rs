//! What the threads of the engine and its callers share.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;
use wire::LeaderEpoch;

use crate::{
    api::{Catalogue, OpenTransaction, PartitionId},
    cleaner::{Cleaning, Leftovers},
    db::Map,
    host::{Host, Lock},
    journal::ring::{RingFiles, Segments},
    keeper::Jobs,
    partition::{Partition, Partitions},
    queue::Queue,
    reserve::Reserve,
    segment_file::OpenFiles,
    stats::Counters,
};

/// Told of the partitions whose high watermark or last stable offset rose.
pub type Observer = Box<dyn Fn(&[PartitionId]) + Send + Sync>;

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) data: PathBuf,
    pub(crate) topics: PathBuf,
    pub(crate) journal: PathBuf,
    pub(crate) map: PathBuf,
    pub(crate) reserve: PathBuf,
}

/// Shared by committer, keeper and callers.
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) paths: Paths,
    pub(crate) data_id: Uuid,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) default_segment_bytes: u64,
    pub(crate) clean_every: Duration,
    pub(crate) ring_files: RingFiles,
    pub(crate) segments: Arc<Segments>,
    pub(crate) queue: Queue,
    pub(crate) jobs: Jobs,
    pub(crate) cleaning: Cleaning,
    pub(crate) leftovers: Leftovers,
    pub(crate) counters: Counters,
    pub(crate) map: Map,
    pub(crate) partitions: Partitions,
    pub(crate) open_files: OpenFiles,
    pub(crate) catalogue: RwLock<Arc<Catalogue>>,
    /// The newest synced checkpoint.
    pub(crate) checkpoint: AtomicU64,
    pub(crate) reserve: Arc<Reserve>,
    /// When the last cycle was committed, in milliseconds of the monotonic clock.
    pub(crate) committed: AtomicU64,
    /// Set when the process was told to end.
    pub(crate) ended: AtomicBool,
    pub(crate) observer: RwLock<Option<Observer>>,
    /// Until somebody asks.
    pub(crate) found_open: Mutex<Vec<OpenTransaction>>,
    #[expect(dead_code, reason = "held until the last thread that may write has ended")]
    pub(crate) lock: Box<dyn Lock>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn committed_at(&self, monotonic: Duration) {
        let milliseconds = u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX);
        self.committed.store(milliseconds, Ordering::Relaxed);
    }

    pub(crate) fn since_commit(&self) -> Duration {
        let committed = Duration::from_millis(self.committed.load(Ordering::Relaxed));
        self.host.clock.monotonic().saturating_sub(committed)
    }

    pub(crate) fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Adds and removes partitions in one step.
    pub(crate) fn change_partitions(
        &self,
        change: impl FnOnce(&mut HashMap<PartitionId, Arc<Partition>>),
    ) {
        change(&mut self.partitions.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_catalogue(&self, catalogue: Arc<Catalogue>) {
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
    }

    pub(crate) fn observe(&self, partitions: &[PartitionId]) {
        let observer = self.observer.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(observer) = observer.as_ref() {
            observer(partitions);
        }
    }

    /// What is on the disk is no longer known.
    pub(crate) fn end_process(&self, what: &str, error: &std::io::Error) {
        self.ended.store(true, Ordering::SeqCst);
        self.host.threads.end_process(&format!("{what}: {error}"));
        // Where the process goes on, in a simulation, the keeper's thread ends as well.
        self.jobs.stop();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
