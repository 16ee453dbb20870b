//! CPU time of a server in nanoseconds: /proc/PID/stat counts in hundredths of a second only.
//!
//! No safe crate of the house reads the CPU clock of another process.

#![expect(unsafe_code, reason = "clock_getcpuclockid and clock_gettime write to one value each")]

use anyhow::{Context, Result, bail};
use std::io::Error;

/// Time that a process has run so far, in nanoseconds: of all its threads, those that ended included.
///
/// # Errors
/// When the process is gone.
pub fn ns(pid: u32) -> Result<u64> {
    let pid = libc::pid_t::try_from(pid).context("no process id")?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the pointer is to a value that lives during the call.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if failed != 0 {
        return Err(Error::from_raw_os_error(failed)).with_context(|| format!("the CPU clock of {pid}"));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(Error::last_os_error()).with_context(|| format!("the CPU time of {pid}"));
    }
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}

/// Microseconds that a process has run since its clock showed `before`, for each of so many queries.
///
/// # Errors
/// When the process is gone, its clock went backwards (it is another process), or nothing was answered.
pub fn us_each(pid: u32, before: u64, queries: u64) -> Result<f64> {
    let used = ns(pid)?.checked_sub(before).context("a CPU clock went backwards")?;
    if queries == 0 {
        bail!("nothing was answered");
    }
    Ok(used as f64 / 1e3 / queries as f64)
}

/// What all processors have done so far, in ticks of a hundredth of a second: whatever is not idle, interrupts
/// included.
pub struct Machine(u64);

/// Microseconds of a tick (`USER_HZ`).
const TICK_US: f64 = 10_000.0;

impl Machine {
    /// So far.
    ///
    /// # Errors
    /// Without /proc.
    pub fn now() -> Result<Machine> {
        let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        busy(&text).map(Machine).context("/proc/stat has no line of all processors")
    }

    /// Microseconds since then for each of so many queries.
    ///
    /// # Errors
    /// When nothing was answered.
    pub fn us_each(&self, queries: u64) -> Result<f64> {
        if queries == 0 {
            bail!("nothing was answered");
        }
        Ok(Machine::now()?.0.saturating_sub(self.0) as f64 * TICK_US / queries as f64)
    }
}

/// Of the first line of /proc/stat: user, nice, system, (idle, waiting,) interrupts, softirqs.
fn busy(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _, _, hard, soft, ..] = ticks[..] else { return None };
    Some(user + nice + system + hard + soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() {
        std::hint::black_box(
            (0..20_000_000_u64).fold(1, |x: u64, i| std::hint::black_box(x.rotate_left(5) ^ i)),
        );
    }

    #[test]
    fn work_counts_and_that_of_threads_that_ended_stays() {
        let own = std::process::id();
        let before = ns(own).unwrap();
        std::thread::spawn(work).join().unwrap();
        let after = ns(own).unwrap();
        // Twenty million steps take longer than that.
        assert!(after > before + 1_000_000, "{before} {after}");
        assert!(us_each(own, before, 10).unwrap() > 100.0);
        assert!(us_each(own, before, 0).is_err());
        assert!(us_each(own, u64::MAX, 1).is_err());
    }

    #[test]
    fn the_machine_s_busy_time_is_all_but_idle_and_waiting() {
        assert_eq!(busy("cpu  1 2 4 1000 1000 8 16 1000 0 0\ncpu0 9 9 9 9 9 9 9\n"), Some(31));
        assert_eq!(busy("intr 1 2 3"), None);
        assert!(Machine::now().unwrap().us_each(0).is_err());
    }

    #[test]
    fn a_process_that_is_gone_has_no_clock() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(ns(pid).is_err());
    }
}
