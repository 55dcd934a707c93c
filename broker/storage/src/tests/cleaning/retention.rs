use std::{collections::BTreeMap, time::Duration};

use wire::{
    Offset, TimestampMs,
    batch::{BatchBuilder, NewRecord},
};

use super::lab::Lab;
use crate::{
    CatalogueChange, Config, Host, PartitionId, Storage,
    tests::support::{append, batch, config, create, directory, keyed, partition, until},
};

/// Files of two batches of one record each, the batches a second apart.
fn filled(configs: &[(&str, &str)]) -> (Lab, PartitionId) {
    let mut lab = Lab::new(600);
    lab.start().unwrap();
    let p = lab.create(configs).unwrap();
    for index in 0..6 {
        lab.append(p, batch(1, &[7; 200], 1_000_000 + index * 1000)).unwrap().unwrap();
    }
    assert_eq!(lab.logs(p), [0, 2, 4]);
    (lab, p)
}

#[test]
fn files_go_once_their_newest_record_is_too_old_the_last_one_too() {
    let (mut lab, p) = filled(&[("retention.ms", "5000")]);
    lab.clean();
    assert_eq!(lab.logs(p), [0, 2, 4]);
    // The clock stood at 1,000,000.
    lab.pass(6_000);
    lab.clean();
    assert_eq!(lab.logs(p), [0, 2, 4], "exactly as old as it may become");
    lab.pass(1);
    lab.clean();
    assert_eq!(lab.logs(p), [2, 4]);
    assert_eq!(lab.offsets(p).log_start_offset, Offset(2));
    lab.pass(2_000);
    lab.clean();
    assert_eq!(lab.logs(p), [4]);
    lab.pass(2_000);
    lab.clean();
    assert_eq!(lab.logs(p), Vec::<i64>::new());
    let appended = lab.append(p, batch(1, &[7; 200], 1_010_000)).unwrap().unwrap();
    assert_eq!(appended.base_offset, Offset(6));
    assert_eq!(appended.log_start_offset, Offset(6));
}

#[test]
fn the_oldest_files_go_while_the_others_are_enough() {
    let (mut lab, p) = filled(&[("retention.bytes", "1000"), ("retention.ms", "-1")]);
    let size = lab.read(p).iter().map(bytes::Bytes::len).sum::<usize>();
    assert!((1600..2000).contains(&size), "{size}");
    lab.pass(1 << 40);
    lab.clean();
    assert_eq!(lab.logs(p), [2, 4], "what remains is not less than the limit");
    lab.clean();
    assert_eq!(lab.logs(p), [2, 4]);
}

#[test]
fn settings_are_followed_when_they_change_and_compacted_logs_have_no_age() {
    let (mut lab, p) = filled(&[("cleanup.policy", "compact"), ("retention.ms", "1")]);
    lab.pass(1_000_000);
    lab.clean();
    assert_eq!(lab.logs(p), [0, 2, 4]);
    let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact,delete".to_owned())]);
    lab.change(CatalogueChange::SetConfigs { id: p.topic, configs }).unwrap();
    lab.clean();
    assert_eq!(lab.logs(p), [0, 2, 4], "a week is the default");
    let of_broker = BTreeMap::from([("log.retention.ms".to_owned(), "998500".to_owned())]);
    lab.change(CatalogueChange::SetBrokerConfigs { configs: of_broker }).unwrap();
    lab.clean();
    assert_eq!(lab.logs(p), [2, 4]);
    assert_eq!(partition(p.topic, 0), p);
}

#[test]
fn a_file_ends_when_its_first_record_is_older_than_segment_ms() {
    let mut lab = Lab::new(1 << 20);
    lab.start().unwrap();
    let p = lab.create(&[("segment.ms", "100")]).unwrap();
    for time in [1000, 1100, 1101, 1150, 1300] {
        lab.append(p, batch(1, b"x", time)).unwrap().unwrap();
    }
    assert_eq!(lab.logs(p), [0, 2, 4]);
    // Recovery rolls where the log did.
    let states = lab.engine().committer.states();
    lab.start().unwrap();
    assert_eq!(lab.engine().committer.states(), states);
    lab.checkpoint();
    lab.start().unwrap();
    assert_eq!(lab.engine().committer.states(), states);
}

#[test]
fn a_log_that_is_compacted_for_long_keeps_no_other_from_its_retention() {
    let dir = directory();
    let limit = ("log.cleaner.io.max.bytes.per.second".to_owned(), "1".to_owned());
    let config = Config {
        clean_every: Duration::from_millis(5),
        broker_configs: BTreeMap::from([limit]),
        ..config(dir.path())
    };
    let (storage, _) = Storage::open(config, Host::real()).unwrap();
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "100000")];
    let slow = partition(create(&storage, "slow", 1, &configs), 0);
    for _ in 0..20 {
        append(&storage, slow, keyed("key", Some(&vec![7; 50_000]))).unwrap();
    }
    until(|| storage.cleaner_status().due > 0);
    let configs = [("retention.bytes", "100000"), ("segment.bytes", "100000")];
    let full = partition(create(&storage, "full", 1, &configs), 0);
    for _ in 0..20 {
        append(&storage, full, keyed("key", Some(&vec![7; 50_000]))).unwrap();
    }
    until(|| storage.offsets(full).unwrap().log_start_offset > Offset(10));
    assert_eq!(storage.cleaner_status().passes, 0);
    storage.shutdown();
}

#[test]
fn records_without_a_time_are_as_old_as_their_file() {
    let dir = directory();
    let often = Config { clean_every: Duration::from_millis(10), ..config(dir.path()) };
    let (storage, _) = Storage::open(often, Host::real()).unwrap();
    let p = partition(create(&storage, "t", 1, &[("retention.ms", "1")]), 0);
    let mut timeless = BatchBuilder::new();
    timeless.push(NewRecord { timestamp: TimestampMs::NONE, key: None, value: None, headers: &[] });
    append(&storage, p, timeless.build()).unwrap();
    until(|| storage.offsets(p).unwrap().log_start_offset == Offset(1));
    storage.shutdown();
}
