//! The engine on the simulated machine, whose time and steps the test decides.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use wire::{Offset, TimestampMs};

use super::{Dice, SimDisk};
use crate::{
    Config, Host, OpenError, PartitionId, Storage,
    catalogue::METADATA,
    cleaner::{Cleaner, Retention},
    engine::{Opened, open},
    host::{Clock, Random, Running, Threads},
    keeper,
    log_writer::{LogWriter, Piece},
};

const LOG_AHEAD: &str = "a log held what never came into the journal";
const NEW_FILE_AHEAD: &str = "a log's new file held what never came into the journal";

#[derive(Debug, Default)]
struct SimClock(AtomicI64);

impl Clock for SimClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(1_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).try_into().unwrap())
    }
}

#[derive(Debug)]
struct SimThreads;

impl Threads for SimThreads {
    fn spawn(&self, _name: &str, _body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Running>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn end_process(&self, _reason: &str) {}
}

#[derive(Debug)]
struct SimRandom(Mutex<Dice>);

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut dice = self.0.lock().unwrap();
        bytes.fill_with(|| u8::try_from(dice.below(256)).unwrap());
        Ok(())
    }
}

/// How large things are on a machine.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub segment_bytes: u64,
    pub journal_segment_bytes: u64,
    /// Keys that one pass of a compaction learns.
    pub most_keys: usize,
}

impl Sizes {
    /// Mostly small ones, so that files roll and the journal goes round within a life. In a large file
    /// reads begin where the index says.
    pub fn some(dice: &mut Dice) -> Self {
        Self {
            segment_bytes: [3000, 9000, 9000, 30_000, 1 << 20][dice.below_len(5)],
            journal_segment_bytes: [48 << 10, 96 << 10, 96 << 10][dice.below_len(3)],
            most_keys: 6,
        }
    }
}

/// A disk, a clock, and an engine while it runs. Whoever holds it does what the engine's threads
/// would do, in whatever order.
pub struct Machine {
    pub disk: SimDisk,
    clock: Arc<SimClock>,
    host: Host,
    sizes: Sizes,
    dice: Dice,
    cleaner: Cleaner,
    retention: Retention,
    /// The log that was compacted in part after the last step of that, and where it started.
    midst: Option<(PartitionId, Offset)>,
    pub(crate) engine: Option<Opened>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine with this disk, on which nothing runs yet.
    pub fn on(disk: SimDisk, seed: u64, sizes: Sizes) -> Self {
        let clock = Arc::new(SimClock::default());
        // Files that are written before any time has passed are not older than the machine.
        disk.set_time(clock.now());
        let host = Host {
            disk: Arc::new(disk.clone()),
            clock: Arc::<SimClock>::clone(&clock),
            threads: Arc::new(SimThreads),
            random: Arc::new(SimRandom(Mutex::new(Dice::new(seed ^ 0xabcd)))),
        };
        let (cleaner, retention) = (Cleaner::new(sizes.most_keys), Retention::default());
        let dice = Dice::new(seed ^ 0x5eed);
        Self { disk, clock, host, sizes, dice, cleaner, retention, midst: None, engine: None }
    }

    /// Starts the engine, which recovers.
    pub fn start(&mut self) -> Result<(), OpenError> {
        let config = Config {
            segment_bytes: self.sizes.segment_bytes,
            journal_segment_bytes: self.sizes.journal_segment_bytes,
            ..Config::new(PathBuf::from("/data"))
        };
        let writer = self.log_writer();
        self.engine = None;
        self.cleaner = Cleaner::new(self.sizes.most_keys);
        self.retention = Retention::default();
        self.midst = None;
        self.engine = Some(open(&config, self.host.clone(), writer, false)?);
        Ok(())
    }

    /// Chance decides how much of a cycle is in the logs before it is in the journal.
    fn log_writer(&mut self) -> LogWriter {
        let (disk, mut dice) = (self.disk.clone(), Dice::new(self.dice.draw()));
        let how_many = move |pieces: &[Piece]| {
            let ahead = if dice.one_in(2) { 0 } else { dice.below_len(pieces.len() + 1) };
            let pieces = pieces.get(..ahead).unwrap_or_default();
            if !pieces.is_empty() {
                let makes_file = pieces.iter().any(|piece| piece.position == 0);
                disk.run_ahead(if makes_file { NEW_FILE_AHEAD } else { LOG_AHEAD });
            }
            ahead
        };
        LogWriter::inline(Arc::clone(&self.host.disk), Box::new(how_many))
    }

    /// The running engine.
    pub(crate) fn engine(&mut self) -> &mut Opened {
        self.engine.as_mut().unwrap()
    }

    /// A handle to the running engine, as its callers have it.
    pub fn storage(&self) -> Storage {
        Storage::stepped(Arc::clone(&self.engine.as_ref().unwrap().shared))
    }

    pub fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    /// Milliseconds since the machine was made.
    pub fn elapsed(&self) -> i64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    pub fn pass(&self, milliseconds: i64) {
        self.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
        self.disk.set_time(self.now());
    }

    fn note(&self, what: &'static str) {
        self.disk.tally().note(what);
    }

    /// One cycle of the committer; `false` if there was nothing to do. Chance decides how much of what
    /// is queued it takes.
    pub fn step(&mut self) -> bool {
        let most_bytes = [usize::MAX, usize::MAX, 1, 1000][self.dice.below_len(4)];
        let (worked, some_is_left) = self.engine().committer.step_briefly(most_bytes);
        if some_is_left {
            self.note("cycle took only some of what was queued");
        }
        worked
    }

    /// The keeper's work.
    pub fn keep(&mut self) {
        if self.has_ended() {
            return;
        }
        let (pending, catalogue) = (self.pending_swaps(), self.catalogue_begins());
        let shared = &self.engine().shared;
        let had_checkpoint = !shared.jobs.is_idle();
        keeper::step(shared);
        let note = match (had_checkpoint, shared.has_ended()) {
            (true, true) => "stopped while checkpointing",
            (true, false) => "checkpoint",
            (false, _) => return,
        };
        self.note(note);
        for _ in self.pending_swaps()..pending {
            self.note("compacted file took its place");
        }
        if self.catalogue_begins() > catalogue {
            self.note("old records of the catalogue went");
        }
    }

    /// The first offset of the catalogue's log that is still there.
    fn catalogue_begins(&mut self) -> Offset {
        let log = self.engine().shared.partition(METADATA);
        let first = log.and_then(|log| Some(log.published().segments.first()?.file.base));
        first.unwrap_or(Offset(0))
    }

    /// Files written anew that wait for a checkpoint.
    fn pending_swaps(&mut self) -> usize {
        let shared = &self.engine().shared;
        if shared.has_ended() {
            return usize::MAX;
        }
        let partitions = shared.partitions.read().unwrap();
        partitions.values().map(|partition| partition.published().pending_swaps).sum()
    }

    /// One look of the cleaner.
    pub fn clean(&mut self) {
        if let Some(engine) = self.engine.as_ref().filter(|engine| !engine.shared.has_ended()) {
            self.retention.step(&engine.shared);
            self.cleaner.step(&engine.shared);
        }
    }

    /// A part of one look: of a log that is compacted, the next of its files.
    pub fn clean_a_little(&mut self) {
        let Some(engine) = self.engine.as_ref().filter(|engine| !engine.shared.has_ended()) else {
            return;
        };
        let shared = &engine.shared;
        let midst = self.midst();
        if let Some((id, start)) = midst {
            self.note("something came between two files of a compaction");
            if self.midst.is_some_and(|(known, before)| known == id && before < start) {
                self.note("log's start moved between two files of a compaction");
            }
            // It has a thread of its own.
            if self.dice.one_in(3) {
                self.retention.step(shared);
            }
        }
        if !self.cleaner.go_on(shared) {
            self.retention.step(shared);
            self.cleaner.look(shared);
        }
        self.midst = self.midst();
    }

    /// The log that is compacted in part, and where it starts.
    fn midst(&self) -> Option<(PartitionId, Offset)> {
        let log = self.cleaner.in_the_midst()?;
        Some((log.id, log.published().offsets.log_start_offset))
    }

    /// The log that is compacted in part.
    #[cfg(test)]
    pub(crate) fn in_the_midst_of(&self) -> Option<PartitionId> {
        self.midst().map(|(id, _)| id).filter(|_| !self.has_ended())
    }

    /// The space of deleted files is given back.
    pub fn free(&mut self) {
        if let Some(engine) = self.engine.as_ref().filter(|engine| !engine.shared.has_ended()) {
            engine.shared.leftovers.free(&engine.shared);
        }
    }

    /// Seconds without anything to do.
    pub fn idle(&mut self, milliseconds: i64) {
        self.pass(milliseconds);
        if !self.has_ended() {
            self.engine().committer.idle();
        }
    }

    /// Stops as a clean stop does, but for the keeper's last work.
    pub fn finish(&mut self) {
        self.engine().committer.finish();
    }

    /// The engine ends here.
    pub fn crash(&mut self, how: super::Crash, dice: &mut Dice) {
        if let Some((path, position)) = self.disk.stopped_at() {
            self.note(place(&path, position));
        }
        self.engine = None;
        self.disk.crash(how, dice);
    }

    /// Whether the engine that runs holds its reserve; produce is refused without.
    pub fn has_reserve(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.shared.reserve.is_held())
    }

    pub fn has_ended(&self) -> bool {
        self.engine.as_ref().is_none_or(|engine| engine.shared.has_ended())
    }
}

/// What the machine was doing when it stopped.
pub(crate) fn place(path: &std::path::Path, position: usize) -> &'static str {
    let is = |extension: &str| path.extension().is_some_and(|it| it == extension);
    let is_new = position == 0 && is("log");
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.starts_with("segment-") {
        "stopped while writing the journal"
    } else if name.starts_with("checkpoint-") {
        "stopped while writing a checkpoint's file"
    } else if is("cleaned") && position == super::disk::RENAMED {
        "stopped while a compacted file takes its place"
    } else if is("cleaned") {
        "stopped while compacting a file"
    } else if position == super::disk::REMOVED {
        let is_topic = path.parent().is_some_and(|parent| parent.ends_with("topics"));
        if is_topic {
            "stopped while deleting a topic's files"
        } else {
            "stopped while removing a file"
        }
    } else if is_new && name.trim_matches('0') == ".log" {
        "stopped while creating a log"
    } else if is_new {
        "stopped while rolling a segment"
    } else if is("log") {
        "stopped while writing or cutting a log"
    } else if is("meta") {
        "stopped while sealing a segment"
    } else {
        "stopped elsewhere"
    }
}
