//! What the store's thread has done, read from it at each scrape.

use crate::store::{StoreHandle, StoreStats};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntCounter, IntGauge, Registry};
use std::sync::{Arc, OnceLock};

/// What is told of the store: `nearmost_store_transactions_total`, `nearmost_store_batches_total`,
/// `nearmost_store_batches_refused_total`, `nearmost_store_errors_total`,
/// `nearmost_audit_entries_total` and `nearmost_store_queue_length`.
#[derive(Clone)]
pub struct StoreMetrics {
    store: Arc<OnceLock<StoreHandle>>,
}

impl StoreMetrics {
    /// Registers them; they are absent until [`follow`](StoreMetrics::follow) names the store.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<StoreMetrics, Error> {
        let store = Arc::new(OnceLock::new());
        registry
            .register(Box::new(StoreCollector { store: store.clone(), desc: Families::new()?.desc() }))?;
        Ok(StoreMetrics { store })
    }

    /// Reads this store from now on; only the first one named counts.
    pub fn follow(&self, store: &StoreHandle) {
        let _ = self.store.set(store.clone());
    }
}

struct Families {
    transactions: IntCounter,
    batches: IntCounter,
    refused: IntCounter,
    errors: IntCounter,
    acts: IntCounter,
    queue: IntGauge,
}

impl Families {
    fn new() -> Result<Families, Error> {
        Ok(Families {
            transactions: IntCounter::new(
                "nearmost_store_transactions_total",
                "Transactions of the store; batches that come together share one.",
            )?,
            batches: IntCounter::new(
                "nearmost_store_batches_total",
                "Batches of records handed to the store.",
            )?,
            refused: IntCounter::new(
                "nearmost_store_batches_refused_total",
                "Batches that the store refused or failed.",
            )?,
            errors: IntCounter::new(
                "nearmost_store_errors_total",
                "Calls that failed because of the disk, the file or the thread of the store.",
            )?,
            acts: IntCounter::new("nearmost_audit_entries_total", "Entries written to the audit log.")?,
            queue: IntGauge::new(
                "nearmost_store_queue_length",
                "Calls that wait for the thread of the store.",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 6] {
        [&self.transactions, &self.batches, &self.refused, &self.errors, &self.acts, &self.queue]
    }

    fn desc(&self) -> Vec<Desc> {
        self.all().into_iter().flat_map(Collector::desc).cloned().collect()
    }

    fn fill(&self, stats: StoreStats) {
        self.transactions.inc_by(stats.groups);
        self.batches.inc_by(stats.batches);
        self.refused.inc_by(stats.refused);
        self.errors.inc_by(stats.errors);
        self.acts.inc_by(stats.acts);
        self.queue.set(i64::try_from(stats.queued).unwrap_or(i64::MAX));
    }
}

struct StoreCollector {
    store: Arc<OnceLock<StoreHandle>>,
    desc: Vec<Desc>,
}

impl Collector for StoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names were accepted at registration, so there is no error to lose.
        let (Some(store), Ok(families)) = (self.store.get(), Families::new()) else { return Vec::new() };
        families.fill(store.stats());
        families.all().into_iter().flat_map(Collector::collect).collect()
    }
}
