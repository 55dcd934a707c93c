//! What the kernel says about a process: memory in MB, CPU time in seconds.

use std::{fs, io};

/// Kernel clock ticks per second of `/proc/<pid>/stat`; 100 on every Linux architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time that the process has used so far.
pub(crate) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name may hold spaces, so fields are counted behind its closing parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |n: usize| -> f64 {
        fields.split_whitespace().nth(n).and_then(|field| field.parse().ok()).unwrap_or(0.0)
    };
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

/// Resident memory now.
pub(crate) fn resident_mb(pid: u32) -> io::Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// The most resident memory the process ever had.
pub(crate) fn peak_mb(pid: u32) -> io::Result<f64> {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, field: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(f64::NAN);
    Ok(kib / 1024.0)
}
