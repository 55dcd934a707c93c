use wire::{
    Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    batch::{BatchBuilder, ControlMarker, Marker, NewRecord, control_marker},
};

use super::support::{
    LONG, answer, append, batch, close, config, create, directory, end, open, open_cleaning,
    partition, produced, read_all, transactional, until,
};
use crate::{
    Append, AppendChain, AppendError, CatalogueChange, Durability, Host, Isolation, OpenError,
    ReadLimit, Storage,
};

const ALL: Isolation = Isolation::ReadUncommitted;
const COMMITTED: Isolation = Isolation::ReadCommitted;

#[test]
fn what_was_appended_is_read_after_a_restart_with_the_same_offsets_and_bytes() {
    let dir = directory();
    let storage = open(dir.path());
    let topic = create(&storage, "events", 2, &[("segment.bytes", "5000")]);
    let mut expected = Vec::new();
    for index in 0..40 {
        let one = append(&storage, partition(topic, 1), batch(3, &[index; 200], 1000)).unwrap();
        assert_eq!(one.base_offset, Offset(i64::from(index) * 3));
        expected.push(one.base_offset);
    }
    let before = read_all(&storage, partition(topic, 1), ALL);
    assert_eq!(before.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), expected);
    assert_eq!(read_all(&storage, partition(topic, 0), ALL), vec![]);
    storage.shutdown();
    drop(storage);

    let storage = open(dir.path());
    assert_eq!(storage.catalogue().by_name["events"].id, topic);
    assert_eq!(read_all(&storage, partition(topic, 1), ALL), before);
    let offsets = storage.offsets(partition(topic, 1)).unwrap();
    assert_eq!(offsets.high_watermark, Offset(120));
    let next = append(&storage, partition(topic, 1), batch(1, b"next", 1)).unwrap();
    assert_eq!(next.base_offset, Offset(120));
    storage.shutdown();
}

#[test]
fn a_duplicate_is_answered_with_the_original_offset_and_a_gap_is_refused() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    for index in 0..6 {
        append(&storage, p, produced(7, 0, index * 2, 2)).unwrap();
    }
    let again = append(&storage, p, produced(7, 0, 2, 2)).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (Offset(2), true));
    let forgotten = append(&storage, p, produced(7, 0, 0, 2));
    assert_eq!(forgotten, Err(AppendError::OutOfOrderSequence));
    assert_eq!(append(&storage, p, produced(7, 0, 14, 2)), Err(AppendError::OutOfOrderSequence));
    assert_eq!(append(&storage, p, produced(7, 1, 5, 1)), Err(AppendError::OutOfOrderSequence));
    append(&storage, p, produced(7, 1, 0, 1)).unwrap();
    assert_eq!(append(&storage, p, produced(7, 0, 12, 1)), Err(AppendError::InvalidProducerEpoch));
    // Whoever is not known may begin anywhere.
    append(&storage, p, produced(8, 3, 500, 1)).unwrap();
    storage.shutdown();
    drop(storage);

    let storage = open(dir.path());
    let again = append(&storage, p, produced(7, 1, 0, 1)).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (Offset(12), true));
    storage.shutdown();
}

#[test]
fn read_committed_stops_at_the_last_stable_offset_and_lists_what_was_aborted() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, batch(2, b"plain", 1)).unwrap();
    append(&storage, p, transactional(5, 0, 3)).unwrap();
    append(&storage, p, batch(1, b"plain", 1)).unwrap();
    let offsets = storage.offsets(p).unwrap();
    assert_eq!((offsets.last_stable_offset, offsets.high_watermark), (Offset(2), Offset(6)));
    assert_eq!(read_all(&storage, p, COMMITTED).len(), 1);
    assert_eq!(read_all(&storage, p, ALL).len(), 3);
    assert_eq!(append(&storage, p, produced(5, 0, 3, 1)), Err(AppendError::InvalidTxnState));

    let end = ControlMarker {
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(0),
        marker: Marker::Abort,
        coordinator_epoch: 0,
        timestamp: TimestampMs(5),
    };
    let (done, told) = answer();
    storage.chain().append_atomic(vec![Append { partition: p, batch: control_marker(&end) }], done);
    assert_eq!(told.recv_timeout(LONG).unwrap().unwrap()[0].base_offset, Offset(6));
    assert_eq!(storage.offsets(p).unwrap().last_stable_offset, Offset(7));
    for _ in 0..2 {
        let limit =
            ReadLimit { max_bytes: 1 << 20, isolation: COMMITTED, at_least_one_batch: true };
        let read = storage.read(p, Offset(0), limit).unwrap();
        assert_eq!(read.aborted.len(), 1);
        assert_eq!(read.aborted[0].first_offset, Offset(2));
    }
    storage.shutdown();
    drop(storage);
    let storage = open(dir.path());
    let limit = ReadLimit { max_bytes: 1 << 20, isolation: COMMITTED, at_least_one_batch: true };
    assert_eq!(storage.read(p, Offset(0), limit).unwrap().aborted.len(), 1);
    assert_eq!(storage.offsets(p).unwrap().last_stable_offset, Offset(7));
    storage.shutdown();
}

#[test]
fn a_plan_is_appended_whole_or_not_at_all() {
    let dir = directory();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[]);
    let good = Append { partition: partition(topic, 0), batch: batch(1, b"x", 1) };
    let bad = Append { partition: partition(topic, 9), batch: batch(1, b"x", 1) };
    let (done, told) = answer();
    storage.chain().append_atomic(vec![good.clone(), bad], done);
    assert_eq!(told.recv_timeout(LONG).unwrap(), Err(AppendError::UnknownPartition));
    assert_eq!(storage.offsets(partition(topic, 0)).unwrap().log_end_offset, Offset(0));
    let (done, told) = answer();
    storage.chain().append_atomic(vec![good.clone(), good], done);
    assert_eq!(told.recv_timeout(LONG).unwrap().unwrap().len(), 2);
    storage.shutdown();
}

#[test]
fn a_plan_that_fits_no_cycle_is_refused() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    // The journal's segments have 8 MiB here.
    let large = Append { partition: p, batch: batch(1, &vec![1; 3 << 20], 1) };
    let plan = |count| {
        let (done, told) = answer();
        storage.chain().append_atomic(vec![large.clone(); count], done);
        told.recv_timeout(LONG).unwrap().map(|all| all.len())
    };
    assert_eq!(plan(3), Err(AppendError::TooLarge));
    assert_eq!(plan(2), Ok(2));
    close(storage, dir.path());
    let storage = open(dir.path());
    assert_eq!(storage.offsets(p).unwrap().log_end_offset, Offset(2));
    storage.shutdown();
}

#[test]
fn a_log_that_is_gone_needs_no_marker() {
    let dir = directory();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[]);
    end(&storage, partition(topic, 9), 7, Marker::Abort);
    storage.shutdown();
}

#[test]
fn what_stands_on_a_refused_plan_is_refused_too() {
    let dir = directory();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[]);
    let p = partition(topic, 0);
    let good = || vec![Append { partition: p, batch: batch(1, b"x", 1) }];
    let plan = |chain: &AppendChain, batches| {
        let (done, told) = answer();
        chain.append_atomic(batches, done);
        told.recv_timeout(LONG).unwrap().map(|all| all[0].base_offset)
    };
    let chain = storage.chain();
    assert_eq!(plan(&chain, good()), Ok(Offset(0)));
    let bad = vec![Append { partition: partition(topic, 9), batch: batch(1, b"x", 1) }];
    assert_eq!(plan(&chain, bad), Err(AppendError::UnknownPartition));
    assert_eq!(plan(&chain, good()), Err(AppendError::ChainBroken));
    let (done, told) = answer();
    chain.append(good(), Durability::Synced, LONG, done);
    assert_eq!(told.recv_timeout(LONG).unwrap(), [Err(AppendError::ChainBroken)]);
    assert_eq!(plan(&storage.chain(), good()), Ok(Offset(1)));
    storage.shutdown();
}

#[test]
fn a_record_is_found_by_its_time_inside_a_batch() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[("segment.bytes", "4000")]), 0);
    for index in 0..100_i64 {
        append(&storage, p, batch(10, &[7; 50], 1000 + index * 100)).unwrap();
    }
    let found = |time| storage.offset_for_timestamp(p, TimestampMs(time)).unwrap();
    assert_eq!(found(0), Some((Offset(0), TimestampMs(1000))));
    assert_eq!(found(1505), Some((Offset(55), TimestampMs(1505))));
    assert_eq!(found(1550), Some((Offset(60), TimestampMs(1600))));
    assert_eq!(found(10_909), Some((Offset(999), TimestampMs(10_909))));
    assert_eq!(found(10_910), None);
    assert_eq!(storage.max_timestamp(p).unwrap(), Some((Offset(999), TimestampMs(10_909))));
    storage.shutdown();
}

#[test]
fn the_broker_sets_the_time_where_the_topic_asks_for_it() {
    let dir = directory();
    let storage = open(dir.path());
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let p = partition(create(&storage, "t", 1, &configs), 0);
    let appended = append(&storage, p, batch(2, b"x", 5)).unwrap();
    let time = appended.log_append_time.unwrap();
    assert!(time.0 > 1_600_000_000_000);
    assert_eq!(storage.max_timestamp(p).unwrap(), Some((Offset(0), time)));
    assert_eq!(read_all(&storage, p, ALL).len(), 1);
    storage.shutdown();
}

#[test]
fn a_deleted_topic_gives_its_space_back_and_stays_away() {
    let dir = directory();
    let storage = open_cleaning(dir.path());
    let topic = create(&storage, "t", 3, &[]);
    append(&storage, partition(topic, 2), batch(2, b"x", 5)).unwrap();
    let files = dir.path().join("topics").join(topic.0.to_string());
    assert!(files.exists());
    let (done, told) = answer();
    storage.change_catalogue(CatalogueChange::DeleteTopic { id: topic }, done);
    told.recv_timeout(LONG).unwrap().unwrap();
    until(|| !files.exists());
    let late = append(&storage, partition(topic, 2), batch(1, b"x", 5));
    assert_eq!(late, Err(AppendError::UnknownPartition));
    let again = create(&storage, "t", 1, &[]);
    assert_ne!(again, topic);
    storage.shutdown();
    drop(storage);
    // As a kill leaves it behind the checkpoint that knows of the deletion.
    std::fs::create_dir_all(files.join("0")).unwrap();
    let storage = open_cleaning(dir.path());
    assert_eq!(storage.catalogue().by_name["t"].id, again);
    assert_eq!(storage.offsets(partition(topic, 2)), None);
    until(|| !files.exists());
    storage.shutdown();
}

#[test]
fn who_reads_a_deleted_log_reads_on_until_done() {
    let dir = directory();
    let storage = open_cleaning(dir.path());
    let topic = create(&storage, "t", 1, &[("retention.ms", "-1")]);
    let p = partition(topic, 0);
    let first = batch(1, &vec![1; 3 << 20], 5);
    append(&storage, p, first.clone()).unwrap();
    append(&storage, p, batch(1, &vec![2; 3 << 20], 5)).unwrap();
    let limit = ReadLimit { max_bytes: 1, isolation: ALL, at_least_one_batch: true };
    let read = storage.read(p, Offset(0), limit).unwrap();
    let files = dir.path().join("topics").join(topic.0.to_string());
    let log = std::fs::File::open(files.join("0/00000000000000000000.log")).unwrap();
    let (done, told) = answer();
    storage.change_catalogue(CatalogueChange::DeleteTopic { id: topic }, done);
    told.recv_timeout(LONG).unwrap().unwrap();
    until(|| !files.exists());
    assert_eq!(&read.slices[0].load().unwrap()[100..], &first[100..]);
    drop(read);
    until(|| log.metadata().unwrap().len() <= 2 << 20);
    storage.shutdown();
}

#[test]
fn what_cannot_be_opened_says_why() {
    let dir = directory();
    let storage = open(dir.path());
    let second = Storage::open(config(dir.path()), Host::real());
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    storage.shutdown();
    drop(storage);

    std::fs::write(dir.path().join("version"), "ottla data format 99\nx\n").unwrap();
    let newer = Storage::open(config(dir.path()), Host::real());
    assert!(matches!(newer, Err(OpenError::Format { .. })), "{newer:?}");

    let dir = directory();
    std::fs::write(dir.path().join("photo.jpg"), "x").unwrap();
    let foreign = Storage::open(config(dir.path()), Host::real());
    assert!(matches!(foreign, Err(OpenError::Foreign(_))), "{foreign:?}");
}

#[test]
fn many_producers_at_once_each_get_their_own_offsets() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    let answers: Vec<_> = (0..500)
        .map(|index| {
            let (done, told) = answer();
            let durability = if index % 2 == 0 { Durability::Written } else { Durability::Synced };
            let one = Append { partition: p, batch: batch(2, &vec![1; 30_000], 1) };
            storage.append(vec![one], durability, LONG, done);
            told
        })
        .collect();
    for (index, told) in answers.into_iter().enumerate() {
        let appended = told.recv_timeout(LONG).unwrap()[0].unwrap();
        assert_eq!(appended.base_offset, Offset(i64::try_from(index).unwrap() * 2));
    }
    let (done, told) = answer();
    storage.when_durable(p, Offset(1000), done);
    told.recv_timeout(LONG).unwrap();
    assert_eq!(read_all(&storage, p, ALL).len(), 500);
    storage.shutdown();
}

#[test]
fn a_storage_that_nobody_stopped_lets_go_of_its_directory_and_keeps_what_it_answered() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, batch(1, b"x", 1)).unwrap();
    drop(storage);
    until(|| Host::real().disk.lock(&dir.path().join("lock")).is_ok());
    let storage = open(dir.path());
    assert_eq!(read_all(&storage, p, ALL).len(), 1);
    storage.shutdown();
}

#[test]
fn a_marker_is_appended_whatever_epoch_a_client_has_claimed() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    let claimed = ProducerEpoch(i16::MAX);
    let mut forged = BatchBuilder::new().producer(ProducerId(7), claimed, Sequence(0));
    forged.push(NewRecord { timestamp: TimestampMs(1), key: None, value: None, headers: &[] });
    append(&storage, p, forged.build()).unwrap();
    end(&storage, p, 7, Marker::Abort);
    close(storage, dir.path());
}
