//! What the worker does with the records of teams.

use super::{ANNA, BERT, CORA, DORA, House, TEAM};
use crate::{
    api::{Api, assignment::Assignment, router},
    worker::Teams,
};
use axum::http::{HeaderMap, StatusCode};
use events::{
    Meta, Publish,
    team::{TeamDeleted, TeamLeft},
};
use jiff::Timestamp;
use kit::{
    Tx,
    identity::{Answer, Identity, People, Person, Role, TeamMember},
    testing::FakePeople,
    worker::{Handler, Record, Trouble},
};
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc};

impl House {
    fn worker(&self) -> Teams {
        Teams::new(self.testing.commit.clone(), Arc::new(self.people.clone()))
    }

    /// As if auth had deleted the team.
    fn dissolve(&self) {
        for person in [ANNA, BERT, CORA] {
            self.people.leave(TEAM, person);
        }
    }

    /// As the worker consumes a record of `event`.
    async fn consume(&self, event: impl Publish) {
        let teams = self.worker();
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

/// Auth when it identified people, and afterwards.
#[derive(Debug)]
struct Changing {
    before: FakePeople,
    after: FakePeople,
}

impl People for Changing {
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> Answer<'a, Identity> {
        self.before.identify(headers)
    }

    fn person(&self, id: i64) -> Answer<'_, Option<Person>> {
        self.after.person(id)
    }

    fn members(&self, team: i64) -> Answer<'_, Vec<TeamMember>> {
        self.after.members(team)
    }
}

#[tokio::test]
async fn a_deleted_team_takes_its_tasks_with_it_and_gets_no_new_ones() {
    let mut house = House::new();
    let (first, second) = (house.task("A").await, house.task("B").await);
    house.post(ANNA, "/tasks", json!({"title": "mine"})).await;
    let event = || TeamDeleted { team_id: TEAM, user_id: BERT };
    house.dissolve();
    house.consume(event()).await;
    let events = house.events_after(3);
    assert_eq!(events.len(), 2);
    for ((topic, event), id) in events.iter().zip([first, second]) {
        assert_eq!((topic.as_str(), &event["taskId"]), ("task.deleted", &json!(id)));
        assert_eq!(event["actorId"], BERT);
    }
    house.consume(event()).await;
    assert_eq!(house.events(), 5);
    let rest = house.get(ANNA, "/tasks").await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1);
    let people = Changing { before: House::new().people, after: house.people.clone() };
    house.router = router(house.testing.commit.clone(), Arc::new(people)).split_for_parts().0;
    let late = house.post(ANNA, "/tasks", json!({"title": "late", "teamId": TEAM})).await;
    assert_eq!((late.status, late.field()), (StatusCode::NOT_FOUND, "teamId"));
}

#[tokio::test]
async fn what_auth_does_not_confirm_changes_nothing() {
    let house = House::new();
    let body = json!({"title": "A", "teamId": TEAM, "assigneeId": BERT});
    let task = house.post(ANNA, "/tasks", body).await;
    house.consume(TeamDeleted { team_id: TEAM, user_id: DORA }).await;
    house.consume(TeamLeft { team_id: TEAM, user_id: BERT, removed_by: DORA }).await;
    assert_eq!(house.events(), 1);
    assert_eq!(house.get(ANNA, &format!("/tasks/{}", task.id())).await.body, task.body);
    house.task("B").await;
    house.people.set_unreachable(true);
    let deleted = record(TeamDeleted { team_id: TEAM, user_id: DORA });
    let prepared = house.worker().prepare(&deleted).await;
    assert!(matches!(prepared, Err(Trouble::Retry(_))), "{prepared:?}");
}

#[tokio::test]
async fn a_team_whose_end_was_told_before_its_beginning_has_tasks() {
    let house = House::new();
    house.consume(TeamDeleted { team_id: 77, user_id: DORA }).await;
    drop(house.people.clone().with_team(77, &[(ANNA, Role::Owner)]));
    let made = house.post(ANNA, "/tasks", json!({"title": "A", "teamId": 77})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
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
    house.people.leave(TEAM, BERT);
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
    let assignment = Assignment::ask(&api, Some(TEAM), Some(BERT)).await.unwrap();
    let check = move |tx: &mut Tx<'_>| Ok::<_, Infallible>(assignment.check(tx).is_ok());
    assert_eq!(house.testing.commit.run(check).await, Ok(true));
    house.people.leave(TEAM, BERT);
    house.consume(TeamLeft { team_id: TEAM, user_id: BERT, removed_by: BERT }).await;
    assert_eq!(house.testing.commit.run(check).await, Ok(false));
    drop(house.people.clone().with_team(TEAM, &[(BERT, Role::Member)]));
    let again = Assignment::ask(&api, Some(TEAM), Some(BERT)).await.unwrap();
    let check = move |tx: &mut Tx<'_>| Ok::<_, Infallible>(again.check(tx).is_ok());
    assert_eq!(house.testing.commit.run(check).await, Ok(true));
}

#[tokio::test]
async fn nobody_is_assigned_to_a_task_that_came_while_it_was_being_changed() {
    let house = House::new();
    let api = Api { commit: house.testing.commit.clone(), people: Arc::new(house.people.clone()) };
    for (person, allowed) in [(Some(BERT), false), (None, true)] {
        let assignment = Assignment::ask(&api, None, person).await.unwrap();
        let check = move |tx: &mut Tx<'_>| Ok::<_, Infallible>(assignment.check(tx).is_ok());
        assert_eq!(house.testing.commit.run(check).await, Ok(allowed));
    }
    let missing = house.patch(ANNA, 99, json!({"assigneeId": DORA})).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_large_team_is_deleted_in_portions_each_task_once() {
    let house = House::new();
    for n in 0..250 {
        house.task(&format!("task {n}")).await;
    }
    house.dissolve();
    house.consume(TeamDeleted { team_id: TEAM, user_id: ANNA }).await;
    let events = house.events_after(250);
    let mut ids: Vec<_> = events.iter().map(|event| event.1["taskId"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=250).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_event_of_a_team_is_poison() {
    let house = House::new();
    let teams = house.worker();
    for (topic, value) in [("team.left", "{}"), ("team.deleted", "no JSON"), ("other", "{}")] {
        let mut record = record(TeamDeleted { team_id: TEAM, user_id: ANNA });
        record.topic = topic.to_owned();
        record.value = Some(value.as_bytes().to_vec());
        let poison = teams.prepare(&record).await;
        assert!(matches!(poison, Err(Trouble::Poison(_))), "{topic} {value}");
    }
}
