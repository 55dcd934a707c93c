//! The repair of one log: what is whole stays where it is in the log, and a batch without records stands for what
//! is not. Only the end is cut off.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{
    LeaderEpoch, Offset, TimestampMs,
    batch::{
        ControlMarker, Marker, control_marker, empty_batch, set_base_offset, set_leader_epoch,
    },
};

use super::{
    Repair, Repaired,
    survey::{Accepts, Survey, read_what_can_be},
    torn::Follower,
};
use crate::{
    api::PartitionId,
    catalogue::{METADATA, records_of},
    cleaner::Output,
    codec::{in_memory, position},
    host::{DiskFile, naming},
    inspect::walk,
    journal::checkpoint::LogEnd,
    keeper::{Meta, meta_in_front},
    log_scan::marker_of,
    producer::{Aborted, Producers},
    segment_file::{SegmentFile, base_of, file_name, partition_dir, put_in_place},
};

const COPY_BYTES: u64 = 1 << 20;
/// More offsets are not in one file.
const MOST_OFFSETS: i64 = 1 << 31;

/// What came of a log so far.
struct Mended {
    dir: PathBuf,
    end: LogEnd,
    lost: Vec<Range<Offset>>,
    damaged: Vec<PathBuf>,
    follower: Follower,
    /// The leader epoch up to here.
    epoch: LeaderEpoch,
}

impl Mended {
    /// These offsets are gone, some of which may have been before.
    fn lose(&mut self, lost: Range<Offset>) {
        if lost.is_empty() {
            return;
        }
        self.follower.lost();
        match self.lost.last_mut() {
            Some(before) if before.end == lost.start => before.end = lost.end,
            _ => self.lost.push(lost),
        }
    }
}

/// A file of a log that is repaired.
struct Part {
    base: Offset,
    file: Arc<dyn DiskFile>,
    survey: Survey,
    /// What is written beside it, if that is of this file.
    meta: Option<Meta>,
    /// Where it is to end, unless it is the last.
    target: Option<Offset>,
    /// The leader epoch of its last whole batch.
    epoch: LeaderEpoch,
}

impl Repair {
    /// Reads a log through, mends it where it is not whole, and notes its end.
    pub(super) fn log(
        &mut self,
        id: PartitionId,
        looked_at: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let dir = partition_dir(&self.inspection.paths.topics, id);
        let mut bases = self.inspection.bases(id)?;
        let checkpointed =
            self.inspection.checkpoint.as_ref().and_then(|found| found.logs.get(&id)).copied();
        let known_start =
            checkpointed.map(|end| end.log_start_offset).max(self.starts.get(&id).copied());
        // What lies in front of the log's start may be half removed; the next start removes the rest.
        let holds_start = bases.iter().rposition(|base| Some(*base) <= known_start);
        bases.drain(..holds_start.unwrap_or(0));
        let Some(first) = bases.first().copied().or(checkpointed.map(|end| end.segment)) else {
            return Ok(());
        };
        let end = LogEnd {
            log_start_offset: known_start.map_or(first, |start| start.max(first)),
            segment: first,
            next_offset: first,
            length: 0,
            ..checkpointed.unwrap_or_default()
        };
        let (lost, damaged, follower) = (Vec::new(), Vec::new(), Follower::default());
        let mut log = Mended { dir, end, lost, damaged, follower, epoch: LeaderEpoch(0) };
        self.begin(&mut log, first)?;
        if let Some(start) = known_start.filter(|start| *start < first) {
            log.lose(start..first);
        }
        let mut rest = bases.as_slice();
        while let Some((base, behind)) = rest.split_first() {
            rest = behind;
            if *base < log.end.next_offset {
                // A file written anew has its records, and did not come to remove it.
                let path = log.dir.join(file_name(*base, "log"));
                log.damaged.push(self.set_aside(&log.dir, &path)?);
                continue;
            }
            let path = log.dir.join(file_name(*base, "log"));
            let file = self.open(&path)?;
            let length = naming(&path, file.len())?;
            let mut epoch = log.epoch;
            let accepts: Accepts<'_> = &mut |view| {
                epoch = view.header.partition_leader_epoch;
                looked_at(position(view.bytes().len()));
                id != METADATA || records_of(view).is_some()
            };
            let survey = survey(file.as_ref(), length, *base, behind, accepts);
            if self.inspection.checkpoint.is_none() {
                self.newest_epoch = self.newest_epoch.max(epoch);
            }
            let target = behind.iter().copied().find(|next| *next >= survey.end().1);
            let meta = self.meta(&log.dir, *base)?;
            self.part(&mut log, Part { base: *base, file, survey, meta, target, epoch })?;
        }
        self.end(id, log)
    }

    /// Takes over what the files knew of producers which are no more.
    fn begin(&mut self, log: &mut Mended, first: Offset) -> io::Result<()> {
        let path = match meta_in_front(self.inspection.disk(), &log.dir, first)? {
            Ok(meta) => {
                let producers = meta.map(|meta| meta.state.producers);
                log.follower.begin(producers.unwrap_or_default());
                return Ok(());
            }
            Err(path) => path,
        };
        // An older one would be taken for it.
        let disk = self.inspection.disk();
        for name in disk.list(&log.dir)? {
            let older = log.dir.join(&name);
            if base_of(&name, "meta").is_some_and(|base| base < first) && older != path {
                disk.remove_file(&older)?;
            }
        }
        log.damaged.push(self.set_aside(&log.dir, &path)?);
        log.follower.lost();
        Ok(())
    }

    /// What is written beside the files that begin at these offsets, there or not, says of aborted transactions.
    fn aborted_between(&self, dir: &Path, offsets: Range<Offset>) -> io::Result<Vec<Aborted>> {
        let mut found = Vec::new();
        for name in self.inspection.disk().list(dir)? {
            let base = base_of(&name, "meta").filter(|base| offsets.contains(base));
            let meta = base.map(|base| self.meta(dir, base)).transpose()?.flatten();
            found.extend(meta.into_iter().flat_map(|meta| meta.state.segment_aborted));
        }
        found.retain(|aborted: &Aborted| offsets.contains(&aborted.last_offset));
        Ok(found)
    }

    fn meta(&self, dir: &Path, base: Offset) -> io::Result<Option<Meta>> {
        Meta::read(self.inspection.disk(), &SegmentFile::new(dir.to_path_buf(), base))
    }

    /// Mends a file, if it has to be.
    fn part(&mut self, log: &mut Mended, part: Part) -> io::Result<()> {
        let (mut length, mut next_offset) = part.survey.end();
        let is_whole = part.survey.is_whole();
        let state = part.meta.as_ref().map(|meta| &meta.state);
        let state = state.filter(|state| is_whole && state.position == length);
        if let Some(state) = state {
            // What it held last may have been compacted away, and then it is written beside it.
            next_offset = next_offset.max(state.next_offset);
            if log.follower.has_lost() {
                // Of whom the batches in it are that were begun in front of it.
                follow(log, &part)?;
            }
            log.follower.take(state);
        } else {
            follow(log, &part)?;
        }
        if let Some(target) = part.target.filter(|target| next_offset < *target) {
            log.lose(next_offset..target);
        }
        let begins = part.survey.runs.first().is_some_and(|run| run.bytes.start > 0);
        match part.target {
            Some(target) if !is_whole || next_offset < target => {
                length = self.write_anew(log, &part)?;
                next_offset = target;
            }
            None if part.survey.runs.len() > 1 || begins => length = self.write_anew(log, &part)?,
            None if !is_whole => {
                let holes = part.survey.holes();
                log.damaged.push(self.copy(&log.dir, part.base, part.file.as_ref(), &holes)?);
                part.file.set_len(length)?;
            }
            _ => {
                let path = log.dir.join(file_name(part.base, "meta"));
                if state.is_none() && part.meta.is_some() {
                    // Of the file whose place this one took.
                    self.inspection.disk().remove_file(&path)?;
                }
                self.written.push(part.file);
            }
        }
        log.end = LogEnd { segment: part.base, length, next_offset, ..log.end };
        log.epoch = part.epoch;
        Ok(())
    }

    /// Writes what is whole of a file anew, with something in the place of what is not. Answers its length.
    fn write_anew(&mut self, log: &mut Mended, part: &Part) -> io::Result<u64> {
        let holes = part.survey.holes();
        if !holes.is_empty() {
            log.damaged.push(self.copy(&log.dir, part.base, part.file.as_ref(), &holes)?);
        }
        let host = &self.inspection.host;
        let disk = host.disk.as_ref();
        let mut generation = [0; 8];
        host.random.fill(&mut generation)?;
        let generation = u64::from_le_bytes(generation);
        let mut output = Output::create(disk, &log.dir, part.base, generation)?;
        // What was known of the producers when it was whole is better than what is left says.
        let (mut producers, mut aborted) = match &part.meta {
            Some(meta) if part.target == Some(meta.state.next_offset) => {
                (meta.state.producers.clone(), meta.state.segment_aborted.clone())
            }
            _ => (log.follower.producers.clone(), log.follower.aborted.clone()),
        };
        for lost in self.aborted_between(&log.dir, part.base..part.target.unwrap_or(part.base))? {
            if aborted.iter().all(|one| one.last_offset != lost.last_offset) {
                producers.close(lost.first_offset);
                aborted.push(lost);
            }
        }
        aborted.sort_unstable_by_key(|one| one.last_offset);
        let ends = Ends { producers: &producers, aborted: &aborted };
        let (mut at, mut next, mut epoch) = (0, part.base, log.epoch);
        for run in &part.survey.runs {
            if run.bytes.start > at {
                ends.fill(&mut output, next..run.offsets.start, epoch)?;
            }
            let mut pushed = Ok(());
            walk(part.file.as_ref(), run.bytes.clone(), run.offsets.clone(), &mut |_, view| {
                if pushed.is_ok() {
                    pushed = output.push(view.bytes());
                }
                epoch = view.header.partition_leader_epoch;
            })?;
            pushed?;
            (at, next) = (run.bytes.end, run.offsets.end);
        }
        if let Some(target) = part.target {
            ends.fill(&mut output, next..target, epoch)?;
        }
        log.follower.producers.clone_from(&producers);
        let (segment, _) = output.finish(producers, aborted)?;
        put_in_place(disk, &log.dir, part.base..part.base.plus(1), generation)?;
        self.dirs.insert(log.dir.clone());
        Ok(segment.length)
    }

    /// A name that no earlier repair has used.
    fn unused(&self, file: &Path) -> PathBuf {
        let first = file.with_extension("damaged");
        let mut names = std::iter::once(first)
            .chain((2..).map(|number| file.with_extension(format!("damaged-{number}"))));
        names.find(|path| !self.inspection.disk().exists(path)).unwrap_or_default()
    }

    /// Copies parts of a file to one beside it.
    fn copy(
        &mut self,
        dir: &Path,
        base: Offset,
        file: &dyn DiskFile,
        parts: &[Range<u64>],
    ) -> io::Result<PathBuf> {
        let path = self.unused(&dir.join(file_name(base, "log")));
        let copy = self.open(&path)?;
        copy.set_len(0)?;
        let mut to = 0;
        for part in parts {
            let mut at = part.start;
            while at < part.end {
                let mut bytes = vec![0; in_memory(COPY_BYTES.min(part.end - at))];
                read_what_can_be(file, &mut bytes, at);
                copy.write_at(&bytes, to)?;
                at += position(bytes.len());
                to += position(bytes.len());
            }
        }
        copy.sync()?;
        self.dirs.insert(dir.to_path_buf());
        Ok(path)
    }

    /// Renames a whole file, so that it is no part of the log any more.
    fn set_aside(&mut self, dir: &Path, file: &Path) -> io::Result<PathBuf> {
        let path = self.unused(file);
        naming(file, self.inspection.disk().rename(file, &path))?;
        self.dirs.insert(dir.to_path_buf());
        Ok(path)
    }

    /// Notes the end of a log. The last file exists, and nothing is written beside it.
    fn end(&mut self, id: PartitionId, mut log: Mended) -> io::Result<()> {
        let expected = self.salvage.expected_end(id);
        if log.end.next_offset < expected {
            log.lose(log.end.next_offset..expected);
        }
        if log.end.next_offset < log.end.log_start_offset {
            // Offsets below the start of a log are never given again.
            let path = log.dir.join(file_name(log.end.segment, "log"));
            if self.inspection.disk().exists(&path) {
                log.damaged.push(self.set_aside(&log.dir, &path)?);
            }
            let start = log.end.log_start_offset;
            log.end = LogEnd { segment: start, length: 0, next_offset: start, ..log.end };
        }
        let Mended { dir, mut end, lost, damaged, follower, .. } = log;
        end.cleaned_to = end.cleaned_to.min(end.next_offset);
        let disk = self.inspection.disk();
        disk.create_dir_all(&dir)?;
        self.written.push(self.open(&dir.join(file_name(end.segment, "log")))?);
        for name in disk.list(&dir)? {
            if base_of(&name, "meta").is_some_and(|base| base >= end.segment) {
                disk.remove_file(&dir.join(name))?;
            }
        }
        self.dirs.extend(dir.ancestors().take(3).map(Path::to_path_buf));
        self.repaired.push(Repaired {
            partition: self.inspection.name(id),
            kept: end.log_start_offset..end.next_offset,
            lost,
            damaged,
            transactions: follower.torn(),
        });
        if end.next_offset > Offset(0) {
            self.logs.insert(id, end);
        }
        Ok(())
    }
}

/// Takes note of the producers in a file of which something is lost, or that says nothing of them itself.
fn follow(log: &mut Mended, part: &Part) -> io::Result<()> {
    log.follower.aborted.clear();
    let (mut at, mut next) = (0, part.base);
    for run in &part.survey.runs {
        if run.bytes.start > at {
            log.lose(next..run.offsets.start);
        }
        let follower = &mut log.follower;
        walk(part.file.as_ref(), run.bytes.clone(), run.offsets.clone(), &mut |_, view| {
            follower.batch(&view.header, marker_of(&view.header, view.bytes()));
        })?;
        (at, next) = (run.bytes.end, run.offsets.end);
    }
    Ok(())
}

/// What is known of the transactions that were aborted in a file.
struct Ends<'a> {
    producers: &'a Producers,
    aborted: &'a [Aborted],
}

impl Ends<'_> {
    /// Puts something in the place of these offsets: the markers of aborts that are known, without which a reader would
    /// take everything behind for aborted, and nothing for the rest.
    fn fill(
        &self,
        output: &mut Output<'_>,
        mut lost: Range<Offset>,
        epoch: LeaderEpoch,
    ) -> io::Result<()> {
        let all = lost.clone();
        for aborted in self.aborted.iter().filter(|one| all.contains(&one.last_offset)) {
            fill(output, lost.start..aborted.last_offset, epoch)?;
            let marker = ControlMarker {
                producer_id: aborted.producer_id,
                producer_epoch: self.producers.epoch_of(aborted.producer_id),
                marker: Marker::Abort,
                coordinator_epoch: 0,
                timestamp: TimestampMs::NONE,
            };
            let mut bytes = control_marker(&marker).to_vec();
            set_base_offset(&mut bytes, aborted.last_offset);
            set_leader_epoch(&mut bytes, epoch);
            output.push(&bytes)?;
            lost.start = aborted.last_offset.plus(1);
        }
        fill(output, lost, epoch)
    }
}

/// Batches without records stand for these offsets.
fn fill(output: &mut Output<'_>, mut lost: Range<Offset>, epoch: LeaderEpoch) -> io::Result<()> {
    while !lost.is_empty() {
        let end = lost.end.min(lost.start.plus(i32::MAX.into()));
        output.push(&empty_batch(lost.start..end, epoch))?;
        lost.start = end;
    }
    Ok(())
}

/// What is whole of a file in front of others. One written anew may have the records of some of them too.
fn survey(
    file: &dyn DiskFile,
    length: u64,
    base: Offset,
    behind: &[Offset],
    accepts: Accepts<'_>,
) -> Survey {
    let all = Survey::of(file, length, base..base.plus(MOST_OFFSETS), accepts);
    match behind.first() {
        Some(next) if !all.is_whole() || !behind.contains(&all.end().1) => {
            Survey::of(file, length, base..*next, accepts)
        }
        _ => all,
    }
}
