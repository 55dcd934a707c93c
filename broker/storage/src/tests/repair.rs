//! A repair saves what is whole, wherever the rest is, and says what it leaves.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
};

use wire::{
    Offset, ProducerId,
    batch::{BatchView, Marker},
};

use super::{
    damage::{cycle_at, damages, do_repair, flip, killed, log, records, refusal, stopped},
    faults::{Faults, Operation},
    support::{
        LONG, answer, append, batch, close, compacted, config, create, directory, end, open,
        partition, read_all, transactional,
    },
};
use crate::{
    AbortedTransaction, Config, Damage, Host, Inspection, Isolation, OpenError, ReadLimit, Storage,
    catalogue::METADATA, repair, segment_file::base_of,
};

#[test]
fn without_journal_version_or_map_the_logs_are_kept() {
    for gone in ["journal", "version", "map"] {
        let dir = directory();
        let p = stopped(dir.path());
        let id = fs::read_to_string(dir.path().join("version")).unwrap();
        let path = dir.path().join(gone);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        if gone != "map" {
            assert!(refusal(dir.path()).contains("missing"), "{gone}");
        }
        let report = do_repair(dir.path());
        assert_eq!((report.untouched, report.partitions), (2, Vec::new()), "{gone}");
        assert_eq!(fs::read_to_string(dir.path().join("version")).unwrap(), id, "{gone}");
        let storage = open(dir.path());
        assert_eq!(records(&storage, p), 10, "{gone}");
        close(storage, dir.path());
    }
}

#[test]
fn a_repair_that_is_cut_short_can_be_repeated() {
    // Each failing write stops the repair at another place.
    for (part, times) in [
        (".damaged", 1),
        (".log.cleaned", 1),
        (".meta.cleaned", 1),
        ("checkpoint-", 1),
        ("checkpoint-", 2),
        ("segment-", 1),
    ] {
        let dir = directory();
        let p = stopped(dir.path());
        flip(&log(dir.path(), p, 4), 150_000);
        let faults = Faults::none();
        faults.fail_after(Operation::Write, part, times - 1);
        let outcome = repair(&config(dir.path()), &faults.host(), &mut |_, _| {});
        assert!(outcome.is_err(), "{part}");
        assert!(refusal(dir.path()).contains("version"), "{part}");
        assert!(do_repair(dir.path()).is_again, "{part}");
        assert!(!do_repair(dir.path()).is_again, "{part}");
        let storage = open(dir.path());
        assert_eq!(records(&storage, p), 9, "{part}");
        close(storage, dir.path());
    }
}

#[test]
fn a_directory_in_use_is_not_repaired() {
    let dir = directory();
    let storage = open(dir.path());
    let refused = repair(&config(dir.path()), &Host::real(), &mut |_, _| {});
    assert!(matches!(refused, Err(OpenError::InUse(_))), "{refused:?}");
    close(storage, dir.path());
}

#[test]
fn a_repair_of_a_compacted_log_keeps_its_offsets_and_gaps() {
    let dir = directory();
    let (storage, p) = compacted(dir.path());
    close(storage, dir.path());
    let storage = open(dir.path());
    let end = storage.offsets(p).unwrap().high_watermark;
    let before = read_all(&storage, p, Isolation::ReadUncommitted);
    close(storage, dir.path());
    assert_eq!(damages(dir.path()), []);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let report = do_repair(dir.path());
    assert_eq!(report.partitions, []);
    assert_eq!(damages(dir.path()), []);
    let storage = open(dir.path());
    assert_eq!(read_all(&storage, p, Isolation::ReadUncommitted), before);
    assert_eq!(append(&storage, p, batch(1, b"on", 1)).unwrap().base_offset, end);
    close(storage, dir.path());

    // A bad batch in a file written anew: what is whole in front of it stays.
    let (base, bytes) = &before[before.len() / 2];
    let mut files: Vec<i64> = fs::read_dir(log(dir.path(), p, 0).parent().unwrap())
        .unwrap()
        .filter_map(|entry| base_of(entry.unwrap().file_name().to_str().unwrap(), "log"))
        .map(|base| base.0)
        .collect();
    files.sort_unstable();
    let file = files.into_iter().rfind(|first| *first <= base.0).unwrap();
    let path = log(dir.path(), p, file);
    let held = fs::read(&path).unwrap();
    let at = held.windows(bytes.len() - 16).position(|found| found == &bytes[16..]).unwrap();
    flip(&path, crate::codec::position(at + 60));
    assert_eq!(damages(dir.path()).len(), 1);
    let report = do_repair(dir.path());
    let [lost] = &report.partitions[..] else { panic!("{report:?}") };
    assert!(lost.lost.len() == 1 && lost.lost[0].contains(base), "{lost:?}");
    assert_eq!(damages(dir.path()), []);
    let storage = open(dir.path());
    let mut kept = read_all(&storage, p, Isolation::ReadUncommitted);
    assert_eq!(kept.pop().unwrap().0, end);
    kept.retain(|(_, batch)| before.iter().any(|(_, one)| one == batch));
    let whole: Vec<_> = before.iter().filter(|(offset, _)| offset != base).cloned().collect();
    assert_eq!(kept, whole);
    close(storage, dir.path());
}

#[test]
fn a_journal_of_other_data_is_not_begun_anew() {
    let (data, journal) = (directory(), directory());
    let apart =
        |data: &Path| Config { journal_dir: Some(journal.path().to_path_buf()), ..config(data) };
    let (storage, _) = Storage::open(apart(data.path()), Host::real()).unwrap();
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, batch(1, b"value", 1)).unwrap();
    storage.shutdown();
    drop(storage);
    // As when the data's own disk is not mounted.
    let unmounted = directory();
    let refused = Storage::open(apart(unmounted.path()), Host::real()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(Damage::Foreign(_))), "{refused:?}");
    let (storage, _) = Storage::open(apart(data.path()), Host::real()).unwrap();
    assert_eq!(records(&storage, p), 1);
    storage.shutdown();
}

#[test]
fn nothing_is_taken_from_a_journal_of_other_data() {
    let (data, other) = (directory(), directory());
    let p = stopped(data.path());
    stopped(other.path());
    let journal = other.path().join("journal");
    let apart = Config { journal_dir: Some(journal.clone()), ..config(data.path()) };
    let files = || {
        let names = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
        names.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    // With its checkpoints, and with nothing but segments.
    for _ in 0..2 {
        let before = files();
        let inspection = Inspection::open(&apart, &Host::real()).unwrap();
        let refused = inspection.damages(&mut |_, _| {});
        assert!(matches!(refused, Err(OpenError::OtherJournal { .. })), "{refused:?}");
        drop(inspection);
        let refused = repair(&apart, &Host::real(), &mut |_, _| {});
        assert!(matches!(refused, Err(OpenError::OtherJournal { .. })), "{refused:?}");
        assert!(files() == before && data.path().join("version").exists());
        for number in 0..2 {
            drop(fs::remove_file(journal.join(format!("checkpoint-{number}"))));
        }
    }
    fs::remove_dir_all(&journal).unwrap();
    let report = repair(&apart, &Host::real(), &mut |_, _| {}).unwrap();
    assert_eq!(report.partitions, []);
    let (storage, _) = Storage::open(apart, Host::real()).unwrap();
    assert_eq!(records(&storage, p), 10);
    storage.shutdown();
}

#[test]
fn cycles_behind_what_cannot_be_read_of_the_journal_are_found() {
    // The header of the segment, and the third record of `first`.
    for (bad, is_lost) in [(Some(0), false), (None, true)] {
        let dir = directory();
        let (first, second) = killed(dir.path());
        let bad = bad.unwrap_or_else(|| cycle_at(dir.path(), 6));
        for p in [first, second] {
            File::options().write(true).open(log(dir.path(), p, 0)).unwrap().set_len(0).unwrap();
        }
        let faults = Faults::none();
        faults.spoil("segment-0", bad..bad + 512);
        assert!(Storage::open(config(dir.path()), faults.host()).is_err());
        let report = repair(&config(dir.path()), &faults.host(), &mut |_, _| {}).unwrap();
        let lost: Vec<_> = report.partitions.iter().flat_map(|one| one.lost.clone()).collect();
        let expected = if is_lost { vec![Offset(2)..Offset(3)] } else { Vec::new() };
        assert_eq!(lost, expected);
        let storage = open(dir.path());
        let kept = if is_lost { 9 } else { 10 };
        assert_eq!((records(&storage, first), records(&storage, second)), (kept, 10));
        close(storage, dir.path());
    }
}

#[test]
fn what_a_repair_set_aside_of_a_whole_log_outlives_the_next_start() {
    let dir = directory();
    let p = stopped(dir.path());
    for base in [0, 2, 4, 6, 8] {
        let path = log(dir.path(), p, base);
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![7; usize::try_from(length).unwrap()]).unwrap();
    }
    let report = do_repair(dir.path());
    assert_eq!(report.partitions[0].lost, [Offset(0)..Offset(10)]);
    let set_aside = report.partitions[0].damaged.clone();
    close(open(dir.path()), dir.path());
    assert!(!set_aside.is_empty() && set_aside.iter().all(|path| path.exists()));
}

#[test]
fn a_log_whose_only_file_is_lost_begins_where_it_began() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "orders", 1, &[]), 0);
    for _ in 0..10 {
        append(&storage, p, batch(1, b"value", 1)).unwrap();
    }
    let (done, told) = answer();
    storage.delete_records(p, Some(Offset(5)), done);
    told.recv_timeout(LONG).unwrap().unwrap();
    close(storage, dir.path());
    fs::remove_file(log(dir.path(), p, 0)).unwrap();
    assert!(refusal(dir.path()).contains("missing"));
    let report = do_repair(dir.path());
    assert_eq!(report.partitions[0].kept, Offset(5)..Offset(5));
    let storage = open(dir.path());
    assert_eq!(append(&storage, p, batch(1, b"value", 1)).unwrap().base_offset, Offset(5));
    close(storage, dir.path());
}

#[test]
fn an_abort_is_known_though_the_file_with_its_marker_is_lost() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "orders", 1, &[("segment.bytes", "300000")]), 0);
    let large = || append(&storage, p, batch(1, &vec![7; 100_000], 1)).unwrap().base_offset;
    append(&storage, p, transactional(77, 0, 2)).unwrap();
    let [_, _, second] = [(); 3].map(|()| large());
    end(&storage, p, 77, Marker::Abort);
    let [_, third] = [(); 2].map(|()| large());
    large();
    close(storage, dir.path());
    fs::remove_file(log(dir.path(), p, second.0)).unwrap();
    refusal(dir.path());
    let report = do_repair(dir.path());
    assert_eq!(report.partitions[0].lost, [second..third]);
    let storage = open(dir.path());
    let (isolation, max_bytes) = (Isolation::ReadCommitted, 1 << 20);
    let limit = ReadLimit { max_bytes, isolation, at_least_one_batch: true };
    let read = storage.read(p, Offset(0), limit).unwrap();
    let aborted: Vec<_> = read.aborted.iter().map(|one| one.producer_id).collect();
    assert_eq!(aborted, [ProducerId(77)]);
    assert_eq!(read.snapshot.last_stable_offset, third.plus(2));
    close(storage, dir.path());
}

#[test]
fn a_bad_record_of_the_catalogue_costs_one_topic() {
    let dir = directory();
    let storage = open(dir.path());
    let topics: Vec<_> =
        (0..5).map(|topic| partition(create(&storage, &format!("t{topic}"), 1, &[]), 0)).collect();
    for p in &topics {
        append(&storage, *p, batch(1, b"value", 1)).unwrap();
    }
    close(storage, dir.path());
    let path = log(dir.path(), METADATA, 0);
    let bytes = fs::read(&path).unwrap();
    let at: usize = wire::batch::batches(&bytes).take(2).map(|view| view.bytes().len()).sum();
    flip(&path, crate::codec::position(at) + 70);
    assert!(refusal(dir.path()).contains("__cluster_metadata"));
    let report = do_repair(dir.path());
    let [catalogue] = &report.partitions[..] else { panic!("{report:?}") };
    assert_eq!(catalogue.partition.to_string(), "__cluster_metadata-0");
    assert_eq!(catalogue.lost, [Offset(2)..Offset(3)]);
    assert_eq!(report.unknown.len(), 1);
    assert_eq!(damages(dir.path()), []);
    let storage = open(dir.path());
    for index in [0, 1, 3, 4] {
        assert_eq!(records(&storage, topics[index]), 1, "{index}");
    }
    assert_eq!(storage.catalogue().by_id.len(), 4);
    close(storage, dir.path());
}

#[test]
fn a_batch_with_a_wrong_offset_takes_no_other_with_it() {
    // One bit of the base offset, which no checksum covers.
    for (byte, bit) in [(0, 0x40), (4, 0x20), (7, 2), (7, 1)] {
        let dir = directory();
        let p = stopped(dir.path());
        let path = log(dir.path(), p, 4);
        let mut bytes = fs::read(&path).unwrap();
        bytes[byte] ^= bit;
        fs::write(&path, bytes).unwrap();
        let report = do_repair(dir.path());
        let [lost] = &report.partitions[..] else { panic!("{report:?}") };
        assert_eq!(lost.lost, [Offset(4)..Offset(5)], "{byte} {bit}");
        let storage = open(dir.path());
        assert_eq!(records(&storage, p), 9);
        close(storage, dir.path());
    }
}

#[test]
fn what_lost_its_header_is_skipped_up_to_the_next_batch() {
    let dir = directory();
    let p = stopped(dir.path());
    let path = log(dir.path(), p, 8);
    let mut bytes = fs::read(&path).unwrap();
    // The length of the first, and in its value something that looks like the next.
    let second = bytes[100_072..].to_vec();
    bytes[8..12].copy_from_slice(&[0x7f; 4]);
    bytes[5000..5100].copy_from_slice(&second[..100]);
    fs::write(&path, bytes).unwrap();
    let report = do_repair(dir.path());
    assert_eq!(report.partitions[0].lost, [Offset(8)..Offset(9)]);
    assert_eq!(report.partitions[0].kept, Offset(0)..Offset(10));
    let storage = open(dir.path());
    assert_eq!(records(&storage, p), 9);
    assert_eq!(append(&storage, p, batch(1, b"on", 1)).unwrap().base_offset, Offset(10));
    close(storage, dir.path());
    assert_eq!(damages(dir.path()), []);
}

#[test]
fn transactions_that_may_be_torn_are_said() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, transactional(7, 0, 1)).unwrap();
    append(&storage, p, transactional(7, 1, 1)).unwrap();
    append(&storage, p, transactional(8, 0, 1)).unwrap();
    append(&storage, p, transactional(8, 1, 1)).unwrap();
    end(&storage, p, 7, Marker::Commit);
    end(&storage, p, 8, Marker::Commit);
    append(&storage, p, transactional(9, 0, 1)).unwrap();
    end(&storage, p, 9, Marker::Commit);
    close(storage, dir.path());
    let path = log(dir.path(), p, 0);
    let bytes = fs::read(&path).unwrap();
    let length = BatchView::parse(&bytes).unwrap().bytes().len();
    // The first of the second producer: the first producer's transaction is open there.
    flip(&path, crate::codec::position(2 * length + 63));
    let report = do_repair(dir.path());
    let [repaired] = &report.partitions[..] else { panic!("{report:?}") };
    let torn = [(Offset(0), ProducerId(7)), (Offset(3), ProducerId(8))];
    assert_eq!(
        (&repaired.lost[..], &repaired.transactions[..]),
        (&[Offset(2)..Offset(3)][..], &torn[..])
    );
    let storage = open(dir.path());
    let read = read_all(&storage, p, Isolation::ReadCommitted);
    assert_eq!(read.last().unwrap().0, Offset(7));
    close(storage, dir.path());
}

#[test]
fn a_transaction_whose_beginning_is_lost_is_said_though_it_goes_on_in_a_whole_file() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[("segment.bytes", "150000")]), 0);
    let large = || append(&storage, p, batch(1, &vec![7; 100_000], 1)).unwrap().base_offset;
    large();
    // This file is to be lost, or a batch of it.
    let begins = append(&storage, p, transactional(7, 0, 1)).unwrap().base_offset;
    let whole = large();
    let goes_on = append(&storage, p, transactional(7, 1, 1)).unwrap().base_offset;
    end(&storage, p, 7, Marker::Commit);
    for _ in 0..3 {
        large();
    }
    close(storage, dir.path());
    let path = log(dir.path(), p, 0);
    let bytes = fs::read(&path).unwrap();
    let length = BatchView::parse(&bytes).unwrap().bytes().len();
    flip(&path, crate::codec::position(length) + 63);
    assert!(log(dir.path(), p, whole.0).with_extension("meta").exists());
    let report = do_repair(dir.path());
    let [repaired] = &report.partitions[..] else { panic!("{report:?}") };
    assert_eq!(repaired.lost, [begins..begins.plus(1)]);
    assert_eq!(repaired.transactions, [(goes_on, ProducerId(7))]);
    close(open(dir.path()), dir.path());
}

#[test]
fn the_marker_of_an_abort_is_made_again_where_it_is_known() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[("segment.bytes", "150000")]), 0);
    append(&storage, p, transactional(7, 0, 1)).unwrap();
    end(&storage, p, 7, Marker::Abort);
    append(&storage, p, transactional(7, 1, 1)).unwrap();
    end(&storage, p, 7, Marker::Commit);
    for _ in 0..3 {
        append(&storage, p, batch(1, &vec![7; 100_000], 1)).unwrap();
    }
    close(storage, dir.path());
    let path = log(dir.path(), p, 0);
    let before = fs::read(&path).unwrap();
    let first = BatchView::parse(&before).unwrap().bytes().len();
    flip(&path, crate::codec::position(first) + 63);
    let report = do_repair(dir.path());
    assert_eq!(report.partitions[0].lost, [Offset(1)..Offset(2)]);
    let storage = open(dir.path());
    let limit = ReadLimit {
        max_bytes: 10_000,
        isolation: Isolation::ReadCommitted,
        at_least_one_batch: true,
    };
    let read = storage.read(p, Offset(0), limit).unwrap();
    let aborted = AbortedTransaction { producer_id: ProducerId(7), first_offset: Offset(0) };
    assert_eq!(read.aborted, [aborted]);
    let bytes = read.slices[0].load().unwrap();
    let marker = wire::batch::batches(&bytes).nth(1).unwrap();
    assert_eq!(marker.header.base_offset, Offset(1));
    assert_eq!(wire::batch::marker(&marker).unwrap(), Some((Marker::Abort, 0)));
    close(storage, dir.path());
}
