//! When the certificate of HTTPS expires, read from what is in use at each scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntGauge, Registry};
use std::sync::Arc;

/// Tells the Unix time in seconds, if it is known.
type Expires = Arc<dyn Fn() -> Option<i64> + Send + Sync>;

/// `nearmost_http_certificate_expiry_seconds`.
pub struct HttpCertificateMetrics {
    expires: Expires,
    desc: Vec<Desc>,
}

impl HttpCertificateMetrics {
    /// Registers it.
    ///
    /// # Errors
    /// When it is registered already.
    pub fn register(
        registry: &Registry,
        expires: impl Fn() -> Option<i64> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let desc = gauge()?.desc().into_iter().cloned().collect();
        registry.register(Box::new(HttpCertificateMetrics { expires: Arc::new(expires), desc }))
    }
}

fn gauge() -> Result<IntGauge, Error> {
    IntGauge::new(
        "nearmost_http_certificate_expiry_seconds",
        "Unix time when the certificate of HTTPS expires.",
    )
}

impl Collector for HttpCertificateMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same name was accepted at registration, so there is no error to lose.
        let (Some(expires), Ok(gauge)) = ((self.expires)(), gauge()) else { return Vec::new() };
        gauge.set(expires);
        gauge.collect()
    }
}
