//! Filters, orders and page marks of a list of tasks.

use super::{Invalid, Priority, Status, Task, due, fields};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Characters of a search text.
pub const SEARCH_MAX_CHARS: usize = 200;

/// By what a list is ordered; equal ones by id, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    CreatedAt,
    UpdatedAt,
    DueDate,
    /// From LOW to CRITICAL.
    Priority,
    /// Without regard to case.
    Title,
}

impl SortKey {
    pub const ALL: [SortKey; 5] = [
        SortKey::CreatedAt,
        SortKey::UpdatedAt,
        SortKey::DueDate,
        SortKey::Priority,
        SortKey::Title,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SortKey::CreatedAt => "createdAt",
            SortKey::UpdatedAt => "updatedAt",
            SortKey::DueDate => "dueDate",
            SortKey::Priority => "priority",
            SortKey::Title => "title",
        }
    }

    /// Where a task stands in this order.
    pub fn place(self, task: &Task) -> Place {
        let value = match self {
            SortKey::CreatedAt => instant(task.created_at),
            SortKey::UpdatedAt => instant(task.updated_at),
            SortKey::DueDate => match &task.due_date {
                Some(due) => instant(due.end()),
                None => return Place { last: true, value: String::new(), id: task.id },
            },
            SortKey::Priority => (match task.priority {
                Priority::Low => "0",
                Priority::Medium => "1",
                Priority::High => "2",
                Priority::Critical => "3",
            })
            .to_owned(),
            SortKey::Title => fields::folded(&task.title),
        };
        Place { last: false, value, id: task.id }
    }
}

/// Where a task stands in an order; no two tasks share a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Behind all others whichever the direction, as tasks without a due date are.
    pub last: bool,
    /// Its byte order is the order.
    pub value: String,
    /// Decides between equal values.
    pub id: i64,
}

/// An order and its direction: `dueDate`, `-dueDate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub key: SortKey,
    pub descending: bool,
}

impl Default for Sort {
    /// The newest first.
    fn default() -> Sort {
        Sort { key: SortKey::CreatedAt, descending: true }
    }
}

impl Sort {
    pub fn parse(text: &str) -> Result<Sort, Invalid> {
        let (name, descending) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let known = SortKey::ALL.into_iter().find(|key| key.name() == name);
        let key = known.ok_or_else(|| {
            let names = SortKey::ALL.map(SortKey::name).join(", ");
            Invalid::new("sort", format!("must be one of {names}, with - before it to turn it"))
        })?;
        Ok(Sort { key, descending })
    }

    /// As [`Sort::parse`] reads it.
    pub fn name(self) -> String {
        format!("{}{}", if self.descending { "-" } else { "" }, self.key.name())
    }
}

/// Whose tasks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssigneeFilter {
    Nobody,
    Person(i64),
}

impl AssigneeFilter {
    /// A user id, `me` or `none`.
    pub fn parse(text: &str, me: i64) -> Result<AssigneeFilter, Invalid> {
        match text {
            "me" => Ok(AssigneeFilter::Person(me)),
            "none" => Ok(AssigneeFilter::Nobody),
            number => number
                .parse()
                .ok()
                .map(AssigneeFilter::Person)
                .ok_or_else(|| Invalid::new("assigneeId", "must be a user's id, me or none")),
        }
    }
}

/// What a task must be like to be listed; the team is chosen before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub status: Option<Status>,
    pub assignee: Option<AssigneeFilter>,
    pub priority: Option<Priority>,
    /// In folded form.
    pub tag: Option<String>,
    pub due_before: Option<Timestamp>,
    /// In folded form; looked for in title, description and tags.
    pub search: Option<String>,
}

impl Filter {
    pub fn admits(&self, task: &Task) -> bool {
        let assignee = match self.assignee {
            None => true,
            Some(AssigneeFilter::Nobody) => task.assignee_id.is_none(),
            Some(AssigneeFilter::Person(id)) => task.assignee_id == Some(id),
        };
        assignee
            && self.status.is_none_or(|status| task.status() == status)
            && self.priority.is_none_or(|priority| task.priority == priority)
            && self
                .due_before
                .is_none_or(|bound| task.due_date.as_ref().is_some_and(|due| due.end() < bound))
            && self
                .tag
                .as_deref()
                .is_none_or(|tag| task.tags.iter().any(|own| fields::folded(own) == tag))
            && self.search.as_deref().is_none_or(|words| found(words, task))
    }
}

fn found(words: &str, task: &Task) -> bool {
    let texts = [Some(&task.title), task.description.as_ref()];
    texts.into_iter().flatten().chain(&task.tags).any(|text| fields::folded(text).contains(words))
}

/// The filter value of a tag.
pub fn tag(text: &str) -> Result<String, Invalid> {
    let one =
        fields::tags(&[text.to_owned()]).map_err(|error| Invalid::new("tag", error.message))?;
    Ok(one.first().map(|tag| fields::folded(tag)).unwrap_or_default())
}

/// The filter value of a search; blanks alone search for nothing.
pub fn search(text: &str) -> Result<Option<String>, Invalid> {
    if text.chars().nth(SEARCH_MAX_CHARS).is_some() {
        let message = format!("must not be longer than {SEARCH_MAX_CHARS} characters");
        return Err(Invalid::new("q", message));
    }
    Ok(Some(fields::folded(text.trim())).filter(|words| !words.is_empty()))
}

/// The filter value of `dueBefore`.
pub fn due_before(text: &str) -> Result<Timestamp, Invalid> {
    due::parse_bound(text).map_err(|error| Invalid::new("dueBefore", error.to_string()))
}

/// Milliseconds, shifted so that years before 1970 sort as text too.
fn instant(time: Timestamp) -> String {
    number(time.as_millisecond())
}

/// Sixteen hexadecimal digits whose order as text is the number's order.
pub(crate) fn number(value: i64) -> String {
    format!("{:016x}", value.cast_unsigned() ^ (1 << 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Due, edit::tests::sample};

    #[test]
    fn numbers_sort_as_text() {
        let numbers = [i64::MIN, -62_135_596_800_000, -1, 0, 1, 9, 10, 253_402_300_799_999];
        assert!(numbers.is_sorted_by_key(|value| number(*value)));
    }

    #[test]
    fn places_order_by_value_then_id() {
        let with = |title: &str, id| Task { title: title.to_owned(), id, ..sample() };
        let tasks = [with("a", 9), with("A b", 1), with("ab", 2), with("AB", 3), with("b", 1)];
        assert!(tasks.is_sorted_by_key(|task| SortKey::Title.place(task)));
        let mut undated = sample();
        undated.due_date = None;
        assert!(SortKey::DueDate.place(&undated).last);
        let mut early = sample();
        early.due_date = Due::parse("1066-10-14").ok();
        assert!(SortKey::DueDate.place(&early) < SortKey::DueDate.place(&sample()));
    }

    #[test]
    fn sorts_are_read_and_others_refused() {
        let turned = Sort { key: SortKey::DueDate, descending: true };
        assert_eq!(Sort::parse("-dueDate"), Ok(turned));
        assert_eq!(Sort::parse("title"), Ok(Sort { key: SortKey::Title, descending: false }));
        for bad in ["", "-", "--title", "duedate", "assignee"] {
            assert_eq!(Sort::parse(bad).unwrap_err().field, "sort");
        }
    }

    #[test]
    fn each_filter_admits_and_refuses() {
        let task = sample();
        let none = Filter::default();
        assert!(none.admits(&task));
        let admitting = [
            Filter { status: Some(Status::Pending), ..none.clone() },
            Filter { assignee: Some(AssigneeFilter::Person(8)), ..none.clone() },
            Filter { priority: Some(Priority::Medium), ..none.clone() },
            Filter { tag: tag(" HOME ").ok(), ..none.clone() },
            Filter { due_before: due_before("2026-12-25").ok(), ..none.clone() },
            Filter { search: search("LITRE").unwrap(), ..none.clone() },
            Filter { search: search("hom").unwrap(), ..none.clone() },
        ];
        for filter in admitting {
            assert!(filter.admits(&task), "{filter:?}");
        }
        let refusing = [
            Filter { status: Some(Status::Completed), ..none.clone() },
            Filter { assignee: Some(AssigneeFilter::Nobody), ..none.clone() },
            Filter { assignee: Some(AssigneeFilter::Person(7)), ..none.clone() },
            Filter { priority: Some(Priority::High), ..none.clone() },
            Filter { tag: tag("hom").ok(), ..none.clone() },
            Filter { due_before: due_before("2026-12-24").ok(), ..none.clone() },
            Filter { search: search("bread").unwrap(), ..none },
        ];
        for filter in refusing {
            assert!(!filter.admits(&task), "{filter:?}");
        }
    }
}
