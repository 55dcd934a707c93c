//! Who asks, as the auth service says: asked on every request and never cached.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Secret, http::ApiError};

/// The header in which a service proves itself to auth.
pub const SERVICE_KEY: HeaderName = HeaderName::from_static("x-service-key");
/// How long auth may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A person who is logged in, with the session that the request uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub user: User,
    pub session_id: i64,
    pub teams: Vec<Membership>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub id: i64,
    pub username: String,
    pub email: String,
    pub administrator: bool,
}

/// A team that a person is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub id: i64,
    pub name: String,
    pub role: Role,
    /// The team that everyone has to themselves.
    pub personal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Owner,
    Member,
    Guest,
}

/// A person as other services need them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: i64,
    pub username: String,
    pub email: String,
}

/// A person in a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TeamMember {
    pub user_id: i64,
    pub role: Role,
}

impl Identity {
    /// The caller's place in a team; `None` if the caller is not in it.
    pub fn team(&self, id: i64) -> Option<&Membership> {
        self.teams.iter().find(|team| team.id == id)
    }

    pub fn personal_team(&self) -> Option<&Membership> {
        self.teams.iter().find(|team| team.personal)
    }
}

/// An answer that is on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// Whoever knows the people: auth over HTTP, or a test's own.
pub trait People: std::fmt::Debug + Send + Sync + 'static {
    /// Who sent these headers; 401 if nobody, 503 if auth cannot be reached.
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> Answer<'a, Identity>;
    /// `None` if there is no such person (any more).
    fn person(&self, id: i64) -> Answer<'_, Option<Person>>;
    /// Empty if there is no such team.
    fn members(&self, team: i64) -> Answer<'_, Vec<TeamMember>>;
}

impl<S> FromRequestParts<S> for Identity
where
    S: Send + Sync,
    Arc<dyn People>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Arc::<dyn People>::from_ref(state).identify(&parts.headers).await
    }
}

/// The auth service over HTTP.
#[derive(Clone, Debug)]
pub struct Auth {
    client: reqwest::Client,
    url: String,
    key: Secret,
}

impl Auth {
    /// `url` is what stands before `/internal/...`, such as `http://127.0.0.1:8080/api`.
    pub fn new(url: &str, key: Secret) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// `None` for 404.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: Option<&HeaderMap>,
    ) -> Result<Option<T>, ApiError> {
        let mut request =
            self.client.get(format!("{}{path}", self.url)).header(SERVICE_KEY, self.key.expose());
        if let Some(token) = headers.and_then(|headers| headers.get(header::AUTHORIZATION)) {
            request = request.header(header::AUTHORIZATION, token);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            401 => Err(ApiError::unauthenticated()),
            404 => Ok(None),
            200 => response.json().await.map(Some).map_err(unreachable),
            status => Err(down().because(format!("auth answered {status} to {path}"))),
        }
    }
}

fn unreachable(error: reqwest::Error) -> ApiError {
    down().because(error)
}

fn down() -> ApiError {
    ApiError::unavailable(
        "nobody can be identified right now: the auth service cannot be reached; try again in a moment",
    )
}

impl People for Auth {
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> Answer<'a, Identity> {
        Box::pin(async move {
            if !headers.contains_key(header::AUTHORIZATION) {
                return Err(ApiError::unauthenticated());
            }
            let found = self.get("/internal/identity", Some(headers)).await?;
            // Auth hides its internal routes behind 404 if it does not take the service key.
            found.ok_or_else(|| down().because("auth refused the service key"))
        })
    }

    fn person(&self, id: i64) -> Answer<'_, Option<Person>> {
        Box::pin(async move { self.get(&format!("/internal/users/{id}"), None).await })
    }

    fn members(&self, team: i64) -> Answer<'_, Vec<TeamMember>> {
        Box::pin(async move {
            let found = self.get(&format!("/internal/teams/{team}/members"), None).await?;
            Ok(found.unwrap_or_default())
        })
    }
}
