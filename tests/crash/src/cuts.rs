//! A power cut: the process ends, and of what was not synced chance decides.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::{Disk, Fuse, Mounted, ROOT, Sign};
use crate::history::Fault;
use crate::load::Recorder;
use crate::random::Random;
use crate::rounds::Power;
use crate::subject::Subject;
use crate::tally::Tally;
use crate::time::{Stopwatch, eventually, pause};
use crate::watch::{Moment, wait_for};

/// After so long without the sign that it waits for, the cut comes anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// A start has about so many operations on the disk.
const OPERATIONS_OF_A_START: u64 = 150;
/// Answers that were on their way have arrived when none came for so long.
const QUIET: Duration = Duration::from_millis(5);
/// The directory on the disk that is the broker's.
const DATA: &str = "data";

/// Situations of which a count of 0 fails the run.
const REQUIRED: &[&str] = &[
    "cuts that took changes of files",
    "cuts that took names",
    "cuts that tore the journal",
    "cuts with a checkpoint half written",
    "torn tails cut by a recovery",
];

#[derive(Debug)]
pub(crate) struct Cut {
    mounted: Mounted,
    at: PathBuf,
    random: Random,
}

impl Cut {
    /// A disk that is mounted below `directory`. Needs `/dev/fuse` and the right to mount.
    pub(crate) fn new(directory: &Path, seed: u64) -> io::Result<Self> {
        let at = directory.join("disk");
        std::fs::create_dir_all(&at)?;
        let mut disk = Disk::new();
        disk.make_directory(ROOT, OsStr::new(DATA));
        let mounted = Mounted::new(disk, &at)?;
        Ok(Self { mounted, at, random: Random::new(seed) })
    }

    /// The power goes at the next operation that the fuse waits for; `false` if none came.
    fn blow(&mut self, sign: Sign, operations: u64) -> bool {
        let after = self.random.below(operations);
        self.mounted.disk().arm(Some(Fuse::new(sign, after)));
        let waiting = Stopwatch::start();
        while waiting.elapsed() < PATIENCE {
            if !self.mounted.disk().has_power {
                return true;
            }
            pause(Duration::from_micros(100));
        }
        self.mounted.disk().has_power = false;
        false
    }

    /// What is on the disk when the power is back.
    fn reboot(&mut self, tally: &mut Tally) {
        let mounted = &mut self.mounted;
        eventually("the disk to be unmounted", || mounted.unmount().ok());
        let loss = mounted.disk().cut(&mut self.random);
        tally.count_if("cuts that took changes of files", loss.files > 0);
        tally.count_if("cuts that took names", loss.names > 0);
        tally.count_if("cuts that tore a file", loss.torn_files > 0);
        tally.count_if("cuts with a cycle not synced", loss.unsynced_journal > 0);
        tally.count_if("cuts that tore the journal", loss.torn_journal > 0);
        tally.count_if("cuts with a checkpoint half written", loss.unsynced_checkpoint > 0);
        mounted.mount().unwrap();
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

    fn shut_down(&mut self) {
        let mounted = &mut self.mounted;
        eventually("the disk to be unmounted", || mounted.unmount().ok());
    }

    fn strike(
        &mut self,
        subject: &mut Subject,
        moment: Moment,
        recorder: &Recorder,
        tally: &mut Tally,
    ) {
        let came = match moment {
            Moment::Acks(_) | Moment::Committing => {
                let came = wait_for(moment, subject.data_dir(), recorder);
                self.blow(Sign::Anything, 40) && came
            }
            Moment::Starting(_) => self.blow(Sign::Anything, OPERATIONS_OF_A_START),
            Moment::Checkpointing => self.blow(Sign::Checkpoint, 8),
            Moment::Sealing => self.blow(Sign::Seal, 8),
            Moment::Cleaning => self.blow(Sign::Clean, 8),
        };
        subject.kill();
        let mut acks = recorder.acks();
        eventually("the last answers", || {
            pause(QUIET);
            let before = std::mem::replace(&mut acks, recorder.acks());
            (before == acks).then_some(())
        });
        tally.count(if came { moment.name() } else { "faults of which the moment did not come" });
        self.reboot(tally);
    }
}
