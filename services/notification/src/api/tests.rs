use serde_json::json;

use crate::fixture::{World, record, registered, updated};
use crate::model::breaker::Breaker;

async fn world() -> World {
    let world = World::new();
    for event in 0..3 {
        world.read(updated(&format!("e{event}"))).await.unwrap();
    }
    world
}

#[tokio::test]
async fn one_sees_one_s_own_entries_newest_first_page_by_page() {
    let world = world().await;
    let first = world.get(1, "/notifications?limit=2").await;
    let items = first["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["eventId"], "e2");
    assert_eq!(items[0]["eventType"], "task.updated");
    assert_eq!(items[0]["text"], "ben changed “Buy milk”");
    assert_eq!(items[0]["taskId"], 5);
    assert_eq!(items[0]["actorId"], 2);
    assert_eq!(items[0]["createdAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(items[0]["read"], false);
    let cursor = first["nextCursor"].as_str().unwrap();
    let second = world.get(1, &format!("/notifications?limit=2&cursor={cursor}")).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["items"][0]["eventId"], "e0");
    assert_eq!(second["nextCursor"], json!(null));
}

#[tokio::test]
async fn an_entry_is_marked_as_read_once_and_by_its_reader_only() {
    let world = world().await;
    let listed = world.get(1, "/notifications").await;
    let path = format!("POST /notifications/{}/read", listed["items"][1]["id"]);
    for person in [2, 3] {
        assert_eq!(world.ask(person, &path, None).await.0, 404);
    }
    let (status, read) = world.ask(1, &path, None).await;
    assert_eq!((status, &read["read"]), (200, &json!(true)));
    world.testing.clock.set("2026-01-02T00:00:00Z".parse().unwrap());
    assert_eq!(world.ask(1, &path, None).await.1, read);
    let unread = world.get(1, "/notifications?unread=true").await;
    let ids: Vec<_> = unread["items"].as_array().unwrap().iter().map(|e| &e["eventId"]).collect();
    assert_eq!(ids, ["e2", "e0"]);
    assert_eq!(
        world.get(2, "/notifications?unread=true").await["items"].as_array().unwrap().len(),
        3
    );
}

#[tokio::test]
async fn all_entries_are_marked_as_read_at_once() {
    let world = world().await;
    assert_eq!(world.ask(1, "POST /notifications/read-all", None).await, (200, json!({"read": 3})));
    assert_eq!(world.ask(1, "POST /notifications/read-all", None).await, (200, json!({"read": 0})));
    assert_eq!(world.get(1, "/notifications?unread=true").await["items"], json!([]));
    assert_eq!(
        world.get(2, "/notifications?unread=true").await["items"].as_array().unwrap().len(),
        3
    );
}

#[tokio::test]
async fn preferences_are_one_s_own_and_a_field_left_out_is_on() {
    let world = World::new();
    let all = json!({"taskCreated": true, "taskUpdated": true, "taskCompleted": true,
        "taskDeleted": true, "ownActs": true});
    assert_eq!(world.get(1, "/notifications/preferences").await, all);
    let put = world.ask(1, "PUT /notifications/preferences", Some(r#"{"ownActs":false}"#)).await;
    let mut quiet = all.clone();
    quiet["ownActs"] = json!(false);
    assert_eq!(put, (200, quiet.clone()));
    assert_eq!(world.get(1, "/notifications/preferences").await, quiet);
    assert_eq!(world.get(2, "/notifications/preferences").await, all);
}

#[tokio::test]
async fn the_outbox_is_for_the_administrator_and_says_what_became_of_each_mail() {
    let world = world().await;
    let sender = world.file_sender();
    for _ in 0..2 {
        sender.step(&mut Breaker::default()).await;
    }
    let (status, refused) = world.ask(2, "GET /notifications/outbox", None).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("forbidden")));
    let outbox = world.get(1, "/notifications/outbox?limit=200").await;
    let mails = outbox["items"].as_array().unwrap();
    assert_eq!(mails.len(), 6);
    assert_eq!(mails[0]["status"], "pending");
    assert_eq!(mails[0]["file"], json!(null));
    let first = &mails[5];
    assert_eq!(first["to"], "anna@example.com");
    assert_eq!(first["subject"], "ben changed “Buy milk”");
    assert_eq!(first["eventType"], "task.updated");
    assert_eq!((&first["status"], &first["attempts"]), (&json!("sent"), &json!(1)));
    assert_eq!(first["error"], json!(null));
    let file = std::path::Path::new(first["file"].as_str().unwrap());
    assert_eq!(file, world.directory().join("outbox/e0-1.eml"));
    assert!(file.is_file());
    let whole = world.get(1, &format!("/notifications/outbox/{}", first["id"])).await;
    assert!(whole["text"].as_str().unwrap().starts_with("Hello anna,"));
    assert_eq!(whole["status"], "sent");
    let one = format!("GET /notifications/outbox/{}", first["id"]);
    assert_eq!(world.ask(2, &one, None).await.0, 403);
    assert_eq!(world.ask(1, "GET /notifications/outbox/999", None).await.0, 404);
    let page = world.get(1, "/notifications/outbox?limit=4").await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let rest = world.get(1, &format!("/notifications/outbox?limit=4&cursor={cursor}")).await;
    assert_eq!(rest["items"].as_array().unwrap()[1], *first);
}

#[tokio::test]
async fn nobody_reads_a_token_in_the_outbox() {
    let world = World::new();
    let fields = json!({"userId": 2, "email": "ben@example.com", "username": "ben",
        "token": "s3cr3t", "expiresAt": "2026-01-01T01:00:00.000Z"});
    world.read(record("__auth.password-reset", "e1", &fields)).await.unwrap();
    let outbox = world.get(1, "/notifications/outbox").await;
    let whole = world.get(1, &format!("/notifications/outbox/{}", outbox["items"][0]["id"])).await;
    assert_eq!(whole["text"], json!(null));
    assert!(!outbox.to_string().contains("s3cr3t") && !whole.to_string().contains("s3cr3t"));
}

#[tokio::test]
async fn wrong_input_is_refused_and_changes_nothing() {
    let world = World::new();
    world.read(registered("e1", 1, "anna")).await.unwrap();
    let put = "PUT /notifications/preferences";
    for (request, body, status, field) in [
        (put, Some("{"), 400, None),
        (put, Some("[]"), 422, None),
        (put, Some(r#"{"taskCreated":1}"#), 422, Some("taskCreated")),
        (put, Some(r#"{"ownActs":null}"#), 422, Some("ownActs")),
        (put, Some(r#"{"sms":true}"#), 422, Some("sms")),
        ("GET /notifications?limit=0", None, 422, Some("limit")),
        ("GET /notifications?limit=x", None, 422, Some("limit")),
        ("GET /notifications?unread=maybe", None, 422, Some("unread")),
        ("GET /notifications?cursor=nonsense", None, 422, Some("cursor")),
        ("GET /notifications?other=1", None, 422, Some("other")),
        ("GET /notifications/outbox?cursor=e30", None, 422, Some("cursor")),
        ("POST /notifications/x/read", None, 404, None),
        ("POST /notifications/999999/read", None, 404, None),
        ("POST /notifications/-1/read", None, 404, None),
        ("GET /notifications/outbox/x", None, 404, None),
    ] {
        let (got, answer) = world.ask(1, request, body).await;
        assert_eq!(got, status, "{request} {body:?}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{request}: {answer}");
        assert_eq!(answer["error"]["field"].as_str(), field, "{request} {body:?}: {answer}");
    }
    assert_eq!(world.get(1, "/notifications/preferences").await["ownActs"], true);
    assert_eq!(world.testing.published(), []);
}

#[tokio::test]
async fn nobody_is_answered_without_a_token_and_nobody_while_auth_is_away() {
    let world = World::new();
    let requests = [
        "GET /notifications",
        "POST /notifications/1/read",
        "POST /notifications/read-all",
        "GET /notifications/preferences",
        "PUT /notifications/preferences",
        "GET /notifications/outbox",
        "GET /notifications/outbox/1",
    ];
    for request in requests {
        assert_eq!(world.ask(0, request, Some("{}")).await.0, 401, "{request}");
        assert_eq!(world.ask(99, request, Some("{}")).await.0, 401, "{request}");
    }
    world.people.set_unreachable(true);
    for request in requests {
        assert_eq!(world.ask(1, request, Some("{}")).await.0, 503, "{request}");
    }
}
