//! What the kernel accounts to a process.

use anyhow::{Context, Result};
use std::time::Duration;

/// Clock ticks a second of /proc (USER_HZ), which Linux fixes at 100 for user space.
const TICKS: u32 = 100;

/// CPU time of a process so far, user and system.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The second field is the name in parentheses, which may hold spaces.
    let rest = stat.rsplit(')').next().context("stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u32>().ok()).context("stat");
    Ok(Duration::from_secs((ticks(11)? + ticks(12)?).into()) / TICKS)
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most resident memory that a process had so far, in bytes.
pub fn peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// Makes the most that a process had what it has now.
pub fn forget_peak(pid: u32) -> Result<()> {
    // See proc(5).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("clear_refs")
}

fn status(pid: u32, field: &'static str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|l| l.strip_prefix(field)).context(field)?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
