//! A disk that is full or fails.

mod host;

use std::{io::ErrorKind, path::Path, sync::mpsc::sync_channel, time::Duration};

pub(in crate::tests) use host::{Faults, Operation};
use wire::{Offset, TopicId};

use super::support::{
    LONG, answer, append, batch, config, create, directory, open, partition, read_all,
};
use crate::{
    Append, AppendError, Appended, CatalogueChange, CatalogueError, Durability, Host, Isolation,
    PartitionId, Storage, keeper::add_segment,
};

const MIB: u64 = 1 << 20;

fn open_on(faults: &Faults, dir: &Path) -> Storage {
    Storage::open(config(dir), faults.host()).unwrap().0
}

fn change(storage: &Storage, change: CatalogueChange) -> Result<TopicId, CatalogueError> {
    let (done, told) = answer();
    storage.change_catalogue(change, done);
    told.recv_timeout(LONG).unwrap()
}

fn plan(storage: &Storage, partition: PartitionId) -> Result<Vec<Appended>, AppendError> {
    let (done, told) = answer();
    let batches = vec![Append { partition, batch: batch(1, b"plan", 1) }];
    storage.chain().append_atomic(batches, done);
    told.recv_timeout(LONG).unwrap()
}

/// The answer, or none if the process ends first.
fn try_append(
    storage: &Storage,
    faults: &Faults,
    partition: PartitionId,
    durability: Durability,
) -> Option<Result<Appended, AppendError>> {
    let (tell, told) = sync_channel(1);
    let batches = vec![Append { partition, batch: batch(1, &vec![5; 300_000], 1) }];
    // Nobody may wait any more: the process can end while its last answers are given.
    let done = Box::new(move |results| tell.send(results).unwrap_or_default());
    storage.append(batches, durability, LONG, done);
    until("an answer or an end", || {
        let told = told.try_recv().ok();
        (told.is_some() || !faults.ends().is_empty()).then_some(told)
    })
    .map(|mut results| results.remove(0))
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = Host::real().clock;
    let began = clock.monotonic();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(clock.monotonic().saturating_sub(began) < LONG, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn values(storage: &Storage, partition: PartitionId) -> usize {
    read_all(storage, partition, Isolation::ReadUncommitted).len()
}

#[test]
fn below_the_floor_produce_is_refused_and_everything_else_works() {
    let dir = directory();
    let faults = Faults::none();
    let storage = open_on(&faults, dir.path());
    let p = partition(create(&storage, "kept", 1, &[]), 0);
    let doomed = create(&storage, "doomed", 1, &[]);
    append(&storage, p, batch(1, b"before", 1)).unwrap();

    faults.set_free(100 * MIB);
    assert_eq!(append(&storage, p, batch(1, b"no", 1)), Err(AppendError::DiskFull));
    let new = || CatalogueChange::CreateTopic {
        name: "new".to_owned(),
        partitions: 1,
        configs: std::collections::BTreeMap::new(),
    };
    let configs = CatalogueChange::SetConfigs {
        id: p.topic,
        configs: [("retention.ms".to_owned(), "1".to_owned())].into(),
    };
    assert_eq!(change(&storage, new()), Err(CatalogueError::DiskFull));
    assert_eq!(change(&storage, configs), Ok(p.topic));
    assert_eq!(plan(&storage, p).unwrap()[0].base_offset, Offset(1));
    assert_eq!(values(&storage, p), 2);

    faults.set_free(10 * MIB);
    assert_eq!(plan(&storage, p), Err(AppendError::DiskFull));
    let (done, told) = answer();
    storage.delete_records(p, Some(Offset(1)), done);
    assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(Offset(1)));
    assert_eq!(change(&storage, CatalogueChange::DeleteTopic { id: doomed }), Ok(doomed));
    assert!(!dir.path().join("topics").join(doomed.0.to_string()).exists());

    faults.set_free(u64::MAX);
    assert_eq!(append(&storage, p, batch(1, b"after", 1)).unwrap().base_offset, Offset(2));
    assert!(change(&storage, new()).is_ok());
    storage.shutdown();
    assert_eq!(faults.ends(), Vec::<String>::new());
}

#[test]
fn what_was_begun_when_the_disk_filled_up_is_kept_with_the_reserve() {
    for part in [".log", "checkpoint-", ".meta"] {
        let dir = directory();
        let faults = Faults::none();
        let storage = open_on(&faults, dir.path());
        let p = partition(create(&storage, "t", 1, &[("segment.bytes", "400000")]), 0);
        faults.fail(Operation::Write, part, ErrorKind::StorageFull, 1);
        let mut kept = 0;
        // The ring has two segments of 8 MiB: enough for a roll and for a checkpoint.
        until("a full disk", || {
            match append(&storage, p, batch(1, &vec![1; 300_000], 1)) {
                Ok(_) => kept += 1,
                Err(error) => assert_eq!(error, AppendError::DiskFull, "{part}"),
            }
            (faults.hits() == 1).then_some(())
        });
        // There is space again, so the reserve is made again by itself.
        until("no refusal", || append(&storage, p, batch(1, b"again", 1)).ok());
        kept += 1;
        until("the reserve", || dir.path().join("reserve").exists().then_some(()));
        assert_eq!(values(&storage, p), kept, "{part}");
        assert_eq!(faults.ends(), Vec::<String>::new(), "{part}");
        storage.shutdown();
        drop(storage);
        let storage = open(dir.path());
        assert_eq!(values(&storage, p), kept, "{part}");
        storage.shutdown();
    }
}

#[test]
fn a_full_disk_at_start_takes_the_reserve_and_serves_what_there_is() {
    let dir = directory();
    let faults = Faults::none();
    let storage = open_on(&faults, dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, batch(1, &vec![1; 50_000], 1)).unwrap();
    // Ends as a process does that was killed: nothing is checkpointed.
    faults.fail(Operation::Write, "segment-0", ErrorKind::Other, 1);
    assert_eq!(try_append(&storage, &faults, p, Durability::Synced), None);
    storage.shutdown();
    drop(storage);

    let faults = Faults::none();
    faults.set_free(MIB);
    let storage = open_on(&faults, dir.path());
    assert!(!dir.path().join("reserve").exists());
    assert_eq!(values(&storage, p), 1);
    assert_eq!(append(&storage, p, batch(1, b"no", 1)), Err(AppendError::DiskFull));
    faults.set_free(u64::MAX);
    until("the reserve", || append(&storage, p, batch(1, b"yes", 1)).ok());
    storage.shutdown();
}

#[test]
fn a_recovery_that_meets_a_full_disk_goes_on_with_the_reserve() {
    let dir = directory();
    let faults = Faults::none();
    let storage = open_on(&faults, dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, batch(1, &vec![1; 50_000], 1)).unwrap();
    faults.fail(Operation::Write, "segment-0", ErrorKind::Other, 1);
    assert_eq!(try_append(&storage, &faults, p, Durability::Synced), None);
    storage.shutdown();
    drop(storage);

    let faults = Faults::none();
    faults.fail(Operation::Write, ".log", ErrorKind::StorageFull, 1);
    let storage = open_on(&faults, dir.path());
    assert_eq!((faults.hits(), values(&storage, p)), (1, 1));
    until("the reserve", || append(&storage, p, batch(1, b"yes", 1)).ok());
    assert!(dir.path().join("reserve").exists());
    storage.shutdown();
}

#[test]
fn the_journal_does_not_grow_where_its_own_disk_is_nearly_full() {
    let dir = directory();
    let faults = Faults::none();
    let storage = open_on(&faults, dir.path());
    faults.set_free_for_journal(60 * MIB);
    let refused = add_segment(storage.shared(), 2).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert!(!dir.path().join("journal/segment-2").exists());
    faults.set_free_for_journal(80 * MIB);
    add_segment(storage.shared(), 2).unwrap();
    assert!(dir.path().join("journal/segment-2").exists());
    storage.shutdown();
}

#[test]
fn a_segment_of_the_journal_that_cannot_be_made_is_done_without() {
    let dir = directory();
    let faults = Faults::none();
    let storage = open_on(&faults, dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    faults.fail(Operation::Allocate, "segment-", ErrorKind::StorageFull, u64::MAX);
    for index in 0..50 {
        let offset = append(&storage, p, batch(1, &vec![1; 1 << 20], 1)).unwrap().base_offset;
        assert_eq!(offset, Offset(index));
    }
    storage.shutdown();
    assert_eq!(faults.ends(), Vec::<String>::new());
    assert!(!dir.path().join("journal/segment-2").exists());
}

#[test]
fn a_write_or_a_sync_that_fails_ends_the_process_and_nothing_acknowledged_is_lost() {
    let cases = [
        (Operation::Write, "segment-", "the journal cannot be written"),
        (Operation::Sync, "segment-", "the journal cannot be synced"),
        (Operation::Write, ".log", "a log cannot be written"),
        (Operation::Sync, ".log", "a checkpoint failed"),
        (Operation::Write, "checkpoint-", "a checkpoint failed"),
        (Operation::Sync, "checkpoint-", "a checkpoint failed"),
    ];
    for (operation, part, reason) in cases {
        let dir = directory();
        let faults = Faults::none();
        let storage = open_on(&faults, dir.path());
        let p = partition(create(&storage, "t", 1, &[]), 0);
        append(&storage, p, batch(1, b"kept", 1)).unwrap();
        faults.fail(operation, part, ErrorKind::Other, u64::MAX);
        let mut kept = 1;
        while let Some(answered) = try_append(&storage, &faults, p, Durability::Synced) {
            answered.unwrap();
            kept += 1;
        }
        let (done, told) = answer();
        storage.probe(done);
        let ends = faults.ends();
        assert!(ends[0].starts_with(reason), "{operation:?} {part}: {ends:?}");
        storage.shutdown();
        drop(storage);
        assert!(told.try_recv().is_err(), "{operation:?} {part}: dead, and says that it lives");
        let storage = open(dir.path());
        assert!(values(&storage, p) >= kept, "{operation:?} {part}");
        let (done, told) = answer();
        storage.probe(done);
        told.recv_timeout(LONG).unwrap();
        storage.shutdown();
    }
}

#[test]
fn the_map_is_not_let_near_the_end_of_the_disk() {
    let dir = directory();
    let faults = Faults::none();
    let storage = open_on(&faults, dir.path());
    let id = create(&storage, "t", 1, &[]);
    until("the reserve is made", || storage.shared().reserve.is_held().then_some(()));
    faults.set_free(15 * MIB);
    change(&storage, CatalogueChange::DeleteTopic { id }).unwrap();
    until("the reserve is given up", || (!storage.shared().reserve.is_held()).then_some(()));
    assert!(faults.ends().is_empty());
    faults.set_free(u64::MAX);
    until("the reserve is made again", || storage.shared().reserve.is_held().then_some(()));
    storage.shutdown();
}
