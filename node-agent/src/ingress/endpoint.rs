//! Binds QUIC and, on the same port over TCP, the tripwire and tunnels; accepts clients' connections.

use super::Shared;
use super::connection;
use super::directory::Doors;
use super::gate::{Entry, Gate};
use nearmost_wire::identity::KeyPair;
use nearmost_wire::tls::{self, ALPN_MIRROR, EndpointSecrets, TlsError};
use nearmost_wire::tunnel::ALPN_TUNNEL;
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Shortest time between two stateless resets: after a restart each client needs one.
const RESET_INTERVAL: Duration = Duration::from_micros(200);
/// Asked for each socket, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted, and what is kept of each meanwhile.
const MAX_INCOMING: usize = 1000;
const INCOMING_BUFFER: u64 = 16 * 1024;
/// A connection that says nothing for so long is over; attached clients send beacons.
const IDLE: Duration = Duration::from_secs(20);
/// Bytes of one stream, and of one connection, that a client can make us hold.
const STREAM_WINDOW: u32 = 512 * 1024;
const WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of datagrams of one connection that wait in each direction. Beacons wait with them, so that they
/// must not be many; the oldest give way.
pub(super) const DATAGRAMS: usize = 64 * 1024;
/// Attempts to find a port that is free for UDP and TCP, where any will do.
const PORT_ATTEMPTS: usize = 32;
/// Tripwire connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why there is no ingress.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// An address cannot be listened on.
    #[error("ingress (ingress.listen) cannot listen on {address} over {transport}: {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// "UDP" or "TCP".
        transport: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("ingress: {0}")]
    Tls(#[from] TlsError),
}

/// One address, bound.
pub(super) struct Bound {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) tripwire: TcpListener,
    /// Of tunnels.
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) address: SocketAddr,
}

/// Binds each address.
pub(super) fn bind(
    listen: &[SocketAddr],
    key: &KeyPair,
    max_session_flows: u32,
) -> Result<Vec<Bound>, IngressError> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server_config(key, ALPN_MIRROR)?));
    config.transport_config(Arc::new(transport(max_session_flows)));
    config.max_incoming(MAX_INCOMING).incoming_buffer_size(INCOMING_BUFFER);
    listen.iter().map(|address| bind_one(*address, key, &config)).collect()
}

fn transport(max_session_flows: u32) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    // The control stream is one more.
    transport.max_concurrent_bidi_streams((max_session_flows + 1).into());
    transport.max_concurrent_uni_streams(0u8.into());
    transport.stream_receive_window(STREAM_WINDOW.into()).receive_window(WINDOW.into());
    transport.send_window(WINDOW.into());
    transport.datagram_receive_buffer_size(Some(DATAGRAMS)).datagram_send_buffer_size(DATAGRAMS);
    transport.max_idle_timeout(IDLE.try_into().ok());
    transport
}

fn bind_one(address: SocketAddr, key: &KeyPair, config: &quinn::ServerConfig) -> Result<Bound, IngressError> {
    let failed = |transport| move |source| IngressError::Bind { address, transport, source };
    let (udp, tcp) = sockets(address).map_err(|(transport, source)| failed(transport)(source))?;
    let local = udp.local_addr().map_err(failed("UDP"))?;
    let secrets = EndpointSecrets::derive(key, local);
    let mut config = config.clone();
    config.token_key(Arc::new(secrets.token));
    let mut endpoint = quinn::EndpointConfig::new(Arc::new(secrets.reset));
    let ids = secrets.connection_ids;
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    endpoint.min_reset_interval(RESET_INTERVAL);
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(endpoint, Some(config), udp, runtime).map_err(failed("UDP"))?;
    let tripwire = TcpListener::from_std(tcp).map_err(failed("TCP"))?;
    let tls = Arc::new(tls::stream_server_config(key, ALPN_TUNNEL)?);
    Ok(Bound { endpoint, tripwire, tls, address: local })
}

type Sockets = (std::net::UdpSocket, std::net::TcpListener);

/// Both sockets on one port, any that is free if `address` names none.
fn sockets(address: SocketAddr) -> Result<Sockets, (&'static str, io::Error)> {
    let attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    let mut attempt = 1;
    loop {
        let udp = udp_socket(address).map_err(|e| ("UDP", e))?;
        let port = udp.local_addr().map_err(|e| ("UDP", e))?.port();
        match tcp_socket(SocketAddr::new(address.ip(), port)) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && attempt < attempts => attempt += 1,
            Err(e) => return Err(("TCP", e)),
        }
    }
}

fn udp_socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // What the system grants is taken.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Connections of the agent before are no reason to wait.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until dropped, and then ends them.
pub(super) async fn accept(
    endpoint: quinn::Endpoint,
    local: SocketAddr,
    gate: Arc<Gate>,
    doors: Doors,
    shared: Shared,
) {
    let mut clients = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = clients.join_next() => continue,
        };
        let Some(incoming) = incoming else { break };
        let remote = shared.tunnels.origin(incoming.remote_address()).ip();
        match gate.enter(remote, incoming.remote_address_validated(), shared.clock.now()) {
            Entry::Admitted(permit) => {
                let client = connection::serve(incoming, local, doors.clone(), shared.clone());
                clients.spawn(async move {
                    client.await;
                    drop(permit);
                });
            }
            // A spoofed flood costs one datagram each and no state.
            Entry::Prove => drop(incoming.retry()),
            Entry::Refused(kind) => {
                shared.metrics.refused(kind);
                incoming.refuse();
            }
        }
    }
    // Closed endpoints end their connections; what these say to their hubs is still to be said.
    while clients.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::identity::Role;

    #[tokio::test]
    async fn both_transports_share_a_port_and_a_taken_one_is_named() {
        let key = KeyPair::from_seed(Role::Node, &[1; 32]);
        let any = ["127.0.0.1:0".parse().expect("an address")];
        let bound = bind(&any, &key, 8).expect("bound").remove(0);
        assert_eq!(bound.tripwire.local_addr().expect("bound"), bound.address);
        assert_eq!(bound.endpoint.local_addr().expect("bound"), bound.address);
        let error = bind(&[bound.address], &key, 8).err().expect("taken").to_string();
        assert!(error.contains(&format!("cannot listen on {} over UDP", bound.address)), "{error}");
    }
}
