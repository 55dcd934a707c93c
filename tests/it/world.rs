//! People, teams and tasks to test with, and everything that the API says about them.

use serde_json::{Map, Value, json};

use crate::harness::{Answer, Appliance, Person};

/// A small household: two people, one team, three tasks in different states.
pub(crate) struct World {
    pub(crate) people: Vec<Person>,
    pub(crate) team: i64,
    pub(crate) tasks: Vec<i64>,
}

impl World {
    pub(crate) async fn new(app: &Appliance) -> Self {
        let anna = app.person("anna").await;
        let ben = app.person("ben").await;
        let team = id(&created(app.post(&anna, "/teams", json!({"name": "House"})).await));
        let member = json!({"userId": ben.id, "role": "member"});
        created(app.post(&anna, &format!("/teams/{team}/members"), member).await);
        let mut tasks = Vec::new();
        for title in ["Water the plants", "Pay the rent", "Read a book"] {
            tasks.push(new_task(app, &anna, team, title).await);
        }
        ok(app.patch(&anna, &format!("/tasks/{}", tasks[0]), json!({"assigneeId": ben.id})).await);
        ok(app.post(&ben, &format!("/tasks/{}/complete", tasks[0]), json!({})).await);
        ok(app.patch(&ben, &format!("/tasks/{}", tasks[1]), json!({"priority": "CRITICAL"})).await);
        Self { people: vec![anna, ben], team, tasks }
    }

    /// All that the API tells these people; equal before and after anything that must not change it.
    pub(crate) async fn dump(&self, app: &Appliance) -> Value {
        let mut paths = vec![
            "/auth/me".to_owned(),
            "/teams".to_owned(),
            "/tasks?limit=100".to_owned(),
            "/tasks?sort=-dueDate".to_owned(),
            "/users?q=an".to_owned(),
            "/notifications?limit=100".to_owned(),
            "/notifications/preferences".to_owned(),
            "/notifications/outbox?limit=100".to_owned(),
            format!("/teams/{}", self.team),
            format!("/teams/{}/members", self.team),
        ];
        paths.extend(self.tasks.iter().map(|task| format!("/tasks/{task}")));
        let mut all = Map::new();
        for person in &self.people {
            for path in &paths {
                let answer = app.get(person, path).await;
                all.insert(
                    format!("{} {path}", person.email),
                    json!([
                        answer.status,
                        answer.body,
                        answer.headers.get("etag").map(|tag| tag.to_str().unwrap())
                    ]),
                );
            }
        }
        Value::Object(all)
    }
}

pub(crate) async fn new_task(app: &Appliance, person: &Person, team: i64, title: &str) -> i64 {
    id(&created(app.post(person, "/tasks", json!({"title": title, "teamId": team})).await))
}

pub(crate) fn id(body: &Value) -> i64 {
    body["id"].as_i64().unwrap_or_else(|| panic!("no id in {body}"))
}

pub(crate) fn created(answer: Answer) -> Value {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body
}

pub(crate) fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}
