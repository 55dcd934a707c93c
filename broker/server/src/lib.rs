//! The broker's network side: listeners, connections, the table of APIs and one handler per API.
//!
//! Invariants:
//! - Requests of one connection are handled in their order, and answered in their order. A
//!   handler may hand its answer in later ([`dispatch::Reply::Later`]); the next request then
//!   starts before that answer is out.
//! - No frame is decoded before `wire::bound` has walked it, and no memory is taken for bytes
//!   that were only announced.
//! - `dispatch::APIS` is the only list of APIs. What is in it is complete.
//! - A panic while one request is handled ends its connection and nothing else.
//!
//! Absent: quotas, replication; and rules: what a request means is decided in `storage`,
//! `coordinator` and `security`.

mod alter;
mod broker;
mod buffers;
mod cluster;
mod config;
mod configs;
mod connection;
mod context;
mod coordinator_task;
mod dispatch;
mod fetch_response;
mod frame;
mod handlers;
mod keystore;
mod listener;
mod once;
mod purgatory;
mod refusal;
mod seldom;
mod settle;
mod tasks;
mod topics;
mod traffic;
mod transport;

pub use broker::{Broker, StartError};
pub use config::{Config, Limits, ReplicationFactor, SeedTopic, SslListener};
pub use configs::in_milliseconds;
pub use coordinator_task::{LoadError, Unreadable};
pub use keystore::{Keystore, KeystoreError, PemFault};
pub use listener::is_advertisable;
pub use traffic::{Traffic, TrafficStats};
