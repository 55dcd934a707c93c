//! Why there is no storage: what a start found that no crash can leave behind, and the rest.

use std::{fmt, io, ops::Range, path::PathBuf, sync::Arc};

use wire::Offset;

use crate::{
    api::{Catalogue, PartitionId},
    segment_file::file_name,
};

/// Why there is no storage. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: in use by another process; stop that one or choose another data directory", .0.display())]
    InUse(PathBuf),
    #[error("{}: not a data directory of Ottla; choose an empty one", .0.display())]
    Foreign(PathBuf),
    #[error("{}: made by a version of Ottla with data format {format}; use that version", path.display())]
    Format { path: PathBuf, format: String },
    #[error(
        "damaged: {0}; restore a backup, or run `ottla doctor --repair`, which keeps what is whole \
         and says what is lost"
    )]
    Damaged(#[from] Damage),
    /// Nothing is lost, and nobody may write to it.
    #[error(
        "{}: the journal of another data directory than {} names; give it its own, or an empty directory and run \
         `ottla doctor --repair`, which does without",
        journal.display(), version.display()
    )]
    OtherJournal { journal: PathBuf, version: PathBuf },
    /// Nothing is lost: all of it can be rebuilt.
    #[error(
        "{}: knows records of {partition} up to offset {map}, but the journal ends at {journal}: it is \
         of another time than the logs; if these are the right ones, delete {}, which is rebuilt",
        path.display(), path.display()
    )]
    MapAhead { path: PathBuf, partition: PartitionName, map: Offset, journal: Offset },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// A partition for people: its topic's name, if that is known, else its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionName {
    pub id: PartitionId,
    pub topic: Option<Arc<str>>,
}

impl From<PartitionId> for PartitionName {
    fn from(id: PartitionId) -> Self {
        Self { id, topic: None }
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.topic {
            Some(topic) => write!(f, "{topic}-{}", self.id.partition),
            None => write!(f, "{}-{}", self.id.topic.0, self.id.partition),
        }
    }
}

impl PartitionName {
    pub(crate) fn look_up(&mut self, catalogue: &Catalogue) {
        if self.id == crate::catalogue::METADATA {
            self.topic = Some("__cluster_metadata".into());
        } else if let Some(topic) = catalogue.by_id.get(&self.id.topic) {
            self.topic = Some(topic.name.as_str().into());
        }
    }
}

/// What a start found that no crash can leave behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("{}: missing", .0.display())]
    Missing(PathBuf),
    #[error("{}: of another data directory, or its header is damaged", .0.display())]
    Foreign(PathBuf),
    #[error("the newest readable checkpoint is {found}, but the journal names {named}")]
    OldCheckpoint { found: u64, named: u64 },
    #[error(
        "cycle {cycle} in segment-{segment} at {position} cannot be read, though cycle {proof} in \
         segment-{proof_segment} says that it was synced; missing are {}",
        partition_list(missing)
    )]
    LostCycle {
        cycle: u64,
        segment: u32,
        position: u64,
        proof: u64,
        proof_segment: u32,
        /// As far as later cycles show it.
        missing: Vec<(PartitionName, Range<Offset>)>,
    },
    #[error("{}: the cycle at position {position} cannot be read again", path.display())]
    BadCycle { path: PathBuf, position: u64 },
    #[error("{}: the disk cannot read it any more{}", path.display(), damaged_records(records.as_ref()))]
    Unreadable {
        path: PathBuf,
        /// A partition whose records from an offset on are in it.
        records: Option<(PartitionName, Offset)>,
    },
    #[error(
        "{}: {found} bytes long, but its checkpoint says {expected}; missing are records of \
         {partition} before offset {before}",
        path.display()
    )]
    Short { path: PathBuf, partition: PartitionName, found: u64, expected: u64, before: Offset },
    #[error(
        "{}: no file has the records of {partition} at offsets {} to {}",
        dir.display(), missing.start, missing.end.plus(-1)
    )]
    Gap { dir: PathBuf, partition: PartitionName, missing: Range<Offset> },
    #[error(
        "{}: no whole record batch of {partition} at position {position}; damaged are records from \
         offset {from} on",
        path.display()
    )]
    BadBatch { path: PathBuf, partition: PartitionName, position: u64, from: Offset },
    #[error(
        "{}: not whole, and nothing else says which producers and open transactions {partition} had in \
         front of offset {from}, where its records are deleted",
        path.display()
    )]
    Forgotten { path: PathBuf, partition: PartitionName, from: Offset },
}

impl Damage {
    /// A file that begins elsewhere than the one in front of it ends.
    pub(crate) fn between(dir: PathBuf, id: PartitionId, end: Offset, base: Offset) -> Self {
        let partition = id.into();
        if end < base {
            return Self::Gap { dir, partition, missing: end..base };
        }
        let path = dir.join(file_name(base, "log"));
        Self::BadBatch { path, partition, position: 0, from: end }
    }

    /// What the disk does not give back of a log.
    pub(crate) fn unreadable(
        path: PathBuf,
        id: PartitionId,
        from: Offset,
        error: &io::Error,
    ) -> Self {
        tracing::warn!(%error, path = %path.display(), "the disk fails");
        Self::Unreadable { path, records: Some((id.into(), from)) }
    }

    /// Puts in the names of topics.
    pub(crate) fn look_up(&mut self, catalogue: &Catalogue) {
        match self {
            Self::LostCycle { missing, .. } => {
                for (partition, _) in missing.iter_mut() {
                    partition.look_up(catalogue);
                }
            }
            Self::Short { partition, .. }
            | Self::Gap { partition, .. }
            | Self::BadBatch { partition, .. }
            | Self::Forgotten { partition, .. } => {
                partition.look_up(catalogue);
            }
            Self::Unreadable { records, .. } => {
                if let Some((partition, _)) = records {
                    partition.look_up(catalogue);
                }
            }
            Self::Missing(_)
            | Self::Foreign(_)
            | Self::OldCheckpoint { .. }
            | Self::BadCycle { .. } => {}
        }
    }
}

fn damaged_records(records: Option<&(PartitionName, Offset)>) -> String {
    let text = |(partition, from): &(PartitionName, Offset)| {
        format!("; damaged are records of {partition} from offset {from} on")
    };
    records.map(text).unwrap_or_default()
}

fn partition_list(missing: &[(PartitionName, Range<Offset>)]) -> String {
    if missing.is_empty() {
        return "records of partitions that were not written to again".to_owned();
    }
    let one = |(partition, range): &(PartitionName, Range<Offset>)| {
        format!("offsets {} to {} of {partition}", range.start, range.end.plus(-1))
    };
    missing.iter().map(one).collect::<Vec<_>>().join(", ")
}
