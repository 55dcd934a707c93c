//! What the data directory looks like from outside while the broker runs, so that a kill meets what it is about.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::load::Recorder;
use crate::time::{Stopwatch, pause};

/// After so long the fault comes anyway.
const PATIENCE: Duration = Duration::from_secs(1);

/// The moment of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After so many more acknowledged records.
    Acks(u64),
    /// So many microseconds after the start, mostly in the midst of a recovery.
    Starting(u64),
    /// A checkpoint is being written.
    Checkpointing,
    /// A log went on in a new file.
    Sealing,
    /// A file of a log went or was replaced.
    Cleaning,
    /// A client waits for the end of its transaction.
    Committing,
}

impl Moment {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acks(_) => "faults under load",
            Self::Starting(_) => "faults while starting",
            Self::Checkpointing => "faults while checkpointing",
            Self::Sealing => "faults while sealing",
            Self::Cleaning => "faults while cleaning",
            Self::Committing => "faults while ending a transaction",
        }
    }
}

/// Files by path, with what a change of each shows in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sight(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

/// Waits until something of the kind happens; `false` if it does not.
pub(crate) fn wait_for(moment: Moment, data_dir: &Path, recorder: &Recorder) -> bool {
    let acks = recorder.acks();
    let before = look(moment, data_dir);
    let waiting = Stopwatch::start();
    while waiting.elapsed() < PATIENCE {
        let happened = match moment {
            Moment::Acks(more) => recorder.acks() >= acks + more,
            Moment::Starting(after) => waiting.elapsed() >= Duration::from_micros(after),
            Moment::Committing => recorder.is_ending(),
            Moment::Checkpointing => look(moment, data_dir) != before,
            Moment::Sealing => {
                look(moment, data_dir).0.keys().any(|path| !before.0.contains_key(path))
            }
            Moment::Cleaning => {
                let now = look(moment, data_dir);
                before.0.keys().any(|path| !now.0.contains_key(path))
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
        Moment::Acks(_) | Moment::Starting(_) | Moment::Committing => {}
        Moment::Checkpointing => add(&mut sight, &data_dir.join("journal"), "checkpoint-"),
        Moment::Sealing | Moment::Cleaning => {
            for topic in names(&data_dir.join("topics")) {
                for partition in names(&topic) {
                    add(&mut sight, &partition, "");
                }
            }
        }
    }
    sight
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn add(sight: &mut Sight, directory: &Path, prefix: &str) {
    for path in names(directory) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(prefix) {
            continue;
        }
        if let Ok(found) = fs::metadata(&path) {
            sight.0.insert(path, (found.len(), found.modified().ok()));
        }
    }
}
