//! The broker at its socket: every API in every version, the rules of produce and fetch, and
//! frames that are meant to hurt.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test reports"
)]

mod client;
mod every_version;
mod hostile;
mod produce_fetch;
mod repeats;
mod requests;
mod tls;
mod topics;
