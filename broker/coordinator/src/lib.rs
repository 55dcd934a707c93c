//! Groups and transactions as state machines.
//!
//! A request or a deadline is planned into records and a response; only `replay` changes hard
//! state, at load and after each append, and it is a function of the records alone. So a machine
//! rebuilt from its log equals the live one, and a response can wait until its records are
//! durable.
//!
//! Invariants:
//! - Hard state ([`groups::State`], [`transactions::State`]) has one mutating method, `replay`.
//! - Soft state (sessions, waiting joins, timers) may be lost at any moment: members come back.
//! - Records have Kafka's own schemas and partitions, so Kafka's tools read them.
//! - A transaction's decision, markers and completion are one plan, appended atomically.
//!
//! Absent: tokio, the clock, the disk, randomness. Time and ids are arguments. The consumer
//! protocol of KIP-848 and share groups are not here.

mod codec;
pub mod groups;
mod partition;
pub mod record;
mod time;
mod timers;
pub mod transactions;

pub use partition::{
    CONSUMER_OFFSETS, PARTITION_COUNT, TRANSACTION_STATE, group_partition, transaction_partition,
};
pub use time::Now;
