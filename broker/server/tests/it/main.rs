//! The broker over its own socket: requests of every version, encoded and decoded by
//! `kafka-protocol`.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is how a test reports"
)]

mod groups;
mod sasl;
mod transactions;
mod wire;
