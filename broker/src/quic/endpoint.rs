//! Binds endpoints.

use nearmost_wire::identity::KeyPair;
use nearmost_wire::tls::{EndpointSecrets, TlsError};
use quinn_proto::HashedConnectionIdGenerator;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// Shortest time between two stateless resets: after a restart each peer needs one, and a datagram
/// that asks for one in vain costs a smaller one.
const RESET_INTERVAL: Duration = Duration::from_micros(200);
/// Asked for each socket, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why an endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// An address cannot be listened on.
    #[error("{what} asked for {address}: {source}")]
    Bind {
        /// Who asked.
        what: &'static str,
        /// For which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("QUIC sessions: {0}")]
    Tls(#[from] TlsError),
}

/// Binds an endpoint for each address. `what` says who asks, for errors.
///
/// # Errors
/// [`EndpointError::Bind`] names the address.
pub fn bind(
    what: &'static str,
    listen: &[SocketAddr],
    key: &KeyPair,
    config: &quinn::ServerConfig,
) -> Result<Vec<quinn::Endpoint>, EndpointError> {
    let bind = |&address: &SocketAddr| {
        let named = |source| EndpointError::Bind { what, address, source };
        let socket = crate::net::udp_socket(address, RECEIVE_BUFFER).map_err(named)?;
        over(socket, key, config).map_err(named)
    };
    listen.iter().map(bind).collect()
}

/// An endpoint on a bound, non-blocking socket. Must be called inside a tokio runtime.
///
/// # Errors
/// When the system does not say where the socket is bound, or the runtime does not take it.
pub fn over(socket: UdpSocket, key: &KeyPair, config: &quinn::ServerConfig) -> io::Result<quinn::Endpoint> {
    let secrets = EndpointSecrets::derive(key, socket.local_addr()?);
    let mut config = config.clone();
    config.token_key(Arc::new(secrets.token));
    let mut endpoint = quinn::EndpointConfig::new(Arc::new(secrets.reset));
    let ids = secrets.connection_ids;
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    endpoint.min_reset_interval(RESET_INTERVAL);
    quinn::Endpoint::new(endpoint, Some(config), socket, Arc::new(quinn::TokioRuntime))
}
