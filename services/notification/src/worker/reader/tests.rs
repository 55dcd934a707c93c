use serde_json::json;

use super::*;
use crate::fixture::{World, record, registered, updated};
use crate::model::breaker::Breaker;
use crate::model::happening::Kind;

fn told(world: &World) -> Vec<(i64, String, String)> {
    let mails = world.mails().into_iter();
    mails.map(|mail| (mail.user_id, mail.to.clone(), mail.letter.subject())).collect()
}

#[tokio::test]
async fn creator_and_assignee_are_told_once_each() {
    let world = World::new();
    world.read(updated("e1")).await.unwrap();
    assert_eq!(
        told(&world),
        [
            (1, "anna@example.com".to_owned(), "ben changed “Buy milk”".to_owned()),
            (2, "ben@example.com".to_owned(), "You changed “Buy milk”".to_owned()),
        ]
    );
    for person in [1, 2] {
        assert_eq!(world.get(person, "/notifications").await["items"].as_array().unwrap().len(), 1);
    }
    assert_eq!(world.get(3, "/notifications").await["items"], json!([]));
}

#[tokio::test]
async fn an_event_that_is_delivered_again_tells_nobody_again() {
    let world = World::new();
    for _ in 0..3 {
        world.read(updated("e1")).await.unwrap();
        world.read(registered("e2", 3, "cleo")).await.unwrap();
        world.file_sender().step(&mut Breaker::default()).await;
    }
    assert_eq!(world.mails().len(), 3);
    assert_eq!(world.get(1, "/notifications").await["items"].as_array().unwrap().len(), 1);
    world.read(updated("e3")).await.unwrap();
    assert_eq!(world.mails().len(), 5);
}

#[tokio::test]
async fn a_new_person_is_welcomed_at_the_address_of_the_event() {
    let world = World::new();
    world.read(registered("e1", 77, "dora")).await.unwrap();
    assert_eq!(told(&world), [(77, "dora@example.com".to_owned(), "Welcome to Ottla".to_owned())]);
}

#[tokio::test]
async fn a_mail_that_is_not_wanted_is_not_written_and_the_entry_is() {
    let world = World::new();
    let off = r#"{"taskUpdated":false}"#;
    assert_eq!(world.ask(1, "PUT /notifications/preferences", Some(off)).await.0, 200);
    let own = r#"{"ownActs":false}"#;
    assert_eq!(world.ask(2, "PUT /notifications/preferences", Some(own)).await.0, 200);
    for _ in 0..2 {
        world.read(updated("e1")).await.unwrap();
    }
    assert_eq!(told(&world), []);
    for person in [1, 2] {
        assert_eq!(world.get(person, "/notifications").await["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn who_is_gone_is_not_told_and_not_named() {
    let world = World::new();
    world.people.forget(2);
    world.read(updated("e1")).await.unwrap();
    assert_eq!(
        told(&world),
        [(1, "anna@example.com".to_owned(), "Someone changed “Buy milk”".to_owned())]
    );
}

#[tokio::test]
async fn who_is_not_in_the_team_any_more_is_named_and_not_told() {
    let world = World::new();
    world.people.leave(9, 2);
    world.read(updated("e1")).await.unwrap();
    let anna = (1, "anna@example.com".to_owned(), "ben changed “Buy milk”".to_owned());
    assert_eq!(told(&world), std::slice::from_ref(&anna));
    world.people.leave(9, 1);
    world.read(updated("e2")).await.unwrap();
    assert_eq!(told(&world), [anna]);
    let mut in_no_team = updated("e3");
    let value = String::from_utf8(in_no_team.value.unwrap()).unwrap();
    in_no_team.value = Some(value.replace("\"teamId\":9", "\"teamId\":null").into_bytes());
    world.read(in_no_team).await.unwrap();
    assert_eq!(told(&world).len(), 3);
}

#[tokio::test]
async fn while_auth_cannot_be_reached_the_record_waits() {
    let world = World::new();
    world.people.set_unreachable(true);
    assert!(matches!(world.read(updated("e1")).await, Err(Trouble::Retry(_))));
    assert_eq!(told(&world), []);
    world.people.set_unreachable(false);
    world.read(updated("e1")).await.unwrap();
    assert_eq!(told(&world).len(), 2);
}

#[tokio::test]
async fn a_record_that_is_no_event_is_poison() {
    let world = World::new();
    for fields in [json!({"taskId": {}}), json!({"taskId": 5, "payload": "text"}), json!({})] {
        let read = world.read(record("task.updated", "e1", &fields)).await;
        assert!(matches!(read, Err(Trouble::Poison(_))), "{fields}: {read:?}");
    }
    assert_eq!(told(&world), []);
}

#[tokio::test]
async fn an_event_without_a_usable_id_is_known_by_its_place() {
    let world = World::new();
    for (offset, id) in [(1, ""), (2, "a\0b"), (3, &*"x".repeat(101))] {
        let mut foreign = Record { offset, headers: Vec::new(), ..updated(id) };
        world.read(foreign.clone()).await.unwrap();
        world.read(foreign.clone()).await.unwrap();
        foreign.partition = 1;
        world.read(foreign).await.unwrap();
    }
    assert_eq!(world.mails().len(), 12);
    assert_eq!(world.mails()[0].event_id, "task.updated-0-1");
}

#[tokio::test]
async fn a_foreign_correlation_id_that_is_too_long_is_not_kept() {
    let world = World::new();
    let mut foreign = updated("e1");
    foreign.headers[1].1 = vec![b'x'; 100_000];
    world.read(foreign).await.unwrap();
    assert_eq!(world.mails()[0].correlation_id.as_ref().map(String::len), Some(36));
}

#[tokio::test]
async fn an_event_beyond_memory_is_not_told() {
    let world = World::new();
    world.testing.clock.set("2026-02-01T00:00:00Z".parse().unwrap());
    world.read(updated("e1")).await.unwrap();
    assert_eq!(told(&world), []);
}

#[tokio::test]
async fn the_newest_entries_of_a_person_are_kept() {
    let world = World::new();
    for event in 0..5 {
        world.read(updated(&format!("e{event}"))).await.unwrap();
    }
    let kept = world.get(1, "/notifications").await;
    let ids: Vec<_> =
        kept["items"].as_array().unwrap().iter().map(|e| e["eventId"].clone()).collect();
    assert_eq!(ids, ["e4", "e3", "e2"]);
    assert_eq!(world.get(2, "/notifications").await["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_reset_mail_is_tried_until_its_token_expires() {
    let world = World::new();
    let fields = json!({
        "userId": 1, "email": "anna@example.com", "username": "anna",
        "token": "secret", "expiresAt": "2026-01-01T01:00:00.000Z",
    });
    for _ in 0..2 {
        world.read(record("__auth.password-reset", "e1", &fields)).await.unwrap();
    }
    let mails = world.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].letter.kind(), Kind::PasswordReset);
    assert_eq!(mails[0].give_up_at, "2026-01-01T01:00:00Z".parse().unwrap());
    assert_eq!(world.get(1, "/notifications").await["items"], json!([]));
}
