//! A disk, a clock and threads that exist only in memory, and lose what was not synced.

mod disk;
mod world;

pub(in crate::tests) use disk::{Crash, SimDisk};
pub(in crate::tests) use world::World;

/// Randomness that a seed decides (xorshift).
#[derive(Debug, Clone)]
pub(in crate::tests) struct Dice(u64);

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
