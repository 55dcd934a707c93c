//! Random commands against the service and against a heap of JSON, which must agree on every list.

use super::{ANNA, BERT, CORA, DORA, House, TEAM};
use crate::testing::{DUES, Random, TAGS, TITLES};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{cmp::Ordering, collections::BTreeMap};

/// What a plain mind would keep: tasks as JSON, by id.
#[derive(Default)]
struct Oracle {
    tasks: BTreeMap<i64, Value>,
    events: usize,
}

const PRIORITIES: [&str; 4] = ["LOW", "MEDIUM", "HIGH", "CRITICAL"];
/// The given due dates in their order.
const DUE_ORDER: [&str; 5] =
    ["1066-10-14", "2026-06-14", "2026-06-15T10:00:00+02:00", "2026-06-15T23:59:59Z", "2026-06-15"];

fn fields(random: &mut Random) -> Value {
    let mut body = json!({});
    let tags: Vec<&str> = (0..random.below(3)).map(|_| random.pick(&TAGS)).collect();
    let due = random.pick(&DUES);
    for (name, value) in [
        ("title", json!(random.pick(&TITLES))),
        ("description", random.pick(&[Value::Null, json!("with B"), json!("other")])),
        ("priority", json!(random.pick(&PRIORITIES))),
        ("dueDate", random.pick(&[Value::Null, json!(due)])),
        ("tags", json!(tags)),
        ("assigneeId", random.pick(&[Value::Null, json!(ANNA), json!(BERT)])),
        ("completed", json!(random.below(2) == 0)),
    ] {
        if random.below(2) == 0 {
            body[name] = value;
        }
    }
    body
}

impl Oracle {
    fn write(&mut self, id: i64, body: &Value) {
        let task = self.tasks.get_mut(&id).unwrap();
        let before = task.clone();
        for (name, value) in body.as_object().unwrap() {
            task[name] = value.clone();
        }
        let mut seen: Vec<String> = Vec::new();
        let tags = task["tags"].as_array().unwrap().iter().filter(|tag| {
            let folded = tag.as_str().unwrap().to_lowercase();
            let new = !seen.contains(&folded);
            seen.push(folded);
            new
        });
        task["tags"] = tags.cloned().collect();
        if *task != before {
            self.events += 1;
        }
    }

    fn list(&self, ask: &Ask, who: i64) -> Vec<i64> {
        let mut list: Vec<&Value> = self
            .tasks
            .values()
            .filter(|task| task["teamId"] == who || (task["teamId"] == TEAM && who != DORA))
            .filter(|task| ask.admits(task))
            .collect();
        list.sort_by(|a, b| ask.order(a, b));
        list.iter().map(|task| task["id"].as_i64().unwrap()).collect()
    }
}

#[derive(Debug)]
struct Ask {
    sort: &'static str,
    descending: bool,
    filter: (&'static str, String),
}

impl Ask {
    fn random(random: &mut Random) -> Ask {
        let filters = [
            ("", String::new()),
            ("teamId", TEAM.to_string()),
            ("status", random.pick(&["pending", "completed"]).to_owned()),
            ("assigneeId", random.pick(&["1", "2", "none"]).to_owned()),
            ("priority", random.pick(&PRIORITIES).to_owned()),
            ("tag", random.pick(&TAGS).to_owned()),
            ("q", random.pick(&["b", "WITH", "o", "zebra"]).to_owned()),
        ];
        let sorts = ["createdAt", "title", "priority", "dueDate"];
        Ask {
            sort: random.pick(&sorts),
            descending: random.below(2) == 0,
            filter: random.pick(&filters),
        }
    }

    fn query(&self) -> String {
        let minus = if self.descending { "-" } else { "" };
        let (name, value) = &self.filter;
        let filter = if name.is_empty() { String::new() } else { format!("&{name}={value}") };
        format!("sort={minus}{}{filter}", self.sort)
    }

    fn admits(&self, task: &Value) -> bool {
        let (name, value) = &self.filter;
        let folded = value.to_lowercase();
        let tags: Vec<String> = task["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag.as_str().unwrap().to_lowercase())
            .collect();
        match *name {
            "teamId" => task["teamId"] == TEAM,
            "status" => task["completed"] == (value == "completed"),
            "assigneeId" => {
                task["assigneeId"].as_i64().map_or("none".to_owned(), |id| id.to_string()) == *value
            }
            "priority" => task["priority"] == value.as_str(),
            "tag" => tags.contains(&folded),
            "q" => [&task["title"], &task["description"]]
                .iter()
                .filter_map(|text| text.as_str())
                .map(str::to_lowercase)
                .chain(tags)
                .any(|text| text.contains(&folded)),
            _ => true,
        }
    }

    fn order(&self, a: &Value, b: &Value) -> Ordering {
        let turned = |order: Ordering| if self.descending { order.reverse() } else { order };
        let rank = |task: &Value| match self.sort {
            "title" => json!(task["title"].as_str().unwrap().to_lowercase()).to_string(),
            "priority" => {
                PRIORITIES.iter().position(|p| task["priority"] == *p).unwrap().to_string()
            }
            "dueDate" => DUE_ORDER
                .iter()
                .position(|due| task["dueDate"] == *due)
                .map_or(String::new(), |n| n.to_string()),
            _ => String::new(),
        };
        let id = |task: &Value| task["id"].as_i64().unwrap();
        if self.sort == "dueDate" {
            let undated = a["dueDate"].is_null().cmp(&b["dueDate"].is_null());
            if undated != Ordering::Equal {
                return undated;
            }
        }
        turned(rank(a).cmp(&rank(b)).then(id(a).cmp(&id(b))))
    }
}

async fn step(house: &House, oracle: &mut Oracle, random: &mut Random) {
    let known: Vec<i64> = oracle.tasks.keys().copied().collect();
    let command = if known.is_empty() { 0 } else { random.below(10) };
    if command < 4 {
        let mut body = fields(random);
        body["title"] = json!(random.pick(&TITLES));
        body["teamId"] = json!(TEAM);
        body.as_object_mut().unwrap().remove("completed");
        if body["priority"].is_null() {
            body.as_object_mut().unwrap().remove("priority");
        }
        if body["assigneeId"].is_null() && random.below(4) == 0 {
            body["teamId"] = json!(ANNA);
        }
        let made = house.post(ANNA, "/tasks", body.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{body}: {made:?}");
        let empty = json!({"id": made.id(), "description": null, "priority": "MEDIUM", "tags": [],
            "dueDate": null, "assigneeId": null, "completed": false});
        oracle.tasks.insert(made.id(), empty);
        oracle.write(made.id(), &body);
        return;
    }
    let id = random.pick(&known);
    let path = format!("/tasks/{id}");
    if command < 7 {
        let mut body = fields(random);
        if oracle.tasks[&id]["teamId"] == ANNA {
            body.as_object_mut().unwrap().remove("assigneeId");
        }
        let answer = house.patch(ANNA, id, body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{body}: {answer:?}");
        oracle.write(id, &body);
    } else if command < 9 {
        let completed = random.below(2) == 0;
        let what = if completed { "complete" } else { "reopen" };
        house.act(ANNA, Method::POST, format!("{path}/{what}")).await;
        oracle.write(id, &json!({"completed": completed}));
    } else {
        let gone = house.act(ANNA, Method::DELETE, path).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
        oracle.tasks.remove(&id);
        oracle.events += 1;
    }
}

async fn walk(house: &House, who: i64, ask: &Ask, limit: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/tasks?{}&limit={limit}{cursor}", ask.query());
        let page = house.get(who, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {page:?}");
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        ids.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn random_commands_leave_what_a_plain_mind_expects() {
    for seed in 0..6 {
        let house = House::new();
        let mut oracle = Oracle::default();
        let mut random = Random::new(seed);
        for n in 0..120 {
            step(&house, &mut oracle, &mut random).await;
            house.pass_ms(7);
            if n % 8 != 0 {
                continue;
            }
            for _ in 0..6 {
                let ask = Ask::random(&mut random);
                let who = random.pick(&[ANNA, BERT, CORA]);
                let found = walk(&house, who, &ask, 1 + random.below(12)).await;
                assert_eq!(found, oracle.list(&ask, who), "seed {seed}, step {n}, {who}: {ask:?}");
            }
        }
        assert_eq!(house.events(), oracle.events, "seed {seed}");
        for (id, task) in &oracle.tasks {
            let shown = house.get(ANNA, &format!("/tasks/{id}")).await.body;
            for (name, value) in task.as_object().unwrap() {
                assert_eq!(&shown[name], value, "seed {seed}, task {id}, {name}");
            }
        }
    }
}
