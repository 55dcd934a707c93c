//! What the kernel says about a process: memory in MB, CPU time in seconds, bytes written.

use std::{fs, io};

/// Kernel clock ticks per second of `/proc/<pid>/stat`; 100 on every Linux architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    /// Handed to the block layer, or put into the page cache to be handed over later.
    pub(crate) written_bytes: f64,
}

impl Used {
    pub(crate) fn by(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command name may hold spaces, so fields are counted behind its closing parenthesis.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |n: usize| -> f64 {
            fields.split_whitespace().nth(n).and_then(|field| field.parse().ok()).unwrap_or(0.0)
        };
        Ok(Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            written_bytes: number(&format!("/proc/{pid}/io"), "write_bytes:")?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

/// Resident memory now.
pub(crate) fn resident_mb(pid: u32) -> io::Result<f64> {
    Ok(number(&format!("/proc/{pid}/status"), "VmRSS:")? / 1024.0)
}

/// The most resident memory the process ever had.
pub(crate) fn peak_mb(pid: u32) -> io::Result<f64> {
    Ok(number(&format!("/proc/{pid}/status"), "VmHWM:")? / 1024.0)
}

/// Memory of the machine in which nothing is, not even the page cache.
pub(crate) fn free_mb() -> io::Result<f64> {
    Ok(number("/proc/meminfo", "MemFree:")? / 1024.0)
}

/// How many tasks ran or waited for a disk, in the last minute's mean.
pub(crate) fn load_average() -> io::Result<f64> {
    let average = fs::read_to_string("/proc/loadavg")?;
    Ok(average.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN))
}

fn number(file: &str, field: &str) -> io::Result<f64> {
    Ok(fs::read_to_string(file)?
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(f64::NAN))
}
