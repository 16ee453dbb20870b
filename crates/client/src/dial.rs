//! A QUIC connection by whatever way is open: UDP, or TLS over TCP where that is blocked.
//!
//! ```text
//! UDP ──── handshake … ─────────────────────┐ the first that is done
//!     └─ after a second ─ tunnel, handshake ┘
//! ```

use nearmost_wire::identity::{Id, KeyPair};
use nearmost_wire::tls::SERVER_NAME;
use nearmost_wire::tunnel::{self, Tunnel, TunnelError};
use quinn::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no UDP socket: {0}")]
    Socket(io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
}

/// Whom to dial, as whom.
pub(crate) struct Dial<'a> {
    pub at: SocketAddr,
    pub key: &'a KeyPair,
    pub server: Id,
    pub config: ClientConfig,
    /// The start that UDP has.
    pub tcp_after: Duration,
}

/// A connection, and what it stands on.
pub(crate) struct Dialed {
    pub endpoint: Endpoint,
    pub connection: Connection,
    /// Holds the tunnel open; `None` over UDP.
    pub tunnel: Option<Tunnel>,
}

impl Dial<'_> {
    /// The usual start of UDP: more than a handshake takes around the world.
    pub const TCP_AFTER: Duration = Duration::from_secs(1);

    /// Connects by the first way that works. Where neither does, the error is that of UDP, unless TCP got
    /// farther.
    pub async fn connect(&self) -> Result<Dialed, DialError> {
        let udp = self.over_udp();
        let tcp = async {
            tokio::time::sleep(self.tcp_after).await;
            self.over_tcp().await
        };
        tokio::pin!(udp, tcp);
        let mut failed = None;
        loop {
            tokio::select! {
                dialed = &mut udp, if failed.is_none() => match dialed {
                    Ok(dialed) => return Ok(dialed),
                    // Somebody answered, and it is final: a tunnel would lead to the same.
                    Err(error) if !error.may_be_blocked() => return Err(error),
                    Err(error) => failed = Some(error),
                },
                dialed = &mut tcp => return match (dialed, failed) {
                    (Ok(dialed), _) => Ok(dialed),
                    (Err(_), None) => udp.await,
                    (Err(DialError::Tunnel(_)), Some(first)) => Err(first),
                    (Err(other), Some(_)) => Err(other),
                },
            }
        }
    }

    async fn over_udp(&self) -> Result<Dialed, DialError> {
        let endpoint = Endpoint::client(any(self.at)).map_err(DialError::Socket)?;
        let connection = endpoint.connect_with(self.config.clone(), self.at, SERVER_NAME)?.await?;
        Ok(Dialed { endpoint, connection, tunnel: None })
    }

    async fn over_tcp(&self) -> Result<Dialed, DialError> {
        let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = Endpoint::client(local).map_err(DialError::Socket)?;
        let mine = endpoint.local_addr().map_err(DialError::Socket)?;
        let tunnel = tunnel::open(self.at, self.key, self.server, mine).await?;
        let connection = endpoint.connect_with(self.config.clone(), tunnel.relay, SERVER_NAME)?.await?;
        Ok(Dialed { endpoint, connection, tunnel: Some(tunnel) })
    }
}

impl DialError {
    /// Whether nothing was heard at all, as where UDP does not get through.
    fn may_be_blocked(&self) -> bool {
        !matches!(
            self,
            DialError::Connection(
                ConnectionError::TransportError(_)
                    | ConnectionError::ConnectionClosed(_)
                    | ConnectionError::ApplicationClosed(_)
                    | ConnectionError::VersionMismatch
            )
        )
    }
}

/// Where to bind to reach an address.
pub(crate) fn any(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
