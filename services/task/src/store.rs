//! The service's tables, their indexes, and the events of a change.

mod page;

pub use page::{Ask, EXAMINED_MAX_COUNT, Page};

use crate::model::{
    Change, Draft, Edit, Status, Task,
    query::{SortKey, number},
};
use events::task::{TaskCompleted, TaskCreated, TaskDeleted, TaskState, TaskUpdated};
use kit::{Row, Tables, Tx, View, Walk, http::Patch};
use page::{Source, Stretch};
use serde::{Deserialize, Serialize};

/// The index of a team's tasks.
const TEAM: &str = "team";
/// The index of a team's tasks by assignee.
const ASSIGNEE: &str = "assignee";

/// Every table of the service.
pub fn tables() -> Tables {
    Tables::new().with::<Task>().with::<DeletedTeam>().with::<Departure>()
}

impl Row for Task {
    const TABLE: &'static str = "tasks";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        row_key(self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        index_entries(self)
    }
}

/// A team that is gone. Its id never comes back, so a task that is created while the team is
/// being deleted is refused instead of left where nobody sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeletedTeam {
    pub(crate) team_id: i64,
}

impl Row for DeletedTeam {
    const TABLE: &'static str = "deleted-teams";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        row_key(self.team_id)
    }
}

/// How often a person left a team. A task that is being assigned to them meanwhile is refused: the
/// answer of auth, that they are in the team, may be older than their leaving.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Departure {
    team_id: i64,
    user_id: i64,
    count: u64,
}

impl Row for Departure {
    const TABLE: &'static str = "departures";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        departure_key(self.team_id, self.user_id)
    }
}

fn departure_key(team_id: i64, user_id: i64) -> String {
    format!("{}/{}", row_key(team_id), row_key(user_id))
}

/// How often that person has left that team, as far as was committed.
pub(crate) fn departures(view: &View, team_id: i64, user_id: i64) -> u64 {
    view.get::<Departure>(&departure_key(team_id, user_id)).map_or(0, |found| found.count)
}

/// The same inside a command.
pub(crate) fn departures_now(tx: &Tx<'_>, team_id: i64, user_id: i64) -> u64 {
    tx.get::<Departure>(&departure_key(team_id, user_id)).map_or(0, |found| found.count)
}

/// Decimal with leading zeros: rows are ordered by id.
fn row_key(id: i64) -> String {
    format!("{id:019}")
}

pub(crate) fn find(view: &View, id: i64) -> Option<Task> {
    view.get(&row_key(id))
}

/// One page of the tasks that were committed.
pub(crate) fn list(view: &View, ask: &Ask) -> Page {
    page::page(view, ask)
}

impl Source for View {
    fn read(&self, stretch: &Stretch<'_>) -> Vec<(String, Task)> {
        let row = stretch.after.map(|(_, id)| row_key(id));
        let after = stretch.after.zip(row.as_deref()).map(|((key, _), row)| (key, row));
        let walk = Walk {
            prefix: stretch.prefix,
            after,
            reversed: stretch.descending,
            limit: stretch.count,
        };
        self.walk(stretch.index, walk)
    }
}

pub(crate) fn get(tx: &Tx<'_>, id: i64) -> Option<Task> {
    tx.get(&row_key(id))
}

pub(crate) fn is_deleted_team(tx: &Tx<'_>, team_id: i64) -> bool {
    tx.get::<DeletedTeam>(&row_key(team_id)).is_some()
}

/// The same, as far as was committed.
pub(crate) fn was_deleted(view: &View, team_id: i64) -> bool {
    view.get::<DeletedTeam>(&row_key(team_id)).is_some()
}

/// Adds a task and tells of it.
pub(crate) fn create(tx: &mut Tx<'_>, draft: Draft, ulid: String) -> Task {
    let task = draft.into_task(tx.next_id("task"), ulid, tx.now());
    tx.put(&task);
    tx.emit(TaskCreated(state(&task, task.creator_id)));
    task
}

/// Changes a task and tells of it by one event; leaves no trace if nothing would differ.
pub(crate) fn edit(tx: &mut Tx<'_>, task: Task, edit: &Edit, actor_id: i64) -> Task {
    let Some((edited, change)) = edit.apply(&task, tx.now()) else { return task };
    tx.put(&edited);
    let state = state(&edited, actor_id);
    match change {
        Change::Status => tx.emit(TaskCompleted(state)),
        Change::Content => tx.emit(TaskUpdated(state)),
    };
    edited
}

/// Removes a task and tells of it.
pub(crate) fn delete(tx: &mut Tx<'_>, task: &Task, actor_id: i64) {
    tx.delete::<Task>(&task.key());
    tx.emit(TaskDeleted(state(task, actor_id)));
}

/// What happens to all tasks of a team, or to a person's tasks in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) team_id: i64,
    /// Whose tasks are taken from them; `None` if the team is gone with all its tasks.
    pub(crate) unassigned: Option<i64>,
    pub(crate) actor_id: i64,
}

impl Sweep {
    /// Whether more than `count` tasks are still to be changed.
    pub(crate) fn exceeds(&self, view: &View, count: usize) -> bool {
        self.committed(view, count.saturating_add(1)).len() > count
    }

    /// Changes up to `count` tasks of those that were committed.
    pub(crate) fn some(&self, tx: &mut Tx<'_>, count: usize) {
        self.mark(tx);
        for task in self.committed(tx.committed(), count) {
            // A neighbour in the same transaction may have changed it.
            if let Some(task) = tx.get::<Task>(&task.key()) {
                self.change(tx, task);
            }
        }
    }

    /// Changes all that are left.
    pub(crate) fn rest(&self, tx: &mut Tx<'_>) {
        self.mark(tx);
        let (index, key) = self.entry();
        for task in tx.by_index::<Task>(index, &key) {
            self.change(tx, task);
        }
    }

    fn mark(&self, tx: &mut Tx<'_>) {
        let team_id = self.team_id;
        match self.unassigned {
            None => tx.put(&DeletedTeam { team_id }),
            Some(user_id) => {
                let count = departures_now(tx, team_id, user_id) + 1;
                tx.put(&Departure { team_id, user_id, count });
            }
        }
    }

    fn change(&self, tx: &mut Tx<'_>, task: Task) {
        let nobody = Edit { assignee_id: Patch::Null, ..Edit::default() };
        match self.unassigned {
            None => delete(tx, &task, self.actor_id),
            Some(person) if task.assignee_id == Some(person) => {
                edit(tx, task, &nobody, self.actor_id);
            }
            Some(_) => {}
        }
    }

    fn entry(&self) -> (&'static str, String) {
        match self.unassigned {
            None => (TEAM, number(self.team_id)),
            Some(person) => (ASSIGNEE, assigned(self.team_id, person)),
        }
    }

    fn committed(&self, view: &View, limit: usize) -> Vec<Task> {
        let (index, key) = self.entry();
        let walk = Walk { prefix: &key, limit, ..Walk::default() };
        view.walk(index, walk).into_iter().map(|(_, task)| task).collect()
    }
}

/// The part of an index that holds a team's tasks: all or only the open ones, those with a place
/// or those that come last.
fn prefix(team: i64, open_only: bool, last: bool) -> String {
    let which = if open_only { "open" } else { "all" };
    let last = u8::from(last);
    format!("{}/{which}/{last}/", number(team))
}

/// Every index entry of a task: index and key.
fn index_entries(task: &Task) -> Vec<(&'static str, String)> {
    let mut entries = vec![(TEAM, number(task.team_id))];
    for sort in SortKey::ALL {
        let place = sort.place(task);
        for open_only in [false, true] {
            if !open_only || task.status() == Status::Pending {
                let prefix = prefix(task.team_id, open_only, place.last);
                entries.push((sort.name(), format!("{prefix}{}", place.value)));
            }
        }
    }
    if let Some(assignee) = task.assignee_id {
        entries.push((ASSIGNEE, assigned(task.team_id, assignee)));
    }
    entries
}

fn assigned(team: i64, assignee: i64) -> String {
    format!("{}/{}", number(team), number(assignee))
}

/// A task as events show it.
fn state(task: &Task, actor_id: i64) -> TaskState {
    let completed_at = task.completed_at.map(jiff::Timestamp::as_millisecond);
    TaskState {
        task_id: task.id,
        team_id: task.team_id,
        actor_id,
        creator_id: task.creator_id,
        assignee_id: task.assignee_id,
        title: task.title.clone(),
        description: task.description.clone(),
        priority: task.priority.as_str().to_owned(),
        due_date: task.due_date.as_ref().map(|due| due.start().as_millisecond()),
        category_id: task.category.clone(),
        tags: task.tags.clone(),
        status: task.status().as_str().to_owned(),
        completed_at,
        time_to_complete: completed_at.map(|at| at - task.created_at.as_millisecond()),
    }
}
