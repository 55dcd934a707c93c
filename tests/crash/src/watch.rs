//! What the data directory looks like from outside while the broker runs, so that a kill meets what it is about.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::load::Recorder;
use crate::time::{Stopwatch, pause};

/// After so long the fault comes anyway.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// For coordinators: librdkafka looks for its own again half a second after a fault, and sometimes later.
const MORE_PATIENCE: Duration = Duration::from_secs(5);

/// Groups get so far, too, while transactions do.
const STEPS_OF_GROUPS: usize = 20;

/// The moment of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After so many more acknowledged records.
    Acks(u64),
    /// So many microseconds after the journal was opened at a start.
    Starting(u64),
    /// A checkpoint is being written.
    Checkpointing,
    /// A log went on in a new file.
    Sealing,
    /// A file of a log went or was replaced.
    Cleaning,
    /// A log's files are being written anew by compaction.
    Compacting,
    /// A file that compaction wrote takes the place of others.
    Swapping,
    /// The journal is synced, after so many more acknowledged records.
    Syncing(u64),
    /// A write or sync fails, after so many more acknowledged records; the power stays.
    Failing(u64),
    /// The disk is full, after so many more acknowledged records.
    Filling(u64),
    /// The first cycle in another segment of the journal is synced.
    Turning,
    /// In the next life after that, as soon as so many more records are acknowledged: what the journal lost then comes
    /// back now.
    Resurfacing(u64),
    /// A client waits for the end of its transaction, after so many more records in transactions that ended.
    Committing(u64),
}

impl Moment {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acks(_) => "faults under load",
            Self::Starting(_) => "faults while starting",
            Self::Checkpointing => "faults while checkpointing",
            Self::Sealing => "faults while sealing",
            Self::Cleaning => "faults while cleaning",
            Self::Compacting => "faults while compacting",
            Self::Swapping => "faults while swapping a compacted file",
            Self::Syncing(_) => "faults while syncing the journal",
            Self::Failing(_) => "failures of the disk that ended the process",
            Self::Filling(_) => "faults on a disk that was full",
            Self::Turning => "faults while the journal goes on in another segment",
            Self::Resurfacing(_) => "faults soon after a start, with a lost cycle that comes back",
            Self::Committing(_) => "faults while ending a transaction",
        }
    }

    /// How long it is waited for.
    fn patience(self) -> Duration {
        match self {
            Self::Committing(_) | Self::Compacting | Self::Swapping => MORE_PATIENCE,
            _ => PATIENCE,
        }
    }
}

/// Length and time of a file.
type Change = (u64, Option<SystemTime>);

/// Files by path: the inode, and of checkpoints what a change shows in. Of the others nothing is asked that a directory
/// does not say by itself, for they are many.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sight(BTreeMap<PathBuf, (u64, Option<Change>)>);

impl Sight {
    fn has_all_of(&self, other: &Self) -> bool {
        other.0.keys().all(|path| self.0.contains_key(path))
    }

    /// Whether a file there is another one than before.
    fn has_replaced(&self, before: &Self) -> bool {
        let inode_before = |path| before.0.get(path).map(|(inode, ..)| *inode);
        self.0.iter().any(|(path, (inode, ..))| inode_before(path).is_some_and(|had| had != *inode))
    }
}

/// Waits until something of the kind happens; `false` if it does not.
pub(crate) fn wait_for(moment: Moment, data_dir: &Path, recorder: &Recorder) -> bool {
    let (acks, decided) = (recorder.acks(), recorder.decided_records());
    let steps = recorder.group_steps() + STEPS_OF_GROUPS;
    let mut seen = look(moment, data_dir);
    let waiting = Stopwatch::start();
    while waiting.elapsed() < moment.patience() {
        let happened = match moment {
            Moment::Acks(more)
            | Moment::Syncing(more)
            | Moment::Failing(more)
            | Moment::Filling(more)
            | Moment::Resurfacing(more) => recorder.acks() >= acks + more,
            Moment::Committing(more) => {
                let decided = recorder.decided_records() >= decided + more;
                decided && recorder.group_steps() >= steps && recorder.is_ending()
            }
            _ => {
                let last = std::mem::replace(&mut seen, look(moment, data_dir));
                match moment {
                    Moment::Sealing | Moment::Compacting => !last.has_all_of(&seen),
                    Moment::Cleaning => !seen.has_all_of(&last),
                    Moment::Swapping => seen.has_replaced(&last),
                    _ => seen != last,
                }
            }
        };
        if happened {
            return true;
        }
        pause(Duration::from_micros(50));
    }
    false
}

fn look(moment: Moment, data_dir: &Path) -> Sight {
    let mut sight = Sight::default();
    match moment {
        Moment::Acks(_)
        | Moment::Starting(_)
        | Moment::Syncing(_)
        | Moment::Failing(_)
        | Moment::Filling(_)
        | Moment::Turning
        | Moment::Resurfacing(_)
        | Moment::Committing(_) => {}
        Moment::Checkpointing => {
            for checkpoint in
                named(&data_dir.join("journal"), |name| name.starts_with("checkpoint-"))
            {
                if let Ok(found) = checkpoint.metadata() {
                    let change = (found.len(), found.modified().ok());
                    sight.0.insert(checkpoint.path(), (checkpoint.ino(), Some(change)));
                }
            }
        }
        Moment::Sealing | Moment::Cleaning | Moment::Compacting | Moment::Swapping => {
            let suffix = if moment == Moment::Compacting { ".cleaned" } else { ".log" };
            for topic in named(&data_dir.join("topics"), |_| true) {
                for partition in named(&topic.path(), |_| true) {
                    for file in named(&partition.path(), |name| name.ends_with(suffix)) {
                        sight.0.insert(file.path(), (file.ino(), None));
                    }
                }
            }
        }
    }
    sight
}

fn named(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<DirEntry> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| is_wanted(&entry.file_name().to_string_lossy())).collect()
}
