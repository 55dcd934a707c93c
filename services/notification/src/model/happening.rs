//! What an event says happened, read leniently: the topics are open, and other programs publish to them too.

use events::Publish;
use events::task::{TaskCompleted, TaskCreated, TaskDeleted, TaskUpdated};
use events::user::{PasswordResetRequested, UserCreated};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The open topics that this service reads.
pub(crate) const TOPICS: [&str; 5] = [
    UserCreated::TOPIC,
    TaskCreated::TOPIC,
    TaskUpdated::TOPIC,
    TaskCompleted::TOPIC,
    TaskDeleted::TOPIC,
];

/// The closed one, which carries secrets.
pub(crate) const RESETS: &str = PasswordResetRequested::TOPIC;

/// Characters of a name or title that are kept; no service of ours lets longer ones in.
const TEXT_CHARACTERS: usize = 200;

/// Of what a person is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    Welcome,
    PasswordReset,
    TaskCreated,
    TaskUpdated,
    TaskCompleted,
    TaskReopened,
    TaskDeleted,
}

impl Kind {
    /// The type of the event that it is about.
    pub(crate) fn event_type(self) -> &'static str {
        match self {
            Self::Welcome => UserCreated::TOPIC,
            Self::PasswordReset => PasswordResetRequested::TOPIC,
            Self::TaskCreated => TaskCreated::TOPIC,
            Self::TaskUpdated => TaskUpdated::TOPIC,
            Self::TaskCompleted | Self::TaskReopened => TaskCompleted::TOPIC,
            Self::TaskDeleted => TaskDeleted::TOPIC,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    User(NewUser),
    Task(TaskChange),
    Reset(PasswordResetRequested),
}

/// Someone registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewUser {
    pub(crate) user_id: i64,
    pub(crate) username: String,
    pub(crate) email: String,
}

/// Someone did something to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskChange {
    pub(crate) kind: Kind,
    pub(crate) task_id: i64,
    pub(crate) team_id: Option<i64>,
    pub(crate) actor_id: Option<i64>,
    pub(crate) creator_id: Option<i64>,
    pub(crate) assignee_id: Option<i64>,
    pub(crate) title: Option<String>,
}

/// Why a record cannot be processed, now or ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the value is not a JSON object with the fields of this topic")]
    Shape,
    #[error("the record has no value")]
    Empty,
    #[error("this service does not know the topic")]
    Topic,
}

/// Reads a record's value.
pub(crate) fn read(topic: &str, value: Option<&[u8]>) -> Result<Happening, Unreadable> {
    let value = value.ok_or(Unreadable::Empty)?;
    match topic {
        UserCreated::TOPIC => read_user(value),
        TaskCreated::TOPIC => read_task(Kind::TaskCreated, value),
        TaskUpdated::TOPIC => read_task(Kind::TaskUpdated, value),
        TaskCompleted::TOPIC => read_task(Kind::TaskCompleted, value),
        TaskDeleted::TOPIC => read_task(Kind::TaskDeleted, value),
        PasswordResetRequested::TOPIC => parse(value).map(Happening::Reset),
        _ => Err(Unreadable::Topic),
    }
}

fn read_user(value: &[u8]) -> Result<Happening, Unreadable> {
    let user: UserValue = parse(value)?;
    let payload = user.payload.unwrap_or_default();
    Ok(Happening::User(NewUser {
        user_id: user.user_id.ok_or(Unreadable::Shape)?,
        username: payload
            .username
            .or(user.username)
            .map(|text| cut(&text))
            .ok_or(Unreadable::Shape)?,
        email: payload.email.or(user.email).ok_or(Unreadable::Shape)?,
    }))
}

fn read_task(kind: Kind, value: &[u8]) -> Result<Happening, Unreadable> {
    let task: TaskValue = parse(value)?;
    let payload = task.payload.unwrap_or_default();
    let reopened = payload.completed.or(task.completed) == Some(false);
    Ok(Happening::Task(TaskChange {
        kind: if kind == Kind::TaskCompleted && reopened { Kind::TaskReopened } else { kind },
        task_id: task.task_id.ok_or(Unreadable::Shape)?,
        team_id: task.team_id,
        actor_id: task.actor_id,
        creator_id: task.creator_id,
        assignee_id: task.assignee_id,
        title: payload
            .title
            .or(task.title)
            .map(|text| cut(&text))
            .filter(|title| !title.trim().is_empty()),
    }))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARACTERS).collect()
}

fn parse<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(value).map_err(|_refused| Unreadable::Shape)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserValue {
    #[serde(default, deserialize_with = "id")]
    user_id: Option<i64>,
    email: Option<String>,
    username: Option<String>,
    payload: Option<UserPayload>,
}

#[derive(Default, Deserialize)]
struct UserPayload {
    email: Option<String>,
    username: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskValue {
    #[serde(default, deserialize_with = "id")]
    task_id: Option<i64>,
    #[serde(default, deserialize_with = "id")]
    team_id: Option<i64>,
    #[serde(default, deserialize_with = "id")]
    actor_id: Option<i64>,
    #[serde(default, deserialize_with = "id")]
    creator_id: Option<i64>,
    #[serde(default, deserialize_with = "id")]
    assignee_id: Option<i64>,
    title: Option<String>,
    completed: Option<bool>,
    payload: Option<TaskPayload>,
}

#[derive(Default, Deserialize)]
struct TaskPayload {
    title: Option<String>,
    completed: Option<bool>,
}

/// An integer, or one written as a string; ids of other kinds are nobody here.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let id = match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    Ok(id.filter(|id| *id > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(topic: &str, json: &str) -> TaskChange {
        match read(topic, Some(json.as_bytes())).unwrap() {
            Happening::Task(change) => change,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_events_of_the_seed_are_read() {
        let created =
            br#"{"eventType":"user.created","userId":7,"timestamp":"2025-08-25T22:30:57.123Z",
            "payload":{"email":"user@example.com","username":"newuser"}}"#;
        assert_eq!(
            read(UserCreated::TOPIC, Some(created)),
            Ok(Happening::User(NewUser {
                user_id: 7,
                username: "newuser".to_owned(),
                email: "user@example.com".to_owned()
            }))
        );
        let updated = task(
            TaskUpdated::TOPIC,
            r#"{"eventType":"task.updated","taskId":1,"teamId":1,"actorId":1,"creatorId":1,"assigneeId":2,
            "timestamp":"2025-08-25T22:41:54.574Z","payload":{"title":"Updated Task Title","completed":false}}"#,
        );
        assert_eq!(updated.kind, Kind::TaskUpdated);
        assert_eq!(updated.title.as_deref(), Some("Updated Task Title"));
        assert_eq!((updated.creator_id, updated.assignee_id), (Some(1), Some(2)));
    }

    #[test]
    fn a_completion_that_is_taken_back_is_a_reopening() {
        let json = |completed| format!(r#"{{"taskId":1,"payload":{{"completed":{completed}}}}}"#);
        assert_eq!(task(TaskCompleted::TOPIC, &json(true)).kind, Kind::TaskCompleted);
        assert_eq!(task(TaskCompleted::TOPIC, &json(false)).kind, Kind::TaskReopened);
    }

    #[test]
    fn an_assignee_may_be_null_absent_or_a_string() {
        let assignee = |field: &str| {
            task(TaskUpdated::TOPIC, &format!(r#"{{"taskId":"1"{field}}}"#)).assignee_id
        };
        assert_eq!(assignee(""), None);
        assert_eq!(assignee(r#","assigneeId":null"#), None);
        assert_eq!(assignee(r#","assigneeId":0"#), None);
        assert_eq!(assignee(r#","assigneeId":"9""#), Some(9));
    }

    #[test]
    fn of_a_long_title_the_beginning_is_kept() {
        let json = format!(r#"{{"taskId":1,"payload":{{"title":"{}"}}}}"#, "ä".repeat(100_000));
        assert_eq!(task(TaskUpdated::TOPIC, &json).title, Some("ä".repeat(200)));
    }

    #[test]
    fn what_is_no_such_event_is_unreadable() {
        assert_eq!(read(TaskUpdated::TOPIC, None), Err(Unreadable::Empty));
        for value in
            ["", "[]", "{}", "7", r#"{"taskId":{}}"#, r#"{"taskId":1,"payload":7}"#, "\u{0}"]
        {
            assert_eq!(
                read(TaskUpdated::TOPIC, Some(value.as_bytes())),
                Err(Unreadable::Shape),
                "{value}"
            );
        }
        assert_eq!(read(UserCreated::TOPIC, Some(br#"{"userId":7}"#)), Err(Unreadable::Shape));
        assert_eq!(read("other", Some(b"{}")), Err(Unreadable::Topic));
    }
}
