//! The routes of this service, as `/api/notifications` on the common port.

mod inbox;
mod outbox;
mod preferences;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::FromRef;
use kit::Commit;
use kit::http::ApiError;
use kit::identity::People;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::mail::compose::Composer;

/// What every handler reaches.
#[derive(Clone, Debug)]
pub(crate) struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    commit: Commit,
    people: Arc<dyn People>,
    composer: Arc<Composer>,
    /// Where the files of mails stand.
    outbox: PathBuf,
}

impl State {
    pub(crate) fn new(
        commit: Commit,
        people: Arc<dyn People>,
        composer: Arc<Composer>,
        outbox: PathBuf,
    ) -> Self {
        Self(Arc::new(Inner { commit, people, composer, outbox }))
    }
}

impl FromRef<State> for Arc<dyn People> {
    fn from_ref(state: &State) -> Self {
        Arc::clone(&state.0.people)
    }
}

/// All routes, with their description.
pub(crate) fn router(state: State) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(inbox::list))
        .routes(routes!(inbox::read))
        .routes(routes!(inbox::read_all))
        .routes(routes!(preferences::get, preferences::put))
        .routes(routes!(outbox::list))
        .routes(routes!(outbox::one))
        .with_state(state)
}

/// A command that refuses nothing by rules of its own.
type Sure = std::convert::Infallible;

/// 404 as a command's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Missing;

impl From<Missing> for ApiError {
    fn from(_: Missing) -> Self {
        Self::not_found()
    }
}

#[cfg(test)]
mod tests;
