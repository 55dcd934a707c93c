//! Registering, seeing, changing and closing one's account.

use axum::{extract::State as Shared, http::StatusCode};
use kit::{
    Tx,
    http::{
        ApiError, IdempotencyKey, Json, Patch,
        idempotency::{Once, Reply},
    },
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State, error, keyed,
    views::{Account, Me},
    who::{Client, Who},
};
use crate::{
    model::{Invalid, account, token},
    store::accounts::{self, NewAccount},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registering {
    /// 1 to 64 characters: letters, digits, `. _ - ' +`, single spaces between them.
    username: String,
    email: String,
    password: String,
    /// The code of an invitation to a team; needed where registration is by invitation.
    #[serde(default)]
    invitation: Option<String>,
}

/// Makes an account and its personal team; once, if it is repeated with the same `Idempotency-Key`.
#[utoipa::path(post, path = "/auth/register", tag = "auth", request_body = Registering,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, body = Account),
        (status = 403, description = "Registration is closed, or needs an invitation"),
        (status = 409, description = "The e-mail address or username is taken; `field` says which"),
        (status = 422, description = "A field is missing, unknown or invalid"),
        (status = 429, description = "Too many registrations; `Retry-After` says when to come back"),
        (status = 503, description = "The broker cannot be reached"),
    )
)]
pub(crate) async fn register(
    Shared(state): Shared<State>,
    client: Client,
    key: IdempotencyKey,
    Json(body): Json<Registering>,
) -> Result<Reply, ApiError> {
    account::username(&body.username)?;
    account::email(&body.email)?;
    account::password("password", &body.password, state.0.config.password_min_chars())?;
    let invitation_hash = body.invitation.as_deref().map(invitation_hash).transpose()?;
    let scope = "POST /auth/register";
    let repeated = state.is_known(&key, scope);
    let mode = state.0.config.registration;
    let invited = invitation_hash.is_some();
    let has_a_chance = || {
        let names = (body.username.as_str(), body.email.as_str());
        if repeated { Ok(()) } else { accounts::foresee(state.view(), mode, names, invited) }
    };
    if !repeated {
        state.admit_registration(client.address)?;
    }
    has_a_chance()?;
    let place = state.place().await?;
    has_a_chance()?;
    let password_hash = state.hash(place, body.password, (&key, scope)).await?;
    let fingerprint = (&body.username, &body.email, &password_hash, &invitation_hash);
    let once = Once::new(key, scope, &fingerprint);
    let new = NewAccount {
        ulid: state.ulid(),
        team_ulid: state.ulid(),
        username: body.username,
        email: body.email,
        password_hash,
        invitation_hash,
    };
    let register = move |tx: &mut Tx<'_>| {
        let user = accounts::register(tx, mode, &new)?;
        Ok(Reply::json(StatusCode::CREATED, &Account::from(&user)))
    };
    state.once(once, register).await
}

/// Who am I?
#[utoipa::path(get, path = "/auth/me", tag = "auth", responses(
    (status = 200, body = Me),
    (status = 401, description = "No token, or one that no longer counts"),
))]
pub(crate) async fn me(who: Who) -> axum::Json<Me> {
    axum::Json(Me::from(&who.user))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changing {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    username: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    email: Patch<String>,
    /// The current password; needed to change the e-mail address.
    #[serde(default)]
    password: Option<String>,
}

/// Changes one's username or e-mail address (RFC 7396).
#[utoipa::path(patch, path = "/auth/me", tag = "auth", request_body = Changing,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = Me),
        (status = 401, description = "No token, or one that no longer counts"),
        (status = 403, description = "The password is wrong"),
        (status = 409, description = "The e-mail address or username is taken; `field` says which"),
        (status = 422, description = "A field is unknown or invalid, or the password is missing"),
        (status = 429, description = "Too many wrong passwords; `Retry-After` says when to come back"),
    )
)]
pub(crate) async fn change(
    Shared(state): Shared<State>,
    client: Client,
    who: Who,
    key: IdempotencyKey,
    Json(body): Json<Changing>,
) -> Result<Reply, ApiError> {
    let username = required("username", body.username)?;
    let email = required("email", body.email)?;
    username.as_deref().map(account::username).transpose()?;
    email.as_deref().map(account::email).transpose()?;
    if email.as_ref().is_some_and(|email| *email != who.user.email) {
        let password = body.password.ok_or_else(|| {
            Invalid::new("password", "missing", "a new e-mail address needs the password")
        })?;
        confirm(&state, &who, &client, password, "password").await?;
    }
    let caller = who.caller();
    let once = keyed(key, &who, "PATCH /auth/me", &(&username, &email));
    let change = move |tx: &mut Tx<'_>| {
        let user = accounts::change(tx, caller, username.as_deref(), email.as_deref())?;
        Ok(Reply::json(StatusCode::OK, &Me::from(&user)))
    };
    state.once(once, change).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closing {
    password: String,
}

/// Closes one's account for good. Teams in which nobody else is go with it; others are left.
#[utoipa::path(delete, path = "/auth/me", tag = "auth", request_body = Closing, responses(
    (status = 204),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 403, description = "The password is wrong"),
    (status = 409, description = "Others are in a team of which one is the last owner"),
    (status = 422, description = "The password is missing"),
    (status = 429, description = "Too many wrong passwords; `Retry-After` says when to come back"),
))]
pub(crate) async fn close(
    Shared(state): Shared<State>,
    client: Client,
    who: Who,
    Json(body): Json<Closing>,
) -> Result<StatusCode, ApiError> {
    confirm(&state, &who, &client, body.password, "password").await?;
    let caller = who.caller();
    state.0.commit.run(move |tx| accounts::close(tx, caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a logged-in person for the password once more.
pub(super) async fn confirm(
    state: &State,
    who: &Who,
    client: &Client,
    password: String,
    field: &'static str,
) -> Result<(), ApiError> {
    let account = who.account();
    let right =
        state.is_right_password((&account, client.address), Some(&who.user), password).await?;
    if right { Ok(()) } else { Err(error::wrong_password(field)) }
}

fn invitation_hash(code: &str) -> Result<String, Invalid> {
    let message = "this invitation does not exist or is no longer valid";
    token::presented(code).ok_or_else(|| Invalid::new("invitation", "unknown", message))
}

/// `null` would take away what an account must have.
fn required(field: &'static str, patch: Patch<String>) -> Result<Option<String>, Invalid> {
    match patch {
        Patch::Absent => Ok(None),
        Patch::Value(value) => Ok(Some(value)),
        Patch::Null => Err(Invalid::new(field, "null", "an account cannot be without this")),
    }
}
