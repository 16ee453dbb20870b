//! How full the queues between tasks are, read at each scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntGaugeVec, Opts, Registry};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Tells the length of a queue.
type Length = Arc<dyn Fn() -> usize + Send + Sync>;

/// `nearmost_queue_length{queue}` and `nearmost_queue_capacity{queue}`: what waits for a task, such as `driver`
/// or `registrar`, and what may.
pub struct QueueMetrics {
    queues: Vec<(&'static str, Length, usize)>,
    desc: Vec<Desc>,
}

impl QueueMetrics {
    /// No queues yet.
    ///
    /// # Errors
    /// Never, as the name is good.
    pub fn new() -> Result<QueueMetrics, Error> {
        let desc = families()?.iter().flat_map(Collector::desc).cloned().collect();
        Ok(QueueMetrics { queues: Vec::new(), desc })
    }

    /// Adds a queue; it may close while it is looked at.
    #[must_use]
    pub fn with<T: Send + 'static>(mut self, name: &'static str, queue: &mpsc::Sender<T>) -> QueueMetrics {
        let (queue, capacity) = (queue.downgrade(), queue.max_capacity());
        let length = move || queue.upgrade().map_or(0, |q| q.max_capacity() - q.capacity());
        self.queues.push((name, Arc::new(length), capacity));
        self
    }

    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(self, registry: &Registry) -> Result<(), Error> {
        registry.register(Box::new(self))
    }
}

/// Lengths and capacities.
fn families() -> Result<[IntGaugeVec; 2], Error> {
    let family = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["queue"]);
    Ok([
        family("nearmost_queue_length", "Messages that wait for a task.")?,
        family("nearmost_queue_capacity", "Messages that may wait for a task.")?,
    ])
}

impl Collector for QueueMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names were accepted at registration, so there is no error to lose.
        let Ok([lengths, capacities]) = families() else { return Vec::new() };
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (name, length, capacity) in &self.queues {
            lengths.with_label_values(&[*name]).set(number(length()));
            capacities.with_label_values(&[*name]).set(number(*capacity));
        }
        lengths.collect().into_iter().chain(capacities.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_as_long_as_what_waits_in_it() {
        let (tx, rx) = mpsc::channel(8);
        let registry = Registry::new();
        QueueMetrics::new().unwrap().with("driver", &tx).register(&registry).unwrap();
        let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        (0..3).for_each(|n| tx.try_send(n).unwrap());
        assert!(text().contains("nearmost_queue_length{queue=\"driver\"} 3"), "{}", text());
        assert!(text().contains("nearmost_queue_capacity{queue=\"driver\"} 8"), "{}", text());
        drop((tx, rx));
        assert!(text().contains("nearmost_queue_length{queue=\"driver\"} 0"), "{}", text());
    }
}
