//! Accepts agents' connections.

use super::beacons::BeaconKeys;
use super::hints::Hints;
use super::session::{self, SessionParts};
use super::standing::Telling;
use super::table::SessionTable;
use crate::admin::AdminHandle;
use crate::driver::DriverHandle;
use crate::quic::endpoint::{self, EndpointError};
use crate::quic::gate::{Entry, Gate};
use crate::telemetry::{AgentMetrics, WitnessMetrics};
use nearmost_core::registry::Registry;
use nearmost_wire::agent::Refusal;
use nearmost_wire::beacon::SiteKey;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::tls::{self, ALPN_AGENT};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How agents are served.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// QUIC addresses.
    pub listen: Vec<SocketAddr>,
    /// Most sessions at once.
    pub max_sessions: usize,
    /// Most connections at once whose first message was not authorised yet.
    pub max_handshakes: usize,
    /// A connection that has not said hello by then is closed.
    pub hello_timeout: Duration,
}

/// What every session works with.
pub struct AgentParts {
    /// Joins and declarations.
    pub admin: AdminHandle,
    /// Reports and session changes.
    pub driver: DriverHandle,
    /// Who may.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// Makes beacon secrets.
    pub site: SiteKey,
    /// Knows the beacons' port and period.
    pub beacons: Arc<BeaconKeys>,
    /// Who is connected.
    pub table: Arc<SessionTable>,
    /// Counters.
    pub metrics: Arc<AgentMetrics>,
    /// Round trips that agents measured go here.
    pub hints: Hints,
    /// Counts what witnesses say.
    pub witnesses: WitnessMetrics,
    /// What agents are told of their mirrors.
    pub telling: Telling,
}

/// Bound endpoints, not serving yet.
pub struct AgentServer {
    endpoints: Vec<quinn::Endpoint>,
    settings: AgentSettings,
}

impl AgentServer {
    /// Binds.
    pub fn bind(settings: AgentSettings, key: &KeyPair) -> Result<AgentServer, EndpointError> {
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server_config(key, ALPN_AGENT)?));
        let mut transport = quinn::TransportConfig::default();
        // One control stream each way is all that agents use; the rest of an attacker's is refused.
        transport.max_concurrent_bidi_streams(2u8.into()).max_concurrent_uni_streams(0u8.into());
        transport.receive_window((256u32 * 1024).into()).stream_receive_window((128u32 * 1024).into());
        // Agents keep their sessions alive, and ask for a shorter timeout themselves.
        transport.max_idle_timeout(Some(quinn::VarInt::from_u32(15_000).into()));
        config.transport_config(Arc::new(transport)).migration(true).max_incoming(settings.max_handshakes);
        let endpoints = endpoint::bind("agents' sessions (QUIC)", &settings.listen, key, &config)?;
        Ok(AgentServer { endpoints, settings })
    }

    /// Where it listens.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().filter_map(|e| e.local_addr().ok()).collect()
    }

    /// Serves until cancelled, then tells every agent that the broker leaves.
    pub async fn run(self, parts: AgentParts, cancel: CancellationToken) {
        let parts = Arc::new(parts);
        let tasks = TaskTracker::new();
        let numbers = Arc::new(AtomicU64::new(1));
        let gate = Arc::new(Gate::sharing(self.settings.max_handshakes));
        for endpoint in &self.endpoints {
            let accept = accept(
                endpoint.clone(),
                self.settings.clone(),
                parts.clone(),
                numbers.clone(),
                gate.clone(),
                tasks.clone(),
            );
            tasks.spawn(cancel.clone().run_until_cancelled_owned(accept));
        }
        let mut registry = parts.registry.clone();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = registry.changed() => match changed {
                    Ok(()) => parts.table.enforce(&registry.borrow_and_update()),
                    Err(_) => break,
                },
            }
        }
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

async fn accept(
    endpoint: quinn::Endpoint,
    settings: AgentSettings,
    parts: Arc<AgentParts>,
    numbers: Arc<AtomicU64>,
    gate: Arc<Gate>,
    tasks: TaskTracker,
) {
    let refused = |kind| parts.metrics.handshakes_refused.with_label_values(&[kind]).inc();
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > settings.max_sessions {
            refused("limit");
            incoming.refuse();
            continue;
        }
        let permit = match gate.enter(incoming.remote_address().ip(), incoming.remote_address_validated()) {
            Entry::Admitted(permit) => permit,
            Entry::Prove => {
                // A spoofed flood costs one datagram each and no state.
                let _ = incoming.retry();
                continue;
            }
            Entry::Refused(kind) => {
                refused(kind);
                incoming.refuse();
                continue;
            }
        };
        let session = SessionParts {
            shared: parts.clone(),
            number: numbers.fetch_add(1, Ordering::Relaxed),
            hello_timeout: settings.hello_timeout,
        };
        tasks.spawn(session::serve(incoming, permit, session));
    }
}
