//! What readers leave behind. Old records that came from the disk are read once, as a rule. Where memory is short the
//! kernel gives up other pages for them, the end of the log among them, which everybody else reads, and it takes
//! a third of the broker's time to find room. So they are forgotten behind the reader.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// A file is forgotten in steps of this size, with one of them between the reader and what he leaves. The kernel reads
/// ahead no more than this at a time, unless it was told to be bolder.
pub(super) const WINDOW_BYTES: u64 = 16 << 20;
/// So far ahead the kernel has not read yet for the reader himself.
const WINDOWS_AHEAD: u64 = 2;

/// The page cache of one file.
pub(super) trait PageCache {
    /// Whether this byte is in it.
    fn has(&self, position: u64) -> bool;
    /// Whether the kernel has to give up pages to get others.
    fn is_short(&self) -> bool;
    fn forget(&self, bytes: Range<u64>);
}

/// What is known of a file's windows.
#[derive(Debug, Default)]
pub(super) struct Behind {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    windows: BTreeMap<u64, Window>,
    /// More than one reads these records: the kernel knows better what to keep.
    is_shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// Was not in memory before somebody came to read it.
    Cold,
    Forgotten,
}

impl Behind {
    /// These bytes were read, some of them from the disk if `was_cold`.
    pub(super) fn passed(&self, bytes: Range<u64>, was_cold: bool, cache: &impl PageCache) {
        let (left, entered) = (bytes.start / WINDOW_BYTES, bytes.end / WINDOW_BYTES);
        if left == entered && !was_cold {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if was_cold && !state.is_shared {
            let next = bytes.end.div_ceil(WINDOW_BYTES);
            (left..next).for_each(|window| state.found_cold(window));
            state.look_at(next, cache);
        }
        for window in left..entered {
            if state.is_shared {
                return;
            }
            state.look_at(window + 1 + WINDOWS_AHEAD, cache);
            state.leave(window, cache);
        }
    }
}

impl State {
    fn found_cold(&mut self, window: u64) {
        self.windows.entry(window).or_insert(Window::Cold);
    }

    /// Asking brings a page into memory, so that what is known is not asked for again.
    fn look_at(&mut self, window: u64, cache: &impl PageCache) {
        if !self.windows.contains_key(&window) && !cache.has(window * WINDOW_BYTES) {
            self.found_cold(window);
        }
    }

    /// A reader has come to the end of a window.
    fn leave(&mut self, window: u64, cache: &impl PageCache) {
        if self.windows.get(&window) == Some(&Window::Forgotten) {
            self.is_shared = true;
            self.windows.clear();
            return;
        }
        let Some(behind) = window.checked_sub(1) else { return };
        if self.windows.get(&behind) != Some(&Window::Cold) {
            return;
        }
        if cache.is_short() {
            cache.forget(behind * WINDOW_BYTES..window * WINDOW_BYTES);
            self.windows.insert(behind, Window::Forgotten);
        } else {
            self.windows.remove(&behind);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        iter,
    };

    use super::*;

    /// A page cache of windows.
    struct Cache {
        held: RefCell<Vec<u64>>,
        is_short: Cell<bool>,
    }

    impl Cache {
        fn holding(windows: Range<u64>) -> Self {
            Self { held: RefCell::new(windows.collect()), is_short: Cell::new(true) }
        }

        /// Reads these windows, 1 MiB at a time.
        fn read(&self, windows: Range<u64>, behind: &Behind) {
            let mut at = windows.start * WINDOW_BYTES;
            while at < windows.end * WINDOW_BYTES {
                let window = at / WINDOW_BYTES;
                let was_cold = !self.held.borrow().contains(&window);
                if was_cold {
                    // The kernel reads ahead, but no more than so far.
                    self.held.borrow_mut().extend([window, window + 1]);
                }
                behind.passed(at..at + (1 << 20), was_cold, self);
                at += 1 << 20;
            }
        }

        fn held(&self) -> Vec<u64> {
            let mut held = self.held.borrow().clone();
            held.sort_unstable();
            held.dedup();
            held
        }
    }

    impl PageCache for Cache {
        fn has(&self, position: u64) -> bool {
            self.held.borrow().contains(&(position / WINDOW_BYTES))
        }

        fn is_short(&self) -> bool {
            self.is_short.get()
        }

        fn forget(&self, bytes: Range<u64>) {
            let forgotten = bytes.start / WINDOW_BYTES..bytes.end / WINDOW_BYTES;
            self.held.borrow_mut().retain(|window| !forgotten.contains(window));
        }
    }

    #[test]
    fn what_came_from_the_disk_is_forgotten_and_what_was_in_memory_is_not() {
        let (behind, cache) = (Behind::default(), Cache::holding(20..30));
        cache.read(3..30, &behind);
        // The second one has come with the first: it could have been there before.
        assert_eq!(cache.held(), iter::once(4).chain(20..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_that_is_larger_than_a_window_leaves_nothing_either() {
        let (behind, cache) = (Behind::default(), Cache::holding(0..0));
        for first in (0..30).step_by(3) {
            cache.held.borrow_mut().extend(first..first + 3);
            behind.passed(first * WINDOW_BYTES..(first + 3) * WINDOW_BYTES, true, &cache);
        }
        assert_eq!(cache.held(), [29]);
    }

    #[test]
    fn nothing_is_forgotten_while_memory_is_free() {
        let (behind, cache) = (Behind::default(), Cache::holding(0..0));
        cache.is_short.set(false);
        cache.read(0..8, &behind);
        assert_eq!(cache.held(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_read_again_is_kept_from_then_on() {
        let (behind, cache) = (Behind::default(), Cache::holding(0..0));
        cache.read(0..8, &behind);
        cache.read(0..8, &behind);
        assert_eq!(cache.held(), (0..8).collect::<Vec<_>>());
    }
}
