//! What a command may see and change: the view, its neighbours' changes that are not committed yet, and its own.

use std::collections::BTreeMap;

use events::{Event, Meta, Publish};
use jiff::Timestamp;

use crate::{
    row::{Counter, Row, Stored, store},
    view::{View, decode},
};

/// Changes that are planned and not yet in the view.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) rows: BTreeMap<(&'static str, String), Option<Stored>>,
    pub(crate) records: Vec<Outgoing>,
}

/// A record to be produced beside the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl From<Event> for Outgoing {
    fn from(event: Event) -> Self {
        let headers = event.headers.into_iter();
        Self {
            topic: event.topic.to_owned(),
            key: Some(event.key.into_bytes()),
            value: Some(event.value),
            headers: headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
        }
    }
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.records.is_empty()
    }

    /// Takes over what a command planned.
    pub(crate) fn absorb(&mut self, planned: Changes) {
        self.rows.extend(planned.rows);
        self.records.extend(planned.records);
    }
}

/// What caused a command; goes into the headers of its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    pub correlation_id: String,
    pub traceparent: String,
}

/// One command's plan. What it does takes effect if the command is accepted and its transaction committed.
#[derive(Debug)]
pub struct Tx<'a> {
    view: &'a View,
    /// Accepted neighbours in the same transaction.
    neighbours: &'a Changes,
    pub(crate) own: Changes,
    now: Timestamp,
    cause: Cause,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        view: &'a View,
        neighbours: &'a Changes,
        now: Timestamp,
        cause: Cause,
    ) -> Self {
        Self { view, neighbours, own: Changes::default(), now, cause }
    }

    /// What follows is a consequence of something else.
    pub(crate) fn caused_by(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// The instant of this command; the same however often it is asked.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The row with that key.
    pub fn get<T: Row>(&self, key: &str) -> Option<T> {
        match self.planned(T::TABLE, key) {
            Some(change) => change.as_ref().map(|stored| decode(&stored.value)),
            None => self.view.raw(T::TABLE, key).map(|value| decode(&value)),
        }
    }

    /// Inserts or replaces a row.
    pub fn put<T: Row>(&mut self, row: &T) {
        self.own.rows.insert((T::TABLE, row.key()), Some(store(row)));
    }

    /// Deletes the row with that key, if there is one.
    pub fn delete<T: Row>(&mut self, key: &str) {
        if self.get::<T>(key).is_some() {
            self.own.rows.insert((T::TABLE, key.to_owned()), None);
        }
    }

    /// All rows whose key in `index` is `key`, ordered by the row's key.
    pub fn by_index<T: Row>(&self, index: &'static str, key: &str) -> Vec<T> {
        let mut found: BTreeMap<String, T> = BTreeMap::new();
        for row in self.view.index_rows(T::TABLE, index, key) {
            if self.planned(T::TABLE, &row).is_none()
                && let Some(value) = self.view.raw(T::TABLE, &row)
            {
                found.insert(row, decode(&value));
            }
        }
        for (row, stored) in self.planned_rows(T::TABLE) {
            if stored.indexes.iter().any(|(name, entry)| *name == index && entry == key) {
                found.insert(row.to_owned(), decode(&stored.value));
            }
        }
        found.into_values().collect()
    }

    /// Rows from the key `from` on, in the order of their keys, at most `limit`.
    pub fn scan<T: Row>(&self, from: &str, limit: usize) -> Vec<T> {
        let planned = self.neighbours.rows.len() + self.own.rows.len();
        let mut found: BTreeMap<String, T> = BTreeMap::new();
        for (row, value) in self.view.raw_scan(T::TABLE, from, limit.saturating_add(planned)) {
            if self.planned(T::TABLE, &row).is_none() {
                found.insert(row, decode(&value));
            }
        }
        for (row, stored) in self.planned_rows(T::TABLE) {
            if row >= from {
                found.insert(row.to_owned(), decode(&stored.value));
            }
        }
        found.into_values().take(limit).collect()
    }

    /// The next number of a counter, from 1; never given twice, with gaps only after a refusal.
    pub fn next_id(&mut self, counter: &'static str) -> i64 {
        let last = self.get::<Counter>(counter).map_or(0, |counter| counter.last) + 1;
        self.put(&Counter { name: counter.to_owned(), last });
        last
    }

    /// Tells of what happened, in the same transaction; gives the event's id.
    pub fn emit(&mut self, event: impl Publish) -> String {
        let meta = self.meta();
        let event_id = meta.event_id.clone();
        self.own.records.push(event.into_event(&meta).into());
        event_id
    }

    /// Tells of one change on several topics under one event id.
    pub fn meta(&self) -> Meta {
        Meta {
            event_id: crate::http::trace::uuid(),
            at: self.now,
            correlation_id: self.cause.correlation_id.clone(),
            traceparent: self.cause.traceparent.clone(),
        }
    }

    /// Adds a record as it is, such as an event that was rendered with [`Tx::meta`].
    pub fn push(&mut self, record: impl Into<Outgoing>) {
        self.own.records.push(record.into());
    }

    /// The state before this transaction, for walks over an index.
    pub fn committed(&self) -> &'a View {
        self.view
    }

    fn planned(&self, table: &'static str, key: &str) -> Option<&Option<Stored>> {
        let key = (table, key.to_owned());
        self.own.rows.get(&key).or_else(|| self.neighbours.rows.get(&key))
    }

    /// Rows that are planned to be there: a command's own change hides its neighbours'.
    fn planned_rows(&self, table: &'static str) -> impl Iterator<Item = (&str, &Stored)> {
        let neighbours =
            self.neighbours.rows.iter().filter(|(key, _)| !self.own.rows.contains_key(*key));
        self.own.rows.iter().chain(neighbours).filter_map(move |((name, key), change)| {
            (*name == table).then_some(key.as_str()).zip(change.as_ref())
        })
    }
}
