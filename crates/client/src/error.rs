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

impl ClientError {
    /// Whether the broker refused with this code.
    pub fn has_code(&self, wanted: &str) -> bool {
        matches!(self, ClientError::Api { code, .. } if code == wanted)
    }
}
