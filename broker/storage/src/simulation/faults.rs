//! What goes wrong with a disk, and when.

use super::{Dice, SimDisk};

/// What goes wrong, and when.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// From so many writes on, every write and sync fails: the machine has stopped there.
    pub writes_left: Option<u64>,
    /// Every sync says that it worked and does nothing.
    pub lies: bool,
    /// The one after so many fails with EIO.
    pub write_fails_after: Option<u64>,
    pub sync_fails_after: Option<u64>,
    pub read_fails_after: Option<u64>,
    /// Bytes that all files may have together.
    pub capacity: Option<usize>,
    /// What is said to be free.
    pub free: Option<u64>,
}

impl Faults {
    /// Whether there is less space than there could be.
    pub fn is_short(&self) -> bool {
        self.capacity.is_some() || self.free.is_some()
    }
}

impl SimDisk {
    /// One fault, or none, for a life that writes about `length` times a hundred times.
    pub fn bring_a_fault(&self, dice: &mut Dice, length: u64) {
        let (kind, after) = (dice.below(12), dice.below(100 * length));
        let used = self.used();
        let space = dice.below_len(30_000);
        self.faults(|faults| match kind {
            0..=4 => faults.writes_left = Some(after * 3 / 2),
            5 => faults.write_fails_after = Some(after),
            6 => faults.sync_fails_after = Some(after / 2),
            7 => faults.read_fails_after = Some(after * 4),
            8 => faults.capacity = Some(used + space),
            _ => {}
        });
    }

    /// One fault for a recovery.
    pub fn bring_a_fault_to_recovery(&self, dice: &mut Dice) {
        let (kind, after) = (dice.below(8), dice.below(12));
        let used = self.used();
        self.faults(|faults| match kind {
            0..=4 => faults.writes_left = Some(after),
            5 => faults.sync_fails_after = Some(after / 3),
            6 => faults.read_fails_after = Some(after),
            _ => faults.capacity = Some(used),
        });
    }
}
