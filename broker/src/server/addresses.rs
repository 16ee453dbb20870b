//! Where a bound broker is reached.

use crate::clients::ClientServer;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The ports of clients' sessions, each once.
pub(super) fn ports(clients: &ClientServer) -> Vec<u16> {
    let mut ports: Vec<u16> = clients.local_addrs().iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Where a bound broker is reached.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Addresses {
    /// Its id.
    pub broker: String,
    /// DNS, UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// DNS over TLS.
    pub dot: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub doq: Vec<SocketAddr>,
    /// HTTP API.
    pub http: Vec<SocketAddr>,
    /// Redirects.
    pub redirect: Vec<SocketAddr>,
    /// Agents' sessions.
    pub agents: Vec<SocketAddr>,
    /// Beacons.
    pub beacons: Vec<SocketAddr>,
    /// Clients' sessions.
    pub clients: Vec<SocketAddr>,
    /// Other brokers.
    pub peers: Vec<SocketAddr>,
    /// Admin socket.
    pub admin: PathBuf,
}
