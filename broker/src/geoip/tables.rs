//! The table that is published: the databases', with what people corrected laid over it.

use super::load::{GeoError, TABLE_NAME};
use super::metrics::GeoMetrics;
use ipnet::IpNet;
use nearmost_core::geo::Place;
use nearmost_core::geo::table::{PlaceTable, unmapped};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Prefixes and where they are.
pub(super) type Corrections = Vec<(IpNet, Place)>;

/// The databases' table and corrections from two sides.
pub(super) struct Tables {
    /// Of the databases alone.
    pub(super) base: Arc<PlaceTable>,
    /// From the broker's configuration, which win over those …
    pub(super) configured: Corrections,
    /// … in the registry, of the same prefix.
    pub(super) registered: Corrections,
    /// What queries get.
    pub(super) published: watch::Sender<Arc<PlaceTable>>,
    pub(super) metrics: GeoMetrics,
}

impl Tables {
    /// Of a first table of databases.
    ///
    /// # Errors
    /// [`GeoError::Uncompilable`] when the corrections cannot be laid over it.
    pub(super) async fn new(
        base: PlaceTable,
        configured: Corrections,
        metrics: GeoMetrics,
    ) -> Result<Tables, GeoError> {
        let (published, _) = watch::channel(Arc::default());
        let base = Arc::new(base);
        let tables = Tables { base, configured, registered: Corrections::new(), published, metrics };
        tables.publish().await?;
        Ok(tables)
    }

    /// Lays the corrections over the databases' table and publishes that.
    ///
    /// # Errors
    /// [`GeoError::Uncompilable`]; then the table in use stays.
    pub(super) async fn publish(&self) -> Result<(), GeoError> {
        let by_prefix: BTreeMap<IpNet, Place> = self
            .registered
            .iter()
            .chain(&self.configured)
            .map(|(net, place)| (unmapped(*net), *place))
            .collect();
        self.metrics.corrections.set(i64::try_from(by_prefix.len()).unwrap_or(i64::MAX));
        let base = self.base.clone();
        let lay = move || {
            if by_prefix.is_empty() {
                return Ok(base);
            }
            let corrections: Corrections = by_prefix.into_iter().collect();
            base.corrected(&corrections).map(Arc::new)
        };
        let laid = tokio::task::spawn_blocking(lay).await;
        let laid = laid.map_err(|e| GeoError::Interrupted { reason: e.to_string() })?;
        let table = laid.map_err(|source| GeoError::Uncompilable { name: TABLE_NAME.to_owned(), source })?;
        self.metrics.on_published(&table);
        self.published.send_replace(table);
        Ok(())
    }
}
