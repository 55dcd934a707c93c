//! Random tasks and the plain list that pages are compared with.

use crate::{
    model::{Draft, Due, Priority, Task},
    store::Ask,
};
use jiff::Timestamp;

/// A small generator (xorshift) so that a failing seed can be run again.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

pub(crate) const TITLES: [&str; 7] = ["a", "A", "ab", "B c", "bC", "Öl", "zebra"];
pub(crate) const DUES: [&str; 5] =
    ["2026-06-14", "2026-06-15", "2026-06-15T10:00:00+02:00", "1066-10-14", "2026-06-15T23:59:59Z"];
pub(crate) const TAGS: [&str; 4] = ["Home", "home", "work", "b"];

pub(crate) fn random_task(random: &mut Random, id: i64) -> Task {
    let draft = Draft {
        title: random.pick(&TITLES).to_owned(),
        description: random.pick(&[None, Some("with B".to_owned())]),
        priority: random.pick(&Priority::ALL),
        due_date: match random.below(3) {
            0 => None,
            _ => Due::parse(random.pick(&DUES)).ok(),
        },
        category: None,
        tags: vec![random.pick(&TAGS).to_owned()],
        team_id: random.pick(&[1, 2, 3]),
        creator_id: 1,
        assignee_id: random.pick(&[None, Some(1), Some(2)]),
    };
    let time = |random: &mut Random| {
        Timestamp::from_millisecond(i64::try_from(random.below(40)).unwrap()).unwrap()
    };
    let mut task = draft.into_task(id, format!("{id}"), time(random));
    task.updated_at = time(random);
    task.completed_at = random.pick(&[None, Some(Timestamp::UNIX_EPOCH)]);
    task
}

/// Filter everything, sort everything.
pub(crate) fn naive_list(tasks: &[Task], ask: &Ask) -> Vec<Task> {
    use crate::model::query::SortKey;
    let mut list: Vec<Task> = tasks
        .iter()
        .filter(|task| ask.teams.contains(&task.team_id) && ask.filter.admits(task))
        .cloned()
        .collect();
    list.sort_by(|a, b| {
        let values = match ask.sort.key {
            SortKey::CreatedAt => a.created_at.cmp(&b.created_at),
            SortKey::UpdatedAt => a.updated_at.cmp(&b.updated_at),
            SortKey::Priority => a.priority.cmp(&b.priority),
            SortKey::Title => a.title.to_lowercase().cmp(&b.title.to_lowercase()),
            SortKey::DueDate => {
                let end = |task: &Task| task.due_date.as_ref().map(Due::end);
                match (end(a), end(b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    (None, None) => std::cmp::Ordering::Equal,
                    (one, _) => {
                        let undated_last = if one.is_none() {
                            std::cmp::Ordering::Greater
                        } else {
                            std::cmp::Ordering::Less
                        };
                        return undated_last;
                    }
                }
            }
        };
        let order = values.then(a.id.cmp(&b.id));
        if ask.sort.descending { order.reverse() } else { order }
    });
    list
}
