//! A bit that changes by itself.

use std::path::{Path, PathBuf};

use wire::batch::BatchView;

use super::{Dice, SimDisk};

/// Flips one bit of the journal, of a checkpoint, of a log, or of what a full log says about itself.
/// Answers where; none if there is no such file, or if the bit is one that nobody promises to find:
/// outside the checksums of a log, unless `is_guarded` says that its offsets are looked at.
pub fn flip_somewhere(
    disk: &SimDisk,
    dice: &mut Dice,
    is_guarded: impl Fn(&Path) -> bool,
) -> Option<(PathBuf, usize)> {
    let (path, position, what) = place_to_flip(disk, dice, is_guarded)?;
    let bit = u32::try_from(dice.below(8)).unwrap();
    disk.flip(&path, position, bit);
    disk.tally().note(what);
    Some((path, position))
}

fn place_to_flip(
    disk: &SimDisk,
    dice: &mut Dice,
    is_guarded: impl Fn(&Path) -> bool,
) -> Option<(PathBuf, usize, &'static str)> {
    let what = match dice.below(4) {
        0 => ("segment-", "bit flipped in the journal"),
        1 => ("checkpoint-", "bit flipped in a checkpoint"),
        2 => (".log", "bit flipped in a log"),
        _ => (".meta", "bit flipped in what a full log says about itself"),
    };
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains(what.0))
    };
    let files = disk.files();
    let files: Vec<_> = files.iter().filter(|(path, len)| is_one(path) && **len > 0).collect();
    let path = files.get(dice.below_len(files.len()))?.0.clone();
    let bytes = disk.contents(&path)?;
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    // Zeroes in between too: they are what makes lengths and counts small.
    let position = if dice.one_in(2) {
        used.get(dice.below_len(used.len()))?
    } else {
        &dice.below_len(used.last()? + 1)
    };
    let is_found = what.0 != ".log" || is_guarded(&path) || is_covered(&bytes, *position);
    is_found.then_some((path, *position, what.1))
}

/// Whether a batch's checksum covers the byte: it does not cover the base offset, the length and
/// the leader epoch, and a wrong length is no batch.
fn is_covered(log: &[u8], position: usize) -> bool {
    let mut at = 0;
    while let Ok(view) = BatchView::parse(&log[at..]) {
        let end = at + view.bytes().len();
        if position < end {
            return (8..12).contains(&(position - at)) || position - at >= 16;
        }
        at = end;
    }
    false
}
