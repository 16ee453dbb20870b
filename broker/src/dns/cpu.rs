//! CPU time of the threads that answer over UDP. It is read by scrapes from what the kernel keeps of each
//! thread anyway, so answering costs nothing more.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Error, Opts};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const NAME: &str = "nearmost_dns_cpu_seconds_total";
const HELP: &str = "CPU time of the threads that answer DNS over UDP.";

/// The threads, and `nearmost_dns_cpu_seconds_total`.
#[derive(Clone, Debug)]
pub struct Threads {
    /// What each had taken when it was last looked at: threads end, counters do not go back.
    seen: Arc<Mutex<HashMap<PathBuf, Duration>>>,
    desc: Arc<Desc>,
}

impl Threads {
    /// None yet.
    ///
    /// # Errors
    /// Never, as the name is good.
    pub fn new() -> Result<Threads, Error> {
        let desc = Desc::new(NAME.into(), HELP.into(), Vec::new(), HashMap::new())?;
        Ok(Threads { seen: Arc::default(), desc: Arc::new(desc) })
    }

    /// Counts the thread that calls.
    pub(super) fn enter(&self) {
        // `PID/task/TID`; without /proc nothing is counted.
        if let Ok(own) = fs::read_link("/proc/thread-self") {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(PathBuf::from("/proc").join(own).join("schedstat"), Duration::ZERO);
        }
    }

    fn total(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, took) in seen.iter_mut() {
            // Its first number is the time on a CPU in nanoseconds.
            let now = fs::read_to_string(path).ok().and_then(|t| t.split(' ').next()?.parse().ok());
            *took = now.map_or(*took, Duration::from_nanos).max(*took);
        }
        seen.values().sum()
    }
}

impl Collector for Threads {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same name was accepted at registration, so there is no error to lose.
        let Ok(counter) = Counter::with_opts(Opts::new(NAME, HELP)) else { return Vec::new() };
        counter.inc_by(self.total().as_secs_f64());
        counter.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_took_is_counted_and_stays_when_it_ends() {
        let threads = Threads::new().unwrap();
        let of = threads.clone();
        let worked = std::thread::spawn(move || {
            of.enter();
            let mut n = 0_u64;
            // Until the kernel says that it took some time.
            while of.total() < Duration::from_millis(5) {
                n = std::hint::black_box(n.wrapping_add(1));
            }
            of.total()
        });
        let took = worked.join().unwrap();
        assert!(took >= Duration::from_millis(5));
        assert!(threads.total() >= took);
        assert!(threads.collect()[0].get_metric()[0].get_counter().get_value() >= took.as_secs_f64());
    }
}
