//! Both coordinators over the storage, on a machine that exists only in memory: lives that end at
//! any moment, on a disk that loses, tears and reorders what was not synced, fails, fills up, and
//! flips bits.
//!
//! `OTTLA_SEEDS=1000000` asks for so many worlds, `OTTLA_SEED=17` for one.

mod clients;
mod data;
mod disk;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use storage::{
    OpenError,
    simulation::{Crash, Tally, broken, seeds::all_hold},
};
use world::{Refused, World, is_eio};

type Check = Result<(), String>;

const SEEDS: u64 = 90;
const LIVES: u64 = 4;

/// What has to come about in so many worlds; else they prove less than they seem to.
const EXPECTED: [&str; 42] = [
    "kill",
    "power cut",
    "clean stop",
    "checkpoint",
    "cycle took only some of what was queued",
    "torn tail of the journal",
    "unsynced names lost",
    "EIO on a write",
    "EIO on a sync",
    "EIO on a read",
    "EIO on a read while groups and transactions were loaded",
    "ENOSPC on a write",
    "produce refused, the disk is full",
    "refused request was told to ask again",
    "refused for want of space, and without a start everything worked again",
    "bit flipped in the journal",
    "bit flipped in a checkpoint",
    "bit flipped in a log",
    "bit flipped in what a full log says about itself",
    "flipped bit refused at the start",
    "flipped bit found by those who load groups and transactions",
    "flipped bit found by the reader",
    "flipped bit without effect",
    "a coordinator's plan was refused, and it loaded again",
    "compacted file took its place",
    "stopped while writing the journal",
    "stopped while compacting a file",
    "stopped while a compacted file takes its place",
    "stopped in the midst of recovery",
    "offset committed",
    "offset deleted",
    "offset committed as a member",
    "member went on after a crash",
    "transaction committed",
    "transaction aborted",
    "transaction aborted by its successor",
    "transaction open at a crash",
    "transaction's end unanswered at a crash, and it counts",
    "transaction's end unanswered at a crash, and it does not",
    "lost answer to a transaction's end asked for again",
    "plans lost in a crash",
    "unanswered plans survived a crash",
];

fn check(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

fn live(seed: u64, tally: &Tally) -> Check {
    let mut world = World::new(seed);
    let lived = catch_unwind(AssertUnwindSafe(|| lives(&mut world)));
    tally.add(&world.machine.disk.tally());
    lived.unwrap_or_else(|_panic| Err("an assertion failed".to_owned()))
}

fn lives(world: &mut World) -> Check {
    world.start()?;
    world.create_topics()?;
    for _ in 0..LIVES {
        world.bring_a_fault();
        for _ in 0..30 + world.dice.below(150) {
            if world.machine.has_ended() {
                break;
            }
            world.act()?;
        }
        if !world.machine.has_ended() && world.dice.one_in(6) {
            world.stop()?;
        } else if !world.machine.has_ended() && world.dice.one_in(2) {
            world.leave_some_queued()?;
        }
        let how = [Crash::Kill, Crash::Power, Crash::Power, Crash::PowerLosesAll];
        let how = how[world.dice.below_len(4)];
        world.crash(how)?;
        recover(world, how)?;
        world.verify()?;
        // Once more, with nothing in between: the same state.
        world.crash(Crash::Kill)?;
        world.start()?;
        world.verify()?;
        world.create_topics()?;
    }
    world.flip_bits()
}

/// Starts, with faults and crashes in the midst of recovery.
fn recover(world: &mut World, mut how: Crash) -> Check {
    for _ in 0..world.dice.below(3) {
        world.machine.disk.bring_a_fault_to_recovery(&mut world.dice);
        match world.start() {
            Ok(()) => {}
            Err(Refused::Engine(OpenError::Damaged(damage)))
                if !world.machine.disk.has_read_failed() =>
            {
                return Err(format!("damaged after a crash: {damage}"));
            }
            Err(Refused::Engine(_)) => world.note("stopped in the midst of recovery"),
            Err(Refused::Load(error)) if is_eio(&error) => {}
            Err(refused) => return Err(refused.into()),
        }
        if how == Crash::Kill && world.dice.one_in(2) {
            how = Crash::Power;
        }
        world.crash(how)?;
    }
    world.start()?;
    world.abandon_nothing()
}

#[test]
fn no_committed_offset_and_no_transaction_is_torn_or_lost_in_any_world() {
    all_hold("-p server no_committed", SEEDS, &EXPECTED, live);
}

/// A plan in parts shows as a torn transaction, one that stands on a refused one as a state that
/// never was.
#[test]
fn coordinators_on_a_storage_that_is_broken_on_purpose_are_found_out() {
    for name in ["split-plan", "keep-on"] {
        let failing = |seed| Some((seed, broken(name, || live(seed, &Tally::default())).err()?));
        let found = (1..=SEEDS).find_map(failing);
        assert!(found.is_some(), "{name} broke nothing in {SEEDS} worlds");
        eprintln!("{name}: {:.300}", format!("{found:?}"));
    }
}

#[test]
fn coordinators_on_a_disk_that_does_not_sync_are_found_out() {
    let found = (1..=SEEDS).find(|seed| {
        let mut world = World::new(*seed);
        world.machine.disk.faults(|faults| faults.lies = true);
        lives(&mut world).is_err()
    });
    assert!(found.is_some(), "so many worlds without a sync lost nothing");
}
