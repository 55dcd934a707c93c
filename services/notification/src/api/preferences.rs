//! Which mails a person wants.

use axum::extract::State as Shared;
use kit::http::{ApiError, Json};
use kit::identity::Identity;

use super::{State, Sure};
use crate::model::preferences::Preferences;
use crate::store::{self, Chosen};

/// Which mails one gets.
#[utoipa::path(get, path = "/notifications/preferences", tag = "notifications", responses(
    (status = 200, body = Preferences),
    (status = 401, description = "No token, or one that no longer counts"),
))]
pub(crate) async fn get(
    Shared(state): Shared<State>,
    caller: Identity,
) -> Result<axum::Json<Preferences>, ApiError> {
    Ok(axum::Json(store::preferences_in(state.0.commit.view(), caller.user.id)))
}

/// Chooses which mails one gets. Mails that wait already are sent nevertheless.
#[utoipa::path(put, path = "/notifications/preferences", tag = "notifications",
    request_body = Preferences, responses(
    (status = 200, body = Preferences),
    (status = 400, description = "No JSON"),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 422, description = "An unknown field or a wrong type"),
    (status = 503, description = "The broker cannot be reached"),
))]
pub(crate) async fn put(
    Shared(state): Shared<State>,
    caller: Identity,
    Json(preferences): Json<Preferences>,
) -> Result<axum::Json<Preferences>, ApiError> {
    let user_id = caller.user.id;
    let command = state.0.commit.run(move |tx| {
        if store::preferences_of(tx, user_id) != preferences {
            tx.put(&Chosen { user_id, preferences });
        }
        Ok::<_, Sure>(preferences)
    });
    Ok(axum::Json(command.await?))
}
