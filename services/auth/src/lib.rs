//! auth: accounts, sessions, teams.
//!
//! Invariants:
//! - A password exists in clear only while its request is answered; its hash leaves neither the
//!   table nor this crate. Tokens and codes are kept as hashes and shown once.
//! - Uniqueness, roles and "a team keeps an owner" are decided where the change takes effect, in
//!   the command, not where the request came in.
//! - Everyone has a personal team from the registration to the end of the account.
//! - Other services learn who asks over HTTP with the service key; everyone else sees an e-mail
//!   address only of oneself and of who shares a team.
//!
//! Absent: mail (the notification service sends it), tasks, and other services of any kind: auth
//! calls nobody.

mod api;
mod model;
mod store;
mod worker;

use std::time::Duration;

use jiff::SignedDuration;
use kit::{Engine, Service, ServiceContext, StartError, Tables};
use tokio::{sync::mpsc, task::JoinSet};

pub use worker::hasher::HashCost;

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// Everyone who reaches the HTTP port.
    #[default]
    Open,
    /// The first person, then those who have the code of an invitation to a team.
    Invite,
    /// Nobody.
    Closed,
}

/// The settings of this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Who may make an account.
    pub registration: Registration,
    /// Characters that a new password has at least; `None`: 1 while `loopback_only`, else 10.
    pub password_min_chars: Option<u32>,
    /// Whether every listener is on loopback; set by whoever binds the listeners.
    pub loopback_only: bool,
    /// How long a session lives without being used.
    pub session_idle: Duration,
    /// How long a session lives however much it is used.
    pub session_longest: Duration,
    /// The work of one password hash.
    pub hash_cost: HashCost,
}

const DAY: Duration = Duration::from_hours(24);

impl Default for Config {
    fn default() -> Config {
        Config {
            registration: Registration::Open,
            password_min_chars: None,
            loopback_only: false,
            session_idle: 30 * DAY,
            session_longest: 180 * DAY,
            hash_cost: HashCost::default(),
        }
    }
}

impl Config {
    fn password_min_chars(&self) -> usize {
        let chosen = self.password_min_chars.and_then(|chars| usize::try_from(chars).ok());
        chosen.unwrap_or(if self.loopback_only { 1 } else { 10 })
    }

    fn session_lifetime(&self) -> store::sessions::Lifetime {
        let signed = |time| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        store::sessions::Lifetime {
            idle: signed(self.session_idle),
            longest: signed(self.session_longest),
        }
    }
}

/// Starts the service; it serves as soon as it is active and restored.
#[expect(clippy::unused_async, reason = "every service starts alike")]
pub async fn start(context: ServiceContext, config: Config) -> Result<Service, StartError> {
    let engine = Engine::open(&context, tables())?;
    let commit = engine.commit();
    let (errands, queue) = mpsc::channel(worker::ERRANDS);
    let (key, stop) = (context.service_key.clone(), context.stop.clone());
    let lifetime = config.session_lifetime();
    let state = api::State::new(commit.clone(), context.clock.clone(), key, config, errands)
        .map_err(|error| StartError::Other(error.to_string()))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(worker::run(commit, lifetime, queue, stop));
    engine.serve(api::router(state), tasks)
}

fn tables() -> Tables {
    use store::rows::{Invitation, Member, Reset, Session, Team, User};
    Tables::new()
        .with::<User>()
        .with::<Session>()
        .with::<Reset>()
        .with::<Team>()
        .with::<Member>()
        .with::<Invitation>()
}
