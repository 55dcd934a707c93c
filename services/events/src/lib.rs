//! The events of Ottla: one canonical event per change, written as the shapes that its readers ask for.
//!
//! On the bare `task.*` and `user.*` topics a value is one JSON object that holds the fields of both older contracts side
//! by side: an envelope with integer ids, `timestamp` and `payload`, and the flat record with `eventId` and
//! `eventTimestamp`. Readers of either ignore the other's fields.
//!
//! Invariants:
//! - Integer ids everywhere; only `eventId` is a string (a UUID).
//! - `timestamp` is RFC 3339 with milliseconds in UTC, `eventTimestamp` the same instant in epoch milliseconds.
//! - The record's key is the decimal id that [`topics`] names.
//!
//! Absent: clocks and randomness (both are in [`Meta`]), and Kafka itself.

#[cfg(test)]
mod golden;
mod meta;
pub mod notification;
pub mod task;
pub mod team;
pub mod topics;
pub mod user;

pub use meta::{Event, Meta, Publish};
