//! Every state of the disk that a crash at any moment of some scripted loads can leave behind.
//!
//! `OTTLA_IMAGES=100000` asks for so many.

use wire::batch::Marker;

use super::sim::{Check, Crash, Kind, Model, SimDisk, Sizes, Tally, World};
use crate::{
    Durability::{Synced, Written},
    simulation::place,
};

const IMAGES: u64 = 1950;

const EXPECTED: [&str; 20] = [
    "kill",
    "power cut",
    "torn tail of the journal",
    "unsynced names lost",
    "unsynced sectors kept and lost in one file",
    "stopped while writing the journal",
    "a log held what never came into the journal",
    "a log's new file held what never came into the journal",
    "stopped while writing a checkpoint's file",
    "stopped while creating a log",
    "stopped while rolling a segment",
    "stopped while sealing a segment",
    "stopped while writing or cutting a log",
    "stopped while deleting a topic's files",
    "stopped while removing a file",
    "removed directory came back",
    "image before the first start was over",
    "image in the midst of a recovery",
    "stopped while compacting a file",
    "stopped while a compacted file takes its place",
];

/// What happens, by name.
type Script = (&'static str, fn(&mut World) -> Check);

const SCRIPTS: [Script; 26] = [
    ("a first start", |_| Ok(())),
    ("one partition, acks=all", |world| times(20, world, |world| one(world, Synced))),
    ("one partition, acks=1", |world| times(20, world, |world| one(world, Written))),
    ("many batches in a cycle", |world| times(8, world, many)),
    ("large batches", |world| times(12, world, large)),
    ("segments that fill up", |world| times(30, world, large).and_then(|()| rest(world))),
    ("a journal that comes round", |world| times(40, world, large_and_rest)),
    ("a journal without a free segment", |world| times(40, world, large)),
    ("idempotent producers", |world| times(30, world, idempotent)),
    ("transactions that commit", |world| times(20, world, |world| end(world, Marker::Commit))),
    ("transactions that abort", |world| times(20, world, |world| end(world, Marker::Abort))),
    ("plans that are all or nothing", |world| times(12, world, group)),
    ("idle seconds", |world| {
        times(8, world, |world| one(world, Synced).and_then(|()| rest(world)))
    }),
    ("a topic that grows", grow),
    ("a topic that is deleted", delete),
    ("a topic that is made again", |world| delete(world).and_then(|()| fill(world))),
    ("records that are deleted", |world| times(24, world, large_and_delete)),
    ("a compacted log", |world| times(6, world, compacted)),
    ("a compacted log with transactions", |world| times(6, world, compacted_transactions)),
    ("a compacted log whose records are deleted", |world| {
        times(6, world, |world| compacted(world).and_then(|()| world.delete_records()))
    }),
    ("records that are retained for a time", |world| times(8, world, retained)),
    ("a compacted log whose records are retained for a time", |world| {
        times(4, world, |world| compacted(world).and_then(|()| retained(world)))
    }),
    ("a clean stop", |world| fill(world).and_then(|()| world.finish())),
    ("a start after a clean stop", after_clean_stop),
    ("a recovery after a kill", |world| again(world, Crash::Kill)),
    ("a recovery after a power cut", |world| again(world, Crash::Power)),
];

fn times(count: u32, world: &mut World, act: fn(&mut World) -> Check) -> Check {
    (0..count).try_for_each(|_| act(world))
}

fn one(world: &mut World, durability: crate::Durability) -> Check {
    world.append(1500, durability)?;
    world.settle()
}

fn many(world: &mut World) -> Check {
    for _ in 0..6 {
        world.append(600, Synced)?;
    }
    world.settle()
}

fn large(world: &mut World) -> Check {
    world.append(6000, Synced)?;
    world.settle()
}

fn rest(world: &mut World) -> Check {
    world.idle(1500);
    world.idle(6000);
    world.keep();
    world.take_answers()
}

fn large_and_rest(world: &mut World) -> Check {
    large(world)?;
    if world.dice.one_in(6) { rest(world) } else { Ok(()) }
}

fn large_and_delete(world: &mut World) -> Check {
    large(world)?;
    if world.dice.one_in(3) {
        world.delete_records()?;
        world.settle()?;
        rest(world)?;
    }
    Ok(())
}

fn compacted(world: &mut World) -> Check {
    times(6, world, |world| world.append(900, Synced).and_then(|()| world.settle()))?;
    rest(world)?;
    world.clean_up()?;
    world.clean_up()
}

fn compacted_transactions(world: &mut World) -> Check {
    times(3, world, |world| end(world, Marker::Abort))?;
    times(2, world, |world| end(world, Marker::Commit))?;
    compacted(world)
}

fn retained(world: &mut World) -> Check {
    times(4, world, large)?;
    world.clean_up()?;
    rest(world)
}

fn idempotent(world: &mut World) -> Check {
    world.produce(Synced)?;
    if world.dice.one_in(2) { world.settle() } else { Ok(()) }
}

fn end(world: &mut World, marker: Marker) -> Check {
    world.produce(Synced)?;
    world.settle()?;
    world.end_transaction(marker)?;
    world.settle()
}

fn group(world: &mut World) -> Check {
    world.append_group()?;
    world.append(900, Written)?;
    world.settle()
}

fn grow(world: &mut World) -> Check {
    for _ in 0..3 {
        world.add_partition()?;
        many(world)?;
    }
    rest(world)
}

fn fill(world: &mut World) -> Check {
    world.create_topic()?;
    times(6, world, large)?;
    times(6, world, idempotent)?;
    world.settle()
}

fn delete(world: &mut World) -> Check {
    fill(world)?;
    rest(world)?;
    world.delete_topic()?;
    world.settle()?;
    if world.dice.one_in(2) {
        world.clean()?;
    }
    rest(world)?;
    world.clean()
}

fn after_clean_stop(world: &mut World) -> Check {
    fill(world)?;
    world.finish()?;
    world.crash(Crash::Power)?;
    world.start().map_err(|error| error.to_string())?;
    world.verify(Crash::Power)?;
    fill(world)
}

fn again(world: &mut World, how: Crash) -> Check {
    for _ in 0..3 {
        fill(world)?;
        one(world, Written)?;
        world.crash(how)?;
        world.start().map_err(|error| error.to_string())?;
        world.verify(how)?;
    }
    fill(world)
}

/// Opens images of one script: every moment, `samples` of each. Answers how many.
fn open_images(number: usize, samples: Samples, tally: &Tally) -> Result<u64, String> {
    let (name, script) = SCRIPTS[number];
    let sizes = Sizes { segment_bytes: 9000, journal_segment_bytes: 48 << 10, most_keys: 6 };
    let seed = crate::codec::position(number) + 1;
    let mut world = World::on(SimDisk::default(), seed, sizes);
    world.kind = Some(match name {
        _ if name.contains("compacted") && name.contains("retained") => Kind::Both,
        _ if name.contains("compacted") => Kind::Compacted,
        _ if name.contains("retained") => Kind::Retained,
        _ => Kind::Plain,
    });
    world.disk.record();
    world.start().map_err(|error| error.to_string())?;
    world.create_topic()?;
    script(&mut world).map_err(|error| format!("{name}: {error}"))?;
    let points = world.disk.recorded();
    let took = world.elapsed();
    world.history.sort_by_key(|(at, _)| *at);
    let mut model = Model::default();
    let mut history = world.history.into_iter().peekable();
    let mut opened = 0;
    for (at, state) in (0..).zip(points) {
        while let Some((_, event)) = history.next_if(|(after, _)| *after <= at) {
            model.take(event)?;
        }
        for sample in samples.of(at) {
            let seed = at * 1000 + sample;
            let mut image = World::on(SimDisk::with(state.clone()), seed, sizes);
            image.model = model.clone();
            image.pass(took);
            let how = match sample {
                0 => Crash::Kill,
                1 => Crash::PowerLosesAll,
                _ => Crash::Power,
            };
            let checked = check_image(&mut image, how);
            tally.add(&image.disk.tally());
            checked.map_err(|error| format!("{name}, change {at}, {how:?} {sample}: {error}"))?;
            opened += 1;
        }
    }
    Ok(opened)
}

/// It opens, it holds what was promised, and it can be worked with.
fn check_image(image: &mut World, how: Crash) -> Check {
    if let Some((path, position)) = image.disk.stopped_at() {
        image.disk.tally().note(place(&path, position));
    }
    if !image.disk.files().contains_key(std::path::Path::new("/data/version")) {
        image.disk.tally().note("image before the first start was over");
    }
    image.disk.crash(how, &mut image.dice);
    image.start().map_err(|error| error.to_string())?;
    image.verify(how)?;
    if image.dice.one_in(4) {
        image.disk.tally().note("image in the midst of a recovery");
        let writes = image.dice.below(8);
        image.crash(Crash::Kill)?;
        image.disk.faults(|faults| faults.writes_left = Some(writes));
        let _stopped = image.start().is_err();
        image.crash(how)?;
        image.start().map_err(|error| error.to_string())?;
        image.verify(how)?;
    }
    image.create_topic()?;
    image.append_alone();
    Ok(())
}

/// How densely images are taken.
#[derive(Clone, Copy, Debug)]
struct Samples {
    each: u64,
    /// Of so many moments one is taken.
    every: u64,
}

impl Samples {
    /// The samples of a moment; when there are fewer than there are ways to crash, these take turns.
    fn of(self, at: u64) -> impl Iterator<Item = u64> {
        const WAYS: u64 = 4;
        let each = if at.is_multiple_of(self.every) { self.each } else { 0 };
        let first = if each < WAYS { at / self.every } else { 0 };
        (first..first + each).map(move |sample| if each < WAYS { sample % WAYS } else { sample })
    }
}

#[test]
fn every_crash_image_opens_and_holds_what_was_promised() {
    let asked = std::env::var("OTTLA_IMAGES").ok().and_then(|value| value.parse().ok());
    let images: u64 = asked.unwrap_or(IMAGES);
    let tally = Tally::default();
    // That many changes the scripts make together, about.
    let moments: u64 = 6640;
    let samples =
        Samples { each: images.div_ceil(moments), every: (moments / images.max(1)).max(1) };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let opened = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if number >= SCRIPTS.len() {
                        return;
                    }
                    let outcome = open_images(number, samples, &tally);
                    opened.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let opened = opened.into_inner().unwrap();
    let failed: Vec<_> = opened.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let count: u64 = opened.iter().flatten().sum();
    let (table, missing) = tally.table(&EXPECTED);
    eprintln!("{count} images of {} scripts:\n{table}", SCRIPTS.len());
    assert!(failed.is_empty() && opened.len() == SCRIPTS.len(), "{failed:#?}");
    assert!(missing.is_empty(), "never came about: {missing:?}");
}
