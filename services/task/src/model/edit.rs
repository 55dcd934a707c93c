//! A PATCH on a task, and what it changes.

use super::{Due, Priority, Task};
use jiff::Timestamp;
use kit::http::Patch;

/// The valid fields of a PATCH; what is `None` or absent leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    pub title: Option<String>,
    pub description: Patch<String>,
    pub priority: Option<Priority>,
    pub due_date: Patch<Due>,
    pub category: Patch<String>,
    pub tags: Option<Vec<String>>,
    pub assignee_id: Patch<i64>,
    pub completed: Option<bool>,
}

/// Which event a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Completed or reopened, whatever else changed with it.
    Status,
    Content,
}

impl Edit {
    /// An edit that completes or reopens.
    pub fn status(completed: bool) -> Edit {
        Edit { completed: Some(completed), ..Edit::default() }
    }

    /// Whether it touches nothing but the status.
    pub fn only_status(&self) -> bool {
        self.completed.is_some() && *self == Edit::status(self.completed == Some(true))
    }

    /// The task after the edit, or `None` if nothing would differ.
    pub fn apply(&self, task: &Task, now: Timestamp) -> Option<(Task, Change)> {
        let mut edited = task.clone();
        set(&mut edited.title, self.title.as_ref());
        merge(&mut edited.description, &self.description);
        set(&mut edited.priority, self.priority.as_ref());
        merge(&mut edited.due_date, &self.due_date);
        merge(&mut edited.category, &self.category);
        set(&mut edited.tags, self.tags.as_ref());
        merge(&mut edited.assignee_id, &self.assignee_id);
        let was_completed = task.completed_at.is_some();
        let completed = self.completed.unwrap_or(was_completed);
        if completed != was_completed {
            edited.completed_at = completed.then_some(now);
        }
        if edited == *task {
            return None;
        }
        edited.version = task.version + 1;
        edited.updated_at = now;
        let change = if completed == was_completed { Change::Content } else { Change::Status };
        Some((edited, change))
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

fn merge<T: Clone>(field: &mut Option<T>, patch: &Patch<T>) {
    match patch {
        Patch::Absent => {}
        Patch::Null => *field = None,
        Patch::Value(value) => *field = Some(value.clone()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Draft;

    pub(crate) fn sample() -> Task {
        let draft = Draft {
            title: "Buy milk".to_owned(),
            description: Some("Two litres".to_owned()),
            priority: Priority::Medium,
            due_date: Due::parse("2026-12-24").ok(),
            category: None,
            tags: vec!["home".to_owned()],
            team_id: 3,
            creator_id: 7,
            assignee_id: Some(8),
        };
        draft.into_task(1, "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), Timestamp::UNIX_EPOCH)
    }

    fn later() -> Timestamp {
        Timestamp::from_millisecond(5_000).unwrap()
    }

    #[test]
    fn an_edit_that_sets_what_is_there_changes_nothing() {
        let task = sample();
        let edit = Edit {
            title: Some(task.title.clone()),
            description: Patch::Value(task.description.clone().unwrap()),
            priority: Some(task.priority),
            due_date: Patch::Value(task.due_date.clone().unwrap()),
            category: Patch::Null,
            tags: Some(task.tags.clone()),
            assignee_id: Patch::Value(task.assignee_id.unwrap()),
            completed: Some(false),
        };
        assert_eq!(edit.apply(&task, later()), None);
        assert_eq!(Edit::default().apply(&task, later()), None);
    }

    #[test]
    fn a_change_of_content_raises_the_version_and_is_an_update() {
        let edit = Edit { assignee_id: Patch::Null, ..Edit::default() };
        let (edited, change) = edit.apply(&sample(), later()).unwrap();
        assert_eq!(change, Change::Content);
        assert_eq!((edited.version, edited.updated_at), (2, later()));
        assert_eq!(edited, Task { assignee_id: None, version: 2, updated_at: later(), ..sample() });
    }

    #[test]
    fn a_change_of_status_is_a_completion_even_beside_other_fields() {
        let edit =
            Edit { title: Some("Buy bread".to_owned()), completed: Some(true), ..Edit::default() };
        let (done, change) = edit.apply(&sample(), later()).unwrap();
        assert_eq!(change, Change::Status);
        assert_eq!(done.completed_at, Some(later()));
        assert_eq!(Edit::status(true).apply(&done, Timestamp::MAX), None);
        let (open, change) = Edit::status(false).apply(&done, Timestamp::MAX).unwrap();
        assert_eq!((change, open.completed_at, open.version), (Change::Status, None, 3));
        assert_eq!(open.title, "Buy bread");
    }

    #[test]
    fn only_status_holds_for_nothing_else() {
        assert!(Edit::status(true).only_status());
        assert!(!Edit::default().only_status());
        assert!(!Edit { title: Some(String::new()), ..Edit::status(true) }.only_status());
    }
}
