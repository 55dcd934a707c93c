//! What every service shares: durable tables on Kafka topics, one writer per service, HTTP and identity.
//!
//! - [`Row`] and [`View`]: a table is a compacted topic; the view is that topic materialised in sled, rebuilt from it
//!   whenever it is missing.
//! - [`Commit`]: the only writer of a service. Commands are closures over [`Tx`]; rows, events and consumed offsets of
//!   commands that arrive together are one Kafka transaction.
//! - [`Service`]: a service's router, readiness and tasks; active while the group `__<service>.owner` gives it the table.
//! - [`http`], [`identity`]: one error shape, extractors, and who asks.
//!
//! Invariants: nothing is answered with success before its transaction is committed; a refused command adds no record;
//! no handler writes to the view; everything in the view can be deleted.
//!
//! Absent: any knowledge of the broker's insides. The services are Kafka clients like all others.

pub mod clock;
mod commit;
mod db;
#[doc(hidden)]
pub mod failpoint;
pub mod http;
pub mod identity;
mod kafka;
mod row;
mod secret;
mod service;
pub mod testing;
pub mod time;
mod tx;
mod view;
#[cfg(test)]
mod view_tests;
pub mod worker;

pub use clock::Clock;
pub use commit::{Commit, CommitError, Hold};
pub use db::DbError;
pub use row::{Row, Tables};
pub use secret::Secret;
pub use service::{Engine, Service, ServiceContext, StartError, Status};
pub use tx::{Cause, Outgoing, Tx};
pub use view::{View, Walk};
