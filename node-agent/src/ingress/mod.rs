//! The ingress: takes clients' sessions in over QUIC and hands their flows to the services beside it.
//!
//! ```text
//!             ┌ endpoint: gate, handshake                     ┌ machine: who is attached, as what
//!  client ══▶ │ connection: control ──────────────▶ hub ──────┤
//!    QUIC     │             datagrams ────────────▶  (one a   └ udp: a socket for each flow ──▶ service
//!             │             streams ── tcp: a connection for each ───────────────────────────▶ service
//!             └                                    service)
//!  client ──▶ tripwire (TCP, the same port): held while all is well
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`endpoint`] | binds QUIC and TCP on one port, accepts |
//! | [`gate`] | how many connections there may be, and how fast |
//! | `connection` | one client's connection: its control stream, datagrams and streams |
//! | `hub` | one service's sessions: drives [`nearmost_core::session::mirror::Sessions`] |
//! | `udp` | the UDP flows of a session |
//! | `tcp`, [`proxy`] | one TCP connection for a stream; its PROXY protocol header |
//! | `tripwire` | connections whose end says that this mirror is to be left |
//! | `directory` | which service a domain is, and what becomes of it when settings change |
//! | [`paths`] | round trips to clients |
//! | [`metrics`] | what people see of it |
//!
//! The protocol is [`nearmost_wire::ingress`]. A hub owns its machine and never waits: connections wait for
//! the hub's bounded queue, and whatever the hub has for a client that does not keep up is dropped and
//! counted, or ends the connection.
//!
//! **Whose session.** The client's key, which the handshake proved, is the client: nobody else takes its
//! session over. On this mirror its UDP flows then keep their sockets; another mirror opens new ones. TCP
//! connections live and end with the QUIC connection they came by.
//!
//! **Copies.** A packet of a UDP flow that came before is dropped before the service sees it. A standby
//! hands packets on too, since a client that doubts its primary sends them both ways; what its service
//! answers within a second is sent, what it pushes on its own is not, until the session is promoted.
//!
//! A packet that is too large for a QUIC datagram on its path (about 1160 bytes of payload, 1410 once the
//! path is known to take 1500) is dropped and counted, as is what a client or service does not keep up with.
//!
//! **Leaving.** A drain tells every client, leaves it the drain's time and closes what is left. A service
//! whose process ended is drained the same way in [`STOPPED`]; one that only fails its checks is not, since
//! checks can be wrong everywhere at once: there the tripwire is the hint, and clients ask their standby.
//! A node's tripwire stands for all of its services.
//!
//! Brokers do not know the port of the ingress yet: it is no part of what [`crate::declare`] says, and no
//! broker says where there is room, so `go_to` is never filled in.

mod connection;
mod directory;
pub mod endpoint;
pub mod gate;
mod hub;
pub mod metrics;
pub mod paths;
pub mod proxy;
mod tcp;
mod tripwire;
mod udp;

pub use endpoint::IngressError;
pub use metrics::IngressMetrics;

use crate::clock::Clock;
use crate::link::ReportBody;
use crate::status::IngressStatus;
use directory::{Directory, Doors};
use endpoint::Bound;
use gate::Gate;
use nearmost_config::{IngressConfig, IngressLimits, Service};
use nearmost_wire::identity::KeyPair;
use nearmost_wire::ingress::close::Refusal;
use paths::SessionPaths;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Time that sessions have to leave a service whose process ended.
pub const STOPPED: Duration = Duration::from_secs(2);
/// How long the last words to clients may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// What all connections and services share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: IngressMetrics,
    /// Places for flows.
    pub flows: Arc<Semaphore>,
    /// Most flows of one session.
    pub max_session_flows: u32,
    /// Numbers of connections, over all addresses.
    pub links: Arc<AtomicU64>,
    /// Round trips.
    pub paths: SessionPaths,
}

/// A bound ingress that takes nobody in yet.
pub struct Ingress {
    bound: Vec<Bound>,
    config: IngressConfig,
    paths: SessionPaths,
}

impl Ingress {
    /// Binds the addresses, with the node's key.
    ///
    /// # Errors
    /// [`IngressError`] names the address.
    pub fn bind(config: &IngressConfig, key: &KeyPair) -> Result<Ingress, IngressError> {
        let bound = endpoint::bind(&config.listen, key, config.max_session_flows)?;
        Ok(Ingress { bound, config: config.clone(), paths: SessionPaths::default() })
    }

    /// Where it listens; ports are the real ones even where 0 was configured.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|b| b.address).collect()
    }

    /// Round trips of the clients that will come.
    pub fn paths(&self) -> SessionPaths {
        self.paths.clone()
    }

    /// Takes clients of these services in from now on.
    pub fn start(self, services: &[Service], clock: Clock, metrics: IngressMetrics) -> Running {
        let addresses = self.local_addrs();
        let IngressLimits { handshakes_per_second, most_a_network, .. } = self.config.connections;
        let tripwires =
            IngressLimits { most: self.config.max_tripwires, most_a_network, handshakes_per_second };
        let gate = Arc::new(Gate::new(self.config.connections, clock.now()));
        let tripwires = Arc::new(Gate::new(tripwires, clock.now()));
        let shared = Shared {
            clock,
            metrics,
            flows: Arc::new(Semaphore::new(self.config.max_flows)),
            max_session_flows: self.config.max_session_flows,
            links: Arc::default(),
            paths: self.paths,
        };
        let well = watch::Sender::new(false);
        let directory = Directory::new(services, shared.clone());
        let (mut tasks, mut endpoints) = (JoinSet::new(), Vec::new());
        for Bound { endpoint, tripwire, address } in self.bound {
            let doors: Doors = directory.doors();
            tasks.spawn(endpoint::accept(endpoint.clone(), address, gate.clone(), doors, shared.clone()));
            tasks.spawn(tripwire::hold(tripwire, tripwires.clone(), well.subscribe(), shared.clone()));
            endpoints.push(endpoint);
        }
        Running { endpoints, addresses, directory, well, shared, _tasks: tasks }
    }
}

/// An ingress at work, seen from the agent's loop. Dropped, it ends at once.
pub struct Running {
    endpoints: Vec<quinn::Endpoint>,
    addresses: Vec<SocketAddr>,
    directory: Directory,
    well: watch::Sender<bool>,
    shared: Shared,
    _tasks: JoinSet<()>,
}

impl Running {
    /// Takes over a new list of services: those that changed are drained within `grace` and begin anew.
    pub fn set(&mut self, services: &[Service], grace: Duration) {
        self.directory.set(services, grace);
    }

    /// Takes over what is reported of the services: whether the tripwire holds, and who is to be left.
    pub fn told(&self, report: &ReportBody) {
        // A drain closes none: to a client that is the end of a mirror, which it would leave at once with all
        // that is under way, and the drain's own word asks it to leave in order.
        let well = self.directory.told(report);
        self.well.send_if_modified(|was| std::mem::replace(was, well) != well);
    }

    /// Tells every client to leave within `within`. Tripwires hold until [`finish`](Running::finish).
    pub fn drain(&self, within: Duration) {
        self.directory.drain(within);
    }

    /// How it is doing.
    pub fn status(&self) -> IngressStatus {
        self.shared.metrics.status(self.addresses.iter().map(SocketAddr::port).next().unwrap_or(0))
    }

    /// Tells whoever is still there that the agent stops.
    pub async fn finish(self) {
        self.well.send_replace(false);
        for endpoint in &self.endpoints {
            endpoint.close(Refusal::Leaving.code().into(), b"the agent stops");
        }
        let idle = async {
            for endpoint in &self.endpoints {
                endpoint.wait_idle().await;
            }
        };
        // Who does not acknowledge learns it from the tripwire, or from silence.
        let _ = tokio::time::timeout(FAREWELL, idle).await;
    }
}
