//! Counters of following mirrors given by host name.

use super::{counters, from_zero};
use prometheus::{Error, IntCounterVec, Registry};

/// What came of lookups.
#[derive(Clone)]
pub struct ResolverMetrics {
    /// `nearmost_resolver_lookups_total{result}`: lookups of mirrors' host names, one a family:
    /// `found`, `none` (the name has no address of the family) or `failed`.
    pub lookups: IntCounterVec,
}

impl ResolverMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ResolverMetrics, Error> {
        let lookups = counters(
            registry,
            "nearmost_resolver_lookups_total",
            "Lookups of host names of mirrors, by result.",
            &["result"],
        )?;
        from_zero(&lookups, ["found", "none", "failed"]);
        Ok(ResolverMetrics { lookups })
    }

    /// Counts a lookup: whether it found an address; `None` when it failed.
    pub fn looked_up(&self, found: Option<bool>) {
        let result = match found {
            Some(true) => "found",
            Some(false) => "none",
            None => "failed",
        };
        self.lookups.with_label_values(&[result]).inc();
    }
}
