//! Kafka's wire formats that `kafka-protocol` leaves to its user: the numbers with names, the
//! record batch, and the bounds of a request.
//!
//! Invariants:
//! - Nothing here allocates more than a small multiple of the bytes it was given, whatever they
//!   say. [`bound::check`] runs before `kafka-protocol` sees a request, because that crate
//!   reserves memory for any array length it reads.
//! - Record batches are opaque bytes with a 61-byte header. They are patched in place (base
//!   offset, leader epoch, log append time) and never re-encoded, so duplicate header keys and
//!   every byte of a client's record survive.
//! - Pure: no clock, no randomness, no IO.
//!
//! Absent: message formats before v2 (refused), and the request and response schemas
//! themselves, which are `kafka-protocol`'s.

pub mod batch;
pub mod bound;
mod error_code;
pub mod legacy;
mod numbers;

pub use error_code::ErrorCode;
pub use numbers::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId,
};
