//! What a task is, what may be asked of it, and which event a change is: pure functions.

pub mod access;
pub mod due;
mod edit;
pub mod fields;
pub mod query;

pub use due::Due;
pub use edit::{Change, Edit};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How urgent a task is; ordered from the least to the most urgent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

impl Priority {
    pub const ALL: [Priority; 4] =
        [Priority::Low, Priority::Medium, Priority::High, Priority::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "LOW",
            Priority::Medium => "MEDIUM",
            Priority::High => "HIGH",
            Priority::Critical => "CRITICAL",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Priority, Invalid> {
        let known = Priority::ALL.into_iter().find(|priority| priority.as_str() == text);
        known.ok_or_else(|| Invalid::new("priority", "must be CRITICAL, HIGH, MEDIUM or LOW"))
    }
}

/// Whether a task is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pending,
    Completed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Completed => "completed",
        }
    }

    /// `open` is another word for `pending`.
    pub(crate) fn parse(text: &str) -> Result<Status, Invalid> {
        match text {
            "pending" | "open" => Ok(Status::Pending),
            "completed" => Ok(Status::Completed),
            _ => Err(Invalid::new("status", "must be pending or completed")),
        }
    }
}

/// A task as it is kept. It is completed exactly if it has a time of completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub id: i64,
    pub ulid: String,
    /// Starts at 1 and rises by one with each change; the `ETag`.
    pub version: u64,
    pub title: String,
    pub description: Option<String>,
    pub priority: Priority,
    pub due_date: Option<Due>,
    pub category: Option<String>,
    pub tags: Vec<String>,
    pub team_id: i64,
    pub creator_id: i64,
    pub assignee_id: Option<i64>,
    pub completed_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Task {
    pub fn status(&self) -> Status {
        if self.completed_at.is_some() { Status::Completed } else { Status::Pending }
    }
}

/// The valid content of a task that is yet to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub title: String,
    pub description: Option<String>,
    pub priority: Priority,
    pub due_date: Option<Due>,
    pub category: Option<String>,
    pub tags: Vec<String>,
    pub team_id: i64,
    pub creator_id: i64,
    pub assignee_id: Option<i64>,
}

impl Draft {
    pub fn into_task(self, id: i64, ulid: String, now: Timestamp) -> Task {
        Task {
            id,
            ulid,
            version: 1,
            title: self.title,
            description: self.description,
            priority: self.priority,
            due_date: self.due_date,
            category: self.category,
            tags: self.tags,
            team_id: self.team_id,
            creator_id: self.creator_id,
            assignee_id: self.assignee_id,
            completed_at: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// A value that breaks a rule: which field, and what is wrong, in words for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct Invalid {
    pub field: &'static str,
    pub message: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Invalid {
        Invalid { field, message: message.into() }
    }
}

pub(crate) fn due_date(text: &str) -> Result<Due, Invalid> {
    Due::parse(text).map_err(|error| Invalid::new("dueDate", error.to_string()))
}
