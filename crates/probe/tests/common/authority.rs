//! An authority made for the test, and the certificates that it gives.

use nearmost_probe::{Prober, ProberOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls_pki_types::PrivateKeyDer;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

pub const DAY: Duration = Duration::from_secs(86_400);

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    /// Trusts this authority.
    pub fn prober(&self) -> Prober {
        let extra_roots = vec![self.0.der().clone()];
        Prober::new(ProberOptions { extra_roots, max_commands: 0 }).expect("a prober")
    }

    /// A server's settings with a certificate for `name` that ends so long after (or before) now.
    pub fn tls(&self, name: &str, ends: Result<Duration, Duration>, alpn: &[&str]) -> rustls::ServerConfig {
        let now = date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed().expect("a clock");
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("parameters");
        params.not_before = now - 100 * DAY;
        params.not_after = match ends {
            Ok(ahead) => now + ahead,
            Err(ago) => now - ago,
        };
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a server");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}
