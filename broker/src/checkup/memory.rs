//! How much memory the broker has, and how much it may have.

use super::{bytes, fail, ok, warn};
use nearmost_wire::api::FindingView;
use std::path::PathBuf;

/// What the control group says; `None` for no limit, or no control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    limit: Option<u64>,
    used: Option<u64>,
    /// Resident memory of the process.
    resident: Option<u64>,
}

pub(super) fn gather() -> Memory {
    let group = group();
    let number = |file: &str| {
        let text = std::fs::read_to_string(group.as_ref()?.join(file)).ok()?;
        text.trim().parse().ok()
    };
    // What the kernel caches of files is given back before anybody is killed.
    let cached = group.as_ref().and_then(|g| std::fs::read_to_string(g.join("memory.stat")).ok());
    let cached = cached.map_or(0, |text| cached_files(&text));
    let used = number("memory.current").map(|all: u64| all.saturating_sub(cached));
    Memory { limit: number("memory.max"), used, resident: resident() }
}

/// Bytes of cached files in `memory.stat`.
fn cached_files(stat: &str) -> u64 {
    let of = |line: &str| match line.split_once(' ') {
        Some(("inactive_file" | "active_file", bytes)) => bytes.trim().parse::<u64>().ok(),
        _ => None,
    };
    stat.lines().filter_map(of).fold(0, u64::saturating_add)
}

/// The process's control group (version 2).
fn group() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

pub(super) fn judge(memory: &Memory) -> FindingView {
    let resident = match (memory.resident, memory.used) {
        (Some(resident), _) => bytes(resident),
        (None, Some(_)) => "an unknown part".into(),
        (None, None) => return ok("memory", "not known: neither /proc nor the control group tells"),
    };
    let (Some(limit), Some(used)) = (memory.limit, memory.used) else {
        return ok("memory", format!("{resident} are used, without a limit that is known"));
    };
    let message = format!("{resident} are used; the control group uses {} of {}", bytes(used), bytes(limit));
    let fix = "raise MemoryMax= of the unit or the container's limit, or lower geo.cell_memory_mib and learning's networks";
    match () {
        () if used >= limit / 100 * 97 => fail("memory", message, fix),
        () if used >= limit / 100 * 85 => warn("memory", message, fix),
        () => ok("memory", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_near_is_told() {
        let level = |used| {
            let memory = Memory { limit: Some(1 << 30), used: Some(used), resident: Some(1 << 20) };
            judge(&memory).level
        };
        assert_eq!([level(1 << 29), level(950 << 20), level(1 << 30)], ["ok", "warn", "fail"]);
        assert_eq!(judge(&Memory { limit: None, used: None, resident: Some(1) }).level, "ok");
        assert!(judge(&Memory::default()).message.starts_with("not known"));
        assert_eq!(cached_files("anon 9\ninactive_file 5\nactive_file 7\nfile 12\n"), 12);
        assert!(gather().resident.is_some(), "Linux tells it");
    }
}
