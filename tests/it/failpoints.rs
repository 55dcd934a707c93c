//! The process ends at chosen places of a commit; afterwards the API, the topics and the mailbox tell the same story.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Appliance, Person, eventually, records};

/// Passings of each place before the process ends: during registration, the first tasks and later ones.
const PASSINGS: [u32; 3] = [4, 9, 17];
/// Far more tasks than passings: the process ends long before.
const TASKS: usize = 200;

#[tokio::test]
async fn api_topics_and_mailbox_agree_after_a_crash_around_produce() {
    crash_at("produce").await;
}

#[tokio::test]
async fn api_topics_and_mailbox_agree_after_a_crash_around_commit() {
    crash_at("commit").await;
}

#[tokio::test]
async fn api_topics_and_mailbox_agree_after_a_crash_around_view() {
    crash_at("view").await;
}

#[tokio::test]
async fn api_topics_and_mailbox_agree_after_a_crash_around_answer() {
    crash_at("answer").await;
}

async fn crash_at(place: &str) {
    let mut ottla = Appliance::setup().start().await;
    let anna = ottla.person("anna").await;
    let team = ottla.personal_team(&anna).await;
    let mut acknowledged = BTreeSet::new();
    for passing in PASSINGS {
        ottla.kill();
        ottla.set_env("OTTLA_FAILPOINTS", Some(&format!("{place}=kill@{passing}")));
        ottla.launch();
        // What earlier mails still have to become may bring it to the place before anything else does.
        if ottla.wait_ready_or_ended().await {
            acknowledged.extend(create_until_it_ends(&ottla, &anna, team).await);
        }
        ottla.wait_dead().await;
        ottla.set_env("OTTLA_FAILPOINTS", None);
        ottla.restart().await;
        let known = tasks(&ottla, &anna).await;
        assert!(acknowledged.is_subset(&known), "{place}@{passing}: an acknowledged task is lost");
        let brokers = ottla.brokers();
        let told =
            tokio::task::spawn_blocking(move || records(&brokers, "task.created")).await.unwrap();
        let ids: Vec<i64> =
            told.iter().map(|(_, event)| event["taskId"].as_i64().unwrap()).collect();
        assert_eq!(
            ids.len(),
            ids.iter().collect::<BTreeSet<_>>().len(),
            "{place}@{passing}: told twice"
        );
        assert_eq!(
            ids.into_iter().collect::<BTreeSet<_>>(),
            known,
            "{place}@{passing}: API and topic differ"
        );
    }
    let expected = tasks(&ottla, &anna).await.len();
    let mails = eventually("a mail for every task", async || {
        let mails = mails(&ottla, &anna).await;
        (mails.len() >= expected).then_some(mails)
    })
    .await;
    let distinct: BTreeSet<String> = mails.iter().map(Value::to_string).collect();
    assert_eq!(distinct.len(), expected, "{place}: a mail too many");
}

/// Creates tasks one after the other until nobody answers; the ids of those that were answered with success.
async fn create_until_it_ends(ottla: &Appliance, person: &Person, team: i64) -> BTreeSet<i64> {
    let mut acknowledged = BTreeSet::new();
    for number in 0..TASKS {
        let body = json!({"title": format!("task {number}"), "teamId": team});
        let request = ottla.request(Method::POST, "/tasks").bearer_auth(&person.token).json(&body);
        let Ok(response) = request.send().await else { return acknowledged };
        let status = response.status().as_u16();
        let Ok(body) = response.json::<Value>().await else { return acknowledged };
        assert_eq!(status, 201, "{body}");
        acknowledged.insert(body["id"].as_i64().unwrap());
    }
    panic!("the process did not end at its failpoint");
}

async fn tasks(ottla: &Appliance, person: &Person) -> BTreeSet<i64> {
    let found = ottla.get(person, "/tasks?limit=200").await;
    assert_eq!(found.status, 200, "{found:?}");
    found.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_i64().unwrap())
        .collect()
}

/// What went out about created tasks: who was told, of which event.
async fn mails(ottla: &Appliance, person: &Person) -> Vec<Value> {
    let mut mails = Vec::new();
    let mut path = "/notifications/outbox?limit=200".to_owned();
    loop {
        let found = ottla.get(person, &path).await;
        assert_eq!(found.status, 200, "{found:?}");
        let items = found.body["items"].as_array().unwrap();
        let about_tasks = items.iter().filter(|mail| mail["eventType"] == "task.created");
        mails.extend(about_tasks.map(|mail| json!([mail["userId"], mail["eventId"]])));
        match found.body["nextCursor"].as_str() {
            Some(cursor) => path = format!("/notifications/outbox?limit=200&cursor={cursor}"),
            None => return mails,
        }
    }
}
