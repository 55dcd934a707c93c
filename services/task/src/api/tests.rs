//! Every route through the router, with the real planning and view and a log in memory.

mod lists;
mod oracle;
mod refusals;
mod teams;

use crate::store;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use jiff::SignedDuration;
use kit::{
    Clock,
    identity::Role,
    testing::{FakePeople, Testing},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

const ANNA: i64 = 1;
const BERT: i64 = 2;
/// A guest.
const CORA: i64 = 3;
/// Not in the team.
const DORA: i64 = 4;
const TEAM: i64 = 10;

struct House {
    testing: Testing,
    people: FakePeople,
    router: Router,
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    who: i64,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    etag: Option<String>,
    body: Value,
}

impl Answer {
    fn id(&self) -> i64 {
        self.body["id"].as_i64().unwrap()
    }

    /// The field that an error names.
    fn field(&self) -> &str {
        self.body["error"]["field"].as_str().unwrap_or_default()
    }
}

impl House {
    fn new() -> House {
        let testing = Testing::new(store::tables());
        let people = FakePeople::default()
            .with(ANNA, "anna")
            .with(BERT, "bert")
            .with(CORA, "cora")
            .with(DORA, "dora")
            .with_team(TEAM, &[(ANNA, Role::Owner), (BERT, Role::Member), (CORA, Role::Guest)]);
        let api = super::router(testing.commit.clone(), Arc::new(people.clone()));
        House { testing, people, router: api.split_for_parts().0 }
    }

    async fn call(&self, call: Call<'_>) -> Answer {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::AUTHORIZATION, format!("Bearer token-{}", call.who));
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let body = match call.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let etag = response.headers().get(header::ETAG);
        let etag = etag.map(|value| value.to_str().unwrap().to_owned());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status, etag, body }
    }

    async fn get(&self, who: i64, path: &str) -> Answer {
        self.call(Call { method: Method::GET, path, who, body: None, headers: vec![] }).await
    }

    async fn post(&self, who: i64, path: &str, body: Value) -> Answer {
        let body = Some(body);
        self.call(Call { method: Method::POST, path, who, body, headers: vec![] }).await
    }

    async fn patch(&self, who: i64, id: i64, body: Value) -> Answer {
        let path = format!("/tasks/{id}");
        let call =
            Call { method: Method::PATCH, path: &path, who, body: Some(body), headers: vec![] };
        self.call(call).await
    }

    /// A call without a body: `POST /tasks/{id}/complete` and the like.
    async fn act(&self, who: i64, method: Method, path: String) -> Answer {
        self.call(Call { method, path: &path, who, body: None, headers: vec![] }).await
    }

    /// A new task of the team, by Anna.
    async fn task(&self, title: &str) -> i64 {
        let made = self.post(ANNA, "/tasks", json!({"title": title, "teamId": TEAM})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.id()
    }

    /// Lets time pass.
    fn pass_ms(&self, millis: i64) {
        let clock = &self.testing.clock;
        clock.set(clock.now() + SignedDuration::from_millis(millis));
    }

    /// Topic and value of every event since the last `count`.
    fn events_after(&self, count: usize) -> Vec<(String, Value)> {
        self.testing.published().split_off(count)
    }

    fn events(&self) -> usize {
        self.testing.published().len()
    }
}

#[tokio::test]
async fn a_created_task_shows_every_field_and_is_one_event() {
    let house = House::new();
    let body = json!({
        "title": "  Buy milk ", "description": "Two litres\nfresh", "priority": "HIGH",
        "dueDate": "2026-12-24", "categoryId": "food", "tags": ["Home", "home", "shop"],
        "teamId": TEAM, "assigneeId": BERT,
    });
    let made = house.post(ANNA, "/tasks", body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.etag.as_deref(), Some("\"1\""));
    let ulid = made.body["ulid"].as_str().unwrap();
    assert_eq!(ulid.len(), 26);
    let wanted = json!({
        "id": 1, "ulid": ulid, "title": "Buy milk", "description": "Two litres\nfresh",
        "priority": "HIGH", "dueDate": "2026-12-24", "category": "food", "categoryId": "food",
        "tags": ["Home", "shop"], "teamId": TEAM, "creatorId": ANNA, "assigneeId": BERT,
        "status": "pending", "completed": false, "completedAt": null,
        "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        "version": 1,
    });
    assert_eq!(made.body, wanted);
    assert_eq!(house.get(BERT, "/tasks/1").await.body, wanted);
    let events = house.events_after(0);
    assert_eq!(events.len(), 1);
    let (topic, event) = &events[0];
    assert_eq!(topic, "task.created");
    assert_eq!(event["taskId"], 1);
    assert_eq!(event["actorId"], ANNA);
    assert_eq!(event["assigneeId"], BERT);
    assert_eq!(event["dueDate"], 1_798_070_400_000_i64);
    assert_eq!(event["payload"], json!({"title": "Buy milk", "completed": false}));
}

#[tokio::test]
async fn a_task_of_no_team_is_in_the_creators_own_with_defaults() {
    let house = House::new();
    let made = house.post(DORA, "/tasks", json!({"title": "Rest"})).await;
    assert_eq!(made.body["teamId"], DORA);
    assert_eq!(made.body["priority"], "MEDIUM");
    assert_eq!(made.body["tags"], json!([]));
    for empty in ["description", "dueDate", "category", "assigneeId", "completedAt"] {
        assert_eq!(made.body[empty], Value::Null, "{empty}");
    }
    assert_eq!(house.get(ANNA, "/tasks/1").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_patch_sets_values_empties_nulls_and_leaves_the_rest() {
    let house = House::new();
    let body = json!({"title": "A", "description": "text", "tags": ["x"], "dueDate": "2026-12-24",
        "category": "c", "priority": "LOW", "teamId": TEAM, "assigneeId": ANNA});
    let before = house.post(ANNA, "/tasks", body).await.body;
    house.pass_ms(5_000);
    let patch = json!({"title": "B", "description": null, "tags": null, "dueDate": null,
        "category": null, "priority": null, "assigneeId": null});
    let after = house.patch(BERT, 1, patch).await;
    assert_eq!((after.status, after.etag.as_deref()), (StatusCode::OK, Some("\"2\"")));
    let mut wanted = before.clone();
    for (field, value) in [
        ("title", json!("B")),
        ("description", Value::Null),
        ("tags", json!([])),
        ("dueDate", Value::Null),
        ("category", Value::Null),
        ("categoryId", Value::Null),
        ("priority", json!("MEDIUM")),
        ("assigneeId", Value::Null),
        ("version", json!(2)),
        ("updatedAt", json!("2026-01-01T00:00:05.000Z")),
    ] {
        wanted[field] = value;
    }
    assert_eq!(after.body, wanted);
    let events = house.events_after(1);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, "task.updated");
    assert_eq!(events[0].1["actorId"], BERT);
    assert_eq!(events[0].1["creatorId"], ANNA);
    assert_eq!(events[0].1["assigneeId"], Value::Null);
    assert_eq!(events[0].1["payload"], json!({"title": "B", "completed": false}));
}

#[tokio::test]
async fn what_changes_nothing_has_no_event_and_no_version() {
    let house = House::new();
    let id = house.task("A").await;
    let same = json!({"title": " A ", "description": "", "priority": "MEDIUM", "status": "open",
        "completed": false, "tags": [], "dueDate": null});
    for body in [json!({}), same] {
        let answer = house.patch(ANNA, id, body).await;
        assert_eq!((answer.status, answer.etag.as_deref()), (StatusCode::OK, Some("\"1\"")));
    }
    let reopened = house.act(ANNA, Method::POST, format!("/tasks/{id}/reopen")).await;
    assert_eq!(reopened.etag.as_deref(), Some("\"1\""));
    assert_eq!(house.events(), 1);
}

#[tokio::test]
async fn completing_and_reopening_are_each_one_completed_event() {
    let house = House::new();
    let id = house.task("A").await;
    house.pass_ms(60_000);
    for _ in 0..2 {
        let done = house.act(BERT, Method::POST, format!("/tasks/{id}/complete")).await;
        assert_eq!(done.body["status"], "completed");
        assert_eq!(done.body["completed"], true);
        assert_eq!(done.body["completedAt"], "2026-01-01T00:01:00.000Z");
        assert_eq!(done.body["version"], 2);
    }
    for _ in 0..2 {
        let open = house.act(BERT, Method::POST, format!("/tasks/{id}/reopen")).await;
        assert_eq!(open.body["status"], "pending");
        assert_eq!(open.body["completedAt"], Value::Null);
    }
    let events = house.events_after(1);
    let topics: Vec<_> = events.iter().map(|event| event.0.as_str()).collect();
    assert_eq!(topics, ["task.completed", "task.completed"]);
    assert_eq!(events[0].1["payload"]["completed"], true);
    assert_eq!(events[0].1["timeToComplete"], 60_000);
    assert_eq!(events[1].1["payload"]["completed"], false);
}

#[tokio::test]
async fn a_patch_of_the_status_and_more_is_one_completed_event_that_carries_all() {
    let house = House::new();
    let id = house.task("A").await;
    let patch = json!({"completed": true, "title": "B", "tags": ["t"], "assigneeId": BERT});
    let done = house.patch(ANNA, id, patch).await;
    assert_eq!(
        (done.body["status"].as_str(), done.body["title"].as_str()),
        (Some("completed"), Some("B"))
    );
    let events = house.events_after(1);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, "task.completed");
    for (field, value) in
        [("title", json!("B")), ("tags", json!(["t"])), ("assigneeId", json!(BERT))]
    {
        assert_eq!(events[0].1[field], value);
    }
}

#[tokio::test]
async fn a_deleted_task_is_gone_and_one_event() {
    let house = House::new();
    let id = house.task("A").await;
    let path = format!("/tasks/{id}");
    assert_eq!(house.act(BERT, Method::DELETE, path.clone()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.act(BERT, Method::DELETE, path.clone()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.get(BERT, &path).await.status, StatusCode::NOT_FOUND);
    let events = house.events_after(1);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].0.as_str(), &events[0].1["title"]), ("task.deleted", &json!("A")));
    assert_eq!(house.task("B").await, id + 1);
}

#[tokio::test]
async fn of_50_patches_with_one_etag_one_is_made() {
    let house = Arc::new(House::new());
    let id = house.task("A").await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..50 {
        let house = Arc::clone(&house);
        calls.spawn(async move {
            let path = format!("/tasks/{id}");
            let call = Call {
                method: Method::PATCH,
                path: &path,
                who: ANNA,
                body: Some(json!({"title": format!("title {n}")})),
                headers: vec![("if-match", "\"1\"".to_owned())],
            };
            house.call(call).await.status
        });
    }
    let statuses = calls.join_all().await;
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(StatusCode::OK), 1);
    assert_eq!(count(StatusCode::PRECONDITION_FAILED), 49);
    assert_eq!(house.events(), 2);
}

#[tokio::test]
async fn if_match_holds_for_every_write() {
    let house = House::new();
    let id = house.task("A").await;
    let writes = [
        (Method::POST, format!("/tasks/{id}/complete")),
        (Method::POST, format!("/tasks/{id}/reopen")),
        (Method::DELETE, format!("/tasks/{id}")),
    ];
    for (etag, refused) in [("\"7\"", true), ("\"1\", \"2\", \"3\"", false)] {
        for (method, path) in writes.clone() {
            let headers = vec![("if-match", etag.to_owned())];
            let answer =
                house.call(Call { method, path: &path, who: ANNA, body: None, headers }).await;
            let found = answer.status == StatusCode::PRECONDITION_FAILED;
            assert_eq!(found, refused, "{path} {etag}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_repeated_write_with_one_key_has_one_effect_and_the_same_answer() {
    let house = House::new();
    let write = async |method: Method, path: &str, body: Option<Value>| {
        let headers = vec![("idempotency-key", format!("{method} once"))];
        house.call(Call { method, path, who: ANNA, body, headers }).await
    };
    let body = json!({"title": "A", "teamId": TEAM});
    let first = write(Method::POST, "/tasks", Some(body.clone())).await;
    let again = write(Method::POST, "/tasks", Some(body)).await;
    assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
    assert_eq!(again.etag, first.etag);
    let other = write(Method::POST, "/tasks", Some(json!({"title": "B", "teamId": TEAM}))).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);

    let path = format!("/tasks/{}", first.id());
    let change = Some(json!({"title": "C", "assigneeId": BERT}));
    let first = write(Method::PATCH, &path, change.clone()).await;
    house.people.forget(BERT);
    let again = write(Method::PATCH, &path, change).await;
    assert_eq!((again.status, again.body), (StatusCode::OK, first.body));
    let nulled = write(Method::PATCH, &path, Some(json!({"title": "C", "assigneeId": null}))).await;
    assert_eq!(nulled.status, StatusCode::UNPROCESSABLE_ENTITY);

    for _ in 0..2 {
        assert_eq!(write(Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(house.events(), 3);
}

#[test]
fn the_openapi_document_has_every_route() {
    let testing = Testing::new(store::tables());
    let people = Arc::new(FakePeople::default());
    let (_, document) = super::router(testing.commit, people).split_for_parts();
    let document = serde_json::to_value(document).unwrap();
    for (path, methods) in [
        ("/tasks", vec!["get", "post"]),
        ("/tasks/{id}", vec!["delete", "get", "patch"]),
        ("/tasks/{id}/complete", vec!["post"]),
        ("/tasks/{id}/reopen", vec!["post"]),
    ] {
        let found = document["paths"][path].as_object().unwrap();
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), methods, "{path}");
    }
}
