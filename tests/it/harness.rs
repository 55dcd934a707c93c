//! Starts the program as a process of its own and talks to it as its users do.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// WARN and ERROR lines that are part of what a test does; every other one fails it.
const EXPECTED: &[&str] = &[];

/// An appliance that runs, or was killed and can be started again on the same data.
pub(crate) struct Appliance {
    pub(crate) kafka: u16,
    pub(crate) http: u16,
    /// The port of the listener with TLS, if there is one.
    ssl: Option<u16>,
    pub(crate) client: Client,
    directory: TempDir,
    environment: Vec<(String, String)>,
    expected: Vec<&'static str>,
    child: Option<Child>,
}

/// Settings of one appliance before its first start.
pub(crate) struct Setup {
    appliance: Appliance,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: i64,
    pub(crate) token: String,
    pub(crate) email: String,
}

/// A status and the JSON that came with it; `Null` if none did.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Setup {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.appliance.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A WARN or ERROR line that holds this text is part of the test.
    pub(crate) fn expect_log(mut self, text: &'static str) -> Self {
        self.appliance.expected.push(text);
        self
    }

    /// A listener with TLS on this port.
    pub(crate) fn ssl(mut self, port: u16) -> Self {
        self.appliance.ssl = Some(port);
        self
    }

    pub(crate) async fn start(mut self) -> Appliance {
        self.appliance.launch();
        self.appliance.wait_ready().await;
        self.appliance
    }
}

impl Appliance {
    /// An empty appliance that is ready.
    pub(crate) async fn start() -> Self {
        Self::setup().start().await
    }

    pub(crate) fn setup() -> Setup {
        let appliance = Self {
            kafka: free_port(),
            http: free_port(),
            ssl: None,
            client: Client::builder().timeout(DEADLINE).build().unwrap(),
            directory: TempDir::new().unwrap(),
            environment: Vec::new(),
            expected: EXPECTED.to_vec(),
            child: None,
        };
        Setup { appliance }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.kafka)
    }

    /// The process's id, for signals and measurements.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Starts the process without waiting for it.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let ssl = self.ssl.map(|port| format!(",SSL://127.0.0.1:{port}")).unwrap_or_default();
        let mut command = program();
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--kafka", &(self.brokers() + &ssl)])
            .args(["--http", &format!("127.0.0.1:{}", self.http)])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) async fn wait_ready(&mut self) {
        assert!(self.wait_ready_or_ended().await, "ended before it was ready\n{}", self.tail());
    }

    /// Whether it became ready before it ended by itself.
    pub(crate) async fn wait_ready_or_ended(&mut self) -> bool {
        let started = now();
        loop {
            let answer = self.client.get(format!("{}/readyz", self.url(""))).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            assert!(started.elapsed() < DEADLINE, "not ready\n{}", self.tail());
            pause().await;
        }
    }

    /// SIGKILL: nothing of the process gets a last word.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Changes the environment of the next start; `None` takes a variable away.
    pub(crate) fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.environment.retain(|(set, _)| set != name);
        self.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn wait_dead(&mut self) {
        let mut child = self.child.take().unwrap();
        eventually("the process to end", async || child.try_wait().unwrap()).await;
    }

    /// SIGTERM, and how it ended; fails on a log that is not clean.
    pub(crate) async fn stop(&mut self) -> (ExitStatus, Duration) {
        self.signal(Signal::TERM);
        let started = now();
        let mut child = self.child.take().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                let took = started.elapsed();
                self.assert_log_is_clean();
                return (status, took);
            }
            assert!(started.elapsed() < DEADLINE, "does not stop\n{}", self.tail());
            pause().await;
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.launch();
        self.wait_ready().await;
    }

    /// Every line the process logged.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        std::fs::read_to_string(self.log()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    pub(crate) fn assert_log_is_clean(&self) {
        let dirty: Vec<String> = self
            .log_lines()
            .into_iter()
            .filter(|line| {
                let level = serde_json::from_str::<Value>(line).map(|line| line["level"].clone());
                !level.is_ok_and(|level| level != "WARN" && level != "ERROR")
            })
            .filter(|line| !self.expected.iter().any(|expected| line.contains(expected)))
            .collect();
        assert!(dirty.is_empty(), "unlisted lines in the log:\n{}", dirty.join("\n"));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// A request to a path below `/api`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(&format!("/api{path}")))
    }

    pub(crate) async fn get(&self, person: &Person, path: &str) -> Answer {
        answer(self.request(Method::GET, path).bearer_auth(&person.token)).await
    }

    pub(crate) async fn post(&self, person: &Person, path: &str, body: Value) -> Answer {
        answer(self.request(Method::POST, path).bearer_auth(&person.token).json(&body)).await
    }

    pub(crate) async fn patch(&self, person: &Person, path: &str, body: Value) -> Answer {
        answer(self.request(Method::PATCH, path).bearer_auth(&person.token).json(&body)).await
    }

    pub(crate) async fn delete(&self, person: &Person, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path).bearer_auth(&person.token)).await
    }

    /// Registers `name` and logs in.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let email = format!("{name}@example.com");
        let body = serde_json::json!({"username": name, "email": email, "password": "pass"});
        let registered = answer(self.request(Method::POST, "/auth/register").json(&body)).await;
        assert_eq!(registered.status, 201, "{registered:?}");
        self.log_in(name).await
    }

    pub(crate) async fn log_in(&self, name: &str) -> Person {
        let body = serde_json::json!({"login": name, "password": "pass"});
        let answer = answer(self.request(Method::POST, "/auth/login").json(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Person {
            id: answer.body["user"]["id"].as_i64().unwrap(),
            token: answer.body["token"].as_str().unwrap().to_owned(),
            email: answer.body["user"]["email"].as_str().unwrap().to_owned(),
        }
    }

    /// The id of the team that everyone has from registration on.
    pub(crate) async fn personal_team(&self, person: &Person) -> i64 {
        let teams = self.get(person, "/teams").await;
        assert_eq!(teams.status, 200, "{teams:?}");
        teams.body["items"][0]["id"].as_i64().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn tail(&self) -> String {
        let lines = self.log_lines();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            if !std::thread::panicking() {
                self.assert_log_is_clean();
            }
        }
        if std::thread::panicking() {
            eprintln!("the last lines of the log:\n{}", self.tail());
        }
    }
}

/// The program under test, without the environment of whoever runs the tests.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla-under-test"));
    for (name, _) in std::env::vars() {
        if name.starts_with("OTTLA") || name == "KAFKA_BROKERS" || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    for service in ["AUTH", "TASK", "NOTIFICATION"] {
        command.env(format!("OTTLA__SERVICES__{service}__PORT"), "0");
    }
    command.env("OTTLA__LOG__FORMAT", "json");
    command
}

/// Runs the program to its end and answers with exit code, standard output and standard error.
pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = program().args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
}

/// Asks until the answer is `Some`, for at most [`DEADLINE`].
pub(crate) async fn eventually<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut ask: F) -> T {
    let started = now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}");
        pause().await;
    }
}

/// A free port below those that the system gives to outgoing connections, so that it is still free after a restart.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).unwrap() * 50;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The one pause between two looks at a condition that has a deadline.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Every record of a topic that is committed, as key and JSON value.
pub(crate) fn records(brokers: &str, topic: &str) -> Vec<(String, Value)> {
    let (code, output, error) = run(&["consume", topic, "--from-beginning", "--brokers", brokers]);
    assert_eq!(code, 0, "{error}");
    output
        .lines()
        .map(|line| {
            let (key, value) = line.split_once('\t').unwrap();
            (key.to_owned(), serde_json::from_str(value).unwrap())
        })
        .collect()
}

/// Removes a directory that must be there.
pub(crate) fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A file of the repository.
pub(crate) fn repository_file(path: &str) -> File {
    File::open(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)).unwrap()
}
