//! A disk that is full for a while, that fails, and on which bits flip.

use std::path::{Path, PathBuf};

use coordinator::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use storage::{
    OpenError,
    simulation::{Crash, flip_somewhere},
};
use wire::ErrorCode;

use super::{
    super::super::LoadError,
    Check, check,
    world::{Refused, World},
};

/// What clients take for: ask again.
const RETRIABLE: [ErrorCode; 3] = [
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
];

impl World {
    /// One fault, or none, for a life.
    pub(super) fn bring_a_fault(&mut self) {
        self.machine.disk.bring_a_fault(&mut self.dice, 3);
        self.machine.disk.faults(|faults| self.is_short |= faults.is_short());
    }

    /// There is less space: so much is said to be free, or so much can be written.
    pub(super) fn run_short(&mut self, free: Option<u64>, writable: Option<usize>) {
        let capacity = writable.map(|more| self.machine.disk.used() + more);
        self.machine.disk.faults(|faults| (faults.free, faults.capacity) = (free, capacity));
        self.is_short = true;
    }

    pub(super) fn make_space(&mut self) {
        self.machine.disk.faults(|faults| (faults.free, faults.capacity) = (None, None));
    }

    /// A request was refused: its client asks again, and only a full disk is a reason.
    pub(super) fn take_refusal(&mut self, error: ErrorCode) -> Check {
        self.was_refused = true;
        self.note("refused request was told to ask again");
        check(RETRIABLE.contains(&error), || format!("refused with {error}"))?;
        check(self.is_short, || format!("refused with {error}, and there is space"))
    }

    /// There is space, and without a start everything works again.
    pub(super) fn work_again(&mut self) -> Check {
        self.make_space();
        // The engine looks for space when it has nothing to do, and the keeper makes the reserve.
        for _ in 0..3 {
            self.settle()?;
            self.machine.idle(1500);
            self.machine.keep();
        }
        self.settle()?;
        if self.machine.has_ended() {
            return Ok(());
        }
        check(self.takes_more(), || "groups and transactions are not loaded again".to_owned())?;
        self.is_short = false;
        self.ask_at_once(8);
        // A member that has joined asks for its assignment.
        for _ in 0..2 {
            self.settle()?;
        }
        if self.machine.has_ended() {
            return Ok(());
        }
        check(self.pending.is_empty(), || {
            format!("{} of 8 requests are not answered", self.pending.len())
        })?;
        if std::mem::take(&mut self.was_refused) {
            self.note("refused for want of space, and without a start everything worked again");
        }
        Ok(())
    }

    /// A process ends whose disk has failed under a cycle, a log or a checkpoint.
    pub(super) fn end_with_the_disk(&self) -> Check {
        let Some(path) = self.machine.disk.failed_at() else { return Ok(()) };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_of_a_cycle = name.starts_with("segment-") && !self.machine.disk.journal_is_synced();
        let must_end = is_of_a_cycle
            || name.starts_with("checkpoint-")
            || path.extension().is_some_and(|it| it == "log");
        check(!must_end || self.machine.has_ended(), || {
            format!("{} failed, and the process goes on", path.display())
        })
    }

    /// Bits change, one after another, and each is found out, or changes nothing.
    pub(super) fn flip_bits(&mut self) -> Check {
        for _ in 0..4 {
            self.work_again()?;
            if self.machine.has_ended() || self.flip_one()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The same for one bit, while the broker runs or is stopped, and once more behind the cleaner and
    /// a start. True if it was found out.
    fn flip_one(&mut self) -> Result<bool, String> {
        // A cycle behind everything says that it is synced.
        self.machine.idle(1500);
        let topics = self.internal_topics();
        let flipped = flip_somewhere(&self.machine.disk, &mut self.dice, |path| {
            topics.iter().any(|topic| path.starts_with(topic))
        });
        let Some((path, position)) = flipped else { return Ok(false) };
        let place = || format!("a bit at {position} of {} was flipped", path.display());
        let loaded = if self.dice.one_in(2) {
            self.crash(Crash::Kill)?;
            self.start()
        } else {
            // The cleaner gets at it first.
            self.clean_up()?;
            self.load_again()
        };
        if self.is_found_out(loaded).map_err(|error| format!("{}: {error}", place()))? {
            return Ok(true);
        }
        self.clean_up()?;
        self.crash(Crash::Kill)?;
        let started = self.start();
        if self.is_found_out(started).map_err(|error| format!("{}: {error}", place()))? {
            return Ok(true);
        }
        self.note("flipped bit without effect");
        Ok(false)
    }

    /// Whether somebody has seen that a bit is not what it was.
    fn is_found_out(&mut self, loaded: Result<(), Refused>) -> Result<bool, String> {
        let found = match loaded {
            Err(Refused::Engine(OpenError::Damaged(_))) => "flipped bit refused at the start",
            Err(Refused::Load(LoadError::Unreadable { .. })) => {
                "flipped bit found by those who load groups and transactions"
            }
            Err(other) => return Err(other.into()),
            Ok(()) => match self.committed_values() {
                Err(_unreadable) => "flipped bit found by the reader",
                Ok(committed) => return self.verify_with(&committed).map(|()| false),
            },
        };
        self.note(found);
        Ok(true)
    }

    /// Where the internal topics lie.
    fn internal_topics(&self) -> Vec<PathBuf> {
        let topics = [CONSUMER_OFFSETS, TRANSACTION_STATE].map(|name| self.topic(name));
        let path = |id: wire::TopicId| Path::new("/data/topics").join(id.0.to_string());
        topics.into_iter().flatten().map(|topic| path(topic.id)).collect()
    }
}
