//! DNS on sockets: the thin, dull shell around [`nearmost_dns::Responder`].
//!
//! ```text
//!             ┌ thread 0 ┐ one SO_REUSEPORT socket each; the kernel spreads clients over them
//!  UDP :53 ──►│ thread 1 │──► hot path, else ─┐
//!             └ …        ┘                    ├─► Responder::answer ► count ► bytes
//!  UDP of interfaces with AF_XDP ► a thread a queue, the same past the sockets ([`xdp`])
//!  TCP :53 ──► accept ► one task a connection ┘   bounded in all and for each source
//!  TLS, QUIC :853 ► the same after a handshake, where a certificate is configured ([`encrypted`])
//! ```
//!
//! A reply leaves from the address that was asked, also where a wildcard address (`0.0.0.0`, `::`) is
//! served.

pub(crate) mod bind;
pub mod certificate;
mod cpu;
mod doq;
pub mod encrypted;
mod gate;
pub mod metrics;
mod options;
pub mod querylog;
mod sheet;
pub mod signing;
pub mod tally;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;
mod xdp;

pub use encrypted::{EncryptedServer, EncryptedSettings};
pub use metrics::DnsMetrics;
use sheet::Sheet;
pub use sheet::Sheets;
pub use udp::{Beat, Beats};
pub use xdp::{XdpMetrics, XdpSettings};

use crate::reports::SeenNonces;
use crate::steering::{DemandHandle, Sampler};
use arc_swap::ArcSwap;
use nearmost_core::health::Family;
use nearmost_core::registry::MirrorIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_dns::limiter::{LimitConfig, LimitError, Limiter};
use nearmost_dns::{Client, Outcome, Responder, Transport};
use querylog::{QueryLog, Seen};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Where the server finds the snapshot that answers are made from.
pub type SnapshotReader = Arc<ArcSwap<Snapshot>>;

/// Where and within which limits DNS is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Addresses served over UDP and TCP alike. Port 0 takes one that is free for both.
    pub listen: Vec<SocketAddr>,
    /// UDP sockets for each address; 0 means one for each CPU.
    pub workers: usize,
    /// Limits of TCP.
    pub tcp: TcpLimits,
    /// Limits of UDP.
    pub limits: LimitConfig,
    /// Replies over UDP to one destination leave together, where the system can.
    pub segmentation: bool,
    /// UDP past the sockets.
    pub xdp: XdpSettings,
}

/// Limits of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Most connections in all; more are closed at once.
    pub max_connections: usize,
    /// Most connections of one source: an IPv4 address or an IPv6 /64.
    pub max_per_source: usize,
    /// A connection without a query for this long is closed.
    pub idle_timeout: Duration,
    /// A query that takes longer to arrive, or replies that take longer to be taken, end the
    /// connection.
    pub transfer_timeout: Duration,
    /// Queries after which a connection is closed.
    pub max_queries: u32,
}

impl Default for TcpLimits {
    fn default() -> Self {
        TcpLimits {
            max_connections: 1000,
            max_per_source: 50,
            idle_timeout: Duration::from_secs(10),
            transfer_timeout: Duration::from_secs(5),
            max_queries: 10_000,
        }
    }
}

/// Why DNS is not served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address cannot be had.
    #[error("{}", bind_message(*address, what, source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The transport, such as `DNS over UDP`.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate of encrypted DNS.
    #[error("DNS over TLS and QUIC: {0}")]
    Tls(#[from] crate::tls_files::TlsError),
    /// Nothing to listen on.
    #[error("no address to serve DNS on")]
    NoAddress,
    /// A limit that makes no sense.
    #[error("dns.limits: {0}")]
    Limits(#[from] LimitError),
    /// Queues of an interface, where they are required.
    #[error("dns.xdp: {0}")]
    Xdp(nearmost_xdp::XdpError),
    /// A worker cannot be started.
    #[error("a thread of DNS over UDP cannot be started: {0}")]
    Thread(io::Error),
    /// A task ended that should serve until it is told to stop.
    #[error("a DNS task ended unexpectedly: {0}")]
    Task(#[from] tokio::task::JoinError),
}

fn bind_message(address: SocketAddr, what: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("port in use: {what} asked for {address}"),
        _ => format!("cannot listen on {address} for {what}: {source}"),
    }
}

/// The addresses of name servers within our own zones: those configured, else the addresses that
/// DNS is served on. Loopback addresses count only where there is no other, as in a trial; wildcard
/// addresses never.
pub fn nameserver_addresses(configured: &[IpAddr], listen: &[SocketAddr]) -> Vec<IpAddr> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let mut addrs: Vec<IpAddr> = Vec::new();
    for addr in listen.iter().map(|a| a.ip()).filter(|a| !a.is_unspecified() && !a.is_multicast()) {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.iter().any(|a| !a.is_loopback()) {
        addrs.retain(|a| !a.is_loopback());
    }
    addrs
}

/// Whether a zone of ours can have a name server without an address.
fn lacks_glue(config: &nearmost_dns::DnsConfig) -> bool {
    let below = |name: &str, zone: &String| {
        let (name, zone) = (name.trim_end_matches('.').to_ascii_lowercase(), zone.trim_end_matches('.'));
        name.strip_suffix(&zone.to_ascii_lowercase())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let inside = |name: &String| config.zones.iter().any(|z| below(name, z));
    config.nameserver_addresses.is_empty()
        && (config.nameservers.is_empty() || config.nameservers.iter().any(inside))
}

/// Bound sockets, ready to serve.
pub struct DnsServer {
    sockets: Vec<bind::Sockets>,
    limits: TcpLimits,
    udp_limits: LimitConfig,
    segmentation: bool,
    xdp: Vec<xdp::Interface>,
    beats: Beats,
    handler: Handler,
    encrypted: Option<EncryptedServer>,
}

impl DnsServer {
    /// Binds all addresses. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`DnsError::Bind`] names the address and what wanted it.
    pub fn bind(
        settings: DnsSettings,
        responder: Arc<Responder>,
        snapshots: SnapshotReader,
        metrics: Arc<DnsMetrics>,
        nonces: Arc<SeenNonces>,
        demand: DemandHandle,
    ) -> Result<DnsServer, DnsError> {
        if settings.listen.is_empty() {
            return Err(DnsError::NoAddress);
        }
        settings.limits.check()?;
        if lacks_glue(responder.config()) {
            tracing::warn!(
                "the zones' name servers have no address, so resolvers may not find them: set \
                 dns.nameservers to names that resolve elsewhere, or dns.nameserver_addresses, or list \
                 addresses instead of a wildcard in dns.listen"
            );
        }
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers == 0 { cpus() } else { settings.workers };
        let sockets = settings.listen.iter().map(|a| bind::Sockets::bind(*a, workers));
        let sockets: Vec<_> = sockets.collect::<Result<_, _>>()?;
        let beats = Beats::default();
        sockets.iter().flat_map(|s| &s.udp).for_each(|socket| beats.add(socket.beat()));
        let listen: Vec<_> = sockets.iter().map(|s| s.address).collect();
        Ok(DnsServer {
            sockets,
            xdp: xdp::Interface::open(&settings.xdp, &listen, &metrics.xdp)?,
            beats,
            limits: settings.tcp,
            udp_limits: settings.limits,
            segmentation: settings.segmentation,
            handler: Handler::new(responder, snapshots, metrics, nonces, Sampler::new(demand)),
            encrypted: None,
        })
    }

    /// Serves TLS and QUIC as well.
    #[must_use]
    pub fn with(mut self, encrypted: EncryptedServer) -> DnsServer {
        self.encrypted = Some(encrypted);
        self
    }

    /// Offers queries to a log.
    #[must_use]
    pub fn logging(mut self, log: QueryLog) -> DnsServer {
        self.handler.log = log;
        self
    }

    /// TLS and QUIC, if they are served.
    pub fn encrypted(&self) -> Option<&EncryptedServer> {
        self.encrypted.as_ref()
    }

    /// The addresses of UDP and TCP, in the order of the settings, with the ports that were taken.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|s| s.address).collect()
    }

    /// Of each thread that answers over UDP, whether it turns.
    pub fn beats(&self) -> Beats {
        self.beats.clone()
    }

    /// Serves until cancelled; then answers what has been read, closes connections and returns.
    ///
    /// # Errors
    /// [`DnsError::Task`] when a part of it died; the rest is stopped then.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), DnsError> {
        let stop = cancel.child_token();
        // Threads end also when nobody waits for this any more.
        let _stopped = stop.clone().drop_guard();
        let gate = Arc::new(gate::Gate::new(self.limits.into()));
        let mut tasks = JoinSet::new();
        for sockets in self.sockets {
            for socket in sockets.udp {
                tasks.spawn(socket.wake_on(stop.clone()));
                let limiter = Limiter::new(self.udp_limits.clone(), [rand::random(), rand::random()])?;
                let worker = udp::Worker::new(socket, self.handler.clone(), limiter, self.segmentation);
                let until = stop.clone();
                tasks.spawn(udp::thread("dns-udp", move || worker.serve(&until))?);
            }
            let acceptor = tcp::Acceptor {
                listener: sockets.tcp,
                gate: Arc::clone(&gate),
                limits: self.limits,
                handler: self.handler.clone(),
                tls: None,
            };
            tasks.spawn(acceptor.serve(stop.clone()));
        }
        let shared =
            xdp::Shared { handler: self.handler.clone(), limits: self.udp_limits, beats: self.beats };
        let shared = Arc::new(shared);
        for interface in self.xdp {
            tasks.spawn(interface.run(Arc::clone(&shared), stop.clone()));
        }
        if let Some(encrypted) = self.encrypted {
            encrypted.spawn(&self.handler, &stop, &mut tasks);
        }
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            if let Err(e) = ended {
                tracing::error!(error = %e, "a DNS task died");
                result = Err(DnsError::Task(e));
            }
            stop.cancel();
        }
        result
    }
}

/// Whether an answer is counted as somebody's who goes to its mirror: who asks for addresses of one family asks
/// for those of the other, too, and for services; and what did not fit, or was cut by a limit, is asked again.
fn stands_for_users(snapshot: &Snapshot, outcome: &Outcome) -> bool {
    const A: u16 = 1;
    let has_v4 = |m: &MirrorIndex| snapshot.live.mirror(*m).addr(Family::V4).is_some();
    !outcome.truncated && (outcome.qtype == A || !outcome.mirrors.first().is_some_and(has_v4))
}

/// What every transport does with a message.
#[derive(Clone)]
struct Handler {
    responder: Arc<Responder>,
    snapshots: SnapshotReader,
    metrics: Arc<DnsMetrics>,
    /// Where streams count.
    sheet: Arc<Sheet>,
    tally: Arc<Mutex<tally::Writer>>,
    nonces: Arc<SeenNonces>,
    demand: Sampler,
    log: QueryLog,
}

/// A message and what came of it.
#[derive(Clone, Copy)]
struct Message<'m> {
    query: &'m [u8],
    reply: &'m [u8],
    outcome: &'m Outcome,
}

impl Handler {
    fn new(
        responder: Arc<Responder>,
        snapshots: SnapshotReader,
        metrics: Arc<DnsMetrics>,
        nonces: Arc<SeenNonces>,
        demand: Sampler,
    ) -> Handler {
        let sheet = metrics.sheets.shared();
        let tally = Arc::new(Mutex::new(metrics.book.writer()));
        Handler { responder, snapshots, metrics, sheet, tally, nonces, demand, log: QueryLog::default() }
    }

    /// Answers one message into `out`; false when it gets no reply.
    fn answer(&self, message: &[u8], source: IpAddr, transport: Transport, out: &mut Vec<u8>) -> bool {
        let begun = crate::clock::mono_now();
        let client = Client { source, transport, now: crate::clock::unix_now() };
        let snapshot = self.snapshots.load();
        let outcome = self.responder.answer(&snapshot, message, &client, out);
        self.sheet.record(transport, &outcome, out.len());
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.count(&snapshot.registry, &outcome);
        drop(tally);
        let took = crate::clock::mono_now().saturating_duration_since(begun);
        if !outcome.dropped() {
            self.sheet.took(transport, took, 1);
        }
        self.follow(&snapshot, &outcome, &client, begun);
        self.write_down(
            &snapshot,
            &Message { query: message, reply: out, outcome: &outcome },
            &client,
            begun,
        );
        !outcome.dropped()
    }

    /// What follows from an answer, besides its being sent.
    fn follow(&self, snapshot: &Snapshot, outcome: &Outcome, client: &Client, begun: Instant) {
        if let (Some(chosen), Some(domain)) = (&outcome.chosen, outcome.domain)
            && stands_for_users(snapshot, outcome)
        {
            let names = || {
                let registry = &snapshot.registry;
                let mirror = outcome.mirrors.first().and_then(|m| registry.mirrors.get(m.0 as usize));
                let domain = registry.domains.get(domain.0 as usize)?;
                Some((domain.name.clone(), mirror.map(|m| m.name.clone())))
            };
            self.demand.asked(chosen.client, begun, names);
        }
        if let Some(nonce) = &outcome.nonce {
            self.nonces.note(nonce, client.source, begun);
        }
        if let Some(error) = outcome.error {
            let (source, transport) = (client.source, client.transport.as_str());
            tracing::debug!(%source, transport, %error, "malformed DNS message");
        }
    }

    /// Offers a sample of the messages to the query log.
    fn write_down(&self, snapshot: &Snapshot, message: &Message<'_>, client: &Client, begun: Instant) {
        if !self.log.sampled() {
            return;
        }
        let took = crate::clock::mono_now().saturating_duration_since(begun);
        let Message { query, reply, outcome } = *message;
        let Client { source, transport, now: at } = *client;
        let registry = &snapshot.registry;
        self.log.offer(&Seen { query, reply, source, transport, at, took, outcome, registry });
    }
}
