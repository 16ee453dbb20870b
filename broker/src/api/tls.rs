//! Certificates of HTTPS: loaded from PEM files, and again when the files change.

use crate::tls_files::{self, Fingerprint, TlsError, fingerprint};
use arc_swap::ArcSwap;
use nearmost_config::TlsFiles;
use rustls::ServerConfig;
use rustls::crypto::ring;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The certificate in use.
pub(super) struct Certificates {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    loaded: ArcSwap<Fingerprint>,
    /// When the certificate expires, in seconds since 1970; 0 where that cannot be read.
    expires: AtomicI64,
}

impl Certificates {
    /// Loads certificate and key.
    ///
    /// # Errors
    /// Names the file that is wrong.
    pub(super) fn load(files: &TlsFiles) -> Result<Certificates, TlsError> {
        let before = fingerprint(files);
        let (config, expires) = server_config(files)?;
        Ok(Certificates {
            files: files.clone(),
            config: ArcSwap::from_pointee(config),
            loaded: ArcSwap::from_pointee(before),
            expires: expires.into(),
        })
    }

    /// When the certificate in use expires, in seconds since 1970.
    pub(super) fn expires(&self) -> Option<i64> {
        Some(self.expires.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// For the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Loads the files again; new connections get the new certificate.
    ///
    /// # Errors
    /// Names the file that is wrong; the old certificate stays in use.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let before = fingerprint(&self.files);
        // A broken file is reported once, not at every look.
        self.loaded.store(Arc::new(before));
        let (config, expires) = server_config(&self.files)?;
        self.config.store(Arc::new(config));
        self.expires.store(expires, Ordering::Relaxed);
        Ok(())
    }

    /// [`reload`](Self::reload), if a file changed since the last time. Says whether it did.
    ///
    /// # Errors
    /// As there.
    pub(super) fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if fingerprint(&self.files) == **self.loaded.load() {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }
}

fn server_config(files: &TlsFiles) -> Result<(ServerConfig, i64), TlsError> {
    let (chain, key) = tls_files::load(files)?;
    let expires = tls_files::expires(&chain).unwrap_or_default();
    let unusable = |source| tls_files::unusable(files, source);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, expires))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_files::testing::write_certificate;

    #[test]
    fn wrong_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = write_certificate(dir.path());
        let says = |files: &TlsFiles, part: &str| {
            let said = Certificates::load(files).err().unwrap().to_string();
            assert!(said.contains(part), "{said}");
        };
        says(&TlsFiles { cert: dir.path().join("none.pem"), ..files.clone() }, "TLS certificate");
        says(&TlsFiles { cert: files.key.clone(), ..files.clone() }, "no certificate in it");
        says(&TlsFiles { key: files.cert.clone(), ..files.clone() }, "TLS key");
        let other = tempfile::tempdir().unwrap();
        let (foreign, _) = write_certificate(other.path());
        says(&TlsFiles { key: foreign.key, ..files.clone() }, "cert.pem");
        assert!(Certificates::load(&files).is_ok());
    }

    #[test]
    fn a_broken_file_leaves_the_old_certificate_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (files, made) = write_certificate(dir.path());
        let certificates = Certificates::load(&files).unwrap();
        assert_eq!(certificates.expires(), tls_files::expires(&[made.der().clone()]));
        assert!(certificates.expires().is_some());
        let first = certificates.config();
        assert!(!certificates.reload_if_changed().unwrap());
        std::fs::write(&files.cert, "broken").unwrap();
        assert!(certificates.reload_if_changed().is_err());
        assert!(!certificates.reload_if_changed().unwrap(), "said once");
        assert!(Arc::ptr_eq(&first, &certificates.config()));
        let (_, _) = write_certificate(dir.path());
        assert!(certificates.reload_if_changed().unwrap());
        assert!(!Arc::ptr_eq(&first, &certificates.config()));
    }
}
