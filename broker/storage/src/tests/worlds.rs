//! Lives that end at any moment, on a disk that loses, tears and reorders what was not synced,
//! fails, fills up, and flips bits.
//!
//! `OTTLA_SEEDS=1000000` asks for so many worlds, `OTTLA_SEED=17` for one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use super::sim::{Check, Crash, Faults, Kind, Tally, UNREADABLE, World, check};
use crate::{
    Durability, OpenError,
    mutant::{MUTANTS, Mutant, broken},
    simulation::{
        flip_somewhere,
        seeds::{all_hold, asked, failures},
    },
};

const SEEDS: u64 = 200;
const LIVES: u64 = 5;

/// What has to come about in so many worlds; else they prove less than they seem to.
const EXPECTED: [&str; 63] = [
    "kill",
    "power cut",
    "torn tail of the journal",
    "unsynced sectors kept and lost in one file",
    "unsynced names lost",
    "lost sectors come back from a mirror",
    "EIO on a write",
    "EIO on a sync",
    "EIO on a read",
    "a failed read was reported",
    "ENOSPC on a write",
    "recovery used the reserve",
    "produce refused, the disk is full",
    "bit flipped in the journal",
    "bit flipped in a checkpoint",
    "bit flipped in a log",
    "bit flipped in what a full log says about itself",
    "flipped bit refused at the start",
    "flipped bit found by the reader",
    "flipped bit without effect",
    "stopped while writing the journal",
    "a log held what never came into the journal",
    "a log's new file held what never came into the journal",
    "stopped while writing a checkpoint's file",
    "stopped while checkpointing",
    "stopped while creating a log",
    "stopped while rolling a segment",
    "stopped while sealing a segment",
    "stopped while writing or cutting a log",
    "stopped while creating a topic",
    "stopped while deleting a topic",
    "stopped while deleting a topic's files",
    "stopped while removing a file",
    "removed directory came back",
    "stopped while adding partitions",
    "stopped in the midst of recovery",
    "checkpoint",
    "clean stop",
    "journal segment used again",
    "cycle took only some of what was queued",
    "topic created or extended",
    "topic deleted",
    "records deleted",
    "records deleted by retention",
    "file ended by its age",
    "old records of the catalogue went",
    "compacted file took its place",
    "compaction dropped a superseded record",
    "compaction dropped a tombstone",
    "compaction dropped an aborted record",
    "something came between two files of a compaction",
    "log's start moved between two files of a compaction",
    "records without a time",
    "stopped while compacting a file",
    "stopped while a compacted file takes its place",
    "transaction aborted",
    "transaction committed",
    "transaction open at a crash",
    "transaction open in a log whose first records are gone",
    "transaction aborted that began in front of the log's start",
    "retry after a crash was a duplicate",
    "retry after a crash was appended",
    "sequence with a gap refused",
];

/// Several lives on one disk. An error names what was broken.
fn live(seed: u64, mutant: Option<Mutant>, tally: &Tally) -> Check {
    let mut world = World::new(seed);
    // A fault has to be found by what it loses.
    world.watches_syncs = mutant.is_none();
    let lived = catch_unwind(AssertUnwindSafe(|| broken(mutant, || lives(&mut world))));
    tally.add(&world.disk.tally());
    lived.unwrap_or_else(|_panic| Err("an assertion failed".to_owned()))
}

fn lives(world: &mut World) -> Check {
    start(world)?;
    world.create_topic()?;
    for _ in 0..LIVES {
        world.disk.bring_a_fault(&mut world.dice, 1);
        for _ in 0..20 + world.dice.below(120) {
            if world.has_ended() {
                break;
            }
            world.act()?;
        }
        let mut clean = false;
        if !world.has_ended() && world.dice.one_in(6) {
            world.finish()?;
            clean = !world.has_ended();
        }
        note_situation(world);
        let how = [Crash::Kill, Crash::Power, Crash::Power, Crash::PowerLosesAll];
        let mut how = how[world.dice.below_len(4)];
        world.crash(how)?;
        if clean {
            start(world)?;
            world.disk.tally().note("clean stop");
            let replayed = world.engine().report.cycles_replayed;
            check(replayed == 0, || format!("{replayed} cycles replayed after a clean stop"))?;
        } else {
            how = recover(world, how)?;
        }
        world.verify(how)?;
        let states = world.states();
        world.crash(Crash::Kill)?;
        start(world)?;
        let again = world.states();
        check(again == states, || "a second recovery found something else".to_owned())?;
        world.verify(Crash::Kill)?;
        world.create_topic()?;
    }
    if world.dice.one_in(2) { flip(world) } else { Ok(()) }
}

fn start(world: &mut World) -> Check {
    world.start().map_err(|error| error.to_string())
}

fn note_situation(world: &mut World) {
    let states = world.states();
    let tally = world.disk.tally();
    if states.values().any(|state| state.producers.first_open().is_some()) {
        tally.note("transaction open at a crash");
    }
}

/// Starts, with faults and crashes in the midst of recovery: a cut may follow a kill. Answers the
/// worst of them.
fn recover(world: &mut World, mut how: Crash) -> Result<Crash, String> {
    for _ in 0..world.dice.below(3) {
        world.disk.bring_a_fault_to_recovery(&mut world.dice);
        let started = world.start();
        let has_failed = world.disk.has_read_failed();
        // A file beside a log that cannot be read is made again from the log, as a flipped one is.
        world.has_flipped |= has_failed;
        if let Err(OpenError::Damaged(damage)) = started.as_ref()
            && !has_failed
        {
            return Err(format!("damaged after a crash: {damage}"));
        }
        if world.is_running() && !world.disk.files().contains_key(Path::new("/data/reserve")) {
            world.disk.tally().note("recovery used the reserve");
        }
        if !world.is_running() {
            world.disk.tally().note("stopped in the midst of recovery");
        }
        if how == Crash::Kill && world.dice.one_in(2) {
            how = Crash::Power;
        }
        world.crash(how)?;
    }
    start(world)?;
    Ok(how)
}

/// One bit of a file changes while the broker is stopped. It is found out by the start or by the
/// reader, or it changes nothing.
fn flip(world: &mut World) -> Check {
    world.disk.faults(|faults| *faults = Faults::default());
    world.create_topic()?;
    if world.model.topic.is_none() || world.has_ended() {
        return Ok(());
    }
    // Everything is synced, and a cycle behind it says so.
    world.act()?;
    world.settle()?;
    world.idle(1500);
    world.crash(Crash::Kill)?;
    let flipped = flip_somewhere(&world.disk, &mut world.dice, |_| false);
    let Some((path, position)) = flipped else { return Ok(()) };
    world.has_flipped = true;
    let tally = world.disk.tally();
    match world.start() {
        Err(OpenError::Damaged(_)) => tally.note("flipped bit refused at the start"),
        Err(other) => return Err(format!("{} at {position}: {other}", path.display())),
        Ok(()) => match world.verify(Crash::Kill) {
            Ok(()) => tally.note("flipped bit without effect"),
            Err(error) if error.starts_with(UNREADABLE) => {
                tally.note("flipped bit found by the reader");
            }
            Err(error) => return Err(format!("{} at {position}: {error}", path.display())),
        },
    }
    Ok(())
}

#[test]
fn nothing_promised_is_lost_in_any_world() {
    all_hold("-p storage nothing_promised", SEEDS, &EXPECTED, |seed, tally| {
        live(seed, None, tally)
    });
}

/// Lives that end in a large cycle's sync, on a mirror whose other half shows that cycle after the
/// next life has written another of the same number elsewhere.
fn live_on_a_mirror(seed: u64, mutant: Option<Mutant>) -> Check {
    let mut world = World::new(seed);
    world.kind = Some(Kind::Plain);
    world.watches_syncs = false;
    let mut on_it = || {
        start(&mut world)?;
        world.create_topic()?;
        for _ in 0..4 {
            for _ in 0..world.dice.below(8) {
                world.append(4000, Durability::Synced)?;
                world.settle()?;
            }
            let writes = 1 + world.dice.below(3);
            world.disk.stop_after_writes(Some(writes));
            world.append(9000, Durability::Synced)?;
            world.settle()?;
            for _ in 0..2 {
                world.crash(Crash::Power)?;
                start(&mut world)?;
                world.verify(Crash::Power)?;
                world.append(300, Durability::Synced)?;
                world.settle()?;
            }
        }
        Ok(())
    };
    let lived = catch_unwind(AssertUnwindSafe(|| broken(mutant, &mut on_it)));
    lived.unwrap_or_else(|_panic| Err("an assertion failed".to_owned()))
}

#[test]
fn a_lost_cycle_that_comes_back_does_not_continue_a_later_start() {
    for seed in 1..=SEEDS {
        assert_eq!(live_on_a_mirror(seed, None), Ok(()), "seed {seed}");
    }
}

/// A failure is found again by its seed.
#[test]
fn the_seed_decides_everything() {
    for seed in 1..=SEEDS / 4 {
        let live_once = || {
            let mut world = World::new(seed);
            let lived = catch_unwind(AssertUnwindSafe(|| lives(&mut world)));
            let lived = lived.unwrap_or_else(|_panic| Err("an assertion failed".to_owned()));
            (lived, world.disk.syncs(), world.disk.used(), world.dice.below(u64::MAX))
        };
        assert_eq!(live_once(), live_once(), "seed {seed}");
    }
}

#[test]
fn an_engine_that_is_broken_on_purpose_is_found_out() {
    let count = asked("OTTLA_SEEDS").unwrap_or(SEEDS);
    // Only coordinators plan what stands on one another.
    for (name, mutant) in MUTANTS.into_iter().filter(|(_, one)| *one != Mutant::KeepOn) {
        let failed = if mutant == Mutant::IgnoreStart {
            let lived = |seed| Some((seed, live_on_a_mirror(seed, Some(mutant)).err()?));
            (1..=count).find_map(lived).into_iter().collect()
        } else {
            let tally = Tally::default();
            failures(1..1 + count, 1, |seed| live(seed, Some(mutant), &tally))
        };
        assert!(!failed.is_empty(), "{name} broke nothing in {count} worlds");
        eprintln!("{name}: world {}, {}", failed[0].0, failed[0].1);
    }
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let found = (1..=SEEDS).find(|seed| {
        let mut world = World::new(*seed);
        world.watches_syncs = false;
        world.disk.faults(|faults| faults.lies = true);
        lives(&mut world).is_err()
    });
    assert!(found.is_some(), "so many worlds without a sync lost nothing");
}
