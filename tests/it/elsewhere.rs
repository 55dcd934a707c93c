//! The services in one process and the broker in another.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Appliance, answer, eventually, now};
use crate::world::{World, created, id};

/// A process with a broker alone, and one with the services alone that use it.
async fn apart() -> (Appliance, Appliance) {
    let broker = Appliance::setup()
        .env("OTTLA__SERVICES__AUTH__ENABLED", "false")
        .env("OTTLA__SERVICES__TASK__ENABLED", "false")
        .env("OTTLA__SERVICES__NOTIFICATION__ENABLED", "false")
        .start()
        .await;
    let key = broker.data_dir().join("service.key");
    let services = Appliance::setup()
        .env("KAFKA_BROKERS", &broker.brokers())
        .env("OTTLA__SERVICES__SASL", "true")
        .env("OTTLA__SERVICES__KEY_FILE", key.to_str().unwrap())
        // The broker goes away in these tests, and whoever notices may say so.
        .expect_log("")
        .start()
        .await;
    (broker, services)
}

#[tokio::test]
async fn the_services_work_with_a_broker_in_another_process() {
    let (_broker, services) = apart().await;
    let world = World::new(&services).await;
    let task = services.get(&world.people[0], &format!("/tasks/{}", world.tasks[0])).await;
    assert_eq!(task.body["completed"], true, "{task:?}");
}

#[tokio::test]
async fn without_the_broker_reads_answer_and_writes_are_refused_within_five_seconds() {
    let (mut broker, services) = apart().await;
    let world = World::new(&services).await;
    let anna = &world.people[0];
    broker.kill();

    let tasks = services.get(anna, "/tasks").await;
    assert_eq!(tasks.status, 200, "{tasks:?}");
    let writes = [
        ("/tasks", json!({"title": "Never", "teamId": world.team})),
        (
            "/auth/register",
            json!({"username": "carl", "email": "carl@example.com", "password": "pass"}),
        ),
        ("/auth/login", json!({"login": "anna", "password": "pass"})),
    ];
    for (path, body) in writes {
        let began = now();
        let refused =
            answer(services.request(Method::POST, path).bearer_auth(&anna.token).json(&body)).await;
        assert_eq!(refused.status, 503, "{path} {refused:?}");
        assert!(refused.body["error"]["code"].is_string(), "{refused:?}");
        assert!(began.elapsed() < Duration::from_secs(6), "{path} took {:?}", began.elapsed());
    }

    broker.restart().await;
    let task = eventually("a write to succeed again", async || {
        let body = json!({"title": "Afterwards", "teamId": world.team});
        let answer = services.post(anna, "/tasks", body).await;
        (answer.status == 201).then(|| id(&created(answer)))
    })
    .await;
    let read = services.get(anna, &format!("/tasks/{task}")).await;
    assert_eq!(read.body["title"], "Afterwards");
}
