//! Who asks: the session behind the bearer token, the address it comes from, the service key.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use kit::http::ApiError;
use subtle::ConstantTimeEq;

use super::State;
use crate::{
    model::{account, token},
    store::{
        Caller,
        rows::{Session, User, key},
        sessions,
    },
    worker::Errand,
};

/// A request whose token belongs to a living session.
#[derive(Debug)]
pub(crate) struct Who {
    pub user: User,
    pub session: Session,
}

impl Who {
    pub(crate) fn caller(&self) -> Caller {
        Caller { user_id: self.user.id, session_id: self.session.id }
    }

    /// The account under which this person's wrong passwords are counted when already logged in.
    pub(crate) fn account(&self) -> String {
        format!("user {}", self.user.id)
    }
}

/// Finds the living session of the bearer token, and has its use noted now and then.
pub(crate) fn identify(state: &State, headers: &HeaderMap) -> Result<Who, ApiError> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        value.and_then(bearer).and_then(token::presented).ok_or_else(ApiError::unauthenticated)?;
    let now = state.0.clock.now();
    let session =
        sessions::find(state.view(), &token, now).ok_or_else(ApiError::unauthenticated)?;
    let user =
        state.view().get::<User>(&key(session.user_id)).ok_or_else(ApiError::unauthenticated)?;
    if sessions::is_stale(&session, now) {
        let noted = state.errand(Errand::Touch { session_id: session.id });
        tracing::trace!(noted, "the use of a session");
    }
    Ok(Who { user, session })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<State> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Who, ApiError> {
        identify(state, &parts.headers)
    }
}

/// What is known of the client itself.
#[derive(Debug)]
pub(crate) struct Client {
    pub address: Option<IpAddr>,
    pub user_agent: String,
}

impl FromRequestParts<State> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Client, Self::Rejection> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let user_agent = parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let user_agent = user_agent.map(String::from_utf8_lossy).unwrap_or_default();
        Ok(Client { address, user_agent: account::user_agent(&user_agent) })
    }
}

/// Another service, proven by the service key. Everyone else is told that there is nothing here.
#[derive(Debug)]
pub(crate) struct Service;

impl FromRequestParts<State> for Service {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Service, ApiError> {
        let given = parts.headers.get(kit::identity::SERVICE_KEY).map(HeaderValue::as_bytes);
        let key = state.0.service_key.expose().as_bytes();
        let equal = given.is_some_and(|given| bool::from(given.ct_eq(key)));
        if equal && !key.is_empty() { Ok(Service) } else { Err(ApiError::not_found()) }
    }
}
