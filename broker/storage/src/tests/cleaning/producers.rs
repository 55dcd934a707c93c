use std::collections::BTreeMap;

use bytes::Bytes;
use wire::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, batch::BatchBuilder};

use super::lab::Lab;
use crate::{
    Append, AppendError, Durability, Host, PartitionId,
    keeper::Clean,
    log_state::LogState,
    queue::Request,
    tests::support::{LONG, answer, append, create, directory, fill, open, partition},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const CHECK_MS: i64 = 10 * 60 * 1000;

/// A batch of one record, made now.
fn batch(lab: &Lab, id: i64, sequence: i32) -> Bytes {
    made_at(lab.now().0, id, sequence, false)
}

fn made_at(timestamp: i64, id: i64, sequence: i32, transactional: bool) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
    if transactional {
        builder = builder.transactional();
    }
    fill(&mut builder, 1, b"value", timestamp);
    builder.build()
}

fn states(lab: &mut Lab) -> BTreeMap<PartitionId, LogState> {
    let mut states = lab.engine().committer.states();
    // The catalogue's own log.
    states.retain(|id, _| *id != crate::catalogue::METADATA);
    states
}

fn started(segment_bytes: u64) -> (Lab, PartitionId) {
    let mut lab = Lab::new(segment_bytes);
    lab.start().unwrap();
    lab.clean();
    let configs = [("retention.ms", "-1"), ("segment.ms", "9223372036854775807")];
    let p = lab.create(&configs).unwrap();
    (lab, p)
}

impl Lab {
    /// So much time, and the look for silent producers that follows it.
    fn wait(&mut self, ms: i64) {
        self.pass(ms.max(CHECK_MS));
        self.clean();
    }

    fn remembered(&mut self, p: PartitionId) -> usize {
        states(self)[&p].producers.newest(None).len()
    }
}

#[test]
fn a_partition_forgets_every_producer_that_was_silent_for_a_day() {
    let (mut lab, p) = started(1 << 30);
    for id in 0..2_000 {
        let batch = batch(&lab, id, 0);
        lab.append(p, batch).unwrap().unwrap();
    }
    let open = made_at(lab.now().0, 5_000, 0, true);
    lab.append(p, open).unwrap().unwrap();
    lab.wait(DAY_MS - 1);
    assert_eq!(lab.remembered(p), 2_001);
    let late = batch(&lab, 7, 1);
    lab.append(p, late).unwrap().unwrap();
    lab.wait(CHECK_MS);
    assert_eq!(lab.remembered(p), 2, "one went on, one has an open transaction");

    // What is recorded holds for a start that reads the logs again, with or without a checkpoint.
    let live = states(&mut lab);
    lab.start().unwrap();
    assert_eq!(states(&mut lab), live);
    lab.checkpoint();
    lab.start().unwrap();
    assert_eq!(states(&mut lab), live);
}

#[test]
fn a_forgotten_producer_may_come_back_with_any_sequence() {
    let (mut lab, p) = started(1 << 30);
    for sequence in 0..3 {
        for id in [1, 2, 3] {
            let batch = batch(&lab, id, sequence);
            lab.append(p, batch).unwrap().unwrap();
        }
    }
    let gap = batch(&lab, 1, 77);
    assert_eq!(lab.append(p, gap).unwrap(), Err(AppendError::OutOfOrderSequence));
    lab.wait(DAY_MS + 1);
    assert_eq!(lab.remembered(p), 0);
    // As if it had never stopped; anew; and with a gap.
    for (id, sequence) in [(1, 3), (2, 0), (3, 77)] {
        let back = batch(&lab, id, sequence);
        let first = lab.append(p, back.clone()).unwrap().unwrap();
        assert!(!first.duplicate && first.base_offset >= Offset(9), "{id}");
        assert!(lab.append(p, back).unwrap().unwrap().duplicate, "{id}");
        let next = batch(&lab, id, sequence + 1);
        assert!(!lab.append(p, next).unwrap().unwrap().duplicate, "an old sequence is new again");
    }
    let live = states(&mut lab);
    lab.start().unwrap();
    assert_eq!(states(&mut lab), live, "what was forgotten stays forgotten");
    lab.checkpoint();
    lab.start().unwrap();
    assert_eq!(states(&mut lab), live);
}

#[test]
fn a_clock_that_was_far_ahead_does_not_have_every_start_forget_the_producers() {
    let (mut lab, p) = started(1 << 30);
    let early = batch(&lab, 1, 0);
    lab.append(p, early).unwrap().unwrap();
    lab.wait(30 * DAY_MS);
    assert_eq!(lab.remembered(p), 0);
    lab.pass(-30 * DAY_MS);
    let back = batch(&lab, 2, 0);
    lab.append(p, back.clone()).unwrap().unwrap();
    lab.start().unwrap();
    assert!(lab.append(p, back).unwrap().unwrap().duplicate);
}

/// The old sequences are in the log beside the new ones, and no time that passed tells them apart.
#[test]
fn a_start_takes_no_sequence_for_one_from_before_its_producer_was_forgotten() {
    let (mut lab, p) = started(1 << 30);
    let began = lab.now().0;
    for sequence in 0..3 {
        lab.append(p, made_at(began, 1, sequence, false)).unwrap().unwrap();
    }
    lab.wait(DAY_MS + 1);
    assert_eq!(lab.remembered(p), 0);
    // Its clock is a day late.
    lab.append(p, made_at(began + 2, 1, 0, false)).unwrap().unwrap();
    let live = states(&mut lab);
    lab.start().unwrap();
    assert_eq!(states(&mut lab), live);
    let next = lab.append(p, made_at(began + 3, 1, 1, false)).unwrap().unwrap();
    assert!(!next.duplicate);
}

#[test]
fn producers_are_forgotten_alike_whatever_the_files_and_whenever_the_start() {
    let (mut lab, p) = started(250);
    for day in 0..6 {
        for id in 0..4_i64 {
            // Some every day, some every other day, some once.
            if day % (id + 1) != 0 {
                continue;
            }
            let sequence = i32::try_from(day / (id + 1)).unwrap();
            for _ in 0..2 {
                let batch = batch(&lab, id, sequence);
                lab.append(p, batch).unwrap().unwrap();
            }
            lab.pass(60_000);
        }
        if day == 3 {
            lab.checkpoint();
        }
        lab.wait(DAY_MS);
        let live = states(&mut lab);
        lab.start().unwrap();
        assert_eq!(states(&mut lab), live, "day {day}");
    }
    assert!(lab.logs(p).len() > 2);
}

#[test]
fn the_map_forgets_producers_too_and_is_built_again_without_them() {
    const PRODUCERS: i64 = 20_000;
    let dir = directory();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[("retention.ms", "-1")]);
    let p = partition(topic, 0);
    let now = Host::real().clock.now().0;
    for first in (0..PRODUCERS).step_by(2_000) {
        let once = |id| Append { partition: p, batch: made_at(now - 2 * DAY_MS, id, 0, false) };
        let batches = (first..first + 2_000).map(once).collect();
        let (done, told) = answer();
        storage.append(batches, Durability::Synced, LONG, done);
        assert!(told.recv_timeout(LONG).unwrap().iter().all(Result::is_ok));
    }
    let before = TimestampMs(now - DAY_MS);
    storage.shared().queue.push(Request::Clean(Clean::ExpireProducers { before }));
    let last = made_at(now, PRODUCERS, 0, false);
    append(&storage, p, last.clone()).unwrap();
    storage.shutdown();
    let live = storage.map_rows();
    drop(storage);
    let bytes: usize = live.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes < 20_000, "{bytes}, and a producer would be a row of 50");

    std::fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    assert_eq!(storage.map_rows(), live);
    assert!(append(&storage, p, last).unwrap().duplicate);
    storage.shutdown();
}
