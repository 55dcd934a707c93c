//! The sled store of a view: rows, indexes, and how far the log is applied. The only file of the services that knows sled.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
    sync::PoisonError,
    sync::RwLock,
};

use crate::row::Stored;

/// Bytes of sled's own page cache.
const CACHE_BYTES: u64 = 4 << 20;
/// Between an index's key and the row's.
const SEPARATOR: char = '\0';

/// The view cannot be opened, read or written. It can be deleted: the next start rebuilds it.
#[derive(Debug, thiserror::Error)]
#[error("the view in {path} failed; it may be deleted, a start rebuilds it")]
pub struct DbError {
    path: String,
    #[source]
    cause: sled::Error,
}

/// A change of one row; `None` deletes it.
pub(crate) type RowChange = (&'static str, String, Option<Stored>);

/// Rows and indexes of one service. One writer at a time; readers see whole commits.
#[derive(Debug)]
pub(crate) struct Db {
    store: sled::Db,
    path: String,
    /// Held for writing while a commit is applied, so that readers never see half of one.
    commit: RwLock<()>,
    meta: sled::Tree,
    trees: BTreeMap<&'static str, Trees>,
}

#[derive(Debug)]
struct Trees {
    rows: sled::Tree,
    index: sled::Tree,
}

impl Db {
    pub(crate) fn open(
        path: &Path,
        tables: impl Iterator<Item = &'static str>,
    ) -> Result<Self, DbError> {
        let name = path.display().to_string();
        let failed = |cause| DbError { path: name.clone(), cause };
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            // What is not sealed is not believed, so nothing is written out in between.
            .flush_every_ms(None)
            .open()
            .map_err(failed)?;
        let mut trees = BTreeMap::new();
        for table in tables {
            let rows = db.open_tree(format!("rows/{table}")).map_err(failed)?;
            let index = db.open_tree(format!("index/{table}")).map_err(failed)?;
            trees.insert(table, Trees { rows, index });
        }
        let meta = db.open_tree("meta").map_err(failed)?;
        Ok(Self { store: db, path: name, commit: RwLock::new(()), meta, trees })
    }

    /// The offset up to which the table's topic is applied.
    pub(crate) fn applied_upto(&self, table: &str) -> Result<i64, DbError> {
        let found = self.meta.get(table).map_err(|cause| self.failed(cause))?;
        Ok(found.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, i64::from_be_bytes))
    }

    /// Whose log the view reflects: the cluster's id and the ids of the tables' topics.
    pub(crate) fn origin(&self) -> Result<Option<Vec<u8>>, DbError> {
        let found = self.meta.get("\0origin").map_err(|cause| self.failed(cause))?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    pub(crate) fn set_origin(&self, origin: &[u8]) -> Result<(), DbError> {
        self.meta.insert("\0origin", origin).map(drop).map_err(|cause| self.failed(cause))
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) -> Result<(), DbError> {
        let _guard = self.commit.write().unwrap_or_else(PoisonError::into_inner);
        self.meta.clear().map_err(|cause| self.failed(cause))?;
        for trees in self.trees.values() {
            trees.rows.clear().map_err(|cause| self.failed(cause))?;
            trees.index.clear().map_err(|cause| self.failed(cause))?;
        }
        Ok(())
    }

    /// Applies one commit: rows first, positions last.
    pub(crate) fn apply(
        &self,
        changes: impl IntoIterator<Item = RowChange>,
        positions: impl IntoIterator<Item = (String, i64)>,
        restore: impl Fn(&str, &[u8]) -> Vec<(&'static str, String)>,
    ) -> Result<(), DbError> {
        let _guard = self.commit.write().unwrap_or_else(PoisonError::into_inner);
        for (table, key, change) in changes {
            self.apply_row(table, &key, change, &restore).map_err(|cause| self.failed(cause))?;
        }
        for (table, position) in positions {
            self.meta.insert(table, &position.to_be_bytes()).map_err(|cause| self.failed(cause))?;
        }
        Ok(())
    }

    fn apply_row(
        &self,
        table: &str,
        key: &str,
        change: Option<Stored>,
        indexes_of: &impl Fn(&str, &[u8]) -> Vec<(&'static str, String)>,
    ) -> Result<(), sled::Error> {
        let Some(trees) = self.trees.get(table) else { return Ok(()) };
        let before = match &change {
            Some(stored) => trees.rows.insert(key, stored.value.as_slice())?,
            None => trees.rows.remove(key)?,
        };
        let old: Vec<_> = before.map(|value| indexes_of(table, &value)).unwrap_or_default();
        let new = change.map(|stored| stored.indexes).unwrap_or_default();
        for entry in old.iter().filter(|entry| !new.contains(entry)) {
            trees.index.remove(index_entry(entry.0, &entry.1, key))?;
        }
        for entry in new.iter().filter(|entry| !old.contains(entry)) {
            trees.index.insert(index_entry(entry.0, &entry.1, key), &[])?;
        }
        Ok(())
    }

    pub(crate) fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        let _guard = self.commit.read().unwrap_or_else(PoisonError::into_inner);
        let Some(trees) = self.trees.get(table) else { return Ok(None) };
        let found = trees.rows.get(key).map_err(|cause| self.failed(cause))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Rows from `from` on in the order of their keys, at most `limit`.
    pub(crate) fn scan(
        &self,
        table: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        let _guard = self.commit.read().unwrap_or_else(PoisonError::into_inner);
        let Some(trees) = self.trees.get(table) else { return Ok(Vec::new()) };
        trees
            .rows
            .range(from.as_bytes()..)
            .take(limit)
            .map(|found| found.map(|(key, value)| (text(&key), value.to_vec())))
            .collect::<Result<_, _>>()
            .map_err(|cause| self.failed(cause))
    }

    /// Index keys and row keys of `index` whose index key is in `from..to`, in order or reversed, at most `limit`.
    pub(crate) fn scan_index(
        &self,
        table: &str,
        index: &str,
        range: IndexRange<'_>,
    ) -> Result<Vec<(String, String)>, DbError> {
        let _guard = self.commit.read().unwrap_or_else(PoisonError::into_inner);
        let Some(trees) = self.trees.get(table) else { return Ok(Vec::new()) };
        let prefix = format!("{index}{SEPARATOR}");
        let from = [prefix.as_bytes(), range.from].concat();
        let to = match range.to {
            Some(to) => [prefix.as_bytes(), to].concat(),
            None => format!("{index}\u{1}").into_bytes(),
        };
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = trees.index.range(from..to);
        let split = |entry: Result<(sled::IVec, sled::IVec), sled::Error>| {
            entry.map(|(entry, _)| {
                let rest = text(entry.get(prefix.len()..).unwrap_or_default());
                let (key, row) = rest.split_once(SEPARATOR).unwrap_or((&rest, ""));
                (key.to_owned(), row.to_owned())
            })
        };
        let found: Result<Vec<_>, _> = if range.reversed {
            entries.rev().take(range.limit).map(split).collect()
        } else {
            entries.take(range.limit).map(split).collect()
        };
        found.map_err(|cause| self.failed(cause))
    }

    /// Writes everything to the disk and says so in the file `seal`, until [`break_seal`]. After that no apply.
    pub(crate) fn seal(&self, seal: &Path) -> io::Result<()> {
        self.store.flush().map_err(io::Error::other)?;
        // sled's flush does not wait for the disk.
        sync_files(Path::new(&self.path))?;
        File::create(seal)?.sync_all()?;
        sync_parent(seal)
    }

    fn failed(&self, cause: sled::Error) -> DbError {
        DbError { path: self.path.clone(), cause }
    }
}

/// Whether the view beside this seal is whole; from here on it is not. A kill may take rows from sled that it was given
/// before others that it keeps, so a view without a seal is of no use.
pub(crate) fn break_seal(seal: &Path) -> io::Result<bool> {
    match fs::remove_file(seal) {
        Ok(()) => sync_parent(seal).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Which entries of an index: bytes of `<index key>\0<row key>`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexRange<'a> {
    pub(crate) from: &'a [u8],
    /// Exclusive; `None` is the index's end.
    pub(crate) to: Option<&'a [u8]>,
    pub(crate) reversed: bool,
    pub(crate) limit: usize,
}

fn index_entry(index: &str, key: &str, row: &str) -> String {
    format!("{index}{SEPARATOR}{key}{SEPARATOR}{row}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Db {
        Db::open(&directory.join("view"), ["things"].into_iter()).unwrap()
    }

    #[test]
    fn a_view_is_whole_only_after_a_seal_and_only_once() {
        let directory = tempfile::tempdir().unwrap();
        let seal = directory.path().join("view.clean");
        assert!(!break_seal(&seal).unwrap());
        let db = open(directory.path());
        let stored = Stored { value: b"one".to_vec(), indexes: vec![("first", "x".to_owned())] };
        let rows = [("things", "1".to_owned(), Some(stored))];
        db.apply(rows, [("things".to_owned(), 7)], |_, _| Vec::new()).unwrap();
        db.set_origin(b"here").unwrap();
        db.seal(&seal).unwrap();
        drop(db);
        assert!(break_seal(&seal).unwrap());
        assert!(!break_seal(&seal).unwrap());
        let db = open(directory.path());
        assert_eq!(db.get("things", "1").unwrap(), Some(b"one".to_vec()));
        assert_eq!(db.applied_upto("things").unwrap(), 7);
        assert_eq!(db.origin().unwrap(), Some(b"here".to_vec()));
        db.clear().unwrap();
        assert_eq!(db.get("things", "1").unwrap(), None);
        assert_eq!((db.applied_upto("things").unwrap(), db.origin().unwrap()), (0, None));
    }
}
