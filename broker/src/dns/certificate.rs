//! The certificate of DNS over TLS and over QUIC, taken over anew whenever its files change.
//!
//! ```text
//! files ─► load ─► fits its key, can be read ─► in use from the next handshake on
//!                    │ not
//!                    ▼
//!                  said once, counted; the old one stays in use
//! ```
//!
//! Connections that are open keep what they shook hands with. A certificate and its key are two files, so
//! there is a moment between their replacements in which they do not fit each other: that is refused as
//! any other, and the next look takes both.

use super::metrics::CertificateMetrics;
use crate::tls_files::{self, Fingerprint, TlsError, fingerprint};
use arc_swap::ArcSwap;
use nearmost_config::TlsFiles;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ServerConfig, SupportedProtocolVersion, version};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Application protocol of DNS over TLS (RFC 7858 §3.2 with the IANA registry; clients need not name it).
const ALPN_DOT: &[u8] = b"dot";
/// Application protocol of DNS over QUIC (RFC 9250 §4.1.1).
const ALPN_DOQ: &[u8] = b"doq";

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    /// What handshakes are made with.
    current: ArcSwap<CertifiedKey>,
    /// The files as they were when they were last looked into.
    seen: ArcSwap<Fingerprint>,
    metrics: CertificateMetrics,
}

impl Certificate {
    /// Loads certificate and key.
    ///
    /// # Errors
    /// Names the file that is wrong.
    pub fn load(files: &TlsFiles, metrics: CertificateMetrics) -> Result<Arc<Certificate>, TlsError> {
        let seen = fingerprint(files);
        let (key, expires) = usable(files)?;
        metrics.expires(expires);
        Ok(Arc::new(Certificate {
            files: files.clone(),
            current: ArcSwap::from_pointee(key),
            seen: ArcSwap::from_pointee(seen),
            metrics,
        }))
    }

    /// Loads the files again; handshakes from now on get the new certificate.
    ///
    /// # Errors
    /// Names the file that is wrong, which is counted; the old certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        // Before they are read: what changes meanwhile is a change at the next look. And a broken file is
        // reported once, not at every look.
        self.seen.store(Arc::new(fingerprint(&self.files)));
        match usable(&self.files) {
            Ok((key, expires)) => {
                self.current.store(Arc::new(key));
                self.metrics.expires(expires);
                self.metrics.reloaded.inc();
                Ok(())
            }
            Err(error) => {
                self.metrics.failed.inc();
                Err(error)
            }
        }
    }

    /// [`reload`](Self::reload), if a file changed since the last time. Says whether it did.
    ///
    /// # Errors
    /// As there.
    pub(super) fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if fingerprint(&self.files) == **self.seen.load() {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    /// Looks at the files again and again until told to stop.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(tls_files::LOOK);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            match self.reload_if_changed() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(cert = %self.files.cert.display(), "DNS certificate changed, and reloaded")
                }
                Err(error) => {
                    tracing::error!(%error, "DNS certificate changed, but cannot be used; the old one stays");
                }
            }
        }
    }

    /// What DNS over TLS shakes hands with.
    ///
    /// # Errors
    /// When the library lacks what its own defaults ask for.
    pub(super) fn dot(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        self.config(ALPN_DOT, &[&version::TLS13, &version::TLS12])
    }

    /// What DNS over QUIC shakes hands with: TLS 1.3 alone, and no early data, which whoever recorded it
    /// could send again (RFC 9250 §4.5).
    ///
    /// # Errors
    /// As [`dot`](Self::dot).
    pub(super) fn doq(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let mut config = self.config(ALPN_DOQ, &[&version::TLS13])?;
        config.max_early_data_size = 0;
        Ok(config)
    }

    fn config(
        self: &Arc<Self>,
        alpn: &[u8],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|source| tls_files::unusable(&self.files, source))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(Arc::clone(self))));
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// Gives every handshake the certificate of the moment, whatever name it asks for: there is one.
#[derive(Debug)]
struct Current(Arc<Certificate>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load_full())
    }
}

/// Whether the files hold a certificate and its key: what `check-config` asks.
///
/// # Errors
/// Names the file that is wrong.
pub fn check(files: &TlsFiles) -> Result<(), TlsError> {
    usable(files).map(|_| ())
}

/// When the certificate expires, in seconds since 1970.
///
/// # Errors
/// Names the file that is wrong.
pub(crate) fn expiry(files: &TlsFiles) -> Result<i64, TlsError> {
    usable(files).map(|(_, expires)| expires)
}

/// The files as handshakes need them, and when the certificate expires, in seconds since 1970.
fn usable(files: &TlsFiles) -> Result<(CertifiedKey, i64), TlsError> {
    let (chain, key) = tls_files::load(files)?;
    let unusable = |source| tls_files::unusable(files, source);
    // The library looks into a certificate no further than it must.
    let expires = tls_files::expires(&chain).ok_or_else(|| unusable(CertificateError::BadEncoding.into()))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(unusable)?;
    Ok((key, expires))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::DnsMetrics;
    use crate::tls_files::testing::write_certificate;
    use x509_parser::prelude::{FromDer, X509Certificate};

    fn metrics() -> (CertificateMetrics, prometheus::Registry) {
        let registry = prometheus::Registry::new();
        (DnsMetrics::new(&registry).unwrap().encrypted.certificate.clone(), registry)
    }

    fn expiry(registry: &prometheus::Registry) -> Option<f64> {
        let families = registry.gather();
        let family = families.iter().find(|f| f.name() == "nearmost_dns_certificate_expiry_seconds")?;
        Some(family.get_metric().first()?.get_gauge().get_value())
    }

    #[test]
    fn its_expiry_is_told_once_there_is_one() {
        let (metrics, registry) = metrics();
        assert_eq!(expiry(&registry), None);
        let dir = tempfile::tempdir().unwrap();
        let (files, certificate) = write_certificate(dir.path());
        Certificate::load(&files, metrics).unwrap();
        let not_after = X509Certificate::from_der(certificate.der()).unwrap().1.validity().not_after;
        assert_eq!(expiry(&registry), Some(not_after.timestamp() as f64));
    }

    #[test]
    fn a_broken_file_leaves_the_old_certificate_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = write_certificate(dir.path());
        let (metrics, _) = metrics();
        let certificate = Certificate::load(&files, metrics.clone()).unwrap();
        let first = certificate.current.load_full();
        assert!(!certificate.reload_if_changed().unwrap());
        std::fs::write(&files.cert, "broken").unwrap();
        let said = certificate.reload_if_changed().unwrap_err().to_string();
        assert!(said.contains("cert.pem"), "{said}");
        assert!(!certificate.reload_if_changed().unwrap(), "said once");
        assert!(Arc::ptr_eq(&first, &certificate.current.load_full()));
        write_certificate(dir.path());
        assert!(certificate.reload_if_changed().unwrap());
        assert!(!Arc::ptr_eq(&first, &certificate.current.load_full()));
        assert_eq!((metrics.reloaded.get(), metrics.failed.get()), (1, 1));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = write_certificate(dir.path());
        let says = |files: &TlsFiles, part: &str| {
            let said = check(files).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        };
        says(&TlsFiles { cert: dir.path().join("none.pem"), ..files.clone() }, "none.pem");
        says(&TlsFiles { key: dir.path().join("none.pem"), ..files.clone() }, "TLS key");
        let other = tempfile::tempdir().unwrap();
        let (foreign, _) = write_certificate(other.path());
        says(&TlsFiles { key: foreign.key, ..files.clone() }, "key.pem");
        // PEM of something else than a certificate.
        std::fs::write(&files.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        says(&files, "cert.pem");
    }
}
