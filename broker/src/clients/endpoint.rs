//! Accepts clients' connections.

use super::lists::ListHandle;
use super::session;
use super::tunnels::TunnelServer;
use crate::publish::SnapshotReader;
use crate::quic::endpoint::{self, EndpointError};
use crate::quic::gate::{Entry, Gate};
use crate::reports::Reports;
use crate::steering::DemandHandle;
use crate::telemetry::ClientMetrics;
use nearmost_wire::client::Refusal;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::tls::{self, ALPN_CLIENT};
use nearmost_wire::tunnel::Tunnels;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that wait to be accepted, for each endpoint, and what is kept of each meanwhile.
const MAX_INCOMING: usize = 1000;
const INCOMING_BUFFER: u64 = 16 * 1024;
/// Bytes that a client can make us hold for it.
const WINDOW: u32 = 32 * 1024;

/// How clients are served.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// QUIC addresses.
    pub listen: Vec<SocketAddr>,
    /// Most connections at once.
    pub max_connections: usize,
    /// Most connections at once of one /24 or /48.
    pub max_per_network: usize,
    /// A handshake not done by then is dropped.
    pub handshake_timeout: Duration,
    /// A connection without a message for this long is closed.
    pub idle_timeout: Duration,
    /// Time between two messages of one connection in the long run; not zero.
    pub message_every: Duration,
    /// Messages at once after a pause.
    pub message_burst: u32,
}

/// What every session works with.
#[derive(Clone)]
pub struct ClientParts {
    /// What everything is answered from.
    pub snapshot: SnapshotReader,
    /// Takes what clients measured.
    pub reports: Arc<Reports>,
    /// Follows clients with lists.
    pub lists: ListHandle,
    /// Is told who asks for a mirror.
    pub demand: DemandHandle,
    /// Counters.
    pub metrics: ClientMetrics,
}

/// Bound endpoints, not serving yet.
pub struct ClientServer {
    endpoints: Vec<quinn::Endpoint>,
    tunnels: TunnelServer,
    settings: ClientSettings,
}

impl ClientServer {
    /// Binds.
    ///
    /// # Errors
    /// [`EndpointError`] names the address.
    pub fn bind(settings: ClientSettings, key: &KeyPair) -> Result<ClientServer, EndpointError> {
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server_config(key, ALPN_CLIENT)?));
        let mut transport = quinn::TransportConfig::default();
        // One stream to ask on, and one to tell of the session with mirrors.
        transport.max_concurrent_bidi_streams(1u8.into()).max_concurrent_uni_streams(1u8.into());
        transport.receive_window(WINDOW.into()).stream_receive_window(WINDOW.into());
        // No datagrams: nobody reads them.
        transport.datagram_receive_buffer_size(None);
        // A longer time than QUIC can say is no limit of its own; sessions have theirs besides.
        transport.max_idle_timeout(settings.idle_timeout.try_into().ok());
        config.transport_config(Arc::new(transport));
        // What follows a change of address is taken in before the new one is proven, and could be a
        // report for a network that the client is not in.
        config.migration(false);
        config.max_incoming(MAX_INCOMING).incoming_buffer_size(INCOMING_BUFFER);
        let (endpoints, tunnels) = both(&settings.listen, key, &config)?;
        Ok(ClientServer { endpoints, tunnels, settings })
    }

    /// Where it listens.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().filter_map(|e| e.local_addr().ok()).collect()
    }

    /// Serves until cancelled, then tells every client that the broker leaves.
    pub async fn run(self, parts: ClientParts, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let gate = Arc::new(Gate::new(self.settings.max_connections, self.settings.max_per_network));
        let (settings, tunnels) = (Arc::new(self.settings), self.tunnels.tunnels.clone());
        self.tunnels.spawn(&settings, &parts.metrics, &tasks, &cancel);
        for endpoint in &self.endpoints {
            let door = Door { settings: settings.clone(), gate: gate.clone(), tunnels: tunnels.clone() };
            let accept = accept(endpoint.clone(), door, parts.clone(), tasks.clone());
            tasks.spawn(cancel.clone().run_until_cancelled_owned(accept));
        }
        cancel.cancelled().await;
        for endpoint in &self.endpoints {
            endpoint.close(Refusal::Leaving.code().into(), b"the broker is stopping");
        }
        tasks.close();
        tasks.wait().await;
        for endpoint in &self.endpoints {
            let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
    }
}

/// Attempts to find ports that are free for UDP and TCP, where any will do.
const PORT_ATTEMPTS: usize = 32;

/// Endpoints over UDP, and TCP beside them on the same ports.
fn both(
    listen: &[SocketAddr],
    key: &KeyPair,
    config: &quinn::ServerConfig,
) -> Result<(Vec<quinn::Endpoint>, TunnelServer), EndpointError> {
    let mut attempt = 1;
    loop {
        let endpoints = endpoint::bind("clients' sessions (QUIC)", listen, key, config)?;
        let addresses: Vec<SocketAddr> = endpoints.iter().filter_map(|e| e.local_addr().ok()).collect();
        match TunnelServer::bind(&addresses, key) {
            Ok(tunnels) => return Ok((endpoints, tunnels)),
            // A port that is free for UDP may not be for TCP.
            Err(_) if attempt < PORT_ATTEMPTS && listen.iter().any(|a| a.port() == 0) => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Who may come in, and where from.
struct Door {
    settings: Arc<ClientSettings>,
    gate: Arc<Gate>,
    tunnels: Tunnels,
}

async fn accept(endpoint: quinn::Endpoint, door: Door, parts: ClientParts, tasks: TaskTracker) {
    while let Some(incoming) = endpoint.accept().await {
        let client = door.tunnels.origin(incoming.remote_address()).ip().to_canonical();
        match door.gate.enter(client, incoming.remote_address_validated()) {
            Entry::Admitted(permit) => {
                let (settings, parts) = (door.settings.clone(), parts.clone());
                tasks.spawn(session::serve(incoming, client, permit, settings, parts));
            }
            // A spoofed flood costs one datagram each and no state.
            Entry::Prove => drop(incoming.retry()),
            Entry::Refused(kind) => {
                parts.metrics.handshakes_refused.with_label_values(&[kind]).inc();
                incoming.refuse();
            }
        }
    }
}
