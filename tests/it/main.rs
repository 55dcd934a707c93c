//! The whole appliance in one test binary: every flow starts `ottla-under-test` as a process of its own on free ports
//! and an empty directory, and talks to it as its users do.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test reports"
)]

mod elsewhere;
mod failpoints;
mod flows;
mod foreign;
mod harness;
mod hostile;
mod kill;
mod mail;
mod program;
mod standby;
mod tidy;
mod tls;
mod world;
