//! Damage is named, found, and repaired only when somebody asks for it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use wire::{LeaderEpoch, Offset, ProducerId, batch::BatchView};

use super::{
    faults::{Faults, Operation},
    support::{
        LONG, answer, append, batch, close, config, create, directory, open, partition, read_all,
        transactional, until,
    },
};
use crate::{
    Append, CatalogueChange, Config, Damage, Durability, Host, Inspection, Isolation, OpenError,
    PartitionId, ReadError, ReadLimit, RepairReport, Storage, catalogue::METADATA,
    journal::checkpoint::Checkpoint, repair,
};

/// Ten records in each of two topics, one cycle each, and an end as kill -9 makes it.
pub(super) fn killed(dir: &Path) -> (PartitionId, PartitionId) {
    let faults = Faults::none();
    let storage = Storage::open(config(dir), faults.host()).unwrap().0;
    let first = partition(create(&storage, "first", 1, &[]), 0);
    let second = partition(create(&storage, "second", 1, &[]), 0);
    for _ in 0..10 {
        append(&storage, first, batch(1, b"value", 1)).unwrap();
        append(&storage, second, batch(1, b"value", 1)).unwrap();
    }
    faults.fail(Operation::Write, "segment-0", ErrorKind::Other, 1);
    let (done, told) = answer();
    let batches = vec![Append { partition: first, batch: batch(1, b"never", 1) }];
    storage.append(batches, Durability::Synced, LONG, done);
    assert!(told.recv_timeout(LONG).is_err());
    close(storage, dir);
    (first, second)
}

/// The same after a clean stop, in files of 300 KB.
pub(super) fn stopped(dir: &Path) -> PartitionId {
    let storage = open(dir);
    let p = partition(create(&storage, "orders", 1, &[("segment.bytes", "300000")]), 0);
    for _ in 0..10 {
        append(&storage, p, batch(1, &vec![7; 100_000], 1)).unwrap();
    }
    close(storage, dir);
    p
}

pub(super) fn log(dir: &Path, p: PartitionId, base: i64) -> PathBuf {
    let partition = dir.join(format!("topics/{}/{}", p.topic.0, p.partition));
    partition.join(format!("{base:020}.log"))
}

pub(super) fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Makes the cycle that is the `index`-th of the first journal segment unreadable.
pub(super) fn lose_cycle(dir: &Path, index: usize) {
    flip(&dir.join("journal/segment-0"), cycle_at(dir, index) + 100);
}

/// Where it begins.
pub(super) fn cycle_at(dir: &Path, index: usize) -> u64 {
    let bytes = fs::read(dir.join("journal/segment-0")).unwrap();
    let at = (4096..bytes.len()).step_by(4096);
    let at = at.filter(|at| bytes[*at..].starts_with(b"ottlacy1")).nth(index).unwrap();
    crate::codec::position(at)
}

/// Why it is not opened; whoever looks for damage finds some too.
pub(super) fn refusal(dir: &Path) -> String {
    match Storage::open(config(dir), Host::real()) {
        Ok(_) => panic!("it opened"),
        Err(error) => {
            assert_ne!(damages(dir), [], "{error}");
            error.to_string()
        }
    }
}

pub(super) fn do_repair(dir: &Path) -> RepairReport {
    repair(&config(dir), &Host::real(), &mut |_, _| {}).unwrap()
}

pub(super) fn damages(dir: &Path) -> Vec<Damage> {
    let inspection = Inspection::open(&config(dir), &Host::real()).unwrap();
    inspection.damages(&mut |_, _| {}).unwrap()
}

/// How many batches there are that have records.
pub(super) fn records(storage: &Storage, p: PartitionId) -> usize {
    let all = read_all(storage, p, Isolation::ReadUncommitted);
    all.iter().filter(|(_, batch)| BatchView::parse(batch).unwrap().header.record_count > 0).count()
}

#[test]
fn a_lost_cycle_is_refused_by_name_and_repaired_from_the_logs() {
    let dir = directory();
    let (first, second) = killed(dir.path());
    lose_cycle(dir.path(), 6);
    let text = refusal(dir.path());
    for part in ["in segment-0 at", "offsets 2 to 2 of first-0", "ottla doctor --repair"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(damages(dir.path()).len(), 1);

    // The logs hold what the journal lost.
    let report = do_repair(dir.path());
    assert_eq!((report.partitions.len(), report.leader_epoch), (0, LeaderEpoch(1)));
    let storage = open(dir.path());
    assert_eq!((records(&storage, first), records(&storage, second)), (10, 10));
    append(&storage, first, batch(1, b"after", 1)).unwrap();
    let read = read_all(&storage, first, Isolation::ReadUncommitted);
    let epoch = |bytes: &[u8]| BatchView::parse(bytes).unwrap().header.partition_leader_epoch;
    assert_eq!(epoch(&read[0].1), LeaderEpoch(0));
    assert_eq!(epoch(&read[read.len() - 1].1), LeaderEpoch(1));
    let ends = |epoch| storage.epoch_end(first, LeaderEpoch(epoch)).unwrap();
    assert_eq!(ends(0), Some((LeaderEpoch(0), Offset(10))));
    assert_eq!(ends(1), Some((LeaderEpoch(1), Offset(11))));
    assert_eq!(ends(2), None);
    let second_ends = storage.epoch_end(second, LeaderEpoch(0)).unwrap();
    assert_eq!(second_ends, Some((LeaderEpoch(0), Offset(10))));
    // Nothing of the old epoch is in it, so that ended where the log begins.
    let third = partition(create(&storage, "third", 1, &[]), 0);
    assert_eq!(
        storage.epoch_end(third, LeaderEpoch(0)).unwrap(),
        Some((LeaderEpoch(0), Offset(0)))
    );
    close(storage, dir.path());
}

#[test]
fn what_neither_journal_nor_log_has_is_reported_and_the_rest_is_kept() {
    let dir = directory();
    let (first, second) = killed(dir.path());
    // Two cycles made the topics; the seventh is the third record of `first`.
    lose_cycle(dir.path(), 6);
    let length = fs::metadata(log(dir.path(), first, 0)).unwrap().len() / 10;
    for p in [first, second] {
        File::options().write(true).open(log(dir.path(), p, 0)).unwrap().set_len(0).unwrap();
    }
    let report = do_repair(dir.path());
    assert_eq!(report.partitions.len(), 1, "{report:?}");
    let lost = &report.partitions[0];
    assert_eq!(lost.partition.to_string(), "first-0");
    assert_eq!(lost.kept, Offset(0)..Offset(10));
    assert_eq!(lost.lost, [Offset(2)..Offset(3)]);
    assert_eq!(fs::metadata(&lost.damaged[0]).unwrap().len(), length);
    let storage = open(dir.path());
    assert_eq!((records(&storage, first), records(&storage, second)), (9, 10));
    assert_eq!(append(&storage, first, batch(1, b"a", 1)).unwrap().base_offset, Offset(10));
    close(storage, dir.path());
    assert_eq!(damages(dir.path()), []);
}

#[test]
fn a_flipped_bit_below_the_checkpoint_is_found_and_taken_out() {
    let dir = directory();
    let p = stopped(dir.path());
    assert_eq!(damages(dir.path()), []);
    let path = log(dir.path(), p, 4);
    flip(&path, 150_000);
    let found = damages(dir.path());
    let [Damage::BadBatch { path: named, partition, position, from }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((named, partition.to_string().as_str()), (&path, "orders-0"));
    assert_eq!((*position, *from), (100_072, Offset(5)));

    let report = do_repair(dir.path());
    let lost = &report.partitions[0];
    assert_eq!(
        (&lost.kept, &lost.lost[..]),
        (&(Offset(0)..Offset(10)), &[Offset(5)..Offset(6)][..])
    );
    let [aside] = &lost.damaged[..] else { panic!("{lost:?}") };
    assert_eq!(aside, &path.with_extension("damaged"));
    assert_eq!(fs::metadata(aside).unwrap().len(), 100_072);
    assert_eq!(damages(dir.path()), []);

    let storage = open(dir.path());
    assert_eq!(records(&storage, p), 9);
    assert_eq!(append(&storage, p, batch(1, b"on", 1)).unwrap().base_offset, Offset(10));
    close(storage, dir.path());
}

#[test]
fn a_file_that_is_shorter_than_it_was_is_refused() {
    // Of three batches in the first, and of two in the last.
    for (base, with_map) in [(4, true), (4, false), (8, true), (8, false)] {
        let dir = directory();
        let p = stopped(dir.path());
        let path = log(dir.path(), p, base);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        if !with_map {
            fs::remove_dir_all(dir.path().join("map")).unwrap();
        }
        let text = refusal(dir.path());
        assert!(text.contains(path.to_str().unwrap()) && text.contains("bytes"), "{text}");
    }
}

#[test]
fn a_missing_file_is_refused_found_and_said_to_be_lost() {
    // The first, one in the middle, and the last.
    for (base, lost) in [(0, 0..2), (2, 2..4), (8, 8..10)] {
        for with_map in [true, false] {
            let dir = directory();
            let p = stopped(dir.path());
            fs::remove_file(log(dir.path(), p, base)).unwrap();
            if !with_map {
                fs::remove_dir_all(dir.path().join("map")).unwrap();
            }
            let text = refusal(dir.path());
            assert!(
                text.contains("orders-0") || text.contains(&format!("{base:020}.log")),
                "{text}"
            );
            let report = do_repair(dir.path());
            let [repaired] = &report.partitions[..] else { panic!("{base}: {report:?}") };
            assert_eq!(repaired.lost, [Offset(lost.start)..Offset(lost.end)], "{base}");
            close(open(dir.path()), dir.path());
        }
    }
}

#[test]
fn what_the_disk_cannot_read_is_damage_and_the_rest_is_kept() {
    // Without the map a start reads the last file, and those beside which nothing is written.
    for (part, says) in [
        ("00000000000000000008.log", "records of orders-0 from offset 8 on"),
        (
            "topics/00000000-0000-0000-0000-000000000001/0/00000000000000000000.log",
            "__cluster_metadata",
        ),
        ("segment-", "journal"),
        ("/checkpoint-", "journal"),
        ("/version", "version"),
    ] {
        let dir = directory();
        let p = stopped(dir.path());
        fs::remove_dir_all(dir.path().join("map")).unwrap();
        let faults = Faults::none();
        faults.fail(Operation::Read, part, ErrorKind::Other, u64::MAX);
        let error = Storage::open(config(dir.path()), faults.host()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{part}: {error}");
        assert!(error.to_string().contains(says), "{part}: {error}");
        let inspection = Inspection::open(&config(dir.path()), &faults.host()).unwrap();
        let found = inspection.damages(&mut |_, _| {}).unwrap();
        assert!(found.iter().any(|damage| damage.to_string().contains(says)), "{part}: {found:?}");
        drop(inspection);
        if part.contains(".log") || part == "/version" {
            continue;
        }
        let report = repair(&config(dir.path()), &faults.host(), &mut |_, _| {}).unwrap();
        assert_eq!(report.partitions, [], "{part}");
        let storage = open(dir.path());
        assert_eq!(records(&storage, p), 10, "{part}");
        close(storage, dir.path());
    }
}

#[test]
fn a_start_needs_both_checkpoints_readable_and_a_look_at_the_data_only_one() {
    for part in ["/checkpoint-0", "/checkpoint-1"] {
        let dir = directory();
        let p = stopped(dir.path());
        let faults = Faults::none();
        faults.fail(Operation::Read, part, ErrorKind::Other, 1);
        let refused = Storage::open(config(dir.path()), faults.host());
        assert!(matches!(refused, Err(OpenError::Damaged(Damage::Unreadable { .. }))), "{part}");
        faults.fail(Operation::Read, part, ErrorKind::Other, 1);
        let inspection = Inspection::open(&config(dir.path()), &faults.host()).unwrap();
        assert!(inspection.checkpoint.is_some(), "{part}");
        drop(inspection);
        let storage = open(dir.path());
        assert_eq!(records(&storage, p), 10, "{part}");
        close(storage, dir.path());
    }
}

#[test]
fn what_is_written_beside_a_log_and_cannot_be_read_is_written_again() {
    let dir = directory();
    let p = stopped(dir.path());
    let meta = log(dir.path(), p, 2).with_extension("meta");
    let before = fs::read(&meta).unwrap();
    flip(&meta, 20);
    fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    assert_eq!(records(&storage, p), 10);
    append(&storage, p, batch(1, b"on", 1)).unwrap();
    close(storage, dir.path());
    assert_eq!(fs::read(&meta).unwrap(), before);
}

/// A transaction that began in records which are deleted since. Answers what is left of their last file.
fn begun_in_front(dir: &Path, spoil: bool) -> (PartitionId, PathBuf, Vec<u8>) {
    let storage = open(dir);
    let p = partition(create(&storage, "orders", 1, &[("segment.bytes", "150000")]), 0);
    let large = |storage: &Storage| append(storage, p, batch(1, &vec![7; 100_000], 1)).unwrap();
    append(&storage, p, transactional(7, 0, 1)).unwrap();
    let start = [(); 3].map(|()| large(&storage).base_offset)[2];
    append(&storage, p, transactional(7, 1, 1)).unwrap();
    close(storage, dir);
    let storage = open(dir);
    let meta = log(dir, p, 2).with_extension("meta");
    let before = fs::read(&meta).unwrap();
    if spoil {
        flip(&meta, 20);
    }
    let (done, told) = answer();
    storage.delete_records(p, Some(start), done);
    told.recv_timeout(LONG).unwrap().unwrap();
    close(storage, dir);
    assert!(meta.exists() && !meta.with_extension("log").exists());
    (p, meta, before)
}

#[test]
fn what_is_left_of_a_deleted_file_is_missed_if_it_is_not_whole() {
    let dir = directory();
    let (p, meta, _) = begun_in_front(dir.path(), false);
    assert_eq!(damages(dir.path()), []);
    let faults = Faults::none();
    faults.fail(Operation::Read, ".meta", ErrorKind::Other, u64::MAX);
    let refused = Storage::open(config(dir.path()), faults.host());
    assert!(matches!(refused, Err(OpenError::Damaged(Damage::Forgotten { .. }))), "{refused:?}");
    flip(&meta, 20);
    let text = refusal(dir.path());
    assert!(text.contains("open transactions orders-0 had in front of offset 3"), "{text}");
    let report = do_repair(dir.path());
    let [repaired] = &report.partitions[..] else { panic!("{report:?}") };
    assert_eq!((&repaired.kept, &repaired.lost[..]), (&(Offset(3)..Offset(5)), &[][..]));
    assert_eq!(repaired.damaged, [meta.with_extension("damaged")]);
    assert_eq!(repaired.transactions, [(Offset(4), ProducerId(7))]);
    assert_eq!(damages(dir.path()), []);
    let storage = open(dir.path());
    assert_eq!(append(&storage, p, batch(1, b"on", 1)).unwrap().base_offset, Offset(5));
    close(storage, dir.path());
}

#[test]
fn what_is_to_be_left_of_a_file_is_made_whole_before_that_is_deleted() {
    let dir = directory();
    let (p, meta, before) = begun_in_front(dir.path(), true);
    assert!(fs::read(meta).unwrap() == before);
    fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    assert_eq!(storage.offsets(p).unwrap().last_stable_offset, Offset(3));
    close(storage, dir.path());
}

#[test]
fn a_catalogue_without_its_first_file_is_refused() {
    let dir = directory();
    let storage = open(dir.path());
    for topic in 0..5 {
        create(&storage, &format!("topic {topic}"), 1, &[]);
    }
    close(storage, dir.path());
    // As if there had been one in front of what is left.
    let first = log(dir.path(), METADATA, 0);
    let bytes = fs::read(&first).unwrap();
    let length = BatchView::parse(&bytes).unwrap().bytes().len();
    fs::write(log(dir.path(), METADATA, 1), &bytes[length..]).unwrap();
    fs::remove_file(first).unwrap();
    let checkpoint = |number: u64| {
        let path = dir.path().join(format!("journal/checkpoint-{number}"));
        let mut found = Checkpoint::decode(&fs::read(&path).unwrap()).unwrap();
        let end = found.logs.get_mut(&METADATA).unwrap();
        (end.segment, end.length) = (Offset(1), end.length - crate::codec::position(length));
        fs::write(path, found.encode()).unwrap();
    };
    checkpoint(0);
    checkpoint(1);
    let text = refusal(dir.path());
    assert!(text.contains("__cluster_metadata"), "{text}");
}

/// No checksum covers the offset of a batch.
#[test]
fn a_batch_at_an_offset_where_it_cannot_be_is_not_passed_over() {
    // The second batch of the file of 2 and 3, and the only one in front of it that is left.
    for (byte, from) in [(100_072 + 7, 3), (6, 2)] {
        let dir = directory();
        let p = stopped(dir.path());
        let path = log(dir.path(), p, 2);
        flip(&path, byte);
        let storage = open(dir.path());
        let limit = ReadLimit {
            max_bytes: 1 << 20,
            isolation: Isolation::ReadUncommitted,
            at_least_one_batch: true,
        };
        let Err(ReadError::Damaged { path: named, .. }) = storage.read(p, Offset(from), limit)
        else {
            panic!("byte {byte} is not missed")
        };
        assert_eq!(named, path);
        assert_eq!(storage.read(p, Offset(4), limit).unwrap().next_offset, Offset(6));
        close(storage, dir.path());
    }
}

#[test]
fn a_map_that_knows_more_than_the_journal_is_refused_until_it_is_deleted() {
    let dir = directory();
    let p = stopped(dir.path());
    let journal = directory();
    for name in fs::read_dir(dir.path().join("journal")).unwrap() {
        let name = name.unwrap().file_name();
        fs::copy(dir.path().join("journal").join(&name), journal.path().join(&name)).unwrap();
    }
    let storage = open(dir.path());
    append(&storage, p, batch(1, b"newer", 1)).unwrap();
    close(storage, dir.path());
    for name in fs::read_dir(journal.path()).unwrap() {
        let name = name.unwrap().file_name();
        fs::copy(journal.path().join(&name), dir.path().join("journal").join(&name)).unwrap();
    }
    // It is no damage.
    let text = Storage::open(config(dir.path()), Host::real()).unwrap_err().to_string();
    assert!(text.contains("records of orders-0 up to offset 11"), "{text}");
    assert!(text.contains("delete ") && text.contains("/map"), "{text}");
    fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    assert_eq!(records(&storage, p), 10);
    close(storage, dir.path());
}

#[test]
fn a_file_whose_records_another_has_already_is_no_damage() {
    let dir = directory();
    let p = stopped(dir.path());
    // A file written anew took the place of two, and the second was not removed yet.
    let (first, second) = (log(dir.path(), p, 0), log(dir.path(), p, 2));
    let both = [fs::read(&first).unwrap(), fs::read(&second).unwrap()].concat();
    fs::write(&first, both).unwrap();
    assert_eq!(damages(dir.path()), []);
    let report = do_repair(dir.path());
    let kept = &report.partitions[0];
    assert_eq!((kept.kept.clone(), kept.lost.clone()), (Offset(0)..Offset(10), vec![]));
    assert_eq!(kept.damaged.len(), 1, "{kept:?}");
    let storage = open(dir.path());
    assert_eq!(records(&storage, p), 10);
    close(storage, dir.path());
}

#[test]
fn a_topic_that_was_deleted_since_the_checkpoint_is_no_damage() {
    let dir = directory();
    let topic = stopped(dir.path()).topic;
    let faults = Faults::none();
    let often = Config { clean_every: Duration::from_millis(5), ..config(dir.path()) };
    let storage = Storage::open(often, faults.host()).unwrap().0;
    let (done, told) = answer();
    storage.change_catalogue(CatalogueChange::DeleteTopic { id: topic }, done);
    told.recv_timeout(LONG).unwrap().unwrap();
    until(|| !dir.path().join(format!("topics/{}", topic.0)).exists());
    faults.fail(Operation::Write, "segment-", ErrorKind::Other, 1);
    let (done, told) = answer();
    let change = CatalogueChange::CreateTopic {
        name: "never".to_owned(),
        partitions: 1,
        configs: BTreeMap::new(),
    };
    storage.change_catalogue(change, done);
    assert!(told.recv_timeout(LONG).is_err());
    close(storage, dir.path());
    assert_eq!(damages(dir.path()), []);
    close(open(dir.path()), dir.path());
}
