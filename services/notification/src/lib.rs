//! The notification service: who is told of what, in the app and by mail.
//!
//! Events of people and tasks are read in one consumer group. In-app entries and pending mails are committed with the
//! consumed offsets, once per event and person. A sender works the mails off, over SMTP or into files.
//!
//! Invariants:
//! - A mail is never attempted again once an attempt may have succeeded: `sending` is committed before an attempt, its
//!   outcome after it, and an attempt whose end nobody saw is `unknown` for good. Only files can be looked up.
//! - A mail that certainly was not taken is tried again, with growing waits, for three days.
//! - No text that people wrote becomes a header, a recipient or markup.
//! - What is older than 30 days is forgotten, and not told of if it is read again.
//!
//! Absent: any knowledge of tasks and people beyond their events and what auth answers.

mod api;
#[cfg(test)]
mod fixture;
mod mail;
mod model;
mod store;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kit::identity::{Auth, People};
use kit::worker::Subscription;
use kit::{Engine, Service, ServiceContext, StartError};
use lettre::message::Mailbox;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::mail::Mailer;
use crate::mail::compose::Composer;
use crate::mail::outbox::Outbox;
use crate::mail::smtp::Smtp;
use crate::model::happening;
use crate::worker::reader::Reader;
use crate::worker::sender::Sender;

pub use crate::mail::smtp::{SmtpServer, SmtpUrlError};

/// The closed group in which requests for new passwords are read.
const RESETS_GROUP: &str = "__notification.resets";

/// The settings of this service.
#[derive(Clone, Debug)]
pub struct Config {
    /// The consumer group in which the events are read.
    pub group: String,
    /// The address that people use in a browser; all links begin with it.
    pub public_url: String,
    /// The sender of all mails, such as `Ottla <ottla@localhost>`.
    pub from: String,
    /// The server that takes mails; without one each mail becomes a file in `outbox`.
    pub smtp: Option<SmtpServer>,
    /// The directory for mails as files: `<data-dir>/outbox`.
    pub outbox: PathBuf,
    /// How long the mail server may take for each of its answers.
    pub smtp_timeout: Duration,
    /// In-app entries kept per person: the newest.
    pub kept_entries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group: "notification-service".to_owned(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            from: "Ottla <ottla@localhost>".to_owned(),
            smtp: None,
            outbox: PathBuf::from("./ottla-data/outbox"),
            smtp_timeout: Duration::from_secs(30),
            kept_entries: 1000,
        }
    }
}

/// Whether `from` is something that mails can be sent from.
pub fn is_sender(from: &str) -> bool {
    from.parse::<Mailbox>().is_ok()
}

/// Starts the service; it serves as soon as it is active and restored.
#[expect(clippy::unused_async, reason = "every service starts alike")]
pub async fn start(context: ServiceContext, config: Config) -> Result<Service, StartError> {
    let from: Mailbox = config.from.parse().map_err(other)?;
    let composer = Arc::new(Composer::new(from, &config.public_url).map_err(other)?);
    let auth = Auth::new(&context.auth_url, context.service_key.clone())?;
    let people: Arc<dyn People> = Arc::new(auth);
    let engine = Engine::open(&context, store::tables())?;
    let commit = engine.commit();
    let wake = Arc::new(Notify::new());
    let outbox = Outbox::new(config.outbox.clone());
    let reader = Reader {
        people: Arc::clone(&people),
        kept_entries: i64::from(config.kept_entries),
        wake: Arc::clone(&wake),
    };
    let sender = Sender {
        commit: commit.clone(),
        mailer: match config.smtp {
            Some(server) => Mailer::Smtp(Smtp::new(server, config.smtp_timeout)),
            None => Mailer::File(outbox.clone()),
        },
        composer: Arc::clone(&composer),
        outbox,
        clock: Arc::clone(&context.clock),
        wake,
        stop: context.stop.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(sender.run());
    let reader = Arc::new(reader);
    // Anyone may join the open group, and could hold the closed topic there.
    let events = Subscription { group: config.group, topics: happening::TOPICS.to_vec() };
    let resets = Subscription { group: RESETS_GROUP.to_owned(), topics: vec![happening::RESETS] };
    for subscription in [events, resets] {
        let reader = Arc::clone(&reader);
        kit::worker::spawn(&mut tasks, &context, commit.clone(), subscription, reader)?;
    }
    let state = api::State::new(commit, people, composer, config.outbox);
    engine.serve(api::router(state), tasks)
}

fn other(error: impl std::error::Error) -> StartError {
    StartError::Other(error.to_string())
}
