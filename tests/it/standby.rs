//! Two processes of one service: one is active, the other takes over.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use reqwest::{Client, Method};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Answer, Appliance, Person, answer, eventually, free_port, now, program};

/// `ottla worker task` beside an appliance.
struct Worker {
    http: u16,
    child: Child,
    client: Client,
    _data_dir: TempDir,
}

impl Worker {
    fn start(app: &Appliance) -> Self {
        let (data_dir, http) = (TempDir::new().unwrap(), free_port());
        let key = app.data_dir().join("service.key");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let child = program()
            .args(["worker", "task", "--sasl", "--brokers", &app.brokers()])
            .args(["--auth-url", &app.url("/api"), "--http", &format!("127.0.0.1:{http}")])
            .args(["--data-dir", &text(data_dir.path()), "--service-key", &text(&key)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { http, child, client: Client::new(), _data_dir: data_dir }
    }

    async fn is_ready(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/readyz", self.http);
        let answer = self.client.get(url).timeout(Duration::from_secs(1)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn ask(
        &self,
        person: &Person,
        method: Method,
        path: &str,
        body: serde_json::Value,
    ) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        answer(self.client.request(method, url).bearer_auth(&person.token).json(&body)).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn a_standby_takes_over_within_ten_seconds_and_no_late_write_lands() {
    let app = Appliance::setup().env("OTTLA__SERVICES__TASK__ENABLED", "false").start().await;
    let anna = app.person("anna").await;
    let team = app.personal_team(&anna).await;
    let new = |title: &str| json!({"title": title, "teamId": team});

    let first = Worker::start(&app);
    eventually("the first worker", async || first.is_ready().await.then_some(())).await;
    let before = first.ask(&anna, Method::POST, "/tasks", new("Before")).await;
    assert_eq!(before.status, 201, "{before:?}");
    let second = Worker::start(&app);

    first.signal(Signal::STOP);
    let stopped = now();
    let late = first.ask(&anna, Method::POST, "/tasks", new("Late"));
    let take_over = async {
        eventually("the standby", async || second.is_ready().await.then_some(())).await;
        let took = stopped.elapsed();
        assert!(took < Duration::from_secs(10), "took over after {took:?}");
        let during = second.ask(&anna, Method::POST, "/tasks", new("During")).await;
        assert_eq!(during.status, 201, "{during:?}");
        first.signal(Signal::CONT);
    };
    let (late, ()) = tokio::join!(late, take_over);
    assert_eq!(late.status, 503, "{late:?}");

    let tasks = second.ask(&anna, Method::GET, "/tasks", json!(null)).await;
    let mut titles: Vec<&str> = tasks.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["title"].as_str().unwrap())
        .collect();
    titles.sort_unstable();
    assert_eq!(titles, ["Before", "During"]);
}
