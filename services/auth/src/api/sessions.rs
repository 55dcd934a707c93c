//! Logging in and out, and the sessions between.

use axum::{extract::State as Shared, http::StatusCode};
use kit::{
    Tx,
    http::{ApiError, IdempotencyKey, Json, Page, PageQuery, Path, Query, idempotency::Reply},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State, error, keyed,
    views::{LoggedIn, Me, SessionView},
    who::{Client, Who},
};
use crate::{
    model::{account::fold, token::Token},
    store::{
        rows::{Session, User, key},
        sessions::{self, NewSession},
    },
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoggingIn {
    /// The username or the e-mail address.
    login: String,
    password: String,
}

/// Logs in. A wrong password and an unknown name are answered alike.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = LoggingIn, responses(
    (status = 200, body = LoggedIn),
    (status = 401, description = "Name and password do not belong together"),
    (status = 422, description = "A field is missing or unknown"),
    (status = 429, description = "Too many wrong passwords; `Retry-After` says when to come back"),
    (status = 503, description = "The broker cannot be reached"),
))]
pub(crate) async fn login(
    Shared(state): Shared<State>,
    client: Client,
    Json(body): Json<LoggingIn>,
) -> Result<axum::Json<LoggedIn>, ApiError> {
    let login = fold(&body.login);
    let index = if login.contains('@') { User::BY_EMAIL } else { User::BY_USERNAME };
    let user = state.view().by_index::<User>(index, &login).into_iter().next();
    let account = format!("login {login}");
    let right =
        state.is_right_password((&account, client.address), user.as_ref(), body.password).await?;
    let user = user.filter(|_| right).ok_or_else(error::wrong_login)?;
    let token = Token::draw().map_err(ApiError::internal)?;
    let new = NewSession {
        user_id: user.id,
        password_hash: user.password_hash,
        token_hash: token.hash(),
        user_agent: client.user_agent,
        lifetime: state.0.config.session_lifetime(),
    };
    let user = state.0.commit.run(move |tx| sessions::open(tx, &new)).await?;
    Ok(axum::Json(LoggedIn { token: token.reveal().to_owned(), user: Me::from(&user) }))
}

/// Ends the session that this request uses.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", responses(
    (status = 204),
    (status = 401, description = "No token, or one that no longer counts"),
))]
pub(crate) async fn logout(Shared(state): Shared<State>, who: Who) -> Result<StatusCode, ApiError> {
    let caller = who.caller();
    state.0.commit.run(move |tx| sessions::end(tx, caller, caller.session_id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One's sessions that have not ended.
#[utoipa::path(get, path = "/auth/sessions", tag = "auth", params(PageQuery), responses(
    (status = 200, body = Page<SessionView>),
    (status = 401, description = "No token, or one that no longer counts"),
))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    who: Who,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<SessionView>>, ApiError> {
    let now = state.0.clock.now();
    let mut sessions = state.view().by_index::<Session>(Session::BY_USER, &key(who.user.id));
    sessions.retain(|session| session.expires_at > now);
    let page = super::page(sessions, &page, |session| session.id)?;
    Ok(axum::Json(page.map(|session| SessionView::of(session, who.session.id))))
}

/// Ends all of one's sessions but the one that this request uses.
#[utoipa::path(delete, path = "/auth/sessions", tag = "auth",
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 401, description = "No token, or one that no longer counts"),
    )
)]
pub(crate) async fn end_others(
    Shared(state): Shared<State>,
    who: Who,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let once = keyed(key, &who, "DELETE /auth/sessions", &());
    let end = move |tx: &mut Tx<'_>| {
        sessions::end_others(tx, caller)?;
        Ok(Reply::no_content())
    };
    state.once(once, end).await
}

/// Ends one of one's sessions.
#[utoipa::path(delete, path = "/auth/sessions/{id}", tag = "auth",
    params(("id" = i64, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 401, description = "No token, or one that no longer counts"),
        (status = 404, description = "One has no such session"),
    )
)]
pub(crate) async fn end(
    Shared(state): Shared<State>,
    who: Who,
    Path(session): Path<i64>,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let once = keyed(key, &who, &format!("DELETE /auth/sessions/{session}"), &());
    let end = move |tx: &mut Tx<'_>| {
        sessions::end(tx, caller, session)?;
        Ok(Reply::no_content())
    };
    state.once(once, end).await
}
