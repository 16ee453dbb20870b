//! Why a broker could not be asked, or did not do what it was asked.

use crate::endpoint::EndpointError;
use std::path::PathBuf;
use std::time::Duration;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The broker's address makes no sense.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// What was asked about has no valid name.
    #[error(transparent)]
    Name(#[from] nearmost_wire::name::NameError),
    /// Nothing answers on the Unix socket.
    #[error("no broker listens on {}: {source}; is nearmost-broker running, and may you read the socket?", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing answers on the network.
    #[error("no broker answers at {at}: {source}")]
    Connect {
        /// The broker.
        at: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {at}: {source}")]
    Tls {
        /// The broker.
        at: String,
        /// What was wrong.
        source: std::io::Error,
    },
    /// The file with further certificate authorities is of no use.
    #[error("certificate file {}: {detail}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        detail: String,
    },
    /// It took too long.
    #[error("{at} did not answer {what} within {} s", after.as_secs())]
    Timeout {
        /// The broker.
        at: String,
        /// What was asked.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{at}: {what}: {detail}")]
    Protocol {
        /// The broker.
        at: String,
        /// What was asked.
        what: String,
        /// What happened.
        detail: String,
    },
    /// The answer is longer than a client reads.
    #[error("{at}: the answer to {what} is longer than {limit} bytes")]
    TooLong {
        /// The broker.
        at: String,
        /// What was asked.
        what: String,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The broker refused.
    #[error("{message} ({code})")]
    Api {
        /// HTTP status.
        status: u16,
        /// A bounded, snake-case code.
        code: String,
        /// A sentence that names what was wrong.
        message: String,
    },
    /// The answer is not what this client understands.
    #[error(
        "{at}: the answer to {what} is not understood: {detail}; do broker and client have the same version?"
    )]
    Answer {
        /// The broker.
        at: String,
        /// What was asked.
        what: String,
        /// What was wrong with it.
        detail: String,
    },
    /// The system gave no random bytes for the request's nonce.
    #[error("the system's random number generator failed")]
    Random,
}

/// What is wrong with the certificate that a broker showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Its time is over.
    Expired,
    /// Its time has not come: more often than not the clock here is wrong.
    NotYetValid,
    /// Nobody who is trusted signed it.
    UnknownIssuer,
    /// It is of another name.
    OtherName,
}

impl ClientError {
    /// What is wrong with the broker's certificate, where it is that.
    pub fn certificate_fault(&self) -> Option<CertificateFault> {
        use rustls::{CertificateError, Error};
        let ClientError::Tls { source, .. } = self else { return None };
        let Error::InvalidCertificate(why) = source.get_ref()?.downcast_ref::<Error>()? else { return None };
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some(CertificateFault::Expired)
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Some(CertificateFault::NotYetValid)
            }
            CertificateError::UnknownIssuer => Some(CertificateFault::UnknownIssuer),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Some(CertificateFault::OtherName)
            }
            _ => None,
        }
    }

    /// Whether the broker refused with this code.
    pub fn has_code(&self, wanted: &str) -> bool {
        matches!(self, ClientError::Api { code, .. } if code == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, Error};

    #[test]
    fn faults_of_certificates_are_told_apart() {
        let fault = |why| {
            let source = std::io::Error::other(Error::InvalidCertificate(why));
            ClientError::Tls { at: "x".into(), source }.certificate_fault()
        };
        assert_eq!(fault(CertificateError::Expired), Some(CertificateFault::Expired));
        assert_eq!(fault(CertificateError::NotValidYet), Some(CertificateFault::NotYetValid));
        assert_eq!(fault(CertificateError::UnknownIssuer), Some(CertificateFault::UnknownIssuer));
        assert_eq!(fault(CertificateError::NotValidForName), Some(CertificateFault::OtherName));
        assert_eq!(fault(CertificateError::BadEncoding), None);
        assert_eq!(ClientError::Random.certificate_fault(), None);
    }
}
