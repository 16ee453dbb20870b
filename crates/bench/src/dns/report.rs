//! What was measured: a table of servers, and figures beside their targets.

use crate::figure::Taken;
use serde::Serialize;

/// Everything.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// A row a server.
    pub servers: Vec<Row>,
    /// Figures with targets.
    pub taken: Taken,
    /// Lost and wrong answers, in words. None is what passes.
    pub faults: Vec<String>,
}

/// What it ran on.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    /// Kernel.
    pub kernel: String,
    /// As the kernel names it.
    pub processor: String,
    /// Cores.
    pub cores: usize,
    /// Runnable processes in the last minute, before.
    pub load_before: f64,
    /// And after.
    pub load_after: f64,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            processor: model.map_or(String::new(), |(_, name)| name.trim().into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_before: load(),
            load_after: 0.0,
        }
    }
}

/// Load of the machine.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Medians of one server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub server: String,
    /// CPU of the server a query, in microseconds, of few sockets of dnsperf: replies can be joined.
    pub cpu_us: Option<f64>,
    /// That by the echo's, round by round.
    pub by_floor: Option<f64>,
    /// That by gdnsd's, round by round.
    pub by_gdnsd: Option<f64>,
    /// The same of many sockets: no replies to join.
    pub many: Many,
    /// Under kxdpgun, whose clients have an address each.
    pub strangers: Strangers,
    /// Queries a second under dnsperf.
    pub dnsperf_rate: Option<f64>,
    /// Queries a second without loss, under kxdpgun.
    pub lossless: Option<f64>,
    /// Microseconds to half of the answers at half of that rate.
    pub p50_us: Option<f64>,
    /// Microseconds to 99 of 100 answers.
    pub p99_us: Option<f64>,
}

/// CPU of a server a query, where each query comes from another socket than the one before.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Many {
    /// In microseconds.
    pub cpu_us: Option<f64>,
    /// That by the echo's, round by round.
    pub by_floor: Option<f64>,
    /// That by gdnsd's, round by round.
    pub by_gdnsd: Option<f64>,
}

/// CPU a query of clients with addresses of their own.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Strangers {
    /// Of the server, in microseconds.
    pub cpu_us: Option<f64>,
    /// Of the whole machine meanwhile: of the generator, of interrupts, and of whatever else runs.
    pub machine_us: Option<f64>,
}

impl Row {
    fn line(&self) -> String {
        let cell = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
        };
        let cells = [
            self.server.clone(),
            cell(self.cpu_us, 2),
            cell(self.by_floor, 2),
            cell(self.by_gdnsd, 2),
            cell(self.many.cpu_us, 2),
            cell(self.many.by_floor, 2),
            cell(self.many.by_gdnsd, 2),
            cell(self.strangers.cpu_us, 2),
            cell(self.strangers.machine_us, 2),
            cell(self.dnsperf_rate, 0),
            cell(self.lossless, 0),
            cell(self.p50_us, 0),
            cell(self.p99_us, 0),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

impl Report {
    /// Prints it for people.
    pub fn show(&self) {
        let m = &self.machine;
        println!("{} cores, {}, Linux {}", m.cores, m.processor, m.kernel);
        println!("load of the machine {:.1} before and {:.1} after\n", m.load_before, m.load_after);
        println!(
            "| server | CPU µs a query, 8 sockets | ÷ echo | ÷ gdnsd | CPU µs, 256 sockets | ÷ echo | ÷ gdnsd \
             | CPU µs, kxdpgun | of the machine | queries/s, dnsperf, 8 sockets | without loss, kxdpgun | p50 µs at half | p99 µs |"
        );
        println!("|{}", "---|".repeat(13));
        for row in &self.servers {
            println!("{}", row.line());
        }
        self.taken.show();
        for fault in &self.faults {
            println!("  FAULT: {fault}");
        }
    }
}

/// The middle one of several; not a number when there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The median of each round's ratio: both were measured within the same seconds.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        // One bad round changes nothing.
        assert_eq!(ratio(&[2.0, 4.0, 90.0], &[1.0, 2.0, 3.0]), 2.0);
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let row = Row { server: "x".into(), cpu_us: Some(5.126), lossless: Some(1e5), ..Row::default() };
        assert_eq!(row.line(), "| x | 5.13 | – | – | – | – | – | – | – | – | 100000 | – | – |");
    }
}
