//! An agent: made from a configuration and a key, then run.
//! The loop itself is in `running`.

use crate::clock::{self, Clock};
use crate::declare::{self, DeclareError};
use crate::http::{self, Pages, Pulse};
use crate::ingress::{Ingress, IngressError};
use crate::link::Outgoing;
use crate::load::{self, Load};
use crate::measure;
use crate::metrics::Metrics;
use crate::paths::{self, Reading, Watched};
use crate::running::{Meter, Running};
use crate::status::AgentStatus;
use crate::witness;
use nearmost_config::AgentConfig;
use nearmost_probe::{Prober, ProberError, ProberOptions};
use nearmost_service::notify::Notifier;
use nearmost_wire::identity::{Id, IdError, KeyPair, Role};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Time between two readings of the load.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// How many check commands run at once.
const MAX_COMMANDS: usize = 8;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no broker to talk to.
    #[error("no broker is configured: join first, with `nearmost-agent join TOKEN`")]
    NoBroker,
    /// A broker's id is not one.
    #[error("brokers[{index}].id: {source}")]
    BrokerId {
        /// Its position.
        index: usize,
        /// What is wrong.
        source: IdError,
    },
    /// Another program has the port of the metrics page.
    #[error("port in use: metrics (metrics.listen) asked for {addr}")]
    PortInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address of the metrics page cannot be had.
    #[error("metrics (metrics.listen) cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A service cannot be declared.
    #[error(transparent)]
    Declare(#[from] DeclareError),
    /// Clients cannot be taken in.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// Checks cannot be made.
    #[error(transparent)]
    Prober(#[from] ProberError),
    /// Metrics cannot be counted.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How an agent is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Drain, say goodbye, end.
    pub drain: CancellationToken,
    /// End at once.
    pub now: CancellationToken,
}

/// An agent that is ready to run.
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) key: Arc<KeyPair>,
    pub(crate) brokers: Vec<Id>,
    pub(crate) listeners: Listeners,
    pub(crate) prober: Arc<Prober>,
    pub(crate) pages: Pages,
    pub(crate) status: watch::Sender<AgentStatus>,
    pub(crate) outgoing: watch::Sender<Outgoing>,
    pub(crate) clock: Clock,
    pub(crate) boot: u64,
    /// Is told that the loop turns.
    pub(crate) notifier: Notifier,
}

/// What the agent listens on.
pub(crate) struct Listeners {
    /// The metrics page.
    pub(crate) metrics: Option<TcpListener>,
    /// Clients.
    pub(crate) ingress: Option<Ingress>,
}

impl Agent {
    /// Takes the configuration and the node's key, and listens where metrics are served
    /// and clients are taken in.
    ///
    /// # Errors
    /// What in the configuration, or on the machine, stands in the way.
    pub async fn bind(config: AgentConfig, key: KeyPair) -> Result<Agent, AgentError> {
        let brokers = broker_ids(&config)?;
        let boot = clock::unix().0;
        let prober = Prober::new(ProberOptions { extra_roots: Vec::new(), max_commands: MAX_COMMANDS })?;
        let metrics = match config.metrics {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        let ingress = &config.node.ingress;
        let ingress = ingress.enabled.then(|| Ingress::bind(ingress, &key)).transpose()?;
        let port = ingress.as_ref().and_then(Ingress::port);
        let hello = Arc::new(declare::hello(&config, boot, port)?);
        let clock = Clock::start();
        let status = watch::Sender::new(AgentStatus::new(key.id(), brokers.iter().copied()));
        let pages = Pages {
            metrics: Arc::new(Metrics::new()?),
            status: status.subscribe(),
            pulse: Arc::new(Pulse::new(clock)),
        };
        let outgoing = Outgoing { generation: 0, hello, report: None };
        Ok(Agent {
            config,
            key: Arc::new(key),
            brokers,
            listeners: Listeners { metrics, ingress },
            prober: Arc::new(prober),
            pages,
            status,
            outgoing: watch::Sender::new(outgoing),
            clock,
            boot,
            notifier: Notifier::default(),
        })
    }

    /// Has a service manager told how the agent is.
    #[must_use]
    pub fn within(self, notifier: Notifier) -> Agent {
        Agent { notifier, ..self }
    }

    /// Where metrics are served; the port is the real one even when 0 was configured.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.listeners.metrics.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Where clients are taken in; empty where the ingress is off.
    pub fn ingress_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.ingress.as_ref().map(Ingress::local_addrs).unwrap_or_default()
    }

    /// Follows how the agent is doing.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    /// Runs until told to stop. New configurations that come from `reloads` replace services,
    /// place, report interval and drain grace; other settings need a restart.
    pub async fn run(mut self, shutdown: Shutdown, reloads: mpsc::Receiver<AgentConfig>) {
        let mut helpers = JoinSet::new();
        if let Some(listener) = self.listeners.metrics.take() {
            let pages = self.pages.clone();
            helpers.spawn(async move {
                if let Err(e) = http::serve(listener, pages).await {
                    tracing::error!(error = %e, "the metrics page stopped");
                }
            });
        }
        let (services, watched) = watch::channel(Watched::all(&self.config.services));
        let (load, measured) = watch::channel(Load::default());
        helpers.spawn(follow_load(watched.clone(), load));
        let settings = self.config.paths.clone();
        let metrics = &self.pages.metrics.paths;
        let (measurer, tasks) = measure::channel(watched.clone(), metrics.clone());
        let prober = Arc::clone(&self.prober);
        helpers.spawn(measure::work(tasks, settings.measures_per_second, prober, metrics.clone()));
        let (read, readings) = watch::channel(Arc::<Reading>::default());
        if settings.connections {
            let sessions = self.listeners.ingress.as_ref().map(Ingress::paths).unwrap_or_default();
            helpers.spawn(paths::follow(settings, watched, read, sessions, metrics.clone()));
        }
        let rate = self.config.node.witnesses_per_second;
        let results = &self.pages.metrics.witnesses;
        let (witness, orders) = witness::channel(services.subscribe(), rate, results.clone());
        helpers.spawn(witness::work(orders, rate, Arc::clone(&self.prober), self.clock, results.clone()));
        let meter = Meter { services, load: measured, readings, measurer, witness };
        let mut running = Running::new(self, meter);
        running.set_checks();
        running.work(&shutdown, reloads).await;
        running.finish(&shutdown.now).await;
    }
}

fn broker_ids(config: &AgentConfig) -> Result<Vec<Id>, AgentError> {
    if config.brokers.is_empty() {
        return Err(AgentError::NoBroker);
    }
    let id = |(index, broker): (usize, &nearmost_config::Broker)| {
        Id::parse(&broker.id, Role::Broker).map_err(|source| AgentError::BrokerId { index, source })
    };
    config.brokers.iter().enumerate().map(id).collect()
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => AgentError::PortInUse { addr },
        _ => AgentError::Listen { addr, source },
    })
}

/// Reads the load again and again, on blocking threads.
async fn follow_load(services: watch::Receiver<Vec<Watched>>, load: watch::Sender<Load>) {
    let mut ticks = None;
    loop {
        let wanted: Vec<u16> = services.borrow().iter().map(|s| s.port).collect();
        let reading = tokio::task::spawn_blocking(move || load::sample(Path::new("/proc"), wanted, ticks));
        match reading.await {
            Ok((latest, now)) => {
                ticks = now;
                load.send_replace(latest);
            }
            Err(e) => tracing::warn!(error = %e, "the load could not be read"),
        }
        tokio::time::sleep(LOAD_EVERY).await;
    }
}
