//! Space for what must not fail: a file that is given up when such a write meets a full disk.
//!
//! While it is gone produce is refused; the keeper makes it again once there is space.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    host::{Disk, Open},
    journal::ring::FIRST_SEGMENTS,
};

/// The file `reserve`: as large as the ring, because so much may have to be written again.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    segment_bytes: u64,
    held: AtomicBool,
    /// Held while the space is given back, so that whoever comes second finds it free.
    releasing: Mutex<()>,
    /// How often it was given up.
    released: AtomicU64,
}

impl Reserve {
    /// The reserve of a ring of so many segments, as far as it is there.
    pub(crate) fn find(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        segment_bytes: u64,
        segments: u32,
    ) -> Self {
        let length = disk.open(&path, Open::Read).and_then(|file| file.len()).unwrap_or(0);
        let reserve = Self {
            disk,
            path,
            segment_bytes,
            held: AtomicBool::new(false),
            releasing: Mutex::new(()),
            released: AtomicU64::new(0),
        };
        let whole = length >= reserve.bytes(segments);
        reserve.held.store(whole, Ordering::SeqCst);
        reserve
    }

    /// How much a ring of so many segments needs.
    pub(crate) fn bytes(&self, segments: u32) -> u64 {
        self.segment_bytes * u64::from(segments.max(FIRST_SEGMENTS))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Allocates what a ring of so many segments needs.
    pub(crate) fn make(&self, segments: u32) -> io::Result<()> {
        let _one_at_a_time = self.releasing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.disk.open(&self.path, Open::Write)?;
        file.allocate(self.bytes(segments))?;
        file.sync()?;
        self.held.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Gives the space back to the disk, also that of a file which is too short for a reserve; `false` if that was
    /// done before.
    pub(crate) fn release(&self) -> io::Result<bool> {
        let _one_at_a_time = self.releasing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.held.swap(false, Ordering::SeqCst) && !self.disk.exists(&self.path) {
            return Ok(false);
        }
        tracing::error!(
            "the disk is full; the reserve is given up for what was acknowledged, and produce is refused"
        );
        self.disk.remove_file(&self.path)?;
        self.released.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }

    /// Writes, and writes again without the reserve if the disk is full, also if another thread gave it up meanwhile. For
    /// writes that may be repeated in place, never for a sync.
    pub(crate) fn write<T>(&self, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let before = self.released.load(Ordering::SeqCst);
        match write() {
            Err(error)
                if is_full(&error)
                    && (self.release()? || self.released.load(Ordering::SeqCst) > before) =>
            {
                write()
            }
            outcome => outcome,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io};

    use super::Reserve;
    use crate::host::Host;

    #[test]
    fn a_file_that_is_too_short_for_a_reserve_gives_its_space_back_too() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("reserve");
        let find = || Reserve::find(Host::real().disk, path.clone(), 4096, 3);
        find().make(2).unwrap();
        let reserve = find();
        assert!(!reserve.is_held());
        assert!(reserve.release().unwrap() && !path.exists());
        assert!(!reserve.release().unwrap());
    }

    #[test]
    fn a_write_that_another_thread_made_room_for_is_repeated() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("reserve");
        let reserve = Reserve::find(Host::real().disk, path, 4096, 2);
        reserve.make(2).unwrap();
        let tries = Cell::new(0);
        let write = || {
            tries.set(tries.get() + 1);
            if tries.get() > 1 {
                return Ok(());
            }
            // The other thread, whose write met the full disk first.
            reserve.release().unwrap();
            Err(io::ErrorKind::StorageFull.into())
        };
        reserve.write(write).unwrap();
        let still_full = || -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
        assert!(reserve.write(still_full).is_err(), "there is only one reserve");
    }
}
