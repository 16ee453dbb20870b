//! CPU time of a server in nanoseconds: /proc/PID/stat counts in hundredths of a second only.

use anyhow::{Context, Result};

/// Time that all threads of a process have run so far, in nanoseconds. What a thread used that has
/// ended is not in it: servers keep theirs.
///
/// # Errors
/// When the process is gone, or the kernel has no scheduler statistics.
pub fn ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")? {
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        total += ran(&text).with_context(|| format!("schedstat of {pid}: {text:?}"))?;
    }
    Ok(total)
}

/// The first of three numbers: nanoseconds on a CPU (Documentation/scheduler/sched-stats.rst).
fn ran(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_time_on_a_cpu() {
        assert_eq!(ran("3973502 347708 3\n"), Some(3_973_502));
        assert_eq!(ran(""), None);
        assert_eq!(ran("x 1 2"), None);
    }

    #[test]
    fn work_counts() {
        let own = std::process::id();
        let before = ns(own).unwrap();
        // Until the scheduler has seen it, which is at the next tick.
        let mut x = 1_u64;
        while ns(own).unwrap() == before {
            x = (0..100_000).fold(x, |x, i| std::hint::black_box(x.rotate_left(5) ^ i));
        }
        assert!(ns(own).unwrap() > before);
    }
}
