//! A directory of this machine that an engine may still be writing to.

use std::{io::ErrorKind, path::PathBuf, time::Duration};

use crate::Host;

const LONGEST: Duration = Duration::from_secs(20);

/// Dropped once no engine has the data directory any more: one whose files are taken away ends its
/// process. Whatever removes the directory has to be dropped behind it, and every handle of the
/// storage before.
#[derive(Debug)]
pub struct OnceFree(pub PathBuf);

impl Drop for OnceFree {
    fn drop(&mut self) {
        let Host { disk, clock, .. } = Host::real();
        let begun = clock.monotonic();
        let lock = self.0.join("lock");
        let is_in_use =
            || disk.lock(&lock).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        while is_in_use() && clock.monotonic().saturating_sub(begun) < LONGEST {
            std::thread::yield_now();
        }
    }
}
