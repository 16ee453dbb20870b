//! The process itself: which build it is, and what it takes of the machine.
//!
//! CPU, memory, files, threads and the start time have the names that all programs give them (`process_…`),
//! so that what is written for any program fits this one.
//!
//! Where the service manager shows only processes in `/proc` (`ProcSubset=pid`), the machine's memory is asked
//! of the kernel, and the start time is when this was registered.

use super::registered;
use crate::clock::unix_now;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Error, Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use std::fs;
use std::path::{Path, PathBuf};

/// Registers `process_…`, `nearmost_build_info{version}`, `nearmost_clock_timestamp_seconds`,
/// `nearmost_memory_limit_bytes`, `nearmost_data_free_bytes` and `nearmost_data_size_bytes`.
///
/// # Errors
/// When one is registered already.
pub fn register(registry: &Registry, data_dir: &Path) -> Result<(), Error> {
    let start =
        Gauge::new("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")?;
    start.set(unix_now().0 as f64 / 1000.0);
    registry.register(Box::new(Process { common: ProcessCollector::for_self(), start }))?;
    let build = Opts::new("nearmost_build_info", "1; says which version runs.");
    let build = registered(registry, IntGaugeVec::new(build, &["version"])?)?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let desc = Families::new()?.all().into_iter().flat_map(Collector::desc).cloned().collect();
    registry.register(Box::new(Machine { data_dir: data_dir.to_owned(), desc }))
}

/// What all programs tell of themselves.
struct Process {
    common: ProcessCollector,
    /// When it was registered.
    start: Gauge,
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.common.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut told = self.common.collect();
        // 0 where the time of boot is hidden.
        let is_zero = |m: &prometheus::proto::Metric| m.get_gauge().get_value() <= 0.0;
        let hidden =
            |f: &MetricFamily| f.name() == "process_start_time_seconds" && f.get_metric().iter().any(is_zero);
        let before = told.len();
        told.retain(|f| !hidden(f));
        if told.len() < before {
            told.extend(self.start.collect());
        }
        told
    }
}

struct Families {
    clock: Gauge,
    memory: IntGauge,
    free: IntGauge,
    size: IntGauge,
}

impl Families {
    fn new() -> Result<Families, Error> {
        Ok(Families {
            clock: Gauge::new("nearmost_clock_timestamp_seconds", "Unix time as the broker has it.")?,
            memory: IntGauge::new(
                "nearmost_memory_limit_bytes",
                "Memory that the process may have: the least of its control groups' limits and the machine's.",
            )?,
            free: IntGauge::new(
                "nearmost_data_free_bytes",
                "Room on the file system of the data directory, as an ordinary user has it.",
            )?,
            size: IntGauge::new(
                "nearmost_data_size_bytes",
                "Size of the file system of the data directory.",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 4] {
        [&self.clock, &self.memory, &self.free, &self.size]
    }
}

/// Looks at the machine at each scrape.
struct Machine {
    data_dir: PathBuf,
    desc: Vec<Desc>,
}

impl Collector for Machine {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names were accepted at registration, so there is no error to lose.
        let Ok(families) = Families::new() else { return Vec::new() };
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        families.clock.set(unix_now().0 as f64 / 1000.0);
        let mut told = families.clock.collect();
        // What cannot be read is not told, which is no error of the scrape.
        let info = rustix::system::sysinfo();
        let total: u64 = info.totalram.saturating_mul(info.mem_unit.into());
        if let Some(limit) = memory_limit(Path::new("/"), total) {
            families.memory.set(bytes(limit));
            told.extend(families.memory.collect());
        }
        if let Ok(fs) = rustix::fs::statvfs(&self.data_dir) {
            families.free.set(bytes(fs.f_bavail.saturating_mul(fs.f_frsize)));
            families.size.set(bytes(fs.f_blocks.saturating_mul(fs.f_frsize)));
            told.extend(families.free.collect());
            told.extend(families.size.collect());
        }
        told
    }
}

/// The least of the memory of the machine, 0 where it is not known, and the limits (version 2) of the process's
/// control groups, as far as they can be read from a root.
fn memory_limit(root: &Path, machine: u64) -> Option<u64> {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let groups = read(root.join("proc/self/cgroup")).unwrap_or_default();
    let own = groups.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default();
    let top = root.join("sys/fs/cgroup");
    let own = top.join(own);
    let limits = own.ancestors().take_while(|group| group.starts_with(&top));
    let limits = limits.filter_map(|group| read(group.join("memory.max"))?.trim().parse::<u64>().ok());
    limits.chain((machine > 0).then_some(machine)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_of_this_process() {
        let (registry, dir) = (Registry::new(), tempfile::tempdir().unwrap());
        register(&registry, dir.path()).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
        };
        assert!(text.contains(concat!("nearmost_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")));
        assert!(value("process_resident_memory_bytes") < value("nearmost_memory_limit_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"));
        assert!(value("nearmost_data_free_bytes") <= value("nearmost_data_size_bytes"));
        assert!(value("process_start_time_seconds") > 1e9);
    }

    #[test]
    fn the_least_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let memory_limit = |machine| memory_limit(root.path(), machine);
        assert_eq!(memory_limit(0), None);
        assert_eq!(memory_limit(1_024_000), Some(1_024_000));
        write("proc/self/cgroup", "0::/nearmost.slice/broker.service\n");
        write("sys/fs/cgroup/nearmost.slice/broker.service/memory.max", "max\n");
        assert_eq!(memory_limit(1_024_000), Some(1_024_000));
        write("sys/fs/cgroup/nearmost.slice/memory.max", "5000\n");
        assert_eq!((memory_limit(1_024_000), memory_limit(0)), (Some(5000), Some(5000)));
    }
}
