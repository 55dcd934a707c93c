//! The routes of this service, as `/api/auth/...`, `/api/users`, `/api/teams` on the common port.

mod accounts;
mod error;
mod internal;
mod invitations;
mod members;
mod passwords;
mod people;
mod sessions;
mod teams;
#[cfg(test)]
mod tests;
mod views;
mod who;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use kit::{
    Clock, Commit, Secret, Tx, View,
    http::{
        ApiError, IdempotencyKey, Page, PageQuery,
        idempotency::{Once, Reply},
    },
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use utoipa_axum::{router::OpenApiRouter, routes};
use who::Who;

use crate::{
    Config,
    model::{
        team::{Act, Verdict, may},
        throttle::{Limits, Throttle},
    },
    store::{
        Refusal,
        rows::{Member, PasswordHash, User},
    },
    worker::{
        Errand,
        hasher::{HashError, Hasher, Place, SALT_BYTES},
    },
};

/// What every handler reaches.
#[derive(Clone)]
pub(crate) struct State(Arc<Inner>);

struct Inner {
    commit: Commit,
    clock: Arc<dyn Clock>,
    config: Config,
    service_key: Secret,
    hasher: Hasher,
    throttle: Mutex<Throttle>,
    registrations: Mutex<Throttle>,
    errands: mpsc::Sender<Errand>,
}

/// All routes, with their description.
pub(crate) fn router(state: State) -> OpenApiRouter {
    routes().with_state(state)
}

fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::me, accounts::change, accounts::close))
        .routes(routes!(sessions::login))
        .routes(routes!(sessions::logout))
        .routes(routes!(sessions::list, sessions::end_others))
        .routes(routes!(sessions::end))
        .routes(routes!(passwords::change))
        .routes(routes!(passwords::ask_reset))
        .routes(routes!(passwords::confirm_reset))
        .routes(routes!(people::list))
        .routes(routes!(people::one))
        .routes(routes!(teams::create, teams::list))
        .routes(routes!(teams::one, teams::rename, teams::delete))
        .routes(routes!(members::add, members::list))
        .routes(routes!(members::change, members::remove))
        .routes(routes!(invitations::create, invitations::list))
        .routes(routes!(invitations::delete))
        .routes(routes!(invitations::accept))
        .merge(OpenApiRouter::from(internal::router()))
}

impl State {
    pub(crate) fn new(
        commit: Commit,
        clock: Arc<dyn Clock>,
        service_key: Secret,
        config: Config,
        errands: mpsc::Sender<Errand>,
    ) -> Result<State, HashError> {
        let hasher = Hasher::new(config.hash_cost)?;
        Ok(State(Arc::new(Inner {
            commit,
            clock,
            config,
            service_key,
            hasher,
            throttle: Mutex::new(Throttle::new(Limits::default())),
            registrations: Mutex::new(Throttle::new(Limits::REGISTRATIONS)),
            errands,
        })))
    }

    fn view(&self) -> &View {
        self.0.commit.view()
    }

    /// Runs a command that a repeated request finds done already.
    async fn once(
        &self,
        once: Once,
        mut command: impl FnMut(&mut Tx<'_>) -> Result<Reply, Refusal> + Send + 'static,
    ) -> Result<Reply, ApiError> {
        let command = move |tx: &mut Tx<'_>| once.run(tx, |tx| command(tx));
        Ok(self.0.commit.run(command).await?)
    }

    /// Whether a request with this key was carried out, whatever its body.
    fn is_known(&self, key: &IdempotencyKey, scope: &str) -> bool {
        Once::new(key.clone(), scope, &()).is_known(self.view(), self.0.clock.now())
    }

    /// An id that sorts by the time of its making.
    fn ulid(&self) -> String {
        let now = SystemTime::from(self.0.clock.now());
        ulid::Ulid::from_datetime(now).to_string()
    }

    /// Leaves an errand to the worker, which does it after the answer. `false` if it cannot now.
    fn errand(&self, errand: Errand) -> bool {
        self.0.commit.status().borrow().is_ready() && self.0.errands.try_send(errand).is_ok()
    }

    /// The membership that lets this person do this, as of now.
    fn allowed(&self, who: &Who, team_id: i64, act: Act) -> Result<Member, ApiError> {
        let member = self.view().get::<Member>(&Member::key_of(team_id, who.user.id));
        match (may(member.as_ref().map(|m| m.role), act), member) {
            (Verdict::Yes, Some(member)) => Ok(member),
            (Verdict::Forbidden, _) => Err(Refusal::OWNER_ONLY.into()),
            (Verdict::Unknown, _) | (Verdict::Yes, None) => Err(ApiError::not_found()),
        }
    }

    /// Whether the password is `user`'s. Wrong ones are counted under `account` and the address,
    /// and too many are an error that says when to come back.
    async fn is_right_password(
        &self,
        (account, address): (&str, Option<IpAddr>),
        user: Option<&User>,
        password: String,
    ) -> Result<bool, ApiError> {
        let pair = self.throttle(|throttle, _| throttle.pair(account, address));
        let admit = || self.throttle(|throttle, now| throttle.check(now, pair));
        let slow_down = |wait| error::slow_down("wrong passwords", wait);
        admit().map_err(slow_down)?;
        let place = self.place().await?;
        admit().map_err(slow_down)?;
        let stored = user.map(|user| user.password_hash.0.clone());
        let (place, right) = place.verify(password, stored).await.map_err(error::from_hashing)?;
        self.throttle(|throttle, now| {
            if right { throttle.succeeded(now, pair) } else { throttle.failed(now, pair) }
        });
        drop(place);
        Ok(right)
    }

    /// The hash of a new password. With an `Idempotency-Key` the salt is made of it and a secret, so that a repetition
    /// of the request is known by the hash alone, and nothing easier to guess than that is kept.
    async fn hash(
        &self,
        place: Place,
        password: String,
        (key, scope): (&IdempotencyKey, &str),
    ) -> Result<PasswordHash, ApiError> {
        let salt = key.0.as_ref().and_then(|key| {
            let secret = self.0.service_key.expose();
            let digest = Sha256::digest(format!("{secret}\0{scope}\0{key}"));
            digest.first_chunk::<SALT_BYTES>().copied()
        });
        Ok(PasswordHash(place.hash(password, salt).await.map_err(error::from_hashing)?))
    }

    async fn place(&self) -> Result<Place, ApiError> {
        self.0.hasher.place().await.map_err(error::from_hashing)
    }

    fn throttle<T>(&self, act: impl FnOnce(&mut Throttle, Duration) -> T) -> T {
        self.with(&self.0.throttle, act)
    }

    /// Counts a registration from that address; too many are an error that says when to come back.
    fn admit_registration(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        self.with(&self.0.registrations, |throttle, now| {
            let network = throttle.pair("", address);
            throttle.check(now, network).map_err(|wait| error::slow_down("registrations", wait))?;
            throttle.failed(now, network);
            Ok(())
        })
    }

    fn with<T>(
        &self,
        throttle: &Mutex<Throttle>,
        act: impl FnOnce(&mut Throttle, Duration) -> T,
    ) -> T {
        let now = self.0.clock.now().as_duration();
        let now = Duration::try_from(now).unwrap_or_default();
        act(&mut throttle.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// A write by a person who is logged in. `body` holds no password: what is kept of it is a plain hash.
fn keyed(key: IdempotencyKey, who: &Who, route: &str, body: &impl Serialize) -> Once {
    Once::new(key, &format!("{} {route}", who.user.id), body)
}

/// The page of `items`, which are in the order of the id that `place` tells.
fn page<T>(
    items: impl IntoIterator<Item = T>,
    query: &PageQuery,
    place: impl Fn(&T) -> i64,
) -> Result<Page<T>, ApiError> {
    let limit = query.limit()?;
    let after: Option<i64> = query.place()?;
    let rest = items.into_iter().filter(|item| after.is_none_or(|after| place(item) > after));
    Ok(Page::cut(rest.take(limit + 1).collect(), limit, place))
}
