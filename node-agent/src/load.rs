//! How busy the machine and the service are, from `/proc`.
//!
//! * CPU: the share of time that was neither idle nor waiting for a disk, between two readings of
//!   `/proc/stat` (proc(5)).
//! * Memory: `1 - MemAvailable / MemTotal` of `/proc/meminfo`.
//! * Connections: entries of `/proc/net/tcp` and `/proc/net/tcp6` in state `01` (established) whose
//!   local port is the service's. What a container sees there is its own network namespace.
//!
//! Parsing is pure; [`sample`] reads the files and blocks, so it belongs on a blocking thread.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Load of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// CPU in use on the machine, 0..=1.
    pub cpu: f32,
    /// Memory in use on the machine, 0..=1.
    pub memory: f32,
    /// Established connections by local port; only ports that were asked for.
    pub connections: BTreeMap<u16, u32>,
}

/// Processor time since the machine started, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTicks {
    busy: u64,
    total: u64,
}

impl CpuTicks {
    /// From the text of `/proc/stat`; `None` when it has no summary line.
    pub fn parse(stat: &str) -> Option<CpuTicks> {
        let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal; what follows (guest) is within user.
        let ticks: Vec<u64> =
            line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or(0));
        let total = ticks.iter().fold(0u64, |sum, t| sum.saturating_add(*t));
        Some(CpuTicks { busy: total.saturating_sub(idle), total })
    }

    /// The busy share since an earlier reading; 0 when no time passed.
    pub fn share_since(self, earlier: CpuTicks) -> f32 {
        let total = self.total.saturating_sub(earlier.total);
        let busy = self.busy.saturating_sub(earlier.busy);
        if total == 0 { 0.0 } else { (busy as f64 / total as f64).min(1.0) as f32 }
    }
}

/// The used share of memory, from the text of `/proc/meminfo`.
pub fn memory_share(meminfo: &str) -> Option<f32> {
    let kib = |name: &str| -> Option<u64> {
        let rest = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    if total == 0 {
        return None;
    }
    Some((1.0 - available as f64 / total as f64).clamp(0.0, 1.0) as f32)
}

/// The local port of a line of `/proc/net/tcp{,6}` if it is an established connection.
pub fn established_port(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    let (_, port) = local.rsplit_once(':')?;
    if state != "01" {
        return None;
    }
    u16::from_str_radix(port, 16).ok()
}

/// Adds the established connections of a table to the ports that are counted.
pub fn count_connections(table: impl BufRead, counts: &mut BTreeMap<u16, u32>) -> io::Result<()> {
    for line in table.lines() {
        if let Some(count) = established_port(&line?).and_then(|port| counts.get_mut(&port)) {
            *count = count.saturating_add(1);
        }
    }
    Ok(())
}

/// Reads the present load below `proc` (normally `/proc`), and the ticks to compare with next
/// time. What cannot be read counts as 0.
pub fn sample(
    proc: &Path,
    ports: impl IntoIterator<Item = u16>,
    earlier: Option<CpuTicks>,
) -> (Load, Option<CpuTicks>) {
    let text = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
    let ticks = CpuTicks::parse(&text("stat"));
    let cpu = match (ticks, earlier) {
        (Some(now), Some(earlier)) => now.share_since(earlier),
        _ => 0.0,
    };
    let memory = memory_share(&text("meminfo")).unwrap_or(0.0);
    let mut connections: BTreeMap<u16, u32> = ports.into_iter().map(|port| (port, 0)).collect();
    for name in ["net/tcp", "net/tcp6"] {
        // A machine without IPv6 has no second table; a table that vanishes half read is counted
        // as far as it went.
        if let Ok(file) = File::open(proc.join(name))
            && let Err(e) = count_connections(BufReader::new(file), &mut connections)
        {
            tracing::debug!(table = name, error = %e, "connections could not be counted");
        }
    }
    (Load { cpu, memory, connections }, ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cpu_is_what_was_not_idle_between_two_readings() {
        let first = CpuTicks::parse("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4\n");
        let second = CpuTicks::parse("cpu  150 0 110 720 120 0 0 0 90 0\n");
        let (first, second) = (first.expect("parsed"), second.expect("parsed"));
        assert!((second.share_since(first) - 0.6).abs() < 1e-6);
        assert_eq!(second.share_since(second), 0.0);
        // A counter that jumped back does not make a share out of range.
        assert_eq!(first.share_since(second), 0.0);
        assert_eq!(CpuTicks::parse("intr 1 2 3\n"), None);
        assert_eq!(CpuTicks::parse("cpu  1 2 x 4\n"), None);
    }

    #[test]
    fn memory_is_what_is_not_available() {
        let text = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    4000 kB\n";
        assert_eq!(memory_share(text), Some(0.75));
        assert_eq!(memory_share("MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert_eq!(memory_share("MemTotal: 16000 kB\n"), None);
    }

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000
   2: 0100007F:C001 0100007F:1F90 01 00000000:00000000
   3: 0100007F:1F90 0100007F:C002 06 00000000:00000000
";
    const TCP6: &str = "  sl  local_address                         remote_address st
   0: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:C003 01
";

    #[test]
    fn established_connections_are_counted_by_local_port() {
        let mut counts = BTreeMap::from([(8080, 0), (22, 0)]);
        count_connections(TCP.as_bytes(), &mut counts).expect("read");
        count_connections(TCP6.as_bytes(), &mut counts).expect("read");
        assert_eq!(counts, BTreeMap::from([(8080, 2), (22, 0)]));
    }

    #[test]
    fn a_sample_reads_all_files_and_bears_their_absence() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(
            sample(dir.path(), [80], None),
            (Load { cpu: 0.0, memory: 0.0, connections: BTreeMap::from([(80, 0)]) }, None)
        );
        std::fs::create_dir(dir.path().join("net")).expect("a folder");
        let files = [
            ("stat", "cpu  100 0 100 700 100 0 0 0\n"),
            ("meminfo", "MemTotal: 4 kB\nMemAvailable: 1 kB\n"),
            ("net/tcp", TCP),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        let earlier = CpuTicks { busy: 0, total: 600 };
        let (load, ticks) = sample(dir.path(), [8080], Some(earlier));
        assert_eq!(load, Load { cpu: 0.5, memory: 0.75, connections: BTreeMap::from([(8080, 1)]) });
        assert_eq!(ticks, Some(CpuTicks { busy: 200, total: 1000 }));
    }

    #[test]
    fn this_machine_can_be_read() {
        let (load, ticks) = sample(Path::new("/proc"), [1], None);
        assert!(ticks.is_some());
        assert!(load.memory > 0.0 && load.memory < 1.0, "{load:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(cpu |MemTotal:|MemAvailable:| |\\PC|\n){0,40}") {
            let _ = CpuTicks::parse(&text);
            let _ = memory_share(&text);
            let _ = established_port(&text);
        }
    }
}
