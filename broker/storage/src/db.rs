//! The map: sled, which finds things again faster than the logs would. All of it can be rebuilt.
//!
//! The only file that names sled. One thread writes; sled's transactions and batches, which take a
//! lock of the whole process, are not used. Where there is no real disk there is no map, and the
//! rows stay in memory.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use wire::{Offset, TimestampMs, TopicId};

use crate::{
    api::PartitionId,
    codec::{Reader, Writer, position},
    host::{Disk, Open},
    log_state::{Row, decode_aborted, encode_aborted},
    producer::Aborted,
};

const CACHE_BYTES: u64 = 8 << 20;
const FLUSH_EVERY_MS: u64 = 500;
/// The file that names the generation that counts.
const CURRENT: &str = "current";
/// What the files may take beside the rows in them.
const SPARE_BYTES: u64 = 64 << 20;
/// How many times the rows they may be large.
const MOST_TIMES_LIVE: u64 = 4;

/// The map, if this host can have one.
#[derive(Debug)]
pub(crate) struct Map {
    dir: PathBuf,
    /// The generation of the trees, which is the name of their directory.
    number: AtomicU64,
    /// Replaced when they have become too large.
    trees: RwLock<Option<Trees>>,
    /// The size at which they were last looked at.
    looked_at: AtomicU64,
}

#[derive(Clone, Debug)]
struct Trees {
    db: sled::Db,
    rows: sled::Tree,
    aborted: sled::Tree,
    logs: sled::Tree,
}

impl Trees {
    fn open(dir: &Path) -> io::Result<Self> {
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .open()
            .map_err(failed)?;
        let tree = |name: &str| db.open_tree(name).map_err(failed);
        let (rows, aborted, logs) = (tree("rows")?, tree("aborted")?, tree("logs")?);
        Ok(Self { db, rows, aborted, logs })
    }

    fn all(&self) -> [&sled::Tree; 3] {
        [&self.rows, &self.aborted, &self.logs]
    }

    /// The bytes of all keys and values.
    fn live_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for row in self.all().into_iter().flat_map(sled::Tree::iter) {
            let (key, value) = row.map_err(failed)?;
            bytes += position(key.len() + value.len());
        }
        Ok(bytes)
    }
}

impl Map {
    pub(crate) fn none() -> Self {
        Self {
            dir: PathBuf::new(),
            number: AtomicU64::new(0),
            trees: RwLock::new(None),
            looked_at: AtomicU64::new(0),
        }
    }

    /// Opens the newest generation; without one, an empty first.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let newest = std::fs::read_to_string(dir.join(CURRENT)).ok();
        let newest = newest.and_then(|number| number.parse().ok());
        // A copy that was cut short, or what it had taken the place of.
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let own = newest.is_some_and(|number| path == generation(dir, number));
            if path.is_dir() && !own {
                std::fs::remove_dir_all(&path)?;
            }
        }
        let number = newest.unwrap_or(0);
        let trees = Trees::open(&generation(dir, number))?;
        if newest.is_none() {
            set_current(dir, number)?;
        }
        let map = Self {
            dir: dir.to_path_buf(),
            number: AtomicU64::new(number),
            trees: RwLock::new(Some(trees)),
            looked_at: AtomicU64::new(0),
        };
        map.shrink()?;
        Ok(map)
    }

    /// The same map, if everything in it can be read but index rows, without which a read takes longer: sled
    /// looks at a page when it needs it.
    pub(crate) fn checked(self) -> io::Result<Self> {
        if let Some(trees) = self.trees() {
            for row in trees.logs.iter().chain(trees.aborted.iter()) {
                row.map_err(failed)?;
            }
        }
        Ok(self)
    }

    fn trees(&self) -> Option<Trees> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Copies the live rows to new trees once the files are far larger than they are; sled alone
    /// sets no such bound. Called by the one who writes. Answers whether that was so.
    pub(crate) fn shrink(&self) -> io::Result<bool> {
        self.shrink_beyond(SPARE_BYTES)
    }

    pub(crate) fn shrink_beyond(&self, spare: u64) -> io::Result<bool> {
        let Some(trees) = self.trees() else { return Ok(false) };
        let size = trees.db.size_on_disk().map_err(failed)?;
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        if size <= spare || size < looked_at + looked_at / 4 {
            return Ok(false);
        }
        self.looked_at.store(size, Ordering::Relaxed);
        if size <= spare + MOST_TIMES_LIVE * trees.live_bytes()? {
            return Ok(false);
        }
        let old = self.number.load(Ordering::Relaxed);
        let next = generation(&self.dir, old + 1);
        if next.exists() {
            // A copy that failed halfway.
            std::fs::remove_dir_all(&next)?;
        }
        let copied = Trees::open(&next)?;
        for (from, to) in trees.all().into_iter().zip(copied.all()) {
            for row in from {
                let (key, value) = row.map_err(failed)?;
                to.insert(key, value).map_err(failed)?;
            }
        }
        copied.db.flush().map_err(failed)?;
        set_current(&self.dir, old + 1)?;
        *self.trees.write().unwrap_or_else(PoisonError::into_inner) = Some(copied);
        self.number.store(old + 1, Ordering::Relaxed);
        self.looked_at.store(0, Ordering::Relaxed);
        // Who reads the old trees has their file open.
        std::fs::remove_dir_all(generation(&self.dir, old))?;
        Ok(true)
    }

    /// Whether rows that are put here are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.trees.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn put_row(&self, partition: PartitionId, row: &Row) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        let mut value = Writer::default();
        value.i64(row.segment.0).u64(row.position).i64(row.max_timestamp_before.0);
        trees.rows.insert(key(partition, row.offset), value.0).map_err(failed)?;
        Ok(())
    }

    pub(crate) fn put_aborted(&self, partition: PartitionId, aborted: &Aborted) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        let mut value = Writer::default();
        encode_aborted(&mut value, aborted);
        trees.aborted.insert(key(partition, aborted.last_offset), value.0).map_err(failed)?;
        Ok(())
    }

    /// Where the rows of partitions reach, once the kernel has them: a process that is killed may lose
    /// the row that it put last and keep what it put after it.
    pub(crate) fn put_logs(&self, logs: &[(PartitionId, Vec<u8>)]) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        self.flush()?;
        for (partition, log) in logs {
            trees.logs.insert(prefix(*partition), log.as_slice()).map_err(failed)?;
        }
        self.flush()
    }

    pub(crate) fn log(&self, partition: PartitionId) -> io::Result<Option<Vec<u8>>> {
        let Some(trees) = self.trees() else { return Ok(None) };
        let found = trees.logs.get(prefix(partition)).map_err(failed)?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Forgets a partition.
    pub(crate) fn remove(&self, partition: PartitionId) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        trees.logs.remove(prefix(partition)).map_err(failed)?;
        for tree in [&trees.rows, &trees.aborted] {
            for found in tree.scan_prefix(prefix(partition)).keys() {
                tree.remove(found.map_err(failed)?).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Forgets all partitions of a topic.
    pub(crate) fn remove_topic(&self, topic: TopicId) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        for tree in trees.all() {
            for found in tree.scan_prefix(topic.0.as_bytes()).keys() {
                tree.remove(found.map_err(failed)?).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Forgets what is in front of `first`.
    pub(crate) fn trim(&self, partition: PartitionId, first: Offset) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        for tree in [&trees.rows, &trees.aborted] {
            for found in tree.range(prefix(partition)..key(partition, first)).keys() {
                tree.remove(found.map_err(failed)?).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Forgets how far the partition's rows reach, and those from `base` up to `end`.
    pub(crate) fn forget(
        &self,
        partition: PartitionId,
        base: Offset,
        end: Offset,
    ) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        trees.logs.remove(prefix(partition)).map_err(failed)?;
        for found in trees.rows.range(key(partition, base)..key(partition, end)).keys() {
            trees.rows.remove(found.map_err(failed)?).map_err(failed)?;
        }
        Ok(())
    }

    /// Forgets an aborted transaction by its marker.
    pub(crate) fn remove_aborted(&self, partition: PartitionId, marker: Offset) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        trees.aborted.remove(key(partition, marker)).map_err(failed)?;
        Ok(())
    }

    /// The marker of the last aborted transaction there is.
    pub(crate) fn last_aborted(&self, partition: PartitionId) -> io::Result<Option<Offset>> {
        let Some(trees) = self.trees() else { return Ok(None) };
        let last = trees.aborted.scan_prefix(prefix(partition)).keys().next_back();
        let last = last.transpose().map_err(failed)?;
        Ok(last.and_then(|key| Some(Offset(i64::from_be_bytes(*key.last_chunk()?)))))
    }

    /// Hands everything to the kernel.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let Some(trees) = self.trees() else { return Ok(()) };
        trees.db.flush().map_err(failed)?;
        Ok(())
    }

    /// Makes what was flushed durable: sled itself does not.
    pub(crate) fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        if !self.keeps() {
            return Ok(());
        }
        let dir = generation(&self.dir, self.number.load(Ordering::Relaxed));
        disk.open(&dir.join("db"), Open::Write)?.sync()?;
        // Where sled puts values that are too large for a page.
        let blobs = dir.join("blobs");
        if disk.exists(&blobs) {
            for name in disk.list(&blobs)? {
                disk.open(&blobs.join(name), Open::Write)?.sync()?;
            }
            disk.sync_dir(&blobs)?;
        }
        disk.open(&self.dir.join(CURRENT), Open::Write)?.sync()?;
        disk.sync_dir(&dir)?;
        disk.sync_dir(&self.dir)
    }

    /// The last row at or before `offset`.
    pub(crate) fn row_before(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> io::Result<Option<Row>> {
        let Some(trees) = self.trees() else { return Ok(None) };
        let after = key(partition, offset.plus(1));
        let found = trees.rows.get_lt(after).map_err(failed)?;
        found
            .filter(|(key, _)| key.starts_with(&prefix(partition)))
            .map(|(key, value)| row(&key, &value))
            .transpose()
    }

    /// The rows from `from` on of the file that begins at `base`, in order, as long as they can be
    /// read.
    pub(crate) fn rows(
        &self,
        partition: PartitionId,
        from: Offset,
        base: Offset,
    ) -> impl Iterator<Item = Row> + use<> {
        let rows = self.trees().map(|trees| trees.rows.range(key(partition, from)..));
        let own = prefix(partition);
        rows.into_iter()
            .flatten()
            .map_while(Result::ok)
            .take_while(move |(key, _)| key.starts_with(&own))
            .map_while(|(key, value)| row(&key, &value).ok())
            .take_while(move |row| row.segment == base)
    }

    /// Aborted transactions whose marker is at `from` or beyond and which began before `upper`.
    pub(crate) fn aborted(
        &self,
        partition: PartitionId,
        from: Offset,
        upper: Offset,
    ) -> io::Result<Vec<Aborted>> {
        let mut all = Vec::new();
        let Some(trees) = self.trees() else { return Ok(all) };
        let own = prefix(partition);
        for found in trees.aborted.range(key(partition, from)..) {
            let (key, value) = found.map_err(failed)?;
            if !key.starts_with(&own) {
                break;
            }
            let aborted = decode_aborted(&mut Reader(&value)).ok_or_else(damaged)?;
            if aborted.first_offset < upper {
                all.push(aborted);
            }
            if aborted.last_stable_offset >= upper {
                break;
            }
        }
        Ok(all)
    }

    #[cfg(test)]
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.trees().unwrap().db.size_on_disk().unwrap()
    }

    /// Every row there is, as text, to compare two maps.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(trees) = self.trees() else { return Vec::new() };
        trees
            .all()
            .into_iter()
            .flat_map(|tree| tree.iter().map(|row| row.unwrap()))
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect()
    }
}

fn generation(dir: &Path, number: u64) -> PathBuf {
    dir.join(number.to_string())
}

fn set_current(dir: &Path, number: u64) -> io::Result<()> {
    let new = dir.join("current.new");
    std::fs::write(&new, number.to_string())?;
    std::fs::rename(new, dir.join(CURRENT))
}

fn row(key: &[u8], value: &[u8]) -> io::Result<Row> {
    let mut reader = Reader(value);
    let mut parse = || {
        Some(Row {
            offset: Offset(i64::from_be_bytes(*key.last_chunk()?)),
            segment: reader.offset()?,
            position: reader.u64()?,
            max_timestamp_before: TimestampMs(reader.i64()?),
        })
    };
    parse().ok_or_else(damaged)
}

fn prefix(partition: PartitionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(28);
    key.extend_from_slice(partition.topic.0.as_bytes());
    key.extend_from_slice(&partition.partition.0.to_be_bytes());
    key
}

/// Offsets are not negative, so their big-endian bytes sort as they do.
fn key(partition: PartitionId, offset: Offset) -> Vec<u8> {
    let mut key = prefix(partition);
    key.extend_from_slice(&offset.0.max(0).to_be_bytes());
    key
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn failed(error: sled::Error) -> io::Error {
    error.into()
}
