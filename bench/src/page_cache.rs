//! The page cache, filled before each load and emptied of a peer's files.
//!
//! Memory that a virtual machine touches for the first time, or since its host took it back, is several times slower than
//! memory it has touched before. So a load begins with none that is free: the page cache holds a file's zeroes and gives
//! them up for what is written.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Advice, fadvise};

use crate::{process, time::Stopwatch};

/// Left free, for the kernel keeps about so much free by itself.
const LEFT_FREE_MB: f64 = 600.0;
/// However much there is.
const LONGEST: Duration = Duration::from_mins(1);
/// A hypervisor that takes memory back as fast as it is filled leaves more than this after so long.
const STEP: Duration = Duration::from_millis(500);
const LEAST_STEP_MB: f64 = 20.0;
const PIECE_BYTES: usize = 1 << 20;
/// More than a machine has memory; a file with a hole of this size takes no room on the disk.
const HOLE_BYTES: u64 = 1 << 40;

/// A file whose pages fill the memory that nothing else uses; removed when dropped.
#[derive(Debug)]
pub(crate) struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("filler");
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(HOLE_BYTES)?;
        Ok(Self { path, file })
    }

    /// Reads on in the file until no memory is free, or what is free does not become less.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let started = Stopwatch::start();
        let mut free = process::free_mb()?;
        while free > LEFT_FREE_MB && started.elapsed() < LONGEST {
            let step = Stopwatch::start();
            while step.elapsed() < STEP && process::free_mb()? > LEFT_FREE_MB {
                self.read_on(&mut piece)?;
            }
            let before = std::mem::replace(&mut free, process::free_mb()?);
            if before - free < LEAST_STEP_MB {
                break;
            }
        }
        Ok(())
    }

    fn read_on(&mut self, piece: &mut [u8]) -> io::Result<()> {
        for _ in 0..16 {
            if self.file.read(piece)? == 0 {
                // So much was read in the turns before.
                self.file.rewind()?;
            }
        }
        Ok(())
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // What stays is an empty file in a directory of build results.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// Takes every file below `directory` out of the page cache, so that the next reader reads the disk.
pub(crate) fn evict(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            // Only pages that are on the disk already can be given up.
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
