//! A machine that exists only in memory: a disk that loses what was not synced, a clock, and the
//! engine's own steps in one thread. A seed decides everything.
//!
//! And what such tests need besides: many seeds at a time, a process of their own.
//!
//! For this crate's tests, and with the feature `simulation` for those of the crates above it.

mod disk;
mod faults;
mod flip;
mod free;
mod inode;
mod machine;
pub mod process;
pub mod seeds;
mod tally;

pub use disk::{Crash, SimDisk, State};
pub use faults::Faults;
pub use flip::flip_somewhere;
pub use free::OnceFree;
#[cfg(test)]
pub(crate) use machine::place;
pub use machine::{Machine, Sizes};
pub use tally::Tally;

/// Does `work` in an engine that runs in this thread and is broken in the way that has this name
/// (`mutant.rs`).
pub fn broken<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let known = crate::mutant::MUTANTS.iter().find(|(known, _)| *known == name);
    crate::mutant::broken(Some(known.unwrap().1), work)
}

/// Randomness that a seed decides (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.draw() >> 11) % bound.max(1)
    }

    pub fn below_len(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(crate::codec::position(bound))).unwrap()
    }

    pub fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}
