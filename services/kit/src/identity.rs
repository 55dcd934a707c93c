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

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: Option<&HeaderMap>,
    ) -> Result<T, ApiError> {
        let mut request =
            self.client.get(format!("{}{path}", self.url)).header(SERVICE_KEY, self.key.expose());
        if let Some(token) = headers.and_then(|headers| headers.get(header::AUTHORIZATION)) {
            request = request.header(header::AUTHORIZATION, token);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            401 => Err(ApiError::unauthenticated()),
            // Auth hides its internal routes behind 404 from a wrong key; of who is not there it says `null` or `[]`.
            404 => Err(down().because(format!(
                "{}{path} is not found: auth does not take the service key, or its URL is wrong",
                self.url
            ))),
            200 => response.json().await.map_err(unreachable),
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
            self.get("/internal/identity", Some(headers)).await
        })
    }

    fn person(&self, id: i64) -> Answer<'_, Option<Person>> {
        Box::pin(async move { self.get(&format!("/internal/users/{id}"), None).await })
    }

    fn members(&self, team: i64) -> Answer<'_, Vec<TeamMember>> {
        Box::pin(async move { self.get(&format!("/internal/teams/{team}/members"), None).await })
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;

    /// What is learnt of person 1 and team 1 from an auth with these routes.
    async fn ask(routes: Router) -> (Result<Option<Person>, ApiError>, Result<usize, ApiError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let auth = Auth::new(&url, Secret::new("key")).unwrap();
        tokio::select! {
            ended = axum::serve(listener, routes) => panic!("{ended:?}"),
            asked = async {
                (auth.person(1).await, auth.members(1).await.map(|members| members.len()))
            } => asked,
        }
    }

    #[tokio::test]
    async fn who_is_not_there_is_told_from_a_key_that_is_wrong() {
        let nobody = Router::new()
            .route("/internal/users/1", get(async || Json(None::<Person>)))
            .route("/internal/teams/1/members", get(async || Json(Vec::<TeamMember>::new())));
        let (person, members) = ask(nobody).await;
        assert_eq!((person.unwrap(), members.unwrap()), (None, 0));
        let (person, members) = ask(Router::new()).await;
        for error in [person.unwrap_err(), members.unwrap_err()] {
            assert_eq!(error.status(), 503);
            assert!(format!("{error:?}").contains("service key"), "{error:?}");
        }
    }
}
