//! What happens to tasks.

use serde::{Deserialize, Serialize};

use crate::Publish;

/// A task as its events show it: the state after the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskState {
    pub task_id: i64,
    pub team_id: i64,
    /// Who did it.
    pub actor_id: i64,
    pub creator_id: i64,
    /// Null if nobody is assigned.
    pub assignee_id: Option<i64>,
    pub title: String,
    pub description: Option<String>,
    /// `CRITICAL`, `HIGH`, `MEDIUM` or `LOW`.
    pub priority: String,
    /// Epoch milliseconds; of a date, its midnight in UTC.
    pub due_date: Option<i64>,
    pub category_id: Option<String>,
    pub tags: Vec<String>,
    /// `pending` or `completed`.
    pub status: String,
    /// Epoch milliseconds.
    pub completed_at: Option<i64>,
    /// Milliseconds from creation to completion.
    pub time_to_complete: Option<i64>,
}

impl TaskState {
    fn completed(&self) -> bool {
        self.completed_at.is_some()
    }
}

/// The flat record and the envelope's payload side by side. `userId` is the actor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a, P> {
    #[serde(flatten)]
    state: &'a TaskState,
    user_id: i64,
    completed: bool,
    payload: P,
}

#[derive(Serialize)]
struct Details<'a> {
    title: &'a str,
    completed: bool,
}

#[derive(Serialize)]
struct Completion {
    completed: bool,
}

impl TaskState {
    fn details(&self) -> impl Serialize {
        self.body(Details { title: &self.title, completed: self.completed() })
    }

    fn completion(&self) -> impl Serialize {
        self.body(Completion { completed: self.completed() })
    }

    fn body<P: Serialize>(&self, payload: P) -> Body<'_, P> {
        Body { state: self, user_id: self.actor_id, completed: self.completed(), payload }
    }
}

/// A task was created. Keyed by its creator, as its contract says; the other events are keyed by the task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TaskCreated(pub TaskState);

impl Publish for TaskCreated {
    const TOPIC: &'static str = "task.created";

    fn key(&self) -> String {
        self.0.creator_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        self.0.details()
    }
}

/// Anything but the status changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TaskUpdated(pub TaskState);

impl Publish for TaskUpdated {
    const TOPIC: &'static str = "task.updated";

    fn key(&self) -> String {
        self.0.task_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        self.0.details()
    }
}

/// The status changed: completed, or open again (`completed: false`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TaskCompleted(pub TaskState);

impl Publish for TaskCompleted {
    const TOPIC: &'static str = "task.completed";

    fn key(&self) -> String {
        self.0.task_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        self.0.completion()
    }
}

/// A task is gone; the state is its last.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TaskDeleted(pub TaskState);

impl Publish for TaskDeleted {
    const TOPIC: &'static str = "task.deleted";

    fn key(&self) -> String {
        self.0.task_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        self.0.details()
    }
}
