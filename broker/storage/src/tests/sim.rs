//! A machine that exists only in memory: a disk that loses what was not synced, a clock, and the
//! engine's own steps in one thread. A seed decides everything.

mod disk;
mod inode;
mod load;
mod model;
mod tally;
mod world;

pub(super) use disk::{Crash, Faults, SimDisk};
pub(super) use model::{Check, Event, Model, UNREADABLE, check};
pub(super) use tally::Tally;
pub(super) use world::{Sizes, World, place};

/// Randomness that a seed decides (xorshift).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(in crate::tests) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    pub(super) fn below_len(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(crate::codec::position(bound))).unwrap()
    }

    pub(super) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}
