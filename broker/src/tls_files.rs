//! Certificate and key of a TLS server, as an operator's PEM files: loaded, and looked at again, since
//! whoever renews certificates only replaces files.

use nearmost_config::TlsFiles;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How often files are looked at for changes.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// `TLS certificate` or `TLS key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// A file holds no certificate.
    #[error("TLS certificate {}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("TLS certificate {} and key {}: {source}", cert.display(), key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the library says.
        source: rustls::Error,
    },
}

/// What changes when a file is written or replaced: its inode, length and time of change, of each.
pub(crate) type Fingerprint = [Option<(u64, u64, SystemTime)>; 2];

/// Of the files as they are; symbolic links are followed.
pub(crate) fn fingerprint(files: &TlsFiles) -> Fingerprint {
    [&files.cert, &files.key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.modified().ok()?))
    })
}

/// When a server's own certificate, the first of its chain, expires, in seconds since 1970.
pub(crate) fn expires(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// The certificate with its chain, and the key.
///
/// # Errors
/// Names the file that is wrong. Whether the two go together is not looked at.
pub(crate) fn load(
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = chain(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::File {
        what: "TLS key",
        path: files.key.clone(),
        source,
    })?;
    Ok((chain, key))
}

/// What the library says against the two files.
pub(crate) fn unusable(files: &TlsFiles, source: rustls::Error) -> TlsError {
    TlsError::Unusable { cert: files.cert.clone(), key: files.key.clone(), source }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { what: "TLS certificate", path: path.into(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(file)?.collect::<Result<_, _>>().map_err(file)?;
    match chain.is_empty() {
        false => Ok(chain),
        true => Err(TlsError::NoCertificate(path.into())),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Writes a new certificate for `localhost` and its key.
    pub(crate) fn write_certificate(dir: &Path) -> (TlsFiles, rcgen::Certificate) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        (files, made.cert)
    }
}
