//! A repair saves what is whole, wherever the rest is.

use std::fs;

use wire::{
    Offset, ProducerId,
    batch::{BatchView, Marker},
};

use super::{damages, do_repair, flip, log, records, refusal, stopped};
use crate::{
    AbortedTransaction, Isolation, ReadLimit,
    catalogue::METADATA,
    tests::support::{
        append, batch, close, create, directory, end, open, partition, read_all, transactional,
    },
};

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
