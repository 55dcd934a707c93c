use wire::Offset;

use super::lab::Lab;
use crate::{
    CatalogueChange, DeleteRecordsError, Isolation, ReadError, ReadLimit, Storage,
    catalogue::{METADATA, Record},
    tests::support::{LONG, answer, append, batch, create, directory, open, partition, produced},
};

const ALL: Isolation = Isolation::ReadUncommitted;

fn delete(
    storage: &Storage,
    p: crate::PartitionId,
    before: Option<i64>,
) -> Result<Offset, DeleteRecordsError> {
    let (done, told) = answer();
    storage.delete_records(p, before.map(Offset), done);
    told.recv_timeout(LONG).unwrap()
}

#[test]
fn deleted_records_cannot_be_read_and_whole_files_go() {
    let mut lab = Lab::new(1000);
    lab.start().unwrap();
    let p = lab.create(&[]).unwrap();
    for index in 0..10 {
        lab.append(p, batch(2, &[index; 200], 5)).unwrap().unwrap();
    }
    assert_eq!(lab.logs(p), [0, 4, 8, 12, 16]);
    assert_eq!(lab.delete(p, Some(21)).unwrap(), Err(DeleteRecordsError::OffsetOutOfRange));
    assert_eq!(lab.delete(p, Some(9)).unwrap(), Ok(Offset(9)));
    assert_eq!(lab.delete(p, Some(3)).unwrap(), Ok(Offset(9)), "it never goes back");
    lab.settle();
    assert_eq!(lab.logs(p), [8, 12, 16]);
    assert_eq!(lab.read(p).len(), 6, "the batch that holds the start is read whole");
    assert_eq!(lab.offsets(p).log_start_offset, Offset(9));

    // To the end: the last file goes too, and the next record begins another.
    assert_eq!(lab.delete(p, None).unwrap(), Ok(Offset(20)));
    lab.settle();
    assert_eq!(lab.logs(p), Vec::<i64>::new());
    assert_eq!(lab.read(p).len(), 0);
    for _ in 0..2 {
        lab.checkpoint();
        lab.start().unwrap();
        assert_eq!(lab.offsets(p).log_start_offset, Offset(20));
        assert_eq!(lab.offsets(p).high_watermark, Offset(20));
    }
    assert_eq!(lab.append(p, batch(1, b"x", 5)).unwrap().unwrap().base_offset, Offset(20));
    lab.checkpoint();
    assert_eq!(lab.logs(p), [20]);
    lab.start().unwrap();
    assert_eq!(lab.read(p).len(), 1);
}

#[test]
fn a_map_that_was_deleted_is_built_again_without_the_deleted_records() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[("segment.bytes", "200000")]), 0);
    for index in 0..60_i32 {
        append(&storage, p, batch(1, &vec![7; 20_000], i64::from(index))).unwrap();
        append(&storage, p, produced(9, 0, index, 1)).unwrap();
    }
    assert_eq!(delete(&storage, p, Some(75)), Ok(Offset(75)));
    let limit = ReadLimit { max_bytes: 1000, isolation: ALL, at_least_one_batch: true };
    let below = storage.read(p, Offset(74), limit);
    assert!(matches!(below, Err(ReadError::OffsetOutOfRange(_))), "{below:?}");
    assert_eq!(storage.max_timestamp(p).unwrap().unwrap().0, Offset(75));
    storage.shutdown();
    let live = storage.map_rows();
    drop(storage);

    for delete_map in [false, true, true] {
        if delete_map {
            std::fs::remove_dir_all(dir.path().join("map")).unwrap();
        }
        let storage = open(dir.path());
        assert_eq!(storage.map_rows(), live);
        let found: Vec<_> = (75..120)
            .filter(|offset| !storage.read(p, Offset(*offset), limit).unwrap().slices.is_empty())
            .collect();
        assert_eq!(found.len(), 45);
        // What the producer sent last is known, though most of its records are gone.
        let again = append(&storage, p, produced(9, 0, 59, 1)).unwrap();
        assert_eq!((again.base_offset, again.duplicate), (Offset(119), true));
        storage.shutdown();
    }

    // The state of the producers outlives all records.
    let storage = open(dir.path());
    assert_eq!(delete(&storage, p, None), Ok(Offset(120)));
    storage.shutdown();
    drop(storage);
    std::fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    let again = append(&storage, p, produced(9, 0, 58, 1)).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (Offset(117), true));
    let next = append(&storage, p, produced(9, 0, 60, 1)).unwrap();
    assert_eq!(next.base_offset, Offset(120));
    let found = storage.read(p, Offset(120), limit).unwrap();
    assert_eq!(found.slices.len(), 1);
    storage.shutdown();
}

#[test]
fn the_catalogue_is_recorded_again_and_what_it_said_before_goes() {
    let mut lab = Lab::new(1000);
    lab.start().unwrap();
    let p = lab.create(&[]).unwrap();
    let gone = lab.create_named("gone", &[]).unwrap();
    for index in 0..10 {
        lab.append(p, batch(2, &[index; 200], 5)).unwrap().unwrap();
    }
    lab.delete(p, Some(9)).unwrap().unwrap();
    lab.change(CatalogueChange::DeleteTopic { id: gone.topic }).unwrap();
    let set = |bytes: i32| [("retention.bytes".to_owned(), bytes.to_string())].into();
    for bytes in 1_000_001..=1_000_060 {
        lab.change(CatalogueChange::SetConfigs { id: p.topic, configs: set(bytes) }).unwrap();
    }
    lab.change(CatalogueChange::SetBrokerConfigs { configs: set(-1) }).unwrap();
    lab.checkpoint();
    let bytes = |lab: &mut Lab| lab.read(METADATA).iter().map(bytes::Bytes::len).sum::<usize>();
    assert!(lab.logs(METADATA)[0] == 0 && bytes(&mut lab) > 6_000);
    lab.look();
    lab.settle();
    lab.checkpoint();
    assert!(lab.logs(METADATA)[0] > 60 && bytes(&mut lab) < 2_000, "{}", bytes(&mut lab));
    let first = lab.logs(METADATA)[0];
    assert_eq!(
        lab.offsets(METADATA).log_start_offset,
        Offset(first),
        "no history is left in a file"
    );
    lab.look();
    assert!(!lab.engine().committer.step(), "there is nothing more to gain");
    for _ in 0..2 {
        lab.start().unwrap();
        let catalogue = lab.engine().shared.catalogue();
        assert_eq!(catalogue.by_id.keys().copied().collect::<Vec<_>>(), [p.topic]);
        assert_eq!(catalogue.by_name["t"].configs, set(1_000_060));
        assert_eq!(catalogue.broker_configs, set(-1));
        assert_eq!(lab.offsets(p).log_start_offset, Offset(9));
        lab.checkpoint();
    }
    assert_eq!(lab.damages().len(), 0);
    // A repair has nothing but the records.
    let mut starts = Vec::new();
    let topics = std::path::Path::new("/data/topics");
    crate::inspect::each_record(&lab.disk, topics, Offset(0), &mut |record| starts.push(record));
    assert!(starts.contains(&Record::LogStart { partition: p, offset: Offset(9) }));
}
