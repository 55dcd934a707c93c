//! A file as the program sees it, as it was last synced, and what happened in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::random::Random;

const PAGE_BYTES: u64 = 4096;
/// The least that a device writes at once.
const SECTOR_BYTES: usize = 512;
/// More changes than this, and the older half is written back, as a kernel does in its own time.
const MOST_UNSYNCED: usize = 8192;

type Page = Arc<[u8]>;

#[derive(Clone, Debug)]
enum Change {
    /// A page as it is after a write.
    Page(u64, Page),
    Length(u64),
}

/// Contents: a page that is not there is zeroes.
#[derive(Clone, Debug, Default)]
struct Image {
    pages: BTreeMap<u64, Page>,
    length: u64,
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Page(index, page) => {
                self.pages.insert(*index, Arc::clone(page));
            }
            Change::Length(length) => {
                if *length < self.length {
                    self.cut(*length);
                }
                self.length = *length;
            }
        }
    }

    fn cut(&mut self, length: u64) {
        self.pages.split_off(&length.div_ceil(PAGE_BYTES));
        let (index, rest) = (length / PAGE_BYTES, length % PAGE_BYTES);
        if let Some(page) = self.pages.get_mut(&index) {
            let mut shortened = page.to_vec();
            shortened[in_memory(rest)..].fill(0);
            *page = shortened.into();
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    live: Image,
    synced: Image,
    unsynced: Vec<Change>,
    /// Pages that one half of a mirror lost and the other did not: they may come back at a later boot, unless they were
    /// written again.
    ghosts: BTreeMap<u64, Page>,
}

/// How much of what was not synced a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mercy {
    Nothing,
    Everything,
    /// The older changes, and the next one torn.
    Prefix,
    /// Each with an even chance, and some of them torn.
    Scattered,
}

impl File {
    pub(super) fn length(&self) -> u64 {
        self.live.length
    }

    pub(super) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Whether the page at a position was written since the last sync, with something that is not zeroes.
    pub(super) fn has_unsynced_bytes_at(&self, position: u64) -> bool {
        self.unsynced.iter().any(|change| match change {
            Change::Page(index, page) => {
                *index == position / PAGE_BYTES && page.iter().any(|byte| *byte != 0)
            }
            Change::Length(_) => false,
        })
    }

    pub(super) fn read(&self, position: u64, size: u64) -> Vec<u8> {
        let end = self.live.length.min(position.saturating_add(size));
        let mut bytes = vec![0; in_memory(end.saturating_sub(position))];
        for (index, at, range) in pages(position, bytes.len()) {
            if let Some(page) = self.live.pages.get(&index) {
                let length = range.len();
                bytes[range].copy_from_slice(&page[at..at + length]);
            }
        }
        bytes
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        for (index, at, range) in pages(position, bytes.len()) {
            self.ghosts.remove(&index);
            let empty = || vec![0; in_memory(PAGE_BYTES)];
            let mut page = self.live.pages.get(&index).map_or_else(empty, |page| page.to_vec());
            page[at..at + range.len()].copy_from_slice(&bytes[range]);
            self.change(Change::Page(index, page.into()));
        }
        let end = position + u64::try_from(bytes.len()).unwrap();
        if end > self.live.length {
            self.change(Change::Length(end));
        }
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length != self.live.length {
            self.change(Change::Length(length));
        }
    }

    fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.unsynced.push(change);
        if self.unsynced.len() > MOST_UNSYNCED {
            let rest = self.unsynced.split_off(MOST_UNSYNCED / 2);
            for change in std::mem::replace(&mut self.unsynced, rest) {
                self.synced.apply(&change);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            self.synced.apply(&change);
        }
    }

    /// What is left after a power cut; the answer is whether anything was lost and whether anything was torn.
    pub(super) fn cut(&mut self, mercy: Mercy, random: &mut Random) -> (bool, bool) {
        let changes = std::mem::take(&mut self.unsynced);
        let count = u64::try_from(changes.len()).unwrap();
        let whole = random.below(count + 1);
        let (mut lost, mut torn) = (false, false);
        for (number, change) in (0..).zip(&changes) {
            let (keep, tear) = match mercy {
                Mercy::Nothing => (false, false),
                Mercy::Everything => (true, false),
                Mercy::Prefix => (number < whole, number == whole),
                Mercy::Scattered => (random.one_in(2), random.one_in(8)),
            };
            if tear && let Some(part) = self.tear(change, random) {
                self.synced.apply(&part);
                (lost, torn) = (true, true);
            } else if keep {
                self.synced.apply(change);
            } else {
                lost = true;
            }
            if let Change::Page(index, page) = change {
                self.ghosts.insert(*index, Arc::clone(page));
            }
        }
        self.live = self.synced.clone();
        (lost, torn)
    }

    /// At this boot the other half of the mirror is read; whether that makes a difference.
    pub(super) fn surface(&mut self) -> bool {
        let differs = self
            .ghosts
            .iter()
            .any(|(index, ghost)| self.synced.pages.get(index).is_none_or(|page| page != ghost));
        self.synced.pages.append(&mut self.ghosts);
        self.live = self.synced.clone();
        differs
    }

    pub(super) fn has_no_mirror(&mut self) {
        self.ghosts.clear();
    }

    /// Some sectors of a page are new, the others old.
    fn tear(&self, change: &Change, random: &mut Random) -> Option<Change> {
        let Change::Page(index, new) = change else { return None };
        let old = self.synced.pages.get(index);
        let mut page = old.map_or_else(|| vec![0; new.len()], |old| old.to_vec());
        for (to, from) in page.chunks_mut(SECTOR_BYTES).zip(new.chunks(SECTOR_BYTES)) {
            if random.one_in(2) {
                to.copy_from_slice(from);
            }
        }
        Some(Change::Page(*index, page.into()))
    }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

/// The pages that a range of a file touches: number, place in the page, place in the range.
fn pages(position: u64, length: usize) -> Vec<(u64, usize, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    let mut done = 0;
    while done < length {
        let at = position + u64::try_from(done).unwrap();
        let within = in_memory(at % PAGE_BYTES);
        let size = (in_memory(PAGE_BYTES) - within).min(length - done);
        found.push((at / PAGE_BYTES, within, done..done + size));
        done += size;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{File, Mercy};
    use crate::random::Random;

    fn contents(file: &File) -> Vec<u8> {
        file.read(0, 1 << 20)
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_goes() {
        let mut file = File::default();
        file.write(10, b"synced");
        file.sync();
        file.write(12, b"NOT");
        file.write(5000, b"beyond");
        assert_eq!(file.length(), 5006);
        assert!(file.has_unsynced());
        assert_eq!(file.cut(Mercy::Nothing, &mut Random::new(1)), (true, false));
        assert_eq!(contents(&file), b"\0\0\0\0\0\0\0\0\0\0synced");
    }

    #[test]
    fn mercy_keeps_everything_in_order() {
        let mut file = File::default();
        file.write(0, b"one");
        file.set_length(0);
        file.write(0, b"2");
        assert_eq!(file.cut(Mercy::Everything, &mut Random::new(1)), (false, false));
        assert_eq!(contents(&file), b"2");
    }

    #[test]
    fn what_was_lost_may_come_back_unless_it_was_written_again() {
        let mut file = File::default();
        file.write(0, &[1; 8192]);
        file.sync();
        file.write(0, &[2; 8192]);
        file.cut(Mercy::Nothing, &mut Random::new(1));
        file.write(4096, &[3; 4096]);
        file.sync();
        file.surface();
        assert_eq!(contents(&file), [[2; 4096], [3; 4096]].concat());
    }

    #[test]
    fn a_shortened_file_grows_again_with_zeroes() {
        let mut file = File::default();
        file.write(0, &[7; 6000]);
        file.set_length(100);
        file.set_length(5000);
        let bytes = contents(&file);
        assert!(bytes[..100].iter().all(|byte| *byte == 7));
        assert!(bytes[100..].iter().all(|byte| *byte == 0) && bytes.len() == 5000);
    }

    #[test]
    fn a_prefix_holds_older_changes_and_scattering_does_not() {
        let (mut prefixes, mut gaps, mut tears) = (0, 0, 0);
        for seed in 0..200 {
            for mercy in [Mercy::Prefix, Mercy::Scattered] {
                let mut file = File::default();
                file.set_length(4 * 4096);
                file.sync();
                for page in 0..4 {
                    file.write(page * 4096, &[1; 4096]);
                }
                let (_, torn) = file.cut(mercy, &mut Random::new(seed));
                let bytes = contents(&file);
                let kept: Vec<bool> =
                    bytes.chunks(4096).map(|page| page.iter().all(|byte| *byte == 1)).collect();
                if kept.windows(2).any(|pair| pair == [false, true]) {
                    assert!(matches!(mercy, Mercy::Scattered), "a prefix has no gap");
                    gaps += 1;
                } else {
                    prefixes += 1;
                }
                tears += u32::from(torn);
            }
        }
        assert!(prefixes > 100 && gaps > 50 && tears > 50, "{prefixes} {gaps} {tears}");
    }
}
