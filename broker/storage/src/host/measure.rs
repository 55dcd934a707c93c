//! What a sync costs here.

use std::{fs, io, os::unix::fs::FileExt, path::Path, time::Duration};

use super::{
    Host,
    real::{direct, options},
};
use crate::aligned::AlignedBuffer;

const BLOCK_BYTES: usize = 4096;
/// The measured blocks lie in a file that is there already, as the journal's do.
const BLOCKS: u32 = 256;

/// How long a write of 4 KiB and its sync take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncLatency {
    pub median: Duration,
    pub p99: Duration,
    /// Whether the page cache can be passed by.
    pub is_direct: bool,
}

/// Measures in a file of its own, which is removed again.
pub fn sync_latency(dir: &Path) -> io::Result<SyncLatency> {
    let path = dir.join(format!(".ottla-doctor-{}", std::process::id()));
    let measured = measure(&path);
    fs::remove_file(&path)?;
    measured
}

fn measure(path: &Path) -> io::Result<SyncLatency> {
    let clock = Host::real().clock;
    let whole = AlignedBuffer::zeroed(BLOCK_BYTES * usize::try_from(BLOCKS).unwrap_or(0));
    let plain = options().open(path)?;
    plain.write_all_at(whole.bytes(), 0)?;
    plain.sync_all()?;
    let (file, is_direct) = match direct(&options(), path) {
        Some(file) => (file, true),
        None => (plain, false),
    };
    let block = whole.bytes().get(..BLOCK_BYTES).unwrap_or_default();
    let mut took = Vec::new();
    for index in 0..BLOCKS {
        let began = clock.monotonic();
        file.write_all_at(block, u64::from(index) * 4096)?;
        rustix::fs::fdatasync(&file)?;
        took.push(clock.monotonic().saturating_sub(began));
    }
    took.sort_unstable();
    let at = |hundredths: usize| took.get(took.len() * hundredths / 100).copied();
    Ok(SyncLatency {
        median: at(50).unwrap_or_default(),
        p99: at(99).unwrap_or_default(),
        is_direct,
    })
}

#[cfg(test)]
mod tests {
    use super::sync_latency;

    #[test]
    fn a_sync_is_measured_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let measured = sync_latency(dir.path()).unwrap();
        assert!(measured.median.as_nanos() > 0 && measured.median <= measured.p99, "{measured:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
