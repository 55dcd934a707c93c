//! The HTTP loads: tasks created by one and by many clients, and log-ins at once.

use std::{io, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::time::{Latencies, Stopwatch};

/// How long the services may take to become ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "a password for the bench";

/// A person who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    client: reqwest::Client,
    http: Arc<str>,
    token: Arc<str>,
}

impl Session {
    /// Waits for `/readyz`, registers a person and logs in.
    pub(crate) fn open(runtime: &Runtime, http: &str) -> io::Result<Self> {
        runtime.block_on(async {
            let client = reqwest::Client::new();
            let started = Stopwatch::start();
            loop {
                let answer = client.get(format!("{http}/readyz")).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if started.elapsed() > READY_DEADLINE {
                    return Err(io::Error::other("the services did not become ready"));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let person =
                json!({"username": "bench", "email": "bench@example.com", "password": PASSWORD});
            post(&client, &format!("{http}/api/auth/register"), None, &person).await?;
            let token = login(&client, http).await?;
            Ok(Self { client, http: http.into(), token: token.into() })
        })
    }

    /// `clients` people create `each` tasks at the same time; one after the other per person.
    pub(crate) fn create_tasks(
        &self,
        runtime: &Runtime,
        clients: usize,
        each: usize,
    ) -> io::Result<Latencies> {
        runtime.block_on(async {
            let mut people = JoinSet::new();
            for _ in 0..clients {
                let session = self.clone();
                people.spawn(async move { session.create(each).await });
            }
            let mut all = Latencies::default();
            while let Some(result) = people.join_next().await {
                all.extend(result.map_err(io::Error::other)??);
            }
            Ok(all)
        })
    }

    /// `count` log-ins at the same time.
    pub(crate) fn log_in_at_once(&self, runtime: &Runtime, count: usize) -> io::Result<()> {
        runtime.block_on(async {
            let mut people = JoinSet::new();
            for _ in 0..count {
                let (client, http) = (self.client.clone(), Arc::clone(&self.http));
                people.spawn(async move { login(&client, &http).await });
            }
            while let Some(result) = people.join_next().await {
                result.map_err(io::Error::other)??;
            }
            Ok(())
        })
    }

    async fn create(self, tasks: usize) -> io::Result<Latencies> {
        let url = format!("{}/api/tasks", self.http);
        let mut latencies = Latencies::default();
        for number in 0..tasks {
            let started = Stopwatch::start();
            post(
                &self.client,
                &url,
                Some(&self.token),
                &json!({"title": format!("task {number}")}),
            )
            .await?;
            latencies.push(started.elapsed());
        }
        Ok(latencies)
    }
}

async fn login(client: &reqwest::Client, http: &str) -> io::Result<String> {
    let answer = post(
        client,
        &format!("{http}/api/auth/login"),
        None,
        &json!({"login": "bench", "password": PASSWORD}),
    )
    .await?;
    answer
        .get("token")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("the log-in's answer holds no token"))
}

async fn post(
    client: &reqwest::Client,
    url: &str,
    token: Option<&str>,
    body: &Value,
) -> io::Result<Value> {
    let mut request = client.post(url).json(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(io::Error::other)?;
    let status = response.status();
    let text = response.text().await.map_err(io::Error::other)?;
    if !status.is_success() {
        return Err(io::Error::other(format!("POST {url}: {status} {text}")));
    }
    serde_json::from_str(&text).map_err(io::Error::other)
}
