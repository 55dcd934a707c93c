//! What the kernel says of this process.

use std::fs;

/// Ticks per second in `/proc/self/stat`: the same on every Linux that this is built for.
const TICKS_PER_SECOND: u64 = 100;

/// What this process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub resident_bytes: u64,
    pub cpu_ms: u64,
    pub open_files: u64,
}

impl Process {
    /// `None` where there is no `/proc`.
    pub(super) fn look() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let open_files = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self {
            resident_bytes: resident_bytes(&status)?,
            cpu_ms: cpu_ms(&stat)?,
            // One of them is the directory that was just read.
            open_files: u64::try_from(open_files).ok()?.saturating_sub(1),
        })
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Of the process and the kernel for it. The name in brackets may hold anything.
fn cpu_ms(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let status = "Name:\tottla\nVmPeak:\t  9 kB\nVmRSS:\t   48212 kB\nThreads:\t9\n";
        assert_eq!(resident_bytes(status), Some(48_212 * 1024));
        let stat = "7 (o) t (la) S 1 7 7 0 -1 4194560 900 0 3 0 250 31 0 0 20 0 9 0 100";
        assert_eq!(cpu_ms(stat), Some(2_810));
        let own = Process::look().unwrap();
        assert!(own.resident_bytes > 1 << 20 && own.open_files >= 3, "{own:?}");
    }
}
