//! What is whole in a log file of which something is not.

use std::ops::Range;

use wire::{
    Offset,
    batch::{BatchHeader, BatchView, HEADER_BYTES},
};

use crate::{
    codec::{in_memory, position},
    host::{DiskFile, read_exact},
    inspect::walk,
};

/// What is read at a time where the disk fails.
const PIECE_BYTES: usize = 4096;
const CHUNK_BYTES: u64 = 1 << 20;

/// Sees every whole batch, some of them twice; `false` if it is to count for nothing.
pub(super) type Accepts<'a> = &'a mut dyn FnMut(&BatchView<'_>) -> bool;

/// Whole batches, one behind another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) bytes: Range<u64>,
    pub(super) offsets: Range<Offset>,
}

/// The whole batches of a file; between two runs lies what is none.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) runs: Vec<Run>,
    base: Offset,
    length: u64,
}

impl Survey {
    /// Looks for batches with these offsets, ascending.
    pub(super) fn of(
        file: &dyn DiskFile,
        length: u64,
        offsets: Range<Offset>,
        accepts: Accepts<'_>,
    ) -> Self {
        let mut survey = Self { runs: Vec::new(), base: offsets.start, length };
        let mut at = 0;
        while at < length {
            let wanted = survey.end().1..offsets.end;
            let (run, behind) = run_at(file, at..length, wanted, accepts);
            if !run.bytes.is_empty() {
                survey.runs.push(run);
            }
            let from = survey.end().1..offsets.end;
            at = match behind {
                Next::At(next) => next,
                Next::Behind(bad) => match find(file, bad..length, &from) {
                    Some(next) => next,
                    None => break,
                },
            };
        }
        survey
    }

    /// Where the last whole batch ends, in the file and in the log.
    pub(super) fn end(&self) -> (u64, Offset) {
        self.runs.last().map_or((0, self.base), |last| (last.bytes.end, last.offsets.end))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.holes().is_empty()
    }

    /// What is no whole batch.
    pub(super) fn holes(&self) -> Vec<Range<u64>> {
        let ends = std::iter::once(0).chain(self.runs.iter().map(|run| run.bytes.end));
        let begins = self.runs.iter().map(|run| run.bytes.start).chain([self.length]);
        ends.zip(begins).map(|(end, begin)| end..begin).filter(|hole| !hole.is_empty()).collect()
    }
}

/// Where to look for the next run.
enum Next {
    At(u64),
    /// Somewhere behind it.
    Behind(u64),
}

/// The whole batches at the start of the range.
fn run_at(
    file: &dyn DiskFile,
    range: Range<u64>,
    offsets: Range<Offset>,
    accepts: Accepts<'_>,
) -> (Run, Next) {
    let begin = range.start;
    let mut run = Run { bytes: begin..begin, offsets: offsets.start..offsets.start };
    let mut without_last = run.clone();
    let mut refused = None;
    let walked = walk(file, range.clone(), offsets, &mut |at, view| {
        if refused.is_some() {
            return;
        }
        let end = at + position(view.bytes().len());
        if !accepts(view) {
            refused = Some(end);
            return;
        }
        without_last = run.clone();
        if run.bytes.is_empty() {
            run.offsets.start = view.header.base_offset;
        }
        run.bytes.end = end;
        run.offsets.end = view.header.next_offset();
    });
    if let Err(error) = walked {
        tracing::warn!(%error, "a part of a log cannot be read");
    }
    if let Some(end) = refused {
        return (run, Next::At(end));
    }
    // No checksum covers an offset: where the next batch has one that this run has given already, but would go on
    // without its last, that one's is wrong.
    let given = without_last.offsets.end..run.offsets.end;
    let end = run.bytes.end;
    if begin < end && is_batch_at(file, end, range.end, &given) {
        return (without_last, Next::At(end));
    }
    (run, Next::Behind(end))
}

/// The next whole batch behind a bad one: where that says that it ends, or anywhere.
fn find(file: &dyn DiskFile, range: Range<u64>, offsets: &Range<Offset>) -> Option<u64> {
    let stated = header_at(file, range.start, range.end);
    let stated = stated.map(|header| range.start + position(header.size_in_bytes()));
    if let Some(at) = stated.filter(|at| is_batch_at(file, *at, range.end, offsets)) {
        return Some(at);
    }
    let mut at = range.start + 1;
    while at < range.end {
        let mut bytes = vec![0; in_memory(CHUNK_BYTES.min(range.end - at))];
        read_what_can_be(file, &mut bytes, at);
        for (index, front) in bytes.windows(HEADER_BYTES).enumerate() {
            let is_one = BatchHeader::parse(front).is_ok_and(|header| fits(&header, offsets));
            let here = at + position(index);
            if is_one && is_batch_at(file, here, range.end, offsets) {
                return Some(here);
            }
        }
        // A header may lie across two of them.
        at += position(bytes.len()).saturating_sub(position(HEADER_BYTES - 1)).max(1);
    }
    None
}

fn fits(header: &BatchHeader, offsets: &Range<Offset>) -> bool {
    offsets.contains(&header.base_offset)
        && header.last_offset_delta >= 0
        && header.next_offset() <= offsets.end
}

fn header_at(file: &dyn DiskFile, at: u64, length: u64) -> Option<BatchHeader> {
    let mut front = [0; HEADER_BYTES];
    if at.saturating_add(position(HEADER_BYTES)) > length {
        return None;
    }
    read_what_can_be(file, &mut front, at);
    BatchHeader::parse(&front).ok()
}

/// Whether a whole batch lies there that begins with one of these offsets.
fn is_batch_at(file: &dyn DiskFile, at: u64, length: u64, offsets: &Range<Offset>) -> bool {
    let header = header_at(file, at, length).filter(|header| {
        offsets.contains(&header.base_offset)
            && header.last_offset_delta >= 0
            && at + position(header.size_in_bytes()) <= length
    });
    let Some(header) = header else { return false };
    let mut bytes = vec![0; header.size_in_bytes()];
    read_what_can_be(file, &mut bytes, at);
    BatchView::parse(&bytes).is_ok_and(|view| view.verify_crc().is_ok())
}

/// Fills what can be read of `bytes`; the rest is zeroes.
pub(super) fn read_what_can_be(file: &dyn DiskFile, bytes: &mut [u8], from: u64) {
    if read_exact(file, bytes, from).is_ok() {
        return;
    }
    for (piece, at) in bytes.chunks_mut(PIECE_BYTES).zip((from..).step_by(PIECE_BYTES)) {
        if let Err(error) = read_exact(file, piece, at) {
            tracing::warn!(%error, at, "what cannot be read counts as zeroes");
            piece.fill(0);
        }
    }
}
