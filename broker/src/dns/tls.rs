//! DNS over TLS (RFC 7858): a handshake, then what TCP has.
//!
//! TLS 1.2 and 1.3. A client need not name the protocol (ALPN); one that names only others is refused, so
//! that nobody's browser can be made to talk to this port. The place among the connections is taken before
//! the handshake, whose time is limited: whoever only shakes hands holds no more than others.

use super::metrics::HandshakeMetrics;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Shakes hands.
#[derive(Clone)]
pub(super) struct TlsDoor {
    pub(super) acceptor: TlsAcceptor,
    /// A handshake not done after this long is dropped.
    pub(super) handshake_timeout: Duration,
}

impl TlsDoor {
    /// The stream inside; `None` when told to stop, or when time is up.
    ///
    /// # Errors
    /// Why the handshake came to nothing, which is counted.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        metrics: &HandshakeMetrics,
        stop: &CancellationToken,
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        let handshake = timeout(self.handshake_timeout, self.acceptor.accept(stream));
        match stop.run_until_cancelled(handshake).await {
            None => Ok(None),
            Some(Ok(Ok(stream))) => Ok(Some(stream)),
            Some(Ok(Err(error))) => {
                metrics.error.inc();
                Err(error)
            }
            Some(Err(_)) => {
                metrics.timeout.inc();
                Ok(None)
            }
        }
    }
}
