//! The storage engine: partition logs in Kafka's own format, one journal that makes them durable,
//! and sled as their map.
//!
//! Invariants:
//! - What is answered as synced is in the journal after a completed sync. A failed write or sync
//!   of the journal ends the process; it is never tried again.
//! - The high watermark is the durable offset: readers see nothing that a power cut could take
//!   back. Offsets, sequences and transactions are decided by one thread, in the order of calls.
//! - Recovery believes the checkpoint and the journal. What a log holds beyond its checkpoint is
//!   written again; a torn tail is cut, and anything else that does not fit is damage.
//! - Everything in the map can be deleted: it is built again from the logs.
//! - Disk, clock, threads and randomness are reached through [`host::Host`] alone.
//!
//! Absent: more than one replica; a cache of records (the page cache is that); tokio.
//!
//! The files are described in `docs/storage-format.md`.

mod aligned;
mod api;
mod catalogue;
mod cleaner;
mod codec;
mod committer;
mod damage;
mod data_dir;
mod db;
mod dump;
mod engine;
mod epochs;
pub mod host;
mod inspect;
mod journal;
mod keeper;
pub mod limit;
mod log_scan;
mod log_state;
mod log_writer;
mod mutant;
mod partition;
mod producer;
mod queue;
mod read;
mod recovery;
mod repair;
mod reserve;
mod segment_file;
mod settings;
mod shared;
#[cfg(any(test, feature = "simulation"))]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_fields_in_debug,
    reason = "it is part of tests, in which a panic is how they report"
)]
pub mod simulation;
mod stats;
#[cfg(test)]
mod tests;

pub use api::{
    AbortedTransaction, Append, AppendError, Appended, Catalogue, CatalogueChange, CatalogueError,
    Config, DeleteRecordsError, Done, Durability, FileSlice, Isolation, LogOffsetSnapshot,
    OpenTransaction, PartitionId, ReadError, ReadLimit, ReadResult, RecoveryReport, Topic,
};
pub use cleaner::CleanerStatus;
pub use damage::{Damage, OpenError, PartitionName};
pub use dump::{CheckpointRow, CycleRow, LogRow, PlaceRow};
pub use engine::{AppendChain, Storage};
pub use host::{
    Host,
    measure::{SyncLatency, sync_latency},
};
pub use inspect::{Inspection, Progress};
pub use repair::{RepairReport, Repaired, repair};
pub use shared::Observer;
pub use stats::StorageStats;
