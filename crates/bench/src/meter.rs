//! What a stretch of work costs this process: time, CPU and memory.

use crate::proc;
use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What one stretch of work cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Wall time in seconds.
    pub wall_s: f64,
    /// CPU of the whole process in seconds: what wall time would be on a machine with nothing else to do,
    /// if the work is done by one thread.
    pub cpu_s: f64,
    /// Memory in use before, in mebibytes.
    pub before_mib: f64,
    /// Most memory in use meanwhile, beyond what was in use before, in mebibytes.
    pub peak_mib: f64,
    /// Memory in use afterwards, beyond what was in use before, in mebibytes.
    pub kept_mib: f64,
}

impl Cost {
    /// The same cost with the peak of its parts, which were measured inside of it.
    pub fn highest<'c>(self, parts: impl IntoIterator<Item = &'c Cost>) -> Cost {
        let peaks = parts.into_iter().map(|part| part.before_mib + part.peak_mib - self.before_mib);
        Cost { peak_mib: peaks.fold(self.peak_mib, f64::max), ..self }
    }
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// CPU time of the calling thread so far, in nanoseconds: what others do on the machine is not in it.
pub fn thread_cpu_ns() -> f64 {
    seconds(ClockId::ThreadCPUTime) * 1e9
}

/// Does something, and tells what it cost besides. Of what is measured inside of it, the peak begins
/// anew: see [`Cost::highest`].
///
/// # Errors
/// When the kernel does not tell.
pub fn measured<T>(work: impl FnOnce() -> T) -> Result<(T, Cost)> {
    let own = std::process::id();
    // Makes the peak what is in use now (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5").context("/proc/self/clear_refs")?;
    let before = proc::resident(own)?;
    let (wall, cpu) = (seconds(ClockId::Monotonic), seconds(ClockId::ProcessCPUTime));
    let done = work();
    let (wall, cpu) = (seconds(ClockId::Monotonic) - wall, seconds(ClockId::ProcessCPUTime) - cpu);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let peak_mib = mib(proc::peak(own)?.saturating_sub(before));
    let kept_mib = mib(proc::resident(own)?.saturating_sub(before));
    Ok((done, Cost { wall_s: wall, cpu_s: cpu, before_mib: mib(before), peak_mib, kept_mib }))
}
