//! Binds, and says hello to whoever connects.

use super::talk::{self, Established};
use super::task::{Event, PeerParts, PeerTask};
use crate::hostnames::HostnameSettings;
use crate::quic::endpoint::{self, EndpointError};
use crate::quic::gate::{Entry, Gate, Permit};
use nearmost_replica::PublicKey;
use nearmost_replica::federation::FederationConfig;
use nearmost_wire::frame;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::peer::{ALPN_PEER, Hello, MAX_HELLO, PROTOCOL, Refusal};
use nearmost_wire::tls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that wait to be accepted, and what is kept of each meanwhile.
const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER: u64 = 16 * 1024;
/// Bytes that a peer may have under way on its stream: 150 ms of 400 Mbit/s.
pub(super) const STREAM_WINDOW: u32 = 8 << 20;
/// Bytes that whoever has not said hello may have under way.
const STRANGERS_WINDOW: u32 = 64 * 1024;
/// A connection with nothing to say says so this often …
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// … and is lost when nothing was heard for this long.
const IDLE: Duration = Duration::from_secs(10);
/// A handshake with both hellos takes no longer.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// How brokers are connected with.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// QUIC addresses.
    pub listen: Vec<SocketAddr>,
    /// Most connections at once.
    pub max_connections: usize,
    /// Where this broker is reached, as a broker is told that lets it in.
    pub advertise: Vec<String>,
    /// Names at which DNS tells where peers are.
    pub dns: Vec<String>,
    /// How names are looked up.
    pub lookup: HostnameSettings,
    /// Of the machine.
    pub federation: FederationConfig,
}

/// Bound endpoints, not serving yet.
pub struct PeerServer {
    endpoints: Vec<quinn::Endpoint>,
    settings: PeerSettings,
    key: KeyPair,
}

impl PeerServer {
    /// Binds.
    ///
    /// # Errors
    /// [`EndpointError`] names the address.
    pub fn bind(settings: PeerSettings, key: &KeyPair) -> Result<PeerServer, EndpointError> {
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server_config(key, ALPN_PEER)?));
        let mut strangers = transport();
        strangers.receive_window(STRANGERS_WINDOW.into());
        config.transport_config(Arc::new(strangers));
        config.max_incoming(MAX_INCOMING).incoming_buffer_size(INCOMING_BUFFER);
        let endpoints = endpoint::bind("peers.listen", &settings.listen, key, &config)?;
        Ok(PeerServer { endpoints, settings, key: key.clone() })
    }

    /// Says where this broker is reached, which is known once its port is.
    pub fn advertise(&mut self, addresses: Vec<String>) {
        self.settings.advertise = addresses;
    }

    /// Where it listens.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().filter_map(|e| e.local_addr().ok()).collect()
    }

    /// Serves until cancelled, then tells every peer that the broker leaves.
    pub async fn run(self, parts: PeerParts, cancel: CancellationToken) {
        let gate = Arc::new(Gate::sharing(self.settings.max_connections));
        let endpoints = self.endpoints.clone();
        let tasks = TaskTracker::new();
        let (task, events) = match PeerTask::new(self.settings, self.key, endpoints.clone(), parts).await {
            Ok(made) => made,
            Err(error) => {
                tracing::error!(%error, "what is known of peers cannot be read");
                return;
            }
        };
        for endpoint in &endpoints {
            let door = Door { gate: gate.clone(), arrivals: task.arrivals(), events: events.clone() };
            let accept = accept(endpoint.clone(), door, tasks.clone());
            tasks.spawn(cancel.clone().run_until_cancelled_owned(accept));
        }
        drop(events);
        task.run(cancel.clone()).await;
        for endpoint in &endpoints {
            endpoint.close(Refusal::Leaving.code().into(), b"the broker is stopping");
        }
        tasks.close();
        tasks.wait().await;
        for endpoint in &endpoints {
            let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
    }
}

/// Alike at both ends.
pub(super) fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(1u8.into()).max_concurrent_uni_streams(1u8.into());
    transport.receive_window((2 * STREAM_WINDOW).into()).stream_receive_window(STREAM_WINDOW.into());
    transport.send_window((2 * STREAM_WINDOW).into());
    transport.datagram_receive_buffer_size(None);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    // Ten seconds fit what QUIC can say.
    transport.max_idle_timeout(IDLE.try_into().ok());
    transport
}

/// What deciding about a newcomer takes.
#[derive(Clone)]
pub(super) struct Arrivals {
    pub parts: talk::Doorman,
}

#[derive(Clone)]
struct Door {
    gate: Arc<Gate>,
    arrivals: Arrivals,
    events: mpsc::Sender<Event>,
}

async fn accept(endpoint: quinn::Endpoint, door: Door, tasks: TaskTracker) {
    while let Some(incoming) = endpoint.accept().await {
        match door.gate.enter(incoming.remote_address().ip(), incoming.remote_address_validated()) {
            Entry::Admitted(permit) => drop(tasks.spawn(arrive(incoming, door.clone(), permit))),
            Entry::Prove => drop(incoming.retry()),
            Entry::Refused(_) => incoming.refuse(),
        }
    }
}

/// Handshake, hellos, and then over to the task.
async fn arrive(incoming: quinn::Incoming, door: Door, permit: Permit) {
    let from = incoming.remote_address();
    let arrived = tokio::time::timeout(HANDSHAKE, async {
        let connection = incoming.await.map_err(|e| e.to_string())?;
        greet(connection, &door.arrivals).await
    });
    match arrived.await {
        Ok(Ok((peer, established))) => {
            let event = Event::Connected { peer, established, dialled: false, permit: Some(permit) };
            // It fails when the broker stops.
            let _ = door.events.send(event).await;
        }
        Ok(Err(error)) => tracing::info!(%from, %error, "a broker was not let in"),
        Err(_) => tracing::info!(%from, "a broker did not say hello in time"),
    }
}

async fn greet(
    connection: quinn::Connection,
    arrivals: &Arrivals,
) -> Result<(PublicKey, Established), String> {
    let refuse = |refusal: Refusal, why: String| {
        arrivals.parts.metrics.connections_refused.with_label_values(&[refusal.label()]).inc();
        connection.close(refusal.code().into(), why.as_bytes());
        Err(format!("{}: {why}", refusal.label()))
    };
    let Some(key) = tls::peer_key(&connection).map(PublicKey) else {
        return refuse(Refusal::UnknownPeer, "no Ed25519 key".into());
    };
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|e| e.to_string())?;
    let hello: Hello = match frame::read_at_most(&mut receive, MAX_HELLO).await {
        Ok(hello) => hello,
        Err(e) => return refuse(Refusal::BadMessage, e.to_string()),
    };
    let Some(protocol) = PROTOCOL.common(hello.protocol) else {
        let Hello { protocol, .. } = hello;
        let why = format!("protocol {}: this broker speaks {}", protocol.major, PROTOCOL.major);
        return refuse(Refusal::Protocol, why);
    };
    if let Some(join) = hello.join
        && let Err(error) = arrivals.parts.admit((key, connection.remote_address().ip()), join).await
    {
        return refuse(Refusal::BadToken, error.to_string());
    }
    if !arrivals.parts.is_member(&key) {
        return refuse(Refusal::UnknownPeer, format!("{key} is no member of the federation here"));
    }
    let own = Hello { protocol: PROTOCOL, software: talk::SOFTWARE.into(), join: None };
    frame::write(&mut send, &own).await.map_err(|e| e.to_string())?;
    connection.set_receive_window((2 * STREAM_WINDOW).into());
    Ok((key, Established { connection, send, receive, protocol, software: hello.software }))
}
