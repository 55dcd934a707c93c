//! The map can be deleted between two starts, and nothing changes.

use wire::Offset;

use super::support::{append, batch, create, open, partition, produced, read_all, transactional};
use crate::{Isolation, Storage};

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
    std::fs::write(dir.path().join("map/db"), b"no sled").unwrap();
    let storage = open(dir.path());
    assert_eq!(storage.map_rows(), live);
    storage.shutdown();
}
