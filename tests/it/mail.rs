//! Mails over SMTP, against a server that is a process of its own and does not always behave.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Appliance, Person, Setup, eventually, free_port, records};
use crate::world::{created, id, new_task, ok};

const UNCLEAR: &str = "mail may or may not have been sent";

struct MailServer {
    port: u16,
    directory: TempDir,
    child: Child,
}

impl MailServer {
    fn start() -> Self {
        Self::on_port(0)
    }

    fn on_port(port: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_smtp-server"))
            .arg(directory.path())
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { port: line.trim().parse().unwrap(), directory, child }
    }

    /// The text of each mail that was kept for this address.
    fn mails(&self, to: &str) -> Vec<String> {
        let ending = format!("-{to}.eml");
        let mut found: Vec<_> = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(&ending))
            .collect();
        found.sort();
        found.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn with_server(port: u16) -> Setup {
    Appliance::setup()
        .env("OTTLA__MAIL__URL", &format!("smtp://127.0.0.1:{port}"))
        .env("OTTLA__MAIL__TIMEOUT_SECONDS", "1")
}

/// The administrator's view of all mails to an address, newest first.
pub(crate) async fn outbox(app: &Appliance, administrator: &Person, to: &str) -> Vec<Value> {
    let answer = ok(app.get(administrator, "/notifications/outbox?limit=200").await);
    let mails = answer["items"].as_array().unwrap().iter();
    mails.filter(|mail| mail["to"] == to).cloned().collect()
}

/// Waits until the only mail to an address has this status.
pub(crate) async fn becomes(
    app: &Appliance,
    administrator: &Person,
    to: &str,
    status: &str,
) -> Value {
    eventually(&format!("the mail to {to} to be {status}"), async || {
        let mails = outbox(app, administrator, to).await;
        mails.first().filter(|mail| mail["status"] == status).cloned()
    })
    .await
}

#[tokio::test]
async fn everyone_gets_their_mails_over_smtp_once() {
    let server = MailServer::start();
    let app = with_server(server.port).start().await;
    let anna = app.person("anna").await;
    let ben = app.person("ben").await;
    let team = id(&created(app.post(&anna, "/teams", json!({"name": "House"})).await));
    let member = json!({"userId": ben.id, "role": "member"});
    created(app.post(&anna, &format!("/teams/{team}/members"), member).await);
    let title = "Wäsche & <b>aufhängen</b>";
    let task = new_task(&app, &anna, team, title).await;
    ok(app.patch(&anna, &format!("/tasks/{task}"), json!({"assigneeId": ben.id})).await);
    ok(app.post(&ben, &format!("/tasks/{task}/complete"), json!({})).await);

    // Anna: welcome, created, updated, completed. Ben: welcome, updated, completed.
    for (person, expected) in [(&anna, 4), (&ben, 3)] {
        eventually("all mails to be sent", async || {
            let mails = outbox(&app, &anna, &person.email).await;
            let sent = mails.iter().filter(|mail| mail["status"] == "sent").count();
            (sent == expected).then_some(())
        })
        .await;
        let mails = server.mails(&person.email);
        assert_eq!(mails.len(), expected, "{mails:?}");
        assert!(mails.iter().all(|mail| mail.contains(&format!("<{}>", person.email))));
        let entries = ok(app.get(person, "/notifications").await);
        assert_eq!(entries["items"].as_array().unwrap().len(), expected);
    }
    assert!(files(&app.data_dir().join("outbox")).is_empty());
    let published = records(&app.brokers(), "notification.sent");
    assert_eq!(published.len(), 7);
    assert!(published.iter().all(|(_, sent)| sent["status"] == "sent"), "{published:?}");
}

fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_the_server_does_decides_what_becomes_of_a_mail() {
    let server = MailServer::start();
    let app =
        with_server(server.port).expect_log(UNCLEAR).expect_log("mail was refused").start().await;
    let anna = app.person("anna").await;
    becomes(&app, &anna, &anna.email, "sent").await;
    for (name, status, attempts, kept) in [
        ("refuse.r", "failed", 1, 0),
        ("drop.d", "unknown", 1, 1),
        ("fine.f", "sent", 1, 1),
        ("stall.s", "unknown", 1, 0),
        ("lose.l", "unknown", 1, 0),
        ("busy1.b", "sent", 2, 1),
    ] {
        let person = app.person(name).await;
        let mail = becomes(&app, &anna, &person.email, status).await;
        assert_eq!(mail["attempts"], attempts, "{mail}");
        assert_eq!(mail["error"].is_null(), status == "sent", "{mail}");
        assert_eq!(server.mails(&person.email).len(), kept, "{name}");
    }
    let person = app.person("busy.b").await;
    let waiting = eventually("a postponed mail", async || {
        let mails = outbox(&app, &anna, &person.email).await;
        mails.into_iter().find(|mail| mail["attempts"] == 1 && mail["status"] == "pending")
    })
    .await;
    assert!(waiting["error"].as_str().unwrap().contains("451"), "{waiting}");
    assert!(waiting["nextAttemptAt"].is_string(), "{waiting}");
}

#[tokio::test]
async fn a_mail_waits_for_a_server_that_is_away_and_is_sent_once() {
    let port = free_port();
    let app = with_server(port).start().await;
    let anna = app.person("anna").await;
    let waiting = eventually("a failed attempt", async || {
        outbox(&app, &anna, &anna.email).await.into_iter().find(|mail| !mail["error"].is_null())
    })
    .await;
    assert_eq!(waiting["status"], "pending");
    let server = MailServer::on_port(port);
    let sent = becomes(&app, &anna, &anna.email, "sent").await;
    assert!(sent["attempts"].as_i64().unwrap() >= 2, "{sent}");
    assert_eq!(server.mails(&anna.email).len(), 1);
}

#[tokio::test]
async fn a_mail_that_the_server_took_before_a_crash_is_unknown_and_not_sent_again() {
    let server = MailServer::start();
    let mut app = with_server(server.port)
        .env("OTTLA_FAILPOINTS", "smtp250=kill@2")
        .expect_log(UNCLEAR)
        .start()
        .await;
    let anna = app.person("anna").await;
    becomes(&app, &anna, &anna.email, "sent").await;
    let body = json!({"username": "ben", "email": "ben@example.com", "password": "pass"});
    created(app.post(&anna, "/auth/register", body).await);
    app.wait_dead().await;
    assert_eq!(server.mails("ben@example.com").len(), 1);
    app.set_env("OTTLA_FAILPOINTS", None);
    app.restart().await;
    becomes(&app, &anna, "ben@example.com", "unknown").await;
    let cleo = app.person("cleo").await;
    becomes(&app, &anna, &cleo.email, "sent").await;
    for to in ["anna@example.com", "ben@example.com", "cleo@example.com"] {
        assert_eq!(server.mails(to).len(), 1, "{to}");
    }
    let published = records(&app.brokers(), "notification.sent");
    let mut results: Vec<_> = published.iter().map(|(_, sent)| sent["status"].as_str()).collect();
    results.sort_unstable();
    assert_eq!(results, [Some("sent"), Some("sent"), Some("unknown")]);
}

#[tokio::test]
async fn a_mail_in_a_file_is_neither_lost_nor_written_twice_by_a_crash() {
    let mut app = Appliance::setup().env("OTTLA_FAILPOINTS", "smtp250=kill").start().await;
    let body = json!({"username": "anna", "email": "anna@example.com", "password": "pass"});
    let client = app.client.clone();
    let registering = client.post(app.url("/api/auth/register")).json(&body).send();
    assert_eq!(registering.await.unwrap().status(), 201);
    app.wait_dead().await;
    app.set_env("OTTLA_FAILPOINTS", None);
    app.restart().await;
    let anna = app.log_in("anna").await;
    let sent = becomes(&app, &anna, &anna.email, "sent").await;
    let files = files(&app.data_dir().join("outbox"));
    assert_eq!(
        files,
        [Path::new(sent["file"].as_str().unwrap()).file_name().unwrap().to_str().unwrap()]
    );
    assert_eq!(records(&app.brokers(), "notification.sent").len(), 1);
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hold_up_the_end() {
    let server = MailServer::start();
    std::fs::write(server.directory.path().join("behaviour"), "stall").unwrap();
    let mut app = with_server(server.port).env("OTTLA__MAIL__TIMEOUT_SECONDS", "60").start().await;
    let anna = app.person("anna").await;
    becomes(&app, &anna, &anna.email, "sending").await;
    let (status, took) = app.stop().await;
    assert!(status.success() && took < Duration::from_secs(1), "{status} after {took:?}");
    std::fs::remove_file(server.directory.path().join("behaviour")).unwrap();
    app.restart().await;
    becomes(&app, &anna, &anna.email, "sent").await;
    assert_eq!(server.mails(&anna.email).len(), 1);
}
