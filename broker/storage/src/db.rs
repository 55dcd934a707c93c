//! The map: sled, which finds things again faster than the logs would. All of it can be rebuilt.
//!
//! The only file that names sled. One thread writes; sled's transactions and batches, which take a
//! lock of the whole process, are not used. Where there is no real disk there is no map, and the
//! rows stay in memory.

use std::{io, path::Path};

use wire::{Offset, TimestampMs};

use crate::{
    api::PartitionId,
    codec::{Reader, Writer},
    host::{Disk, Open},
    log_state::{Row, decode_aborted, encode_aborted},
    producer::Aborted,
};

const CACHE_BYTES: u64 = 8 << 20;
const FLUSH_EVERY_MS: u64 = 500;

/// The map, if this host can have one.
#[derive(Debug)]
pub(crate) struct Map(Option<Trees>);

#[derive(Debug)]
struct Trees {
    db: sled::Db,
    rows: sled::Tree,
    aborted: sled::Tree,
    logs: sled::Tree,
}

impl Map {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .open()
            .map_err(failed)?;
        let tree = |name: &str| db.open_tree(name).map_err(failed);
        let (rows, aborted, logs) = (tree("rows")?, tree("aborted")?, tree("logs")?);
        Ok(Self(Some(Trees { db, rows, aborted, logs })))
    }

    /// Whether rows that are put here are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn put_row(&self, partition: PartitionId, row: &Row) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
        let mut value = Writer::default();
        value.i64(row.segment.0).u64(row.position).i64(row.max_timestamp_before.0);
        trees.rows.insert(key(partition, row.offset), value.0).map_err(failed)?;
        Ok(())
    }

    pub(crate) fn put_aborted(&self, partition: PartitionId, aborted: &Aborted) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
        let mut value = Writer::default();
        encode_aborted(&mut value, aborted);
        trees.aborted.insert(key(partition, aborted.last_offset), value.0).map_err(failed)?;
        Ok(())
    }

    /// The last row of a partition, put after all others: up to where they reach.
    pub(crate) fn put_log(&self, partition: PartitionId, log: &[u8]) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
        trees.logs.insert(prefix(partition), log).map_err(failed)?;
        Ok(())
    }

    pub(crate) fn log(&self, partition: PartitionId) -> io::Result<Option<Vec<u8>>> {
        let Some(trees) = &self.0 else { return Ok(None) };
        let found = trees.logs.get(prefix(partition)).map_err(failed)?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Forgets a partition.
    pub(crate) fn remove(&self, partition: PartitionId) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
        trees.logs.remove(prefix(partition)).map_err(failed)?;
        for tree in [&trees.rows, &trees.aborted] {
            for found in tree.scan_prefix(prefix(partition)).keys() {
                tree.remove(found.map_err(failed)?).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Forgets what is in front of `first`.
    pub(crate) fn trim(&self, partition: PartitionId, first: Offset) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
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
        let Some(trees) = &self.0 else { return Ok(()) };
        trees.logs.remove(prefix(partition)).map_err(failed)?;
        for found in trees.rows.range(key(partition, base)..key(partition, end)).keys() {
            trees.rows.remove(found.map_err(failed)?).map_err(failed)?;
        }
        Ok(())
    }

    /// Forgets an aborted transaction by its marker.
    pub(crate) fn remove_aborted(&self, partition: PartitionId, marker: Offset) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
        trees.aborted.remove(key(partition, marker)).map_err(failed)?;
        Ok(())
    }

    /// The marker of the last aborted transaction there is.
    pub(crate) fn last_aborted(&self, partition: PartitionId) -> io::Result<Option<Offset>> {
        let Some(trees) = &self.0 else { return Ok(None) };
        let last = trees.aborted.scan_prefix(prefix(partition)).keys().next_back();
        let last = last.transpose().map_err(failed)?;
        Ok(last.and_then(|key| Some(Offset(i64::from_be_bytes(*key.last_chunk()?)))))
    }

    /// Hands everything to the kernel.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let Some(trees) = &self.0 else { return Ok(()) };
        trees.db.flush().map_err(failed)?;
        Ok(())
    }

    /// Makes what was flushed durable: sled itself does not.
    pub(crate) fn sync(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.open(&dir.join("db"), Open::Write)?.sync()?;
        disk.sync_dir(dir)
    }

    /// The last row at or before `offset`.
    pub(crate) fn row_before(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> io::Result<Option<Row>> {
        let Some(trees) = &self.0 else { return Ok(None) };
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
        let rows = self.0.as_ref().map(|trees| trees.rows.range(key(partition, from)..));
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
        let Some(trees) = &self.0 else { return Ok(all) };
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

    /// Every row there is, as text, to compare two maps.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(trees) = &self.0 else { return Vec::new() };
        [&trees.rows, &trees.aborted, &trees.logs]
            .into_iter()
            .flat_map(|tree| tree.iter().map(|row| row.unwrap()))
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect()
    }
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
