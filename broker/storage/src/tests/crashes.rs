//! Particular crashes and damages.

use std::path::Path;

use super::sim::{Crash, SimDisk, Sizes, World};
use crate::{
    aligned::{AlignedBuffer, padded},
    codec::position,
    host::{Disk, Open},
    journal::{
        checkpoint::Checkpoint,
        cycle::{peek, seal},
    },
};

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let mut world = World::new(3);
    world.start().unwrap();
    world.create_topic().unwrap();
    for _ in 0..100 {
        world.act().unwrap();
    }
    world.settle().unwrap();
    let states = world.states();
    world.finish().unwrap();
    world.crash(Crash::Power).unwrap();
    world.start().unwrap();
    assert_eq!(world.engine().report.cycles_replayed, 0);
    assert_eq!(world.states(), states);
}

/// Found by world 11,522: a start took the segment for none, and went on without the newest cycles.
#[test]
fn a_segment_with_a_bad_header_is_damage_also_where_nothing_follows_it() {
    let sizes = Sizes { segment_bytes: 1 << 20, journal_segment_bytes: 48 << 10, most_keys: 6 };
    let mut world = World::on(SimDisk::default(), 5, sizes);
    world.start().unwrap();
    world.create_topic().unwrap();
    while !world.disk.files().contains_key(&World::journal_file(1)) {
        world.append_alone();
    }
    world.idle(1500);
    world.idle(7000);
    world.keep();
    // Nobody takes a checkpoint any more.
    let second = world.engine().shared.ring_files.open(1, Open::Read).unwrap();
    let begun = |from: u64| {
        let mut found = [0; 8];
        second.read_at(&mut found, from).unwrap();
        found == *b"ottlacy1"
    };
    while !begun(8192) {
        world.append_alone();
    }
    let segment = World::journal_file(1);
    world.crash(Crash::Kill).unwrap();
    world.disk.flip(&segment, 15, 0);
    let text = world.start().unwrap_err().to_string();
    assert!(text.contains("segment-1: of another data directory, or"), "{text}");
    world.disk.flip(&segment, 15, 0);
    world.start().unwrap();
    world.verify(Crash::Kill).unwrap();
}

#[test]
fn a_synced_cycle_that_cannot_be_read_is_damage_and_a_torn_last_one_is_not() {
    let write_some = |world: &mut World| {
        world.start().unwrap();
        world.create_topic().unwrap();
        for _ in 0..10 {
            world.append_alone();
        }
    };
    let cycles = |bytes: &[u8]| -> Vec<usize> {
        let at = (4096..bytes.len()).step_by(4096);
        at.filter(|at| bytes[*at..].starts_with(b"ottlacy1")).collect()
    };
    for last in [false, true] {
        let mut world = World::new(11);
        write_some(&mut world);
        let segment = World::journal_file(0);
        let found = cycles(&world.disk.contents(&segment).unwrap());
        assert!(found.len() > 3);
        let broken = if last { found[found.len() - 1] } else { found[1] };
        world.disk.flip(&segment, broken + 100, 0);
        world.crash(Crash::Kill).unwrap();
        let outcome = world.start();
        if last {
            outcome.unwrap();
        } else {
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains("cycle 2 in segment-0") && text.contains("offset"), "{text}");
        }
    }
}

#[test]
fn a_log_that_is_shorter_than_its_checkpoint_is_damage() {
    let mut world = World::new(5);
    world.start().unwrap();
    world.create_topic().unwrap();
    for _ in 0..60 {
        world.act().unwrap();
    }
    world.settle().unwrap();
    world.finish().unwrap();
    world.crash(Crash::Kill).unwrap();
    let files = world.disk.files();
    let is_log = |path: &&std::path::PathBuf| path.extension().is_some_and(|it| it == "log");
    let log = files.iter().rfind(|(path, length)| is_log(path) && **length > 1).unwrap().0;
    let file = world.disk.open(log, Open::Write).unwrap();
    file.set_len(1).unwrap();
    let text = world.start().unwrap_err().to_string();
    assert!(text.contains("1 bytes long"), "{text}");
}

#[test]
fn every_answer_of_acks_all_has_its_own_sync() {
    let mut world = World::new(1);
    world.start().unwrap();
    world.create_topic().unwrap();
    let before = world.disk.syncs();
    for _ in 0..10 {
        world.append_alone();
    }
    assert_eq!(world.disk.syncs() - before, 10);
}

#[test]
fn a_cycle_of_an_earlier_start_does_not_continue_a_later_one() {
    for (start_back, accepted) in [(0, 1), (1, 0)] {
        let mut world = World::new(8);
        world.start().unwrap();
        world.create_topic().unwrap();
        world.append_alone();
        world.crash(Crash::Kill).unwrap();
        world.start().unwrap();
        world.append_alone();
        let before = world.engine().report.cycles_replayed + 1;
        let disk: &dyn Disk = &world.disk;
        let checkpoint = Checkpoint::load(disk, Path::new("/data/journal")).unwrap().unwrap().0;
        let segment = World::journal_file(0);
        let bytes = world.disk.contents(&segment).unwrap();
        let is_cycle = |at: &usize| bytes[*at..].starts_with(b"ottlacy1");
        let last = (4096..bytes.len()).step_by(4096).rfind(is_cycle).unwrap();
        let (mut header, length) = peek(&bytes[last..]).unwrap();
        header.number += 1;
        header.start -= start_back;
        let mut buffer = AlignedBuffer::zeroed(4096);
        let forged = seal(&mut buffer, header, &[], &checkpoint.secret);
        let at = position(last + padded(length));
        disk.open(&segment, Open::Write).unwrap().write_at(&buffer.bytes()[..forged], at).unwrap();
        world.crash(Crash::Kill).unwrap();
        world.start().unwrap();
        assert_eq!(world.engine().report.cycles_replayed, before + accepted);
    }
}
