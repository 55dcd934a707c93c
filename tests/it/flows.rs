//! What people do with the appliance, from outside.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::json;

use crate::harness::{Appliance, answer, eventually, free_port, records, repository_file};
use crate::world::{World, new_task, ok};

/// The n-th `sh` block below a heading of the README, counted from 1.
fn readme_block(heading: &str, wanted: usize) -> String {
    let mut readme = String::new();
    repository_file("README.md").read_to_string(&mut readme).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section.split("```sh\n").nth(wanted).unwrap().split("```").next().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_minute_of_the_readme_works_as_it_is_pasted() {
    assert_eq!(readme_block("First minute", 1), "cargo run --release\n");
    let auth_port = free_port();
    let mut app =
        Appliance::setup().env("OTTLA__SERVICES__AUTH__PORT", &auth_port.to_string()).start().await;
    let program = env!("CARGO_BIN_EXE_ottla-under-test");
    let pasted = readme_block("First minute", 2)
        .replace("http://127.0.0.1:8080", &app.url(""))
        .replace("http://localhost:8084", &format!("http://localhost:{auth_port}"))
        .replace(
            "./target/release/ottla consume",
            &format!("{program} consume --brokers {}", app.brokers()),
        )
        .replace(
            "./target/release/ottla groups",
            &format!("{program} groups --brokers {}", app.brokers()),
        )
        .replace("ottla-data", app.data_dir().to_str().unwrap());
    let output = Command::new("timeout")
        .args(["60", "bash", "-e", "-c", &pasted])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{error}");
    assert!(text.contains("\"eventType\":\"user.created\""), "{text}");
    assert!(text.contains("\"completed\":true"), "{text}");
    assert!(text.contains(".eml"), "{text}");
    assert!(text.contains("LOG-END-OFFSET"), "{text}");
    let (status, took) = app.stop().await;
    assert!(status.success());
    assert!(took.as_millis() < 1000, "stopped after {took:?}");
}

#[tokio::test]
async fn of_100_concurrent_registrations_of_one_email_one_succeeds() {
    let app = Appliance::start().await;
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..100 {
        let body = json!({"username": format!("user{number}"), "email": "one@example.com", "password": "pass"});
        attempts.spawn(answer(app.request(Method::POST, "/auth/register").json(&body)));
    }
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in attempts.join_all().await {
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(201, 1), (409, 99)]));
    assert_eq!(records(&app.brokers(), "user.created").len(), 1);
}

#[tokio::test]
async fn of_50_concurrent_changes_with_one_etag_one_succeeds() {
    let app = Appliance::start().await;
    let anna = app.person("anna").await;
    let team = app.personal_team(&anna).await;
    let task = new_task(&app, &anna, team, "Water the plants").await;
    let path = format!("/tasks/{task}");
    let etag = app.get(&anna, &path).await.headers["etag"].to_str().unwrap().to_owned();
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..50 {
        let request = app
            .request(Method::PATCH, &path)
            .bearer_auth(&anna.token)
            .header("If-Match", &etag)
            .json(&json!({"title": format!("Title {number}")}));
        attempts.spawn(answer(request));
    }
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in attempts.join_all().await {
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, 1), (412, 49)]));
    let titles = records(&app.brokers(), "task.updated");
    assert_eq!(titles.len(), 1, "{titles:?}");
    let title = ok(app.get(&anna, &path).await)["title"].clone();
    assert_eq!(titles[0].1["payload"]["title"], title);
}

#[tokio::test]
async fn readiness_names_every_part_and_the_api_describes_itself() {
    let app = Appliance::start().await;
    let ready = answer(app.client.get(app.url("/readyz?verbose"))).await;
    let parts = ready.body["parts"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["broker", "auth", "task", "notification"]);
    assert!(parts.iter().all(|part| part["ready"] == true), "{parts:?}");
    assert_eq!(answer(app.client.get(app.url("/livez"))).await.status, 200);

    let openapi = answer(app.client.get(app.url("/api/openapi.json"))).await;
    for path in [
        "/auth/register",
        "/auth/login",
        "/teams",
        "/tasks",
        "/tasks/{id}/complete",
        "/notifications",
    ] {
        assert!(openapi.body["paths"].get(path).is_some(), "{path} is not described");
    }
    let nothing = answer(app.client.get(app.url("/api/nothing"))).await;
    assert_eq!(nothing.status, 404);
    assert_eq!(nothing.body["error"]["code"], "not_found");
}

#[tokio::test]
async fn the_metrics_tell_of_the_broker_and_name_nobody() {
    let app = Appliance::start().await;
    let anna = app.person("anna").await;
    let answer = app.client.get(app.url("/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    for name in [
        "ottla_journal_cycles_total",
        "ottla_journal_bytes_total",
        "ottla_journal_sync_seconds_total",
        "ottla_journal_segments",
        "ottla_connections_open",
        "ottla_connections_accepted_total",
        "ottla_received_bytes_total",
        "ottla_sent_bytes_total",
        "ottla_process_resident_bytes",
        "ottla_process_cpu_seconds_total",
        "ottla_process_open_files",
    ] {
        assert!(value(name) > 0.0, "{name}");
    }
    assert!(value("ottla_cleaner_behind") == 0.0 && value("ottla_produce_refused") == 0.0);
    assert!(!text.contains("task") && !text.contains("__") && !text.contains(&anna.email));
}

#[tokio::test]
async fn a_service_answers_on_its_own_port_without_api_in_its_paths() {
    let port = free_port();
    let app =
        Appliance::setup().env("OTTLA__SERVICES__TASK__PORT", &port.to_string()).start().await;
    let anna = app.person("anna").await;
    let own = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(answer(app.client.get(own("/readyz"))).await.status, 200);
    assert_eq!(answer(app.client.get(own("/healthz"))).await.status, 200);
    let tasks = answer(app.client.get(own("/tasks")).bearer_auth(&anna.token)).await;
    assert_eq!(tasks.status, 200, "{tasks:?}");
    assert_eq!(answer(app.client.get(own("/auth/me")).bearer_auth(&anna.token)).await.status, 404);
}

#[tokio::test]
async fn a_port_of_a_service_that_is_taken_is_a_warning() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut app = Appliance::setup()
        .env("OTTLA__SERVICES__TASK__PORT", &port)
        .expect_log("is taken")
        .start()
        .await;
    assert!(app.log_lines().iter().any(|line| line.contains("is taken")));
    app.stop().await;
}

#[tokio::test]
async fn what_the_api_says_is_the_same_after_a_kill() {
    let mut app = Appliance::start().await;
    let world = World::new(&app).await;
    settled(&app, &world).await;
    let before = world.dump(&app).await;
    for _ in 0..3 {
        app.kill();
        app.restart().await;
        assert_eq!(world.dump(&app).await, before);
    }
}

#[tokio::test]
async fn what_the_api_says_is_the_same_without_any_of_the_maps() {
    let mut app = Appliance::start().await;
    let world = World::new(&app).await;
    settled(&app, &world).await;
    let before = world.dump(&app).await;
    for map in ["map", "services/auth/view", "services/task/view", "services/notification/view"] {
        app.stop().await;
        crate::harness::remove(&app.data_dir().join(map));
        app.restart().await;
        assert_eq!(world.dump(&app).await, before, "{map} was deleted");
    }
}

/// Waits until the notification service has worked off all events and mails.
async fn settled(app: &Appliance, world: &World) {
    let anna = &world.people[0];
    eventually("all mails to be written", async || {
        let completed = app.get(anna, "/notifications?limit=100").await;
        let outbox = app.get(anna, "/notifications/outbox?limit=100").await;
        let pending = outbox.body["items"]
            .as_array()?
            .iter()
            .any(|mail| mail["status"] == "pending" || mail["status"] == "sending");
        let lag =
            crate::harness::run(&["groups", "notification-service", "--brokers", &app.brokers()]).1;
        let behind =
            lag.lines().filter(|line| line.starts_with("task.") || line.starts_with("user."));
        let behind = behind.filter(|line| !line.ends_with(" 0")).count();
        (completed.status == 200 && !pending && behind == 0 && lag.contains("task.completed"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deleted_task_is_gone_and_its_deletion_published() {
    let app = Appliance::start().await;
    let anna = app.person("anna").await;
    let team = app.personal_team(&anna).await;
    let task = new_task(&app, &anna, team, "Water the plants").await;
    let path = format!("/tasks/{task}");
    assert_eq!(app.delete(&anna, &path).await.status, 204);
    assert_eq!(app.get(&anna, &path).await.status, 404);
    let deleted = records(&app.brokers(), "task.deleted");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].1["taskId"], task);
}
