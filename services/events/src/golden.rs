//! The values of all topics, as other programs were told they look: `golden/<topic>.json`.

use jiff::Timestamp;

use crate::{
    Event, Meta, Publish,
    notification::NotificationSent,
    task::{TaskCompleted, TaskCreated, TaskDeleted, TaskState, TaskUpdated},
    team::{TeamDeleted, TeamLeft},
    topics::TOPICS,
    user::{PasswordResetRequested, UserAuthenticated, UserCreated, UserRegistered},
};

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn meta() -> Meta {
    Meta {
        event_id: "6f0c3a52-1d6e-4c7b-9a41-0d2b8f5e7c90".to_owned(),
        at: instant("2026-11-21T09:30:00.123456Z"),
        correlation_id: "request-1".to_owned(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
    }
}

fn task() -> TaskState {
    TaskState {
        task_id: 17,
        team_id: 3,
        actor_id: 7,
        creator_id: 7,
        assignee_id: Some(9),
        title: "Buy “bread” & butter".to_owned(),
        description: Some("Two loaves\nand salt".to_owned()),
        priority: "HIGH".to_owned(),
        due_date: Some(instant("2026-12-24T00:00:00Z").as_millisecond()),
        category_id: Some("household".to_owned()),
        tags: vec!["shop".to_owned(), "today".to_owned()],
        status: "pending".to_owned(),
        completed_at: None,
        time_to_complete: None,
    }
}

fn bare_task() -> TaskState {
    TaskState {
        assignee_id: None,
        description: None,
        due_date: None,
        category_id: None,
        tags: Vec::new(),
        ..task()
    }
}

fn completed_task() -> TaskState {
    TaskState {
        status: "completed".to_owned(),
        completed_at: Some(instant("2026-11-21T09:30:00.123Z").as_millisecond()),
        time_to_complete: Some(90_061_001),
        ..task()
    }
}

/// Each event with the name of its file.
fn events() -> Vec<(&'static str, Event)> {
    let (username, email) = ("newuser".to_owned(), "user@example.com".to_owned());
    let created = UserCreated { user_id: 7, username: username.clone(), email: email.clone() };
    let registered =
        UserRegistered { user_id: 7, username: username.clone(), email: email.clone() };
    let reset = PasswordResetRequested {
        user_id: 7,
        email,
        username,
        token: "token".to_owned(),
        expires_at: instant("2026-11-21T10:30:00Z"),
    };
    let sent = NotificationSent {
        notification_id: 41,
        user_id: 7,
        cause_event_id: "0b8f1a60-2f1c-4a44-8a55-91f6a1d3c111".to_owned(),
        cause_event_type: "task.updated".to_owned(),
        channel: "email".to_owned(),
        status: "sent".to_owned(),
    };
    vec![
        ("user.created", created.into_event(&meta())),
        ("user.registered", registered.into_event(&meta())),
        (
            "user.authenticated",
            UserAuthenticated { user_id: 7, session_id: 12 }.into_event(&meta()),
        ),
        ("__auth.password-reset", reset.into_event(&meta())),
        ("team.deleted", TeamDeleted { team_id: 3, user_id: 7 }.into_event(&meta())),
        ("team.left", TeamLeft { team_id: 3, user_id: 9, removed_by: 7 }.into_event(&meta())),
        ("task.created", TaskCreated(task()).into_event(&meta())),
        ("task.created.bare", TaskCreated(bare_task()).into_event(&meta())),
        ("task.updated", TaskUpdated(task()).into_event(&meta())),
        ("task.updated.bare", TaskUpdated(bare_task()).into_event(&meta())),
        ("task.completed", TaskCompleted(completed_task()).into_event(&meta())),
        ("task.completed.reopened", TaskCompleted(task()).into_event(&meta())),
        ("task.deleted", TaskDeleted(task()).into_event(&meta())),
        ("notification.sent", sent.into_event(&meta())),
    ]
}

#[test]
fn every_value_is_as_its_golden_file_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    for (name, event) in events() {
        let path = format!("{folder}/{name}.json");
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect(&path)).expect(&path);
        let value: serde_json::Value = serde_json::from_slice(&event.value).unwrap();
        assert_eq!(value, golden, "{path}");
    }
}

#[test]
fn every_topic_has_a_golden_file_and_the_key_of_its_contract() {
    for topic in TOPICS {
        let (_, event) = events().into_iter().find(|(name, _)| *name == topic.name).unwrap();
        assert_eq!(event.topic, topic.name);
        let value: serde_json::Value = serde_json::from_slice(&event.value).unwrap();
        assert_eq!(event.key, value[topic.key].to_string(), "{}", topic.name);
    }
}

#[test]
fn ids_are_integers_and_only_the_event_id_is_a_string() {
    for (name, event) in events() {
        let value: serde_json::Value = serde_json::from_slice(&event.value).unwrap();
        for (field, content) in value.as_object().unwrap() {
            let id = field.ends_with("Id")
                && !["eventId", "causeEventId", "categoryId"].contains(&field.as_str());
            assert!(!id || content.is_i64() || content.is_null(), "{name}: {field} is {content}");
        }
        assert_eq!(value["eventId"], meta().event_id, "{name}");
        assert_eq!(value["timestamp"], "2026-11-21T09:30:00.123Z", "{name}");
        assert_eq!(value["eventTimestamp"], 1_795_253_400_123_i64, "{name}");
    }
}

#[test]
fn headers_name_the_event_and_its_cause() {
    for (_, event) in events() {
        let names: Vec<&str> = event.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["event-id", "event-type", "schema-version", "correlation-id", "traceparent"]
        );
    }
}
