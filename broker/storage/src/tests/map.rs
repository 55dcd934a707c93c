//! The map can be deleted between two starts, and nothing changes.

use std::path::Path;

use wire::{Offset, ProducerId, TimestampMs, batch::Marker};

use super::support::{
    LONG, answer, append, batch, close, compacted, create, directory, end, keyed, open,
    open_cleaning, partition, produced, read_all, transactional, until,
};
use crate::{
    Isolation, PartitionId, Storage, codec::position, db::Map, log_state::Row, producer::Aborted,
};

fn fill(storage: &Storage) -> Vec<crate::PartitionId> {
    let topic = create(storage, "t", 2, &[("segment.bytes", "300000")]);
    let partitions = vec![partition(topic, 0), partition(topic, 1)];
    for index in 0..60_i32 {
        append(storage, partitions[0], batch(3, &vec![7; 10_000], i64::from(index))).unwrap();
        append(storage, partitions[1], produced(9, 0, index * 2, 2)).unwrap();
    }
    append(storage, partitions[1], transactional(11, 0, 2)).unwrap();
    partitions
}

#[test]
fn a_map_that_was_deleted_is_built_again_row_for_row() {
    let dir = directory();
    let storage = open(dir.path());
    let partitions = fill(&storage);
    storage.shutdown();
    let live = storage.map_rows();
    let records: Vec<_> =
        partitions.iter().map(|p| read_all(&storage, *p, Isolation::ReadUncommitted)).collect();
    drop(storage);
    assert!(live.len() > 10);

    std::fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    assert_eq!(storage.map_rows(), live);
    for (p, before) in partitions.iter().zip(&records) {
        assert_eq!(&read_all(&storage, *p, Isolation::ReadUncommitted), before);
    }
    let again = append(&storage, partitions[1], produced(9, 0, 116, 2)).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (Offset(116), true));
    storage.shutdown();
    drop(storage);

    // And one that is damaged.
    std::fs::write(dir.path().join("map/0/db"), b"no sled").unwrap();
    let storage = open(dir.path());
    assert_eq!(storage.map_rows(), live);
    storage.shutdown();
}

#[test]
fn a_map_in_which_a_row_is_gone_is_built_again() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    // So many that sled keeps the partition's row in a file of its own.
    for id in 0..3_000 {
        append(&storage, p, produced(id, 0, 0, 1)).unwrap();
    }
    storage.shutdown();
    let live = storage.map_rows();
    close(storage, dir.path());
    let blobs = dir.path().join("map/0/blobs");
    assert!(std::fs::read_dir(&blobs).unwrap().count() > 0);
    for blob in std::fs::read_dir(&blobs).unwrap() {
        std::fs::remove_file(blob.unwrap().path()).unwrap();
    }
    let storage = open(dir.path());
    assert_eq!(storage.map_rows(), live);
    assert!(append(&storage, p, produced(7, 0, 0, 1)).unwrap().duplicate);
    storage.shutdown();
}

#[test]
fn the_map_stays_within_a_bound_of_its_rows() {
    const SPARE: u64 = 2 << 20;
    const LOGS: i32 = 20;
    let dir = directory();
    let map = Map::open(&dir.path().join("map")).unwrap();
    let id = |index| partition(wire::TopicId::default(), index);
    let row = |offset: i64| Row {
        offset: Offset(offset),
        segment: Offset(0),
        position: 7,
        max_timestamp_before: TimestampMs(1),
    };
    let mut shrunk = 0;
    let mut live = 0;
    for round in 0..60_u8 {
        for index in 0..LOGS {
            // Every log's state is replaced, and rows come and go with the records.
            map.put_logs(&[(id(index), vec![round; 20_000])]).unwrap();
            for offset in 0..50 {
                map.put_row(id(index), &row(i64::from(round) * 50 + offset)).unwrap();
            }
        }
        map.flush().unwrap();
        let before = map.dump();
        live = live.max(before.iter().map(|(key, value)| key.len() + value.len()).sum());
        shrunk += u32::from(map.shrink_beyond(SPARE).unwrap());
        assert_eq!(map.dump(), before);
        if round % 10 == 9 {
            (0..LOGS).for_each(|index| map.remove(id(index)).unwrap());
        }
        let bytes = map.bytes_on_disk();
        // It is looked at again only when it has grown by a quarter, and sled needs more than the
        // rows while it writes them.
        let bound = (SPARE + 4 * position(live)) * 5 / 4 + (4 << 20);
        assert!(bytes <= bound, "{bytes} of {bound} in round {round}");
    }
    assert!(shrunk > 0);
    map.put_row(id(1), &row(1)).unwrap();
    let rows = map.dump();
    drop(map);
    assert_eq!(Map::open(&dir.path().join("map")).unwrap().dump(), rows);
}

#[test]
fn a_copy_of_the_map_that_failed_leaves_nothing_to_the_next() {
    let dir = directory();
    let path = dir.path().join("map");
    let id = partition(wire::TopicId::default(), 1);
    let failed = Map::open(&dir.path().join("failed")).unwrap();
    let aborted = Aborted {
        producer_id: ProducerId(1),
        first_offset: Offset(1),
        last_offset: Offset(2),
        last_stable_offset: Offset(3),
    };
    failed.put_aborted(id, &aborted).unwrap();
    failed.flush().unwrap();
    drop(failed);

    let map = Map::open(&path).unwrap();
    std::fs::rename(dir.path().join("failed/0"), path.join("1")).unwrap();
    let put = |round| {
        map.put_logs(&[(id, vec![round; 20_000])]).unwrap();
        map.flush().unwrap();
    };
    // Before the first look, which may already find an empty sled's own blocks far too large.
    put(0);
    let mut round = 0;
    while !map.shrink_beyond(0).unwrap() {
        assert!(round < 200, "it does not grow");
        round += 1;
        put(round);
    }
    assert_eq!(map.dump().len(), 1);
    assert!(map.aborted(id, Offset(0), Offset(9)).unwrap().is_empty());
}

/// What is left, as bytes.
fn read_from(storage: &Storage, id: crate::PartitionId) -> Vec<bytes::Bytes> {
    let isolation = Isolation::ReadUncommitted;
    let limit = crate::ReadLimit { max_bytes: 1 << 20, isolation, at_least_one_batch: true };
    let read = storage.read(id, Offset(7), limit).unwrap();
    read.slices.iter().map(|slice| slice.load().unwrap()).collect()
}

/// Found by a kill: what the map knew last lay within a file that was deleted since.
#[test]
fn a_map_that_ends_in_a_deleted_file_gives_way_to_the_files() {
    let dir = directory();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[("segment.bytes", "300000")]);
    let id = partition(topic, 0);
    let write = |storage: &Storage, count: usize| {
        for _ in 0..count {
            append(storage, id, batch(1, &vec![7; 100_000], 0)).unwrap();
        }
    };
    write(&storage, 1);
    storage.shutdown();
    drop(storage);
    let (map, old) = (dir.path().join("map"), dir.path().join("old"));
    std::fs::rename(&map, &old).unwrap();

    let storage = open(dir.path());
    write(&storage, 8);
    let (done, told) = answer();
    storage.delete_records(id, Some(Offset(7)), done);
    assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(Offset(7)));
    storage.shutdown();
    let live = storage.map_rows();
    let records = read_from(&storage, id);
    drop(storage);
    std::fs::remove_dir_all(&map).unwrap();
    std::fs::rename(&old, &map).unwrap();

    let storage = open(dir.path());
    assert_eq!(read_from(&storage, id), records);
    assert_eq!(storage.map_rows(), live);
    storage.shutdown();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

type Log = Vec<(Offset, bytes::Bytes)>;

/// Stops the engine and starts it again without its map, and with the map of an earlier stop: each
/// time its rows and what readers get are what they were.
fn is_rebuilt(storage: Storage, dir: &Path, older: Option<&Path>, ids: &[PartitionId]) {
    let read = |storage: &Storage| -> Vec<[Log; 2]> {
        let isolations = [Isolation::ReadUncommitted, Isolation::ReadCommitted];
        ids.iter().map(|id| isolations.map(|it| read_from_start(storage, *id, it))).collect()
    };
    storage.shutdown();
    let (live, records) = (storage.map_rows(), read(&storage));
    close(storage, dir);
    assert!(live.len() > 3, "{}", live.len());
    for old in [None, older] {
        std::fs::remove_dir_all(dir.join("map")).unwrap();
        if let Some(old) = old {
            copy(old, &dir.join("map"));
        }
        let storage = open(dir);
        assert_eq!(storage.map_rows(), live, "with {old:?}");
        assert_eq!(read(&storage), records, "with {old:?}");
        close(storage, dir);
    }
}

fn read_from_start(storage: &Storage, id: PartitionId, isolation: Isolation) -> Log {
    let mut from = storage.offsets(id).unwrap().log_start_offset;
    let mut found = Vec::new();
    loop {
        let limit = crate::ReadLimit { max_bytes: 100_000, isolation, at_least_one_batch: true };
        let read = storage.read(id, from, limit).unwrap();
        let Some(slice) = read.slices.first() else { return found };
        let bytes = slice.load().unwrap();
        for view in wire::batch::batches(&bytes) {
            from = view.header.next_offset();
            found.push((view.header.base_offset, bytes.slice_ref(view.bytes())));
        }
    }
}

/// Aborted, committed and open transactions in files that fill up.
fn transact(storage: &Storage, id: PartitionId, rounds: std::ops::Range<i32>) {
    for round in rounds {
        append(storage, id, batch(2, &vec![7; 30_000], i64::from(round))).unwrap();
        append(storage, id, transactional(20, round * 2, 2)).unwrap();
        append(storage, id, transactional(21, round * 2, 2)).unwrap();
        end(storage, id, 20, if round % 2 == 0 { Marker::Abort } else { Marker::Commit });
        end(storage, id, 21, Marker::Abort);
        append(storage, id, produced(9, 0, round, 1)).unwrap();
    }
}

#[test]
fn a_map_with_transactions_is_rebuilt_row_for_row() {
    let (dir, old) = (directory(), directory());
    let storage = open(dir.path());
    let id = partition(create(&storage, "t", 1, &[("segment.bytes", "300000")]), 0);
    transact(&storage, id, 0..12);
    append(&storage, id, transactional(22, 0, 3)).unwrap();
    close(storage, dir.path());
    copy(&dir.path().join("map"), old.path());
    let storage = open(dir.path());
    transact(&storage, id, 12..24);
    append(&storage, id, transactional(23, 0, 3)).unwrap();
    is_rebuilt(storage, dir.path(), Some(old.path()), &[id]);
}

#[test]
fn a_map_whose_batches_were_retained_no_longer_is_rebuilt_row_for_row() {
    let (dir, old) = (directory(), directory());
    let storage = open(dir.path());
    let configs =
        [("segment.bytes", "200000"), ("retention.bytes", "500000"), ("retention.ms", "-1")];
    let id = partition(create(&storage, "t", 1, &configs), 0);
    transact(&storage, id, 0..12);
    close(storage, dir.path());
    copy(&dir.path().join("map"), old.path());
    let storage = open_cleaning(dir.path());
    let start = |storage: &Storage| storage.offsets(id).unwrap().log_start_offset;
    until(|| start(&storage) > Offset(0));
    let before = start(&storage);
    transact(&storage, id, 12..24);
    until(|| start(&storage) > before);
    is_rebuilt(storage, dir.path(), Some(old.path()), &[id]);
}

#[test]
fn a_map_of_a_compacted_log_is_rebuilt_row_for_row() {
    let (dir, old) = (directory(), directory());
    let (storage, id) = compacted(dir.path());
    close(storage, dir.path());
    copy(&dir.path().join("map"), old.path());
    let storage = open(dir.path());
    transact(&storage, id, 0..3);
    is_rebuilt(storage, dir.path(), Some(old.path()), &[id]);
}

/// Its positions are those of files that are no more.
#[test]
fn a_map_from_before_a_compaction_is_not_believed() {
    let (dir, old) = (directory(), directory());
    let storage = open(dir.path());
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "20000")];
    let id = partition(create(&storage, "t", 1, &configs), 0);
    for index in 0..40 {
        append(&storage, id, keyed(&format!("key {}", index % 3), Some(&[7; 2000]))).unwrap();
    }
    close(storage, dir.path());
    copy(&dir.path().join("map"), old.path());
    let storage = open_cleaning(dir.path());
    until(|| read_all(&storage, id, Isolation::ReadUncommitted).len() < 20);
    is_rebuilt(storage, dir.path(), Some(old.path()), &[id]);
}
