//! `[metrics]`: how many series `/metrics` may have.

use crate::value::{Number, set};
use serde::Deserialize;

/// How many things have series of their own in `/metrics`. What is left out is counted, and still in the
/// sums over all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Most mirrors; those that are in trouble come first.
    pub max_mirrors: usize,
    /// Most domains; those without an eligible mirror come first.
    pub max_domains: usize,
    /// Most nodes.
    pub max_nodes: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig { max_mirrors: 1000, max_domains: 1000, max_nodes: 1000 }
    }
}

/// More are more than a Prometheus should be asked to keep.
type Most = Number<usize, 0, 100_000>;

/// `[metrics]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct MetricsSpec {
    max_mirrors: Option<Most>,
    max_domains: Option<Most>,
    max_nodes: Option<Most>,
}

impl MetricsSpec {
    pub(super) fn apply(self, metrics: &mut MetricsConfig) {
        set(&mut metrics.max_mirrors, self.max_mirrors);
        set(&mut metrics.max_domains, self.max_domains);
        set(&mut metrics.max_nodes, self.max_nodes);
    }
}
