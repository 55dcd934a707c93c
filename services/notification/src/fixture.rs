//! The service without Kafka, for its unit tests.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use kit::identity::{People, Role};
use kit::testing::{FakePeople, Testing};
use kit::worker::{Handler, Record, Trouble};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::api::{State, router};
use crate::mail::Mailer;
use crate::mail::compose::Composer;
use crate::mail::compose::tests::composer;
use crate::mail::outbox::Outbox;
use crate::model::mail::Mail;
use crate::store;
use crate::worker::reader::Reader;
use crate::worker::sender::Sender;

pub(crate) struct World {
    pub(crate) testing: Testing,
    pub(crate) people: FakePeople,
    pub(crate) reader: Arc<Reader>,
    pub(crate) outbox: Outbox,
    composer: Arc<Composer>,
    directory: TempDir,
    router: Router,
}

impl World {
    /// Anna (1, the administrator), Ben (2) and Cleo (3); Anna and Ben are team 9.
    pub(crate) fn new() -> Self {
        let testing = Testing::new(store::tables());
        let people = FakePeople::default().with(1, "anna").with(2, "ben").with(3, "cleo");
        let people = people.with_team(9, &[(1, Role::Owner), (2, Role::Member)]);
        let everyone: Arc<dyn People> = Arc::new(people.clone());
        let directory = tempfile::tempdir().unwrap();
        let outbox = directory.path().join("outbox");
        let composer = Arc::new(composer());
        let state = State::new(
            testing.commit.clone(),
            Arc::clone(&everyone),
            Arc::clone(&composer),
            outbox.clone(),
        );
        let reader = Reader { people: everyone, kept_entries: 3, wake: Arc::new(Notify::new()) };
        Self {
            testing,
            people,
            reader: Arc::new(reader),
            outbox: Outbox::new(outbox),
            composer,
            directory,
            router: router(state).split_for_parts().0,
        }
    }

    /// A sender that is not running: tests take its steps.
    pub(crate) fn sender(&self, mailer: Mailer) -> Sender {
        Sender {
            commit: self.testing.commit.clone(),
            mailer,
            composer: Arc::clone(&self.composer),
            outbox: self.outbox.clone(),
            clock: self.testing.clock.clone(),
            wake: Arc::clone(&self.reader.wake),
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn file_sender(&self) -> Sender {
        self.sender(Mailer::File(self.outbox.clone()))
    }

    /// Reads a record as the worker does.
    pub(crate) async fn read(&self, record: Record) -> Result<(), Trouble> {
        let told = self.reader.prepare(&record).await?;
        let reader = Arc::clone(&self.reader);
        let applied = self.testing.commit.run(move |tx| {
            reader.apply(tx, &record, &told);
            Ok::<_, std::convert::Infallible>(())
        });
        applied.await.unwrap();
        self.reader.committed();
        Ok(())
    }

    /// All mails, oldest first.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let mut mails = store::mails(self.testing.commit.view(), None, 1000);
        mails.reverse();
        mails
    }

    /// A request of the person with that id and its answer.
    pub(crate) async fn ask(&self, person: i64, request: &str, body: Option<&str>) -> (u16, Value) {
        let (method, path) = request.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if person != 0 {
            request = request.header(header::AUTHORIZATION, format!("Bearer token-{person}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_owned()));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) async fn get(&self, person: i64, path: &str) -> Value {
        let (status, body) = self.ask(person, &format!("GET {path}"), None).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// A record of an event with that id; `fields` stand beside the envelope's.
pub(crate) fn record(topic: &str, event_id: &str, fields: &Value) -> Record {
    let mut value = serde_json::json!({
        "eventType": topic, "eventId": event_id, "timestamp": "2026-01-01T00:00:00.000Z",
    });
    let object = value.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    Record {
        topic: topic.to_owned(),
        partition: 0,
        offset: 0,
        key: None,
        value: Some(value.to_string().into_bytes()),
        headers: vec![
            ("event-id".to_owned(), event_id.as_bytes().to_vec()),
            ("correlation-id".to_owned(), b"cause".to_vec()),
        ],
    }
}

/// Ben changes Anna's task, which is assigned to him.
pub(crate) fn updated(event_id: &str) -> Record {
    let fields = serde_json::json!({
        "taskId": 5, "teamId": 9, "actorId": 2, "creatorId": 1, "assigneeId": 2,
        "payload": {"title": "Buy milk", "completed": false},
    });
    record("task.updated", event_id, &fields)
}

pub(crate) fn registered(event_id: &str, id: i64, name: &str) -> Record {
    let email = format!("{name}@example.com");
    let fields = serde_json::json!({"userId": id, "payload": {"email": email, "username": name}});
    record("user.created", event_id, &fields)
}
