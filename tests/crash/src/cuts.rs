//! A power cut: the process ends, and of what was not synced chance decides.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::disk::{Disk, Fuse, Mirror, Mounted, ROOT, Sign};
use crate::history::Fault;
use crate::load::{Recorder, answer_to_one_record, can_be_read};
use crate::random::Random;
use crate::rounds::{Power, usual_moment};
use crate::subject::Subject;
use crate::tally::Tally;
use crate::time::{DEADLINE, Stopwatch, eventually, pause, within};
use crate::topics::{ALL, PROBED, TOPICS};
use crate::verdict::{Failure, IN_VAIN};
use crate::watch::{Moment, wait_for};

/// After so long without the sign that it waits for, the cut comes anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// Every start has more operations on the disk than the first, few more than the second.
const OPERATIONS_OF_A_START: [u64; 2] = [8, 60];
/// Answers that were on their way have arrived when none came for so long.
const QUIET: Duration = Duration::from_millis(5);
/// How long a sync takes on a disk that is slow.
const SLOW: Duration = Duration::from_millis(10);
/// By how much the files may still grow on a disk that is full, at most.
const MOST_ROOM: u64 = 2 << 20;
/// The directory on the disk that is the broker's.
const DATA: &str = "data";

/// What fails, in turn.
const FAILURES: [(Sign, &str); 4] = [
    (Sign::Sync, "failures of the journal's sync"),
    (Sign::Checkpoint, "failures of a checkpoint"),
    (Sign::Seal, "failures of a log's new file"),
    (Sign::Turn, "failures of the journal's first cycle in a segment"),
];

/// Situations of which a count of 0 fails the run.
const REQUIRED: &[&str] = &[
    "cuts that took changes of files",
    "cuts that took names",
    "cuts that tore the journal",
    "cuts with a checkpoint half written",
    "torn tails cut by a recovery",
    "cuts after which lost parts of the journal came back",
    "faults while syncing the journal",
    "faults while the journal goes on in another segment",
    "faults soon after a start, with a lost cycle that comes back",
    FAILURES[0].1,
    FAILURES[1].1,
    FAILURES[2].1,
    FAILURES[3].1,
    "full disks with space again",
    "starts on a full disk",
];

#[derive(Debug)]
pub(crate) struct Cut {
    mounted: Mounted,
    at: PathBuf,
    random: Random,
    failures: usize,
}

impl Cut {
    /// A disk that is mounted below `directory`. Needs `/dev/fuse` and the right to mount.
    pub(crate) fn new(directory: &Path, seed: u64) -> io::Result<Self> {
        let at = directory.join("disk");
        std::fs::create_dir_all(&at)?;
        let mut disk = Disk::new();
        disk.make_directory(ROOT, OsStr::new(DATA));
        let mounted = Mounted::new(disk, &at)?;
        Ok(Self { mounted, at, random: Random::new(seed), failures: 0 })
    }

    /// The power goes at the next operation that the fuse waits for; `false` if none came.
    fn blow(&mut self, sign: Sign, operations: u64) -> bool {
        let after = self.random.below(operations);
        self.burn(Fuse::new(sign, after), |disk| !disk.has_power)
    }

    /// `false` if what the fuse waits for did not come.
    fn burn(&mut self, fuse: Fuse, is_over: impl Fn(&Disk) -> bool) -> bool {
        self.mounted.disk().arm(Some(fuse));
        let waiting = Stopwatch::start();
        while waiting.elapsed() < PATIENCE {
            if is_over(&self.mounted.disk()) {
                return true;
            }
            pause(Duration::from_micros(100));
        }
        false
    }

    /// Without power from now on, if it has not gone yet. A process that ended while there was power, on a disk that did
    /// not fail, had no reason to.
    fn cut_power(&self, subject: &mut Subject) -> Result<(), Failure> {
        let had_ended = subject.has_ended();
        let mut disk = self.mounted.disk();
        if had_ended && disk.has_power && !disk.has_failed {
            let status = subject.end();
            return Err(Failure::EndedByItself(subject.obituary(status)));
        }
        disk.has_power = false;
        Ok(())
    }

    /// One operation fails, and the process has to end for that reason. What else was not synced is lost or not.
    fn fail(&mut self, sign: Sign, subject: &mut Subject) -> Result<bool, Failure> {
        if !self.burn(Fuse::failure(sign), |disk| disk.has_failed) {
            return Ok(false);
        }
        let has_ended = within(DEADLINE, || subject.has_ended().then_some(())).is_some();
        let last = subject.last_words().unwrap_or_default();
        if !has_ended || !last.contains("os error 5") {
            let what = if has_ended { "ended" } else { "did not end" };
            let what = format!("it failed ({sign:?}), and the process {what}, saying: {last}");
            return Err(Failure::Disk(what));
        }
        Ok(true)
    }

    /// The disk is full at once: produce is refused, and reading goes on. In half of the cases there is space again before
    /// the power goes, else after the next start.
    fn fill(&mut self, subject: &mut Subject, tally: &mut Tally) -> Result<(), Failure> {
        self.mounted.disk().room = Some(self.random.below(MOST_ROOM));
        let brokers = subject.brokers();
        let mut answers = |wanted: Result<(), RDKafkaErrorCode>| {
            let answered = within(DEADLINE, || {
                let answered = answer_to_one_record(&brokers, PROBED) == Some(wanted);
                (answered || subject.has_ended()).then_some(())
            });
            let words = subject.last_words().unwrap_or_default();
            if subject.has_ended() {
                Err(Failure::Disk(format!("it was full, and the process ended: {words}")))
            } else {
                answered
                    .ok_or_else(|| Failure::Disk(format!("it was full: no {wanted:?}: {words}")))
            }
        };
        answers(Err(RDKafkaErrorCode::KafkaStorageError))?;
        if !can_be_read(&brokers, TOPICS[ALL].name) {
            return Err(Failure::Disk("it was full, and nothing can be read".to_owned()));
        }
        if self.random.one_in(2) {
            self.mounted.disk().room = None;
            answers(Ok(()))?;
            tally.count("full disks with space again");
        } else {
            tally.count("starts on a full disk");
        }
        Ok(())
    }

    /// What is on the disk when the power is back; in how many of the journal's segments something lost is there again.
    fn reboot(&mut self, mirror: Mirror, tally: &mut Tally) -> u64 {
        let mounted = &mut self.mounted;
        eventually("the disk to be unmounted", || mounted.unmount().ok());
        let loss = mounted.disk().cut(mirror, &mut self.random);
        tally.count_if("cuts that took changes of files", loss.files > 0);
        tally.count_if("cuts that took names", loss.names > 0);
        tally.count_if("cuts that tore a file", loss.torn_files > 0);
        tally.count_if("cuts with a cycle not synced", loss.unsynced_journal > 0);
        tally.count_if("cuts that tore the journal", loss.torn_journal > 0);
        tally.count_if("cuts with a checkpoint half written", loss.unsynced_checkpoint > 0);
        let came_back = loss.resurfaced > 0;
        tally.count_if("cuts after which lost parts of the journal came back", came_back);
        let slow = self.random.one_in(3);
        tally.count_if("lives on a slow disk", slow);
        mounted.disk().sync_takes = if slow { SLOW } else { Duration::ZERO };
        mounted.mount().unwrap();
        loss.resurfaced
    }
}

impl Power for Cut {
    fn fault(&self) -> Fault {
        Fault::PowerCut
    }

    fn data_dir(&self) -> Option<PathBuf> {
        Some(self.at.join(DATA))
    }

    fn required(&self) -> &'static [&'static str] {
        REQUIRED
    }

    /// A disk without power or space is one.
    fn excuses_errors(&self) -> bool {
        true
    }

    fn calm(&mut self) {
        self.mounted.disk().room = None;
    }

    fn shut_down(&mut self) {
        let mounted = &mut self.mounted;
        eventually("the disk to be unmounted", || mounted.unmount().ok());
    }

    /// The usual ones, and those that only a disk brings about.
    fn moment(&self, round: u64, random: &mut Random) -> Moment {
        match round % 15 {
            10 => Moment::Syncing(random.below(200)),
            11 => Moment::Failing(random.below(200)),
            14 => Moment::Filling(random.below(200)),
            12 => Moment::Turning,
            13 => Moment::Resurfacing(1 + random.below(20)),
            usual => usual_moment(usual, random),
        }
    }

    fn strike(
        &mut self,
        subject: &mut Subject,
        moment: Moment,
        recorder: &Recorder,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        self.calm();
        let came = match moment {
            Moment::Acks(_) | Moment::Committing(_) => {
                let came = wait_for(moment, subject.data_dir(), recorder);
                self.blow(Sign::Anything, 40) && came
            }
            Moment::Syncing(_) => {
                let came = wait_for(moment, subject.data_dir(), recorder);
                self.blow(Sign::Sync, 1) && came
            }
            Moment::Failing(_) => {
                let came = wait_for(moment, subject.data_dir(), recorder);
                let (sign, name) = FAILURES[self.failures % FAILURES.len()];
                let failed = self.fail(sign, subject)?;
                self.failures += 1;
                tally.count_if(name, failed);
                failed && came
            }
            Moment::Filling(_) => {
                let came = wait_for(moment, subject.data_dir(), recorder);
                self.fill(subject, tally)?;
                came
            }
            Moment::Resurfacing(_) => wait_for(moment, subject.data_dir(), recorder),
            Moment::Turning => self.blow(Sign::Turn, 1),
            Moment::Starting(_) => {
                let [least, most] = OPERATIONS_OF_A_START;
                let operations = if self.random.one_in(2) { least } else { most };
                self.blow(Sign::Anything, operations) && !subject.is_ready()
            }
            Moment::Checkpointing => self.blow(Sign::Checkpoint, 8),
            Moment::Sealing => self.blow(Sign::Seal, 8),
            Moment::Cleaning => self.blow(Sign::Clean, 8),
            Moment::Compacting => self.blow(Sign::Compact, 8),
            Moment::Swapping => self.blow(Sign::Swap, 8),
        };
        self.cut_power(subject)?;
        subject.end();
        let mut acks = recorder.acks();
        eventually("the last answers", || {
            pause(QUIET);
            let before = std::mem::replace(&mut acks, recorder.acks());
            (before == acks).then_some(())
        });
        let resurfaced = self.reboot(
            match moment {
                Moment::Turning => Mirror::Hides,
                Moment::Resurfacing(_) => Mirror::Shows,
                _ => Mirror::Chance,
            },
            tally,
        );
        let came = came && (resurfaced > 0 || !matches!(moment, Moment::Resurfacing(_)));
        tally.count(if came { moment.name() } else { IN_VAIN });
        Ok(())
    }
}
