//! What a service knows, as its handlers read it.

use std::sync::Arc;

use crate::{
    db::{Db, IndexRange},
    row::{Row, load},
};

/// The tables of a service as of the last commit. Cheap to clone; every read is from memory or the local disk.
///
/// A view that cannot be read panics: the request fails, and the next write ends the service, which rebuilds it.
#[derive(Clone, Debug)]
pub struct View(pub(crate) Arc<Db>);

/// Where a walk over an index goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk<'a> {
    /// Only index keys that begin so.
    pub prefix: &'a str,
    /// Only what comes behind this index key and row key, in the walk's direction.
    pub after: Option<(&'a str, &'a str)>,
    /// From the end to the beginning.
    pub reversed: bool,
    /// At most so many rows.
    pub limit: usize,
}

impl View {
    /// The row with that key.
    pub fn get<T: Row>(&self, key: &str) -> Option<T> {
        read(self.0.get(T::TABLE, key)).map(|value| decode(&value))
    }

    /// All rows whose key in `index` is `key`, ordered by the row's key.
    pub fn by_index<T: Row>(&self, index: &'static str, key: &str) -> Vec<T> {
        self.index_rows(T::TABLE, index, key).into_iter().filter_map(|row| self.get(&row)).collect()
    }

    /// Rows from the key `from` on, in the order of their keys, at most `limit`.
    pub fn scan<T: Row>(&self, from: &str, limit: usize) -> Vec<T> {
        read(self.0.scan(T::TABLE, from, limit)).iter().map(|(_, value)| decode(value)).collect()
    }

    /// Rows in the order of an index, with their key in it.
    pub fn walk<T: Row>(&self, index: &'static str, walk: Walk<'_>) -> Vec<(String, T)> {
        let end = after(walk.prefix);
        let next = walk.after.map(|(key, row)| format!("{key}\0{row}"));
        let (from, to) = match (&next, walk.reversed) {
            (None, _) => (walk.prefix.as_bytes().to_vec(), end),
            (Some(next), false) => ([next.as_bytes(), &[0]].concat(), end),
            (Some(next), true) => (walk.prefix.as_bytes().to_vec(), Some(next.as_bytes().to_vec())),
        };
        let range = IndexRange {
            from: &from,
            to: to.as_deref(),
            reversed: walk.reversed,
            limit: walk.limit,
        };
        let found = read(self.0.scan_index(T::TABLE, index, range));
        found.into_iter().filter_map(|(key, row)| Some((key, self.get(&row)?))).collect()
    }

    pub(crate) fn raw(&self, table: &str, key: &str) -> Option<Vec<u8>> {
        read(self.0.get(table, key))
    }

    pub(crate) fn raw_scan(&self, table: &str, from: &str, limit: usize) -> Vec<(String, Vec<u8>)> {
        read(self.0.scan(table, from, limit))
    }

    /// The keys of the rows whose key in `index` is exactly `key`.
    pub(crate) fn index_rows(&self, table: &str, index: &str, key: &str) -> Vec<String> {
        let (from, to) = (format!("{key}\0"), format!("{key}\u{1}"));
        let range = IndexRange {
            from: from.as_bytes(),
            to: Some(to.as_bytes()),
            reversed: false,
            limit: usize::MAX,
        };
        read(self.0.scan_index(table, index, range)).into_iter().map(|(_, row)| row).collect()
    }
}

/// The first bytes that do not begin with `prefix`; `None` if there are none.
fn after(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

#[expect(clippy::panic, reason = "a view that cannot be read is of no use to any request")]
pub(crate) fn read<T>(result: Result<T, crate::DbError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

#[expect(clippy::panic, reason = "every value was decoded once before it came into the view")]
pub(crate) fn decode<T: Row>(value: &[u8]) -> T {
    load(value).unwrap_or_else(|error| panic!("a row of {} cannot be read: {error}", T::TABLE))
}
