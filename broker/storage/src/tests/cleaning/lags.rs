//! Files that end by their age, and what compaction leaves alone for a time; records without a
//! timestamp are as old as their file.

use bytes::Bytes;
use wire::{
    Offset, TimestampMs,
    batch::{BatchBuilder, NewRecord},
};

use super::lab::Lab;
use crate::PartitionId;

const COMPACTED: [(&str, &str); 2] =
    [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];

/// One record, always of the same key.
fn record(timestamp: TimestampMs) -> Bytes {
    let mut builder = BatchBuilder::new();
    let value: Option<&[u8]> = Some(&[7; 200]);
    builder.push(NewRecord { timestamp, key: Some(b"key"), value, headers: &[] });
    builder.build()
}

/// Two full files of two records each, and one that is written to.
fn filled(configs: &[(&str, &str)], has_time: bool) -> (Lab, PartitionId) {
    let mut lab = Lab::new(600);
    lab.start().unwrap();
    let p = lab.create(configs).unwrap();
    for _ in 0..5 {
        let time = if has_time { lab.now() } else { TimestampMs::NONE };
        lab.append(p, record(time)).unwrap().unwrap();
    }
    assert_eq!(lab.logs(p), [0, 2, 4]);
    (lab, p)
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&COMPACTED, more].concat()
}

#[test]
fn compaction_leaves_a_file_alone_until_its_newest_record_is_old_enough() {
    for has_time in [true, false] {
        let (mut lab, p) = filled(&with(&[("min.compaction.lag.ms", "20000")]), has_time);
        // 10 seconds pass meanwhile.
        lab.checkpoint();
        lab.pass(9_999);
        lab.clean();
        assert_eq!(lab.read(p).len(), 5, "{has_time}");
        lab.pass(1);
        lab.clean();
        assert_eq!(lab.read(p).len(), 3, "one of each file, {has_time}");
    }
}

#[test]
fn what_may_not_wait_longer_for_compaction_leaves_the_file_that_is_written_to() {
    for (settings, bases) in [
        (vec![], vec![0]),
        (vec![("max.compaction.lag.ms", "5000")], vec![0, 2]),
        (vec![("max.compaction.lag.ms", "5000"), ("segment.ms", "4000")], vec![0, 1, 2]),
    ] {
        let mut lab = Lab::new(1 << 20);
        lab.start().unwrap();
        let p = lab.create(&with(&settings)).unwrap();
        for seconds in [0, 5, 10] {
            lab.append(p, record(TimestampMs(1_000_000 + seconds * 1000))).unwrap().unwrap();
        }
        assert_eq!(lab.logs(p), bases, "{settings:?}");
    }
}

#[test]
fn a_file_whose_first_record_has_no_time_ends_by_the_clock() {
    let mut lab = Lab::new(1 << 20);
    lab.start().unwrap();
    let p = lab.create(&[("segment.ms", "100")]).unwrap();
    let append = |lab: &mut Lab| {
        assert!(lab.append(p, record(TimestampMs::NONE)).unwrap().is_ok());
    };
    append(&mut lab);
    lab.pass(100);
    append(&mut lab);
    assert_eq!(lab.logs(p), [0]);
    lab.pass(1);
    append(&mut lab);
    assert_eq!(lab.logs(p), [0, 2]);
    // A start knows no earlier time than its own.
    lab.pass(101);
    lab.start().unwrap();
    append(&mut lab);
    assert_eq!(lab.logs(p), [0, 2]);
    lab.pass(101);
    append(&mut lab);
    assert_eq!(lab.logs(p), [0, 2, 4]);
}

#[test]
fn a_compacted_file_is_as_old_as_what_it_was_made_of() {
    let settings = [
        ("cleanup.policy", "compact,delete"),
        ("min.cleanable.dirty.ratio", "0"),
        ("retention.ms", "20000"),
    ];
    let (mut lab, p) = filled(&settings, false);
    lab.checkpoint();
    lab.clean();
    assert_eq!(lab.read(p).len(), 3, "one of each file");
    lab.pass(10_000);
    lab.clean();
    assert_eq!(lab.logs(p), [0, 2, 4]);
    lab.pass(1);
    lab.clean();
    assert_eq!(lab.logs(p), Vec::<i64>::new());
}

#[test]
fn the_largest_time_is_that_of_a_record_which_is_there() {
    let mut lab = Lab::new(600);
    lab.start().unwrap();
    let p = lab.create(&COMPACTED).unwrap();
    for time in [500, 900, 300, 300, 200] {
        lab.append(p, record(TimestampMs(time))).unwrap().unwrap();
    }
    let largest = |lab: &Lab| {
        let storage = crate::Storage::stepped(lab.engine.as_ref().unwrap().shared.clone());
        storage.max_timestamp(p).unwrap().map(|(offset, time)| (offset.0, time.0))
    };
    assert_eq!(largest(&lab), Some((1, 900)));
    assert_eq!(lab.delete(p, Some(2)), Some(Ok(Offset(2))));
    assert_eq!(largest(&lab), Some((2, 300)));
    lab.checkpoint();
    lab.clean();
    assert_eq!(largest(&lab), Some((3, 300)), "all but the newest in front of the last file");
    assert_eq!(lab.delete(p, Some(5)), Some(Ok(Offset(5))));
    assert_eq!(largest(&lab), None);
}
