use std::time::Duration;

use wire::{
    TimestampMs,
    batch::{BatchBuilder, NewRecord},
};

use super::lab::Lab;
use crate::{CatalogueChange, CleanerStatus, Host, StorageStats};

fn status(lab: &mut Lab) -> CleanerStatus {
    let now = lab.monotonic();
    lab.engine().shared.cleaning.status_at(now)
}

fn stats(lab: &mut Lab) -> StorageStats {
    lab.engine().shared.counters.read(0)
}

/// A log in which one key was written again and again.
fn dirty() -> Lab {
    let mut lab = Lab::new(600);
    lab.start().unwrap();
    let configs = [("cleanup.policy", "compact"), ("segment.ms", "9223372036854775807")];
    let p = lab.create(&configs).unwrap();
    for _ in 0..10 {
        let mut batch = BatchBuilder::new();
        let (timestamp, value) = (TimestampMs(1_000_000), [7; 150]);
        batch.push(NewRecord { timestamp, key: Some(b"key"), value: Some(&value), headers: &[] });
        lab.append(p, batch.build()).unwrap().unwrap();
    }
    lab.checkpoint();
    lab
}

#[test]
fn a_cleaner_that_falls_behind_says_so_until_it_has_caught_up() {
    let mut lab = dirty();
    // Enough for everybody but the cleaner.
    lab.disk.faults(|faults| faults.free = Some(300 << 20));
    lab.clean();
    let at_first = status(&mut lab);
    assert_eq!((at_first.due, at_first.behind, at_first.passes), (1, false, 0));
    assert!(at_first.due_bytes > 1_000, "{at_first:?}");
    for _ in 0..21 {
        lab.pass(30_000);
        lab.clean();
    }
    let late = status(&mut lab);
    assert_eq!((late.due, late.due_bytes), (1, at_first.due_bytes), "also while it is postponed");
    assert!(late.behind && late.longest_due >= Duration::from_mins(10), "{late:?}");
    assert_eq!(stats(&mut lab).reclaimed_bytes, 0);

    lab.disk.faults(|faults| faults.free = None);
    lab.pass(60_000);
    lab.clean();
    lab.clean();
    let caught_up = status(&mut lab);
    assert_eq!((caught_up.due, caught_up.due_bytes, caught_up.passes), (0, 0, 1));
    assert!(!caught_up.behind && caught_up.longest_due.is_zero(), "{caught_up:?}");
    assert!(stats(&mut lab).reclaimed_bytes > 1_000);
}

#[test]
fn what_is_done_is_counted() {
    let mut lab = Lab::new(600);
    lab.start().unwrap();
    let configs = [("retention.ms", "-1"), ("segment.ms", "9223372036854775807")];
    let p = lab.create(&configs).unwrap();
    let before = stats(&mut lab);
    for _ in 0..6 {
        lab.append(p, crate::tests::support::batch(1, &[7; 200], 1_000_000)).unwrap().unwrap();
    }
    assert_eq!(stats(&mut lab).cycles, before.cycles + 6);
    assert!(stats(&mut lab).journal_bytes >= before.journal_bytes + 6 * 4096);
    assert_eq!(lab.logs(p), [0, 2, 4]);
    lab.delete(p, Some(4)).unwrap().unwrap();
    lab.settle();
    let after = stats(&mut lab);
    assert_eq!((lab.logs(p), after.deleted_segments), (vec![4], 2));
    assert!(after.reclaimed_bytes > 800 && after.checkpoints > before.checkpoints, "{after:?}");
    assert!(!after.produce_refused);
    lab.disk.faults(|faults| faults.free = Some(100 << 20));
    let refused = lab.append(p, crate::tests::support::batch(1, &[7; 200], 1_000_000)).unwrap();
    assert_eq!(refused, Err(crate::AppendError::DiskFull));
    assert!(stats(&mut lab).produce_refused);
}

#[test]
fn a_pass_takes_the_time_that_its_bytes_are_given() {
    let mut lab = Lab::new(200 << 10);
    lab.start().unwrap();
    let p = lab.create(&[("cleanup.policy", "compact")]).unwrap();
    let limit = ("log.cleaner.io.max.bytes.per.second".to_owned(), "5000000".to_owned());
    lab.change(CatalogueChange::SetBrokerConfigs { configs: [limit].into() }).unwrap();
    for _ in 0..10 {
        let mut batch = BatchBuilder::new();
        let (timestamp, value) = (TimestampMs(1_000_000), vec![7; 100_000]);
        batch.push(NewRecord { timestamp, key: Some(b"key"), value: Some(&value), headers: &[] });
        lab.append(p, batch.build()).unwrap().unwrap();
        lab.settle();
    }
    lab.checkpoint();
    let clock = Host::real().clock;
    let began = clock.monotonic();
    lab.clean();
    let took = clock.monotonic().saturating_sub(began);
    assert_eq!(status(&mut lab).passes, 1);
    // Most of a megabyte is read twice, and what is read then may be written.
    assert!(took > Duration::from_millis(300), "{took:?}");
}
