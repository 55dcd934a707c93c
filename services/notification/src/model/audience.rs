//! Who is told about an event.

use crate::model::happening::TaskChange;

/// The creator, and the assignee if there is one and it is not the creator; if they are in the task's team.
pub(crate) fn of_task(change: &TaskChange) -> Vec<i64> {
    let assignee = change.assignee_id.filter(|assignee| change.creator_id != Some(*assignee));
    change.creator_id.into_iter().chain(assignee).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::happening::Kind;

    fn told(creator_id: Option<i64>, assignee_id: Option<i64>) -> Vec<i64> {
        of_task(&TaskChange {
            kind: Kind::TaskUpdated,
            task_id: 1,
            team_id: None,
            actor_id: None,
            creator_id,
            assignee_id,
            title: None,
        })
    }

    #[test]
    fn creator_and_assignee_are_told_and_nobody_twice() {
        assert_eq!(told(Some(1), Some(2)), [1, 2]);
        assert_eq!(told(Some(1), Some(1)), [1]);
        assert_eq!(told(Some(1), None), [1]);
        assert_eq!(told(None, Some(2)), [2]);
    }
}
