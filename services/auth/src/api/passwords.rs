//! Changing the password, and getting back in without it.

use axum::{extract::State as Shared, http::StatusCode};
use kit::{
    Tx,
    http::{
        ApiError, IdempotencyKey, Json,
        idempotency::{Once, Reply},
    },
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State, accounts,
    who::{Client, Who},
};
use crate::{
    model::{Invalid, account, token},
    store::{Refusal, passwords},
    worker::Errand,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ChangingPassword {
    current_password: String,
    new_password: String,
}

/// Changes the password and ends all other sessions.
#[utoipa::path(put, path = "/auth/password", tag = "auth", request_body = ChangingPassword,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 401, description = "No token, or one that no longer counts"),
        (status = 403, description = "The current password is wrong"),
        (status = 422, description = "The new password is too short or too long"),
        (status = 429, description = "Too many wrong passwords"),
    )
)]
pub(crate) async fn change(
    Shared(state): Shared<State>,
    client: Client,
    who: Who,
    key: IdempotencyKey,
    Json(body): Json<ChangingPassword>,
) -> Result<Reply, ApiError> {
    let min_chars = state.0.config.password_min_chars();
    account::password("newPassword", &body.new_password, min_chars)?;
    let scope = format!("{} PUT /auth/password", who.user.id);
    let repeated = state.is_known(&key, &scope);
    if !repeated {
        accounts::confirm(&state, &who, &client, body.current_password, "currentPassword").await?;
    }
    let new = state.hash(state.place().await?, body.new_password, (&key, &scope)).await?;
    let once = Once::new(key, &scope, &new);
    let (caller, old) = (who.caller(), who.user.password_hash);
    let change = move |tx: &mut Tx<'_>| {
        if repeated {
            return Err(Refusal::FORGOTTEN);
        }
        passwords::change(tx, caller, &old, &new)?;
        Ok(Reply::no_content())
    };
    state.once(once, change).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskingReset {
    email: String,
}

/// Asks for a mail with a token to set a new password. The answer does not tell whether there is
/// an account, and comes before that is looked up.
#[utoipa::path(post, path = "/auth/password-reset", tag = "auth", request_body = AskingReset,
    responses(
        (status = 202),
        (status = 422, description = "This is not an e-mail address"),
        (status = 503, description = "The broker cannot be reached"),
    )
)]
pub(crate) async fn ask_reset(
    Shared(state): Shared<State>,
    Json(body): Json<AskingReset>,
) -> Result<StatusCode, ApiError> {
    account::email(&body.email)?;
    if state.errand(Errand::OfferReset { email: body.email }) {
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(ApiError::unavailable("nothing was done; try again in a moment"))
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ConfirmingReset {
    /// From the mail; works once, for an hour.
    token: String,
    new_password: String,
}

/// Sets a new password with the token of a mail, and ends all sessions.
#[utoipa::path(post, path = "/auth/password-reset/confirm", tag = "auth",
    request_body = ConfirmingReset,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 422, description = "The token does not count, or the password is too short"),
    )
)]
pub(crate) async fn confirm_reset(
    Shared(state): Shared<State>,
    key: IdempotencyKey,
    Json(body): Json<ConfirmingReset>,
) -> Result<Reply, ApiError> {
    let min_chars = state.0.config.password_min_chars();
    account::password("newPassword", &body.new_password, min_chars)?;
    let unknown = || Invalid::new("token", "unknown", passwords::NO_SUCH_TOKEN);
    let hash = token::presented(&body.token).ok_or_else(unknown)?;
    let scope = format!("POST /auth/password-reset/confirm {hash}");
    let is_open = passwords::is_open(state.view(), &hash, state.0.clock.now());
    if !is_open && !state.is_known(&key, &scope) {
        return Err(unknown().into());
    }
    let new = state.hash(state.place().await?, body.new_password, (&key, &scope)).await?;
    let once = Once::new(key, &scope, &new);
    let reset = move |tx: &mut Tx<'_>| {
        passwords::reset(tx, &hash, &new)?;
        Ok(Reply::no_content())
    };
    state.once(once, reset).await
}
