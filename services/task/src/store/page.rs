//! One page of a list, read from ordered indexes: the work is in what is shown, not in what is
//! kept.

use super::prefix;
use crate::model::{
    Status, Task,
    query::{Filter, Place, Sort},
};
use std::collections::VecDeque;

/// Tasks looked at for one page. A filter that admits few of many tasks may end a page early; the
/// mark of the next page says that there may be more.
pub const EXAMINED_MAX_COUNT: usize = 5_000;
/// Tasks read from an index at once.
const CHUNK_MAX_COUNT: usize = 64;

/// Reads tasks in the order of an index.
pub(crate) trait Source {
    /// Tasks with their key in the index.
    fn read(&self, stretch: &Stretch<'_>) -> Vec<(String, Task)>;
}

/// A piece of an index: up to `count` entries whose keys begin with `prefix`, in key order or
/// against it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch<'a> {
    pub(crate) index: &'static str,
    pub(crate) prefix: &'a str,
    /// Only what comes behind this key and id.
    pub(crate) after: Option<(&'a str, i64)>,
    pub(crate) descending: bool,
    pub(crate) count: usize,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub teams: Vec<i64>,
    pub filter: Filter,
    pub sort: Sort,
    pub after: Option<Place>,
    pub limit: usize,
}

/// Tasks in order, and where to go on if there may be more.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Task>,
    pub next: Option<Place>,
}

pub(crate) fn page(source: &impl Source, ask: &Ask) -> Page {
    let mut items: Vec<Task> = Vec::new();
    let mut shown = None;
    let mut examined = 0;
    for last in [false, true] {
        let after = match &ask.after {
            Some(place) if place.last && !last => continue,
            after => after.as_ref().filter(|place| place.last == last),
        };
        let mut merge = Merge::new(ask, last, after);
        while let Some((place, task)) = merge.next(source) {
            if ask.filter.admits(&task) {
                if items.len() == ask.limit {
                    return Page { items, next: shown };
                }
                items.push(task);
                shown = Some(place.clone());
            }
            examined += 1;
            if examined == EXAMINED_MAX_COUNT {
                return Page { items, next: Some(place) };
            }
        }
    }
    Page { items, next: None }
}

/// The tasks of several teams in one order.
struct Merge {
    sort: Sort,
    last: bool,
    runs: Vec<Run>,
}

/// The tasks of one team in that order.
struct Run {
    prefix: String,
    /// The key and id behind which to read on.
    after: Option<(String, i64)>,
    ahead: VecDeque<(Place, Task)>,
    ended: bool,
}

impl Merge {
    fn new(ask: &Ask, last: bool, after: Option<&Place>) -> Merge {
        let open_only = ask.filter.status == Some(Status::Pending);
        let runs = ask.teams.iter().map(|team| {
            let prefix = prefix(*team, open_only, last);
            let after = after.map(|place| (format!("{prefix}{}", place.value), place.id));
            Run { prefix, after, ahead: VecDeque::new(), ended: false }
        });
        Merge { sort: ask.sort, last, runs: runs.collect() }
    }

    fn next(&mut self, source: &impl Source) -> Option<(Place, Task)> {
        for run in &mut self.runs {
            run.fill(source, self.sort, self.last);
        }
        let heads = self.runs.iter_mut().filter(|run| !run.ahead.is_empty());
        let place = |run: &&mut Run| run.ahead.front().map(|(place, _)| place.clone());
        let first =
            if self.sort.descending { heads.max_by_key(place) } else { heads.min_by_key(place) };
        first?.ahead.pop_front()
    }
}

impl Run {
    fn fill(&mut self, source: &impl Source, sort: Sort, last: bool) {
        if self.ended || !self.ahead.is_empty() {
            return;
        }
        let stretch = Stretch {
            index: sort.key.name(),
            prefix: &self.prefix,
            after: self.after.as_ref().map(|(key, id)| (key.as_str(), *id)),
            descending: sort.descending,
            count: CHUNK_MAX_COUNT,
        };
        let read = source.read(&stretch);
        self.ended = read.len() < CHUNK_MAX_COUNT;
        self.after = read.last().map(|(key, task)| (key.clone(), task.id));
        // The entry's key, not the task's present place: the task may have moved since.
        let place = |key: &str, id| {
            let value = key.strip_prefix(self.prefix.as_str()).unwrap_or_default().to_owned();
            Place { last, value, id }
        };
        self.ahead = read.into_iter().map(|(key, task)| (place(&key, task.id), task)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            Due, Priority,
            query::{AssigneeFilter, SortKey},
        },
        store::index_entries,
        testing::{Random, naive_list, random_task},
    };
    use std::{collections::BTreeMap, ops::Bound};

    /// Indexes as the view keeps them: ordered by key, then by id.
    #[derive(Default)]
    struct Memory(BTreeMap<(&'static str, String, i64), Task>);

    impl Memory {
        fn put(&mut self, task: &Task) {
            self.0.retain(|_, old| old.id != task.id);
            self.put_new(task);
        }

        fn put_new(&mut self, task: &Task) {
            for (index, key) in index_entries(task) {
                self.0.insert((index, key, task.id), task.clone());
            }
        }
    }

    impl Source for Memory {
        fn read(&self, stretch: &Stretch<'_>) -> Vec<(String, Task)> {
            let Stretch { index, prefix, after, descending, count } = *stretch;
            let first = (index, prefix.to_owned(), i64::MIN);
            let end = (index, format!("{prefix}\u{10FFFF}"), i64::MAX);
            let after = after.map(|(key, id)| (index, key.to_owned(), id));
            let show = |((_, key, _), task): (&(&'static str, String, i64), &Task)| {
                (key.clone(), task.clone())
            };
            if descending {
                let upper = Bound::Excluded(after.unwrap_or(end));
                let found = self.0.range((Bound::Included(first), upper));
                found.rev().take(count).map(show).collect()
            } else {
                let lower = after.map_or(Bound::Included(first), Bound::Excluded);
                self.0.range((lower, Bound::Excluded(end))).take(count).map(show).collect()
            }
        }
    }

    fn walk(memory: &Memory, mut ask: Ask) -> Vec<Task> {
        let mut all = Vec::new();
        loop {
            let page = page(memory, &ask);
            assert!(page.items.len() <= ask.limit);
            all.extend(page.items);
            match page.next {
                Some(next) => ask.after = Some(next),
                None => return all,
            }
        }
    }

    #[test]
    fn pages_put_together_are_the_naive_list_for_every_sort_and_filter() {
        let mut random = Random::new(7);
        let mut memory = Memory::default();
        let tasks: Vec<Task> = (1..=300).map(|id| random_task(&mut random, id)).collect();
        for task in &tasks {
            memory.put(task);
        }
        let filters = [
            Filter::default(),
            Filter { status: Some(Status::Pending), ..Filter::default() },
            Filter { status: Some(Status::Completed), ..Filter::default() },
            Filter { assignee: Some(AssigneeFilter::Person(2)), ..Filter::default() },
            Filter { assignee: Some(AssigneeFilter::Nobody), ..Filter::default() },
            Filter { priority: Some(Priority::High), ..Filter::default() },
            Filter { tag: Some("home".to_owned()), ..Filter::default() },
            Filter {
                due_before: Due::parse("2026-06-15").ok().map(|due| due.end()),
                ..Filter::default()
            },
            Filter { search: Some("b".to_owned()), ..Filter::default() },
        ];
        for key in SortKey::ALL {
            for descending in [false, true] {
                for filter in &filters {
                    for teams in [vec![1], vec![1, 2, 3], vec![], vec![9]] {
                        let ask = Ask {
                            teams,
                            filter: filter.clone(),
                            sort: Sort { key, descending },
                            after: None,
                            limit: 1 + random.below(120),
                        };
                        assert_eq!(walk(&memory, ask.clone()), naive_list(&tasks, &ask), "{ask:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_page_goes_on_where_the_last_ended_though_tasks_came_and_went() {
        let mut random = Random::new(11);
        let mut memory = Memory::default();
        let mut tasks: Vec<Task> = (1..=60).map(|id| random_task(&mut random, id)).collect();
        for task in &mut tasks {
            task.team_id = 1;
            memory.put(task);
        }
        let sort = Sort { key: SortKey::Title, descending: false };
        let ask = Ask { teams: vec![1], filter: Filter::default(), sort, after: None, limit: 20 };
        let first = page(&memory, &ask);
        let mut inserted = first.items[3].clone();
        inserted.id = 1_000;
        memory.put(&inserted);
        let gone = first.items.last().unwrap().id;
        memory.0.retain(|_, task| task.id != gone);
        let rest = walk(&memory, Ask { after: first.next, ..ask.clone() });
        let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
        assert_eq!(ids(&rest), ids(&naive_list(&tasks, &ask))[20..]);
    }

    #[test]
    fn a_page_ends_early_rather_than_look_at_everything() {
        let mut memory = Memory::default();
        let mut random = Random::new(3);
        let template = random_task(&mut random, 1);
        let many = i64::try_from(EXAMINED_MAX_COUNT).unwrap() + 10;
        for id in 1..=many {
            let mut task = template.clone();
            task.id = id;
            memory.put_new(&task);
        }
        let ask = Ask {
            teams: vec![template.team_id],
            filter: Filter { search: Some("no such text".to_owned()), ..Filter::default() },
            sort: Sort::default(),
            after: None,
            limit: 10,
        };
        let first = page(&memory, &ask);
        assert!(first.items.is_empty());
        assert!(first.next.is_some());
    }
}
