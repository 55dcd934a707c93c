//! Lives that end at any moment, on a disk that loses, tears and reorders what was not synced.

use std::path::Path;

use super::sim::{Crash, World};
use crate::{
    aligned::{AlignedBuffer, padded},
    codec::position,
    host::{Disk, Open},
    journal::{
        checkpoint::Checkpoint,
        cycle::{peek, seal},
    },
    mutant::{MUTANTS, Mutant, broken},
};

const SEEDS: u64 = 200;
const LIVES: u64 = 5;

/// Several lives on one disk. An error names what was broken.
fn live(seed: u64, lies: bool) -> Result<(), String> {
    let mut world = World::new(seed);
    world.start().map_err(|error| error.to_string())?;
    world.create_topic();
    if lies {
        world.disk.lie();
    }
    for _ in 0..LIVES {
        if world.dice.one_in(2) {
            let writes = world.dice.below(150);
            world.disk.stop_after_writes(Some(writes));
        }
        for _ in 0..20 + world.dice.below(120) {
            if world.has_ended() {
                break;
            }
            world.act()?;
        }
        let how = if world.dice.one_in(3) { Crash::Kill } else { Crash::Power };
        world.crash(how);
        recover(&mut world, how)?;
        world.verify(how)?;
        let states = world.states();
        // Recovering again changes nothing.
        world.crash(Crash::Kill);
        world.start().map_err(|error| error.to_string())?;
        if world.states() != states {
            return Err("a second recovery found something else".to_owned());
        }
        world.create_topic();
    }
    world.engine().committer.finish();
    Ok(())
}

/// Starts, with crashes in the midst of recovery.
fn recover(world: &mut World, how: Crash) -> Result<(), String> {
    for _ in 0..world.dice.below(3) {
        let writes = world.dice.below(12);
        world.disk.stop_after_writes(Some(writes));
        let outcome = world.start();
        drop(outcome);
        world.crash(how);
    }
    world.start().map_err(|error| error.to_string())
}

#[test]
fn nothing_promised_is_lost_in_two_hundred_worlds() {
    for seed in 1..=SEEDS {
        let lived = live(seed, false);
        assert_eq!(lived, Ok(()), "seed {seed}");
    }
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let found = (1..=SEEDS).find(|seed| live(*seed, true).is_err());
    assert!(found.is_some(), "two hundred worlds without a sync lost nothing");
}

#[test]
fn an_engine_that_is_broken_on_purpose_is_found_out() {
    for (name, mutant) in MUTANTS {
        // It takes a mirror whose other half shows a lost cycle again: a rare world.
        let first = if mutant == Mutant::IgnoreStart { 800 } else { 1 };
        let found = broken(Some(mutant), || {
            (first..first + SEEDS).find(|seed| live(*seed, false).is_err())
        });
        assert!(found.is_some(), "{name} broke nothing");
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let mut world = World::new(3);
    world.start().unwrap();
    world.create_topic();
    for _ in 0..100 {
        world.act().unwrap();
    }
    world.settle();
    let states = world.states();
    world.engine().committer.finish();
    crate::keeper::step(&world.engine().shared);
    world.crash(Crash::Power);
    world.start().unwrap();
    assert_eq!(world.engine().report.cycles_replayed, 0);
    assert_eq!(world.states(), states);
}

#[test]
fn a_synced_cycle_that_cannot_be_read_is_damage_and_a_torn_last_one_is_not() {
    let write_some = |world: &mut World| {
        world.start().unwrap();
        world.create_topic();
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
        world.disk.flip(&segment, broken + 100);
        world.crash(Crash::Kill);
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
    world.create_topic();
    for _ in 0..60 {
        world.act().unwrap();
    }
    world.settle();
    world.engine().committer.finish();
    crate::keeper::step(&world.engine().shared);
    world.crash(Crash::Kill);
    let image = world.disk.image();
    let is_log = |path: &&std::path::PathBuf| path.extension().is_some_and(|it| it == "log");
    let log = image.iter().rfind(|(path, bytes)| is_log(path) && !bytes.is_empty()).unwrap().0;
    let file = world.disk.open(log, Open::Write).unwrap();
    file.set_len(1).unwrap();
    let text = world.start().unwrap_err().to_string();
    assert!(text.contains("1 bytes long"), "{text}");
}

#[test]
fn every_answer_of_acks_all_has_its_own_sync() {
    let mut world = World::new(1);
    world.start().unwrap();
    world.create_topic();
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
        world.create_topic();
        world.append_alone();
        world.crash(Crash::Kill);
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
        world.crash(Crash::Kill);
        world.start().unwrap();
        assert_eq!(world.engine().report.cycles_replayed, before + accepted);
    }
}
