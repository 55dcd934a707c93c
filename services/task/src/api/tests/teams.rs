//! What the worker does with the records of teams.

use super::{ANNA, BERT, House, TEAM};
use crate::{
    api::{Api, assignment::Assignment},
    worker::Teams,
};
use axum::http::StatusCode;
use events::{
    Meta, Publish,
    team::{TeamDeleted, TeamLeft},
};
use jiff::Timestamp;
use kit::{
    Tx,
    worker::{Handler, Record, Trouble},
};
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc};

impl House {
    /// As the worker consumes a record of `event`.
    async fn consume(&self, event: impl Publish) {
        let teams = Teams::new(self.testing.commit.clone());
        let record = record(event);
        let sweep = teams.prepare(&record).await.unwrap();
        let apply = move |tx: &mut Tx<'_>| {
            teams.apply(tx, &record, &sweep);
            Ok::<(), Infallible>(())
        };
        self.testing.commit.run(apply).await.unwrap();
    }
}

fn record(event: impl Publish) -> Record {
    let meta = Meta {
        event_id: String::new(),
        at: Timestamp::UNIX_EPOCH,
        correlation_id: String::new(),
        traceparent: String::new(),
    };
    let event = event.into_event(&meta);
    Record {
        topic: event.topic.to_owned(),
        partition: 0,
        offset: 0,
        key: Some(event.key.into_bytes()),
        value: Some(event.value),
        headers: vec![],
    }
}

#[tokio::test]
async fn a_deleted_team_takes_its_tasks_with_it_and_gets_no_new_ones() {
    let house = House::new();
    let (first, second) = (house.task("A").await, house.task("B").await);
    house.post(ANNA, "/tasks", json!({"title": "mine"})).await;
    let event = || TeamDeleted { team_id: TEAM, user_id: BERT };
    house.consume(event()).await;
    let events = house.events_after(3);
    assert_eq!(events.len(), 2);
    for ((topic, event), id) in events.iter().zip([first, second]) {
        assert_eq!((topic.as_str(), &event["taskId"]), ("task.deleted", &json!(id)));
        assert_eq!(event["actorId"], BERT);
    }
    house.consume(event()).await;
    assert_eq!(house.events(), 5);
    let late = house.post(ANNA, "/tasks", json!({"title": "late", "teamId": TEAM})).await;
    assert_eq!((late.status, late.field()), (StatusCode::NOT_FOUND, "teamId"));
    let rest = house.get(ANNA, "/tasks").await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_leaves_a_team_is_no_longer_assigned_in_it() {
    let house = House::new();
    let body = json!({"title": "A", "teamId": TEAM, "assigneeId": BERT});
    let theirs = house.post(ANNA, "/tasks", body).await.id();
    let other = house
        .post(ANNA, "/tasks", json!({"title": "B", "teamId": TEAM, "assigneeId": ANNA}))
        .await
        .id();
    let own = house.post(BERT, "/tasks", json!({"title": "C", "assigneeId": BERT})).await.id();
    let left = TeamLeft { team_id: TEAM, user_id: BERT, removed_by: ANNA };
    house.consume(left).await;
    let events = house.events_after(3);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].0.as_str(), &events[0].1["taskId"]), ("task.updated", &json!(theirs)));
    assert_eq!(house.get(ANNA, &format!("/tasks/{theirs}")).await.body["assigneeId"], Value::Null);
    assert_eq!(house.get(ANNA, &format!("/tasks/{other}")).await.body["assigneeId"], ANNA);
    assert_eq!(house.get(BERT, &format!("/tasks/{own}")).await.body["assigneeId"], BERT);
}

#[tokio::test]
async fn who_left_while_auth_was_asked_is_not_assigned() {
    let house = House::new();
    let api = Api { commit: house.testing.commit.clone(), people: Arc::new(house.people.clone()) };
    let assignment = Assignment::ask(&api, TEAM, Some(BERT)).await.unwrap();
    let check = move |tx: &mut Tx<'_>| Ok::<_, Infallible>(assignment.check(tx).is_ok());
    assert_eq!(house.testing.commit.run(check).await, Ok(true));
    house.consume(TeamLeft { team_id: TEAM, user_id: BERT, removed_by: BERT }).await;
    assert_eq!(house.testing.commit.run(check).await, Ok(false));
    let again = Assignment::ask(&api, TEAM, Some(BERT)).await.unwrap();
    let check = move |tx: &mut Tx<'_>| Ok::<_, Infallible>(again.check(tx).is_ok());
    assert_eq!(house.testing.commit.run(check).await, Ok(true));
}

#[tokio::test]
async fn a_large_team_is_deleted_in_portions_each_task_once() {
    let house = House::new();
    for n in 0..250 {
        house.task(&format!("task {n}")).await;
    }
    house.consume(TeamDeleted { team_id: TEAM, user_id: ANNA }).await;
    let events = house.events_after(250);
    let mut ids: Vec<_> = events.iter().map(|event| event.1["taskId"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=250).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_event_of_a_team_is_poison() {
    let house = House::new();
    let teams = Teams::new(house.testing.commit.clone());
    for (topic, value) in [("team.left", "{}"), ("team.deleted", "no JSON"), ("other", "{}")] {
        let mut record = record(TeamDeleted { team_id: TEAM, user_id: ANNA });
        record.topic = topic.to_owned();
        record.value = Some(value.as_bytes().to_vec());
        let poison = teams.prepare(&record).await;
        assert!(matches!(poison, Err(Trouble::Poison(_))), "{topic} {value}");
    }
}
