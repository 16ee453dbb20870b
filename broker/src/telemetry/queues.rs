//! How full the queues between tasks are, read at each scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntGaugeVec, Opts, Registry};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Tells the length of a queue.
type Length = Arc<dyn Fn() -> usize + Send + Sync>;

/// `nearmost_queue_length{queue}`: what waits for a task, such as `driver` or `registrar`.
pub struct QueueMetrics {
    queues: Vec<(&'static str, Length)>,
    desc: Vec<Desc>,
}

impl QueueMetrics {
    /// No queues yet.
    ///
    /// # Errors
    /// Never, as the name is good.
    pub fn new() -> Result<QueueMetrics, Error> {
        let desc = family()?.desc().into_iter().cloned().collect();
        Ok(QueueMetrics { queues: Vec::new(), desc })
    }

    /// Adds a queue; it may close while it is looked at.
    #[must_use]
    pub fn with<T: Send + 'static>(mut self, name: &'static str, queue: &mpsc::Sender<T>) -> QueueMetrics {
        let queue = queue.downgrade();
        let length = move || queue.upgrade().map_or(0, |q| q.max_capacity() - q.capacity());
        self.queues.push((name, Arc::new(length)));
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

fn family() -> Result<IntGaugeVec, Error> {
    IntGaugeVec::new(Opts::new("nearmost_queue_length", "Messages that wait for a task."), &["queue"])
}

impl Collector for QueueMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same name was accepted at registration, so there is no error to lose.
        let Ok(family) = family() else { return Vec::new() };
        for (name, length) in &self.queues {
            family.with_label_values(&[*name]).set(i64::try_from(length()).unwrap_or(i64::MAX));
        }
        family.collect()
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
        drop((tx, rx));
        assert!(text().contains("nearmost_queue_length{queue=\"driver\"} 0"), "{}", text());
    }
}
