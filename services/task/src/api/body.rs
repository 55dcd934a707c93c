//! What requests carry and answers show.

use crate::model::{Draft, Edit, Invalid, Priority, Status, Task, due_date, fields};
use kit::http::Patch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A task to be created.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateTask {
    /// One line of 1 to 200 characters.
    title: Option<String>,
    /// Up to 10000 characters.
    description: Option<String>,
    /// CRITICAL, HIGH, MEDIUM (if none is given) or LOW.
    #[schema(value_type = Option<Priority>)]
    priority: Option<String>,
    /// A day, `2026-12-24`, or an RFC 3339 instant.
    due_date: Option<String>,
    /// One line of up to 100 characters; `categoryId` is another name for it.
    #[serde(alias = "categoryId")]
    category: Option<String>,
    /// Up to 20, each of up to 50 characters.
    tags: Option<Vec<String>>,
    /// The caller's personal team if none is given.
    pub(crate) team_id: Option<i64>,
    /// Someone in the team.
    pub(crate) assignee_id: Option<i64>,
}

impl CreateTask {
    pub(crate) fn draft(&self, team_id: i64, creator_id: i64) -> Result<Draft, Invalid> {
        let title = self.title.as_deref().ok_or_else(|| Invalid::new("title", "is missing"))?;
        let description = self.description.as_deref().map(fields::description).transpose()?;
        let priority = self.priority.as_deref().map(Priority::parse).transpose()?;
        Ok(Draft {
            title: fields::title(title)?,
            description: description.flatten(),
            priority: priority.unwrap_or_default(),
            due_date: self.due_date.as_deref().map(due_date).transpose()?,
            category: self.category.as_deref().map(fields::category).transpose()?,
            tags: fields::tags(self.tags.as_deref().unwrap_or_default())?,
            team_id,
            creator_id,
            assignee_id: self.assignee_id,
        })
    }
}

/// What is to be different (RFC 7396): a field that is absent stays, `null` empties it.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct PatchTask {
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<String>)]
    title: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// `null` is MEDIUM.
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<Priority>)]
    priority: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<String>)]
    due_date: Patch<String>,
    #[serde(alias = "categoryId")]
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<String>)]
    category: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<Vec<String>>)]
    tags: Patch<Vec<String>>,
    /// Someone in the task's team, or `null` for nobody.
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<i64>)]
    pub(crate) assignee_id: Patch<i64>,
    /// `completed` or `pending`.
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<Status>)]
    status: Patch<String>,
    /// Another form of `status`.
    #[serde(skip_serializing_if = "Patch::is_absent")]
    #[schema(value_type = Option<bool>)]
    completed: Patch<bool>,
}

impl PatchTask {
    pub(crate) fn edit(&self) -> Result<Edit, Invalid> {
        let description = match checked(&self.description, |text| fields::description(text))? {
            // A description of blanks alone is none.
            Patch::Value(text) => text.map_or(Patch::Null, Patch::Value),
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
        };
        Ok(Edit {
            title: required("title", &self.title)?.map(|text| fields::title(text)).transpose()?,
            description,
            priority: or_default(checked(&self.priority, |text| Priority::parse(text))?),
            due_date: checked(&self.due_date, |text| due_date(text))?,
            category: checked(&self.category, |text| fields::category(text))?,
            tags: or_default(checked(&self.tags, |tags| fields::tags(tags))?),
            assignee_id: self.assignee_id.clone(),
            completed: self.status()?,
        })
    }

    fn status(&self) -> Result<Option<bool>, Invalid> {
        let status =
            required("status", &self.status)?.map(|text| Status::parse(text)).transpose()?;
        let status = status.map(|status| status == Status::Completed);
        let completed = required("completed", &self.completed)?.copied();
        match (status, completed) {
            (Some(one), Some(other)) if one != other => {
                Err(Invalid::new("completed", "contradicts status"))
            }
            _ => Ok(status.or(completed)),
        }
    }
}

fn checked<T, U>(
    patch: &Patch<T>,
    check: impl FnOnce(&T) -> Result<U, Invalid>,
) -> Result<Patch<U>, Invalid> {
    Ok(match patch {
        Patch::Absent => Patch::Absent,
        Patch::Null => Patch::Null,
        Patch::Value(value) => Patch::Value(check(value)?),
    })
}

/// Of a field that is never empty: null sets what a new task has.
fn or_default<T: Default>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(T::default()),
        Patch::Value(value) => Some(value),
    }
}

fn required<'a, T>(field: &'static str, patch: &'a Patch<T>) -> Result<Option<&'a T>, Invalid> {
    match patch {
        Patch::Absent => Ok(None),
        Patch::Null => Err(Invalid::new(field, "must not be null")),
        Patch::Value(value) => Ok(Some(value)),
    }
}

/// A task as it is shown. `status` and `completed`, `category` and `categoryId` say the same.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskBody {
    pub(crate) id: i64,
    ulid: String,
    title: String,
    description: Option<String>,
    priority: Priority,
    due_date: Option<String>,
    category: Option<String>,
    category_id: Option<String>,
    tags: Vec<String>,
    team_id: i64,
    creator_id: i64,
    assignee_id: Option<i64>,
    status: Status,
    completed: bool,
    completed_at: Option<String>,
    created_at: String,
    updated_at: String,
    /// The number in the `ETag`.
    pub(crate) version: u64,
}

impl From<&Task> for TaskBody {
    fn from(task: &Task) -> TaskBody {
        TaskBody {
            id: task.id,
            ulid: task.ulid.clone(),
            title: task.title.clone(),
            description: task.description.clone(),
            priority: task.priority,
            due_date: task.due_date.as_ref().map(|due| due.as_str().to_owned()),
            category: task.category.clone(),
            category_id: task.category.clone(),
            tags: task.tags.clone(),
            team_id: task.team_id,
            creator_id: task.creator_id,
            assignee_id: task.assignee_id,
            status: task.status(),
            completed: task.completed_at.is_some(),
            completed_at: task.completed_at.map(shown),
            created_at: shown(task.created_at),
            updated_at: shown(task.updated_at),
            version: task.version,
        }
    }
}

/// RFC 3339 with milliseconds.
fn shown(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}
