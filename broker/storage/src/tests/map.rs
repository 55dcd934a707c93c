//! The map can be deleted between two starts, and nothing changes.

use wire::{Offset, TimestampMs};

use super::support::{
    LONG, answer, append, batch, create, open, partition, produced, read_all, transactional,
};
use crate::{Isolation, Storage, codec::position, db::Map, log_state::Row};

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
    let dir = tempfile::tempdir().unwrap();
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
fn the_map_stays_within_a_bound_of_its_rows() {
    const SPARE: u64 = 2 << 20;
    const LOGS: i32 = 20;
    let dir = tempfile::tempdir().unwrap();
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
            map.put_log(id(index), &vec![round; 20_000]).unwrap();
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
    let dir = tempfile::tempdir().unwrap();
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
