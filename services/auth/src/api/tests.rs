//! Every route through the router, as clients meet it: right, wrong, and too early.

mod accounts;
mod repeats;
mod sessions;
mod teams;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use kit::{Secret, Status, testing::Testing};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::State;
use crate::{
    Config, HashCost,
    store::rows::{Session, key},
    worker::{self, ERRANDS},
};

const PASSWORD: &str = "correct horse";
const SERVICE_KEY: &str = "the key of the services";
/// What a test waits for happens within this time or never.
const PATIENCE: Duration = Duration::from_secs(10);

fn config() -> Config {
    let hash_cost = HashCost { memory_kib: 64, passes: 1 };
    Config { hash_cost, loopback_only: true, ..Config::default() }
}

/// The service without Kafka, and a way to talk to it.
struct House {
    testing: Testing,
    router: Router,
    _worker: JoinSet<()>,
}

struct Person {
    id: i64,
    token: String,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

struct Event {
    topic: String,
    value: Value,
}

impl House {
    fn open() -> House {
        House::with(config())
    }

    fn with(config: Config) -> House {
        let testing = Testing::new(crate::tables());
        let (errands, queue) = mpsc::channel(ERRANDS);
        let mut tasks = JoinSet::new();
        let lifetime = config.session_lifetime();
        let stop = CancellationToken::new();
        tasks.spawn(worker::run(testing.commit.clone(), lifetime, queue, stop));
        let clock: Arc<dyn kit::Clock> = testing.clock.clone();
        let key = Secret::new(SERVICE_KEY);
        let state = State::new(testing.commit.clone(), clock, key, config, errands).unwrap();
        let router = Router::from(super::router(state));
        House { testing, router, _worker: tasks }
    }

    fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let mut request =
            Request::builder().method(method).uri(path).header("user-agent", "test/1");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.call(request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap())
    }

    fn call(&self, request: Request<Body>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let router = self.router.clone();
        Box::pin(async move {
            let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let body = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
            let body = serde_json::from_slice(body).unwrap();
            Answer { status: parts.status.as_u16(), headers: parts.headers, body }
        })
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let text = match body {
            Value::Null => None,
            body => Some(body.to_string()),
        };
        self.raw(method, path, token, text.as_deref())
    }

    fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.send("POST", path, token, body)
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.raw("GET", path, token, None).await
    }

    async fn delete(&self, path: &str, token: Option<&str>) -> Answer {
        self.raw("DELETE", path, token, None).await
    }

    async fn internal(&self, path: &str, key: Option<&str>, token: Option<&str>) -> Answer {
        let mut request = Request::builder().uri(path);
        if let Some(key) = key {
            request = request.header("x-service-key", key);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.call(request.body(Body::empty()).unwrap()).await
    }

    fn login(&self, login: &str, password: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.post("/auth/login", None, json!({"login": login, "password": password}))
    }

    /// Registers and logs in.
    async fn person(&self, username: &str) -> Person {
        let email = format!("{username}@example.com");
        let body = json!({"username": username, "email": email, "password": PASSWORD});
        let made = self.post("/auth/register", None, body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let token = self.login(username, PASSWORD).await.text("token");
        Person { id: made.body["id"].as_i64().unwrap(), token }
    }

    async fn team(&self, owner: &Person, name: &str) -> i64 {
        let made = self.post("/teams", Some(&owner.token), json!({"name": name})).await;
        made.body["id"].as_i64().unwrap()
    }

    async fn add(&self, owner: &Person, team: i64, user_id: i64, role: &str) {
        let body = json!({"userId": user_id, "role": role});
        let path = format!("/teams/{team}/members");
        assert_eq!(self.post(&path, Some(&owner.token), body).await.status, 201);
    }

    fn pass(&self, time: Duration) {
        let clock = &self.testing.clock;
        clock.set(kit::Clock::now(clock.as_ref()) + time);
    }

    fn events(&self) -> Vec<Event> {
        let published = self.testing.published().into_iter();
        published.map(|(topic, value)| Event { topic, value }).collect()
    }

    fn values(&self, topic: &str, field: &str) -> Vec<Value> {
        let events = self.events().into_iter().filter(|event| event.topic == topic);
        events.map(|event| event.value[field].clone()).collect()
    }

    fn count(&self, topic: &str) -> usize {
        self.values(topic, "eventId").len()
    }

    /// The token of the `nth` reset that was offered.
    async fn reset_token(&self, nth: usize) -> String {
        const TOPIC: &str = "__auth.password-reset";
        until(|| self.count(TOPIC) >= nth).await;
        let tokens = self.values(TOPIC, "token");
        tokens[nth - 1].as_str().unwrap().to_owned()
    }

    /// Waits until the person's use of the session is noted.
    async fn until_touched(&self, person: &Person) {
        let now = kit::Clock::now(self.testing.clock.as_ref());
        let noted = || {
            let view = self.testing.commit.view();
            let sessions = view.by_index::<Session>(Session::BY_USER, &key(person.id));
            sessions.iter().all(|session| session.last_used_at == now)
        };
        until(noted).await;
    }
}

impl Answer {
    /// Code and field of an error.
    fn error(&self) -> (&str, Option<&str>) {
        let error = &self.body["error"];
        assert!(error["message"].is_string(), "{} {}", self.status, self.body);
        (error["code"].as_str().unwrap_or_default(), error["field"].as_str())
    }

    fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("{field} in {}", self.body)).to_owned()
    }

    fn keys(&self) -> Vec<&str> {
        self.body.as_object().unwrap().keys().map(String::as_str).collect()
    }
}

impl Event {
    fn text(&self) -> String {
        self.value.to_string()
    }
}

/// Everything at once, the answers in the order of the questions.
async fn all(
    questions: impl Iterator<Item = impl Future<Output = Answer> + Send + 'static>,
) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for question in questions {
        tasks.spawn(question);
    }
    tasks.join_all().await
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("what the test waits for happens");
}

#[tokio::test]
async fn without_a_broker_reads_are_answered_and_writes_are_503() {
    let house = House::open();
    let anna = house.person("anna").await;
    house.testing.set_status(Status::Disconnected);
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 200);
    assert_eq!(house.get("/teams", Some(&anna.token)).await.status, 200);
    // What records are held against is never older than the records.
    let members = house.internal("/internal/teams/1/members", Some(SERVICE_KEY), None).await;
    assert_eq!(members.status, 503);
    let writes = [
        house.login("anna", PASSWORD).await,
        house.post("/teams", Some(&anna.token), json!({"name": "x"})).await,
        house.post("/auth/logout", Some(&anna.token), Value::Null).await,
        house.post("/auth/password-reset", None, json!({"email": "anna@example.com"})).await,
    ];
    assert!(writes.iter().all(|answer| answer.status == 503));
    house.testing.set_status(Status::Serving);
    assert_eq!(house.login("anna", PASSWORD).await.status, 200);
}

#[test]
fn every_route_is_described() {
    let document = serde_json::to_value(super::routes().to_openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let described: Vec<_> = paths.keys().map(String::as_str).collect();
    assert_eq!(described.len(), 18, "{described:?}");
    assert!(described.iter().all(|path| !path.contains("internal")));
    assert_eq!(paths["/auth/me"].as_object().unwrap().len(), 3);
}
