//! The task service: a team's tasks over HTTP, and an event for every change.
//!
//! - [`model`] says what a task is, who may do what with it, and which event a change is.
//! - [`store`] keeps tasks in a table with an index per order of a list.
//! - `api` answers requests; `worker` follows teams that are deleted or left.
//!
//! Invariants: a task is in one team for ever, and its assignee is in that team until auth says otherwise;
//! one command is at most one event; a change that changes nothing has no event and no version;
//! who is not in the team is told that there is no such task.
//!
//! Absent: teams and people (the auth service is asked over HTTP), reminders, attachments,
//! comments.

mod api;
pub mod model;
pub mod store;
#[cfg(test)]
mod testing;
mod worker;

use kit::{
    Engine, Service, ServiceContext, StartError,
    identity::{Auth, People},
    worker as consumer,
};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Starts the service; its router answers from then on, with 503 until the tables are restored.
#[expect(clippy::unused_async, reason = "every service starts the same way")]
pub async fn start(context: ServiceContext) -> Result<Service, StartError> {
    let engine = Engine::open(&context, store::tables())?;
    let commit = engine.commit();
    let auth = Auth::new(&context.auth_url, context.service_key.clone())?;
    let people: Arc<dyn People> = Arc::new(auth);
    let mut tasks = JoinSet::new();
    let teams = Arc::new(worker::Teams::new(commit.clone(), Arc::clone(&people)));
    consumer::spawn(&mut tasks, &context, commit.clone(), worker::subscription(), teams)?;
    engine.serve(api::router(commit, people), tasks)
}
