//! A file's contents: as the processes see it, as the disk has it, and what lies between.

use std::sync::Arc;

use bytes::Bytes;
use wire::TimestampMs;

use super::Dice;

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Unsynced {
    Write { position: usize, bytes: Bytes },
    SetLen(usize),
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    seen: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Unsynced>,
    pub(super) modified: TimestampMs,
    /// Sectors that a power cut has lost on one half of a mirror: the other half may show them
    /// after any later cut, until something else is synced there.
    ghosts: Vec<(usize, Bytes)>,
}

/// What became of the unsynced sectors of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    pub(super) kept: bool,
    pub(super) lost: bool,
    pub(super) shown: bool,
}

fn put(target: &mut Arc<Vec<u8>>, position: usize, bytes: &[u8]) {
    let target = Arc::make_mut(target);
    if target.len() < position + bytes.len() {
        target.resize(position + bytes.len(), 0);
    }
    target[position..position + bytes.len()].copy_from_slice(bytes);
}

fn sectors(position: usize, bytes: &Bytes) -> impl Iterator<Item = (usize, Bytes)> {
    let (mut at, mut rest) = (position, bytes.clone());
    std::iter::from_fn(move || {
        let length = rest.len().min(SECTOR - at % SECTOR);
        let sector = (length > 0).then(|| (at, rest.split_to(length)));
        at += length;
        sector
    })
}

impl Inode {
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        put(&mut self.seen, position, bytes);
        self.unsynced.push(Unsynced::Write { position, bytes: Bytes::copy_from_slice(bytes) });
    }

    pub(super) fn set_len(&mut self, length: usize) {
        Arc::make_mut(&mut self.seen).resize(length, 0);
        self.unsynced.push(Unsynced::SetLen(length));
    }

    pub(super) fn flip(&mut self, position: usize, bit: u32) {
        for bytes in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = Arc::make_mut(bytes).get_mut(position) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::Write { position, bytes } => {
                    let end = position + bytes.len();
                    self.ghosts.retain(|(at, ghost)| at + ghost.len() <= position || *at >= end);
                    put(&mut self.durable, position, &bytes);
                }
                Unsynced::SetLen(length) => self.set_durable_len(length),
            }
        }
    }

    /// The kernel could not write, says so once, and takes the pages for clean: they are seen,
    /// and no later sync writes them.
    pub(super) fn fail_sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::Write { position, bytes } => {
                    self.ghosts.extend(sectors(position, &bytes));
                }
                Unsynced::SetLen(length) => self.set_durable_len(length),
            }
        }
    }

    fn set_durable_len(&mut self, length: usize) {
        self.ghosts.retain(|(at, ghost)| at + ghost.len() <= length);
        Arc::make_mut(&mut self.durable).resize(length, 0);
    }

    /// The power is cut: sectors reach the disk in any order, or not at all.
    pub(super) fn lose(&mut self, dice: &mut Dice) -> Loss {
        let mut loss = Loss::default();
        if !self.ghosts.is_empty() && dice.one_in(2) {
            loss.shown = true;
            for (at, bytes) in std::mem::take(&mut self.ghosts) {
                put(&mut self.durable, at, &bytes);
            }
        }
        let mood = dice.below(4);
        let mut unordered = Vec::new();
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::SetLen(length) if dice.one_in(2) => self.set_durable_len(length),
                Unsynced::SetLen(_) => {}
                Unsynced::Write { position, bytes } => unordered.extend(sectors(position, &bytes)),
            }
        }
        while !unordered.is_empty() {
            let (at, bytes) = unordered.swap_remove(dice.below_len(unordered.len()));
            let kept = match mood {
                0 => false,
                1 => true,
                2 => dice.one_in(2),
                _ => !dice.one_in(16),
            };
            if kept {
                loss.kept = true;
                put(&mut self.durable, at, &bytes);
            } else {
                loss.lost = true;
                self.ghosts.push((at, bytes));
            }
        }
        // What is beyond the end was never given blocks.
        self.set_durable_len(self.durable.len());
        self.seen = Arc::clone(&self.durable);
        loss
    }

    /// The power is cut, and nothing that was not synced has reached the disk.
    pub(super) fn lose_all(&mut self) {
        self.unsynced.clear();
        self.seen = Arc::clone(&self.durable);
    }
}
