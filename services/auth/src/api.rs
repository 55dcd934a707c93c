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
    Clock, Commit, Secret, View,
    http::{ApiError, Page, PageQuery},
};
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
        hasher::{HashError, Hasher},
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
        let throttle = Mutex::new(Throttle::new(Limits::default()));
        let inner = Inner { commit, clock, config, service_key, hasher, throttle, errands };
        Ok(State(Arc::new(inner)))
    }

    fn view(&self) -> &View {
        self.0.commit.view()
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
        admit().map_err(error::slow_down)?;
        let place = self.0.hasher.place().await.map_err(error::from_hashing)?;
        admit().map_err(error::slow_down)?;
        let stored = user.map(|user| user.password_hash.0.clone());
        let (place, right) = place.verify(password, stored).await.map_err(error::from_hashing)?;
        self.throttle(|throttle, now| {
            if right { throttle.succeeded(now, pair) } else { throttle.failed(now, pair) }
        });
        drop(place);
        Ok(right)
    }

    async fn hash(&self, password: String) -> Result<PasswordHash, ApiError> {
        let place = self.0.hasher.place().await.map_err(error::from_hashing)?;
        let hash = place.hash(password).await.map_err(error::from_hashing)?;
        Ok(PasswordHash(hash))
    }

    fn throttle<T>(&self, act: impl FnOnce(&mut Throttle, Duration) -> T) -> T {
        let now = self.0.clock.now().as_duration();
        let now = Duration::try_from(now).unwrap_or_default();
        act(&mut self.0.throttle.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
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
