//! The broker as a whole: bind everything, then run until told to stop.
//!
//! [`Broker::bind`] opens the store and every socket, so that whatever is wrong with files, ports
//! or databases is said before anything is served. [`Broker::run`] serves; when its token is
//! cancelled, agents are told, queries in hand are finished, verdicts and the store are written.

mod addresses;
mod control;
mod peers;
pub(crate) mod started;

pub use addresses::Addresses;
pub use control::Control;

use crate::agents::Telling;
use crate::agents::beacons::{BeaconKeys, BeaconServer, Intake};
use crate::agents::endpoint::AgentParts;
use crate::agents::hints::Hints;
use crate::agents::pace::{self, PaceParts};
use crate::agents::pairing::{self, PairParts};
use crate::agents::witnessing::Witnesses;
use crate::agents::{AgentServer, SessionTable};
use crate::api::{ApiError, ApiServer, ApiSettings, ApiState, FleetAccess, Listeners, Me, Readiness};
use crate::audit::{AuditMetrics, Desk, DeskTask};
use crate::checkup::Examiner;
use crate::clients::lists::ListTask;
use crate::clients::{ClientParts, ClientServer};
use crate::clock::{Clock, unix_now};
use crate::dns::signing::Signing;
use crate::dns::{DnsError, DnsMetrics, DnsServer, EncryptedServer, querylog};
use crate::driver::{self, Asking, Complaint, Driver, DriverHandle, DriverInput, DriverParts};
use crate::events::EventLog;
use crate::events::keeper::{self, Keeper, KeeperMetrics};
use crate::followers::{correct, follow_corrections, follow_places, follow_readiness};
use crate::geoip::{GeoError, GeoMetrics, GeoService};
use crate::hostnames::{self, HostnameParts};
use crate::keys::{self, DataDirError, Keys};
use crate::learning::{self, LearnerParts};
use crate::liveness::Liveness;
use crate::mapping::{self, MappingParts};
use crate::peers::{PeerParts, PeerServer, PeersHandle};
use crate::probing::Probes;
use crate::publish::Publisher;
use crate::quic::EndpointError;
use crate::references::References;
use crate::registrar::{Registrar, RegistrarInbox, RegistrarSettings};
use crate::reports::Reports;
use crate::settings;
use crate::steering::{self, SteeringParts, TrafficHandle};
use crate::store::{RedbStore, StoreError, StoreHandle, StoreThread};
use crate::supervise::Crew;
use crate::telemetry::{
    self, AgentMetrics, ApiMetrics, ClientMetrics, FleetMetrics, LearningMetrics, ListMetrics, MapMetrics,
    PathMetrics, PeerMetrics, ProbeMetrics, QueueMetrics, ReportMetrics, ResolverMetrics, SteeringMetrics,
    StoreMetrics, WitnessMetrics,
};
use crate::verdicts::{self, StoredVerdicts};
use addresses::ports;
use nearmost_config::{BrokerConfig, Given};
use nearmost_core::fleet::Fleet;
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::id::BrokerId;
use nearmost_core::registry::Registry;
use nearmost_dns::Responder;
use nearmost_probe::{Prober, ProberError, ProberOptions};
use nearmost_service::logging::LogControl;
use nearmost_service::notify::Notifier;
use nearmost_wire::identity::{Id, IdError, KeyError};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long tasks have to end after one of them has failed, and always those that serve others: what is
/// still open then is not waited for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A geo database.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// DNS sockets.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The query log.
    #[error(transparent)]
    QueryLog(#[from] querylog::OpenError),
    /// DNS settings.
    #[error("configuration: dns: {0}")]
    DnsConfig(#[from] nearmost_dns::ConfigError),
    /// Sockets of agents and clients.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// HTTP sockets and certificates.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A person's id in the configuration.
    #[error("configuration: http.persons: {0}")]
    Person(#[from] IdError),
    /// A peer's id in the configuration.
    #[error("configuration: peers.peer: {0}")]
    Peer(IdError),
    /// TLS of probes.
    #[error(transparent)]
    Probe(#[from] ProberError),
    /// Two metrics of one name: a defect of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The system allows no further thread.
    #[error("cannot start the store's thread: {0}")]
    Thread(std::io::Error),
    /// A task that lasts as long as the broker has failed or returned.
    #[error("the task {task} has ended; the log says why")]
    TaskEnded {
        /// Its name.
        task: &'static str,
    },
}

/// Sockets, bound and not yet served.
struct Sockets {
    dns: DnsServer,
    api: ApiServer,
    agents: AgentServer,
    beacons: BeaconServer,
    clients: ClientServer,
    peers: Option<PeerServer>,
}

/// Tasks' states, made and not yet run.
struct Tasks {
    registrar: (Registrar, RegistrarInbox),
    desk: DeskTask,
    keeper: Keeper,
    liveness: Liveness,
    registry: watch::Receiver<Arc<Registry>>,
    driver: (Driver, mpsc::Receiver<DriverInput>, mpsc::Receiver<Complaint>),
    driver_handle: DriverHandle,
    learner: LearnerParts,
    mapping: MappingParts,
    steering: SteeringParts,
    verdicts: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    agents: AgentParts,
    clients: ClientParts,
    peers: PeerParts,
    lists: ListTask,
    log_writers: Option<querylog::Writers>,
    pairs: PairParts,
    intake: Intake,
    pace: PaceParts,
    followed: Followed,
    store: (StoreThread, StoreHandle),
}

/// What the driver is told of by tasks that do nothing else.
struct Followed {
    places: watch::Receiver<Arc<PlaceTable>>,
    resolver_metrics: ResolverMetrics,
}

/// A bound broker.
pub struct Broker {
    config: BrokerConfig,
    addresses: Addresses,
    sockets: Sockets,
    tasks: Tasks,
    control: Control,
    geo: GeoService,
    ready: watch::Sender<Readiness>,
    /// Ends the geo service, which runs from the start.
    early: CancellationToken,
}

/// What a broker has around it in its process.
#[derive(Clone)]
pub struct Surroundings {
    /// Levels of its logs.
    pub log: LogControl,
    /// Who is told how it is.
    pub notifier: Notifier,
    /// What it was told key by key, where that is known: it is compared with the last start.
    pub given: Option<Given>,
}

impl Broker {
    /// Opens the store, loads the databases and binds every socket, in a process that has its logs elsewhere.
    pub async fn bind(config: BrokerConfig) -> Result<Broker, BrokerError> {
        let around = Surroundings { log: LogControl::detached(), notifier: Notifier::default(), given: None };
        Broker::bind_in(config, around).await
    }

    /// Opens the store, loads the databases and binds every socket.
    pub async fn bind_in(config: BrokerConfig, around: Surroundings) -> Result<Broker, BrokerError> {
        let early = CancellationToken::new();
        let bound = Broker::bind_with(config, around, early.clone()).await;
        if bound.is_err() {
            early.cancel();
        }
        bound
    }

    async fn bind_with(
        config: BrokerConfig,
        around: Surroundings,
        early: CancellationToken,
    ) -> Result<Broker, BrokerError> {
        keys::prepare_data_dir(&config.data_dir)?;
        // The store first: its lock says whether another broker uses this directory.
        let store = RedbStore::open(&config.data_dir)?;
        let keys = keys::load_or_create(&config.data_dir)?;
        if keys.new {
            tracing::info!(id = %keys.broker.id(), "new broker key");
        }
        let (store, store_thread) = StoreThread::spawn(Box::new(store)).map_err(BrokerError::Thread)?;
        let metrics = prometheus::Registry::new();
        telemetry::process::register(&metrics, &config.data_dir)?;
        let geo_metrics = GeoMetrics::new(&metrics)?;
        let (geo, places) = GeoService::start(settings::geo(&config), geo_metrics, early.clone()).await?;

        let publisher = Publisher::default();
        let (reader, news) = (publisher.reader(), publisher.news());
        let zones = config.dns.zone.zones.clone();
        let signing = Signing::new(keys.zones.clone(), settings::signing(&config), zones);
        let responder = Responder::new(settings::responder(&config, &keys.site))?;
        let responder = Arc::new(responder.with_signer(signing.signer()));
        let learning_metrics = Arc::new(LearningMetrics::register(&metrics)?);
        let (learn, lessons) = learning::channel(learning_metrics.clone());
        let report_metrics = Arc::new(ReportMetrics::register(&metrics)?);
        let (driver_handle, inputs) = driver::channel();
        let fleet_metrics =
            Arc::new(FleetMetrics::register(&metrics, reader.clone(), config.observing.metrics)?);
        let (complaints, complained) = driver::complaints(fleet_metrics.complaints_dropped());
        let reports = Reports::new(settings::reports(&config), learn.clone(), report_metrics)?;
        let reports = Arc::new(reports.telling(complaints));
        let steering_metrics = SteeringMetrics::register(&metrics)?;
        let (demand, demand_inbox) = steering::channel(steering_metrics.dropped.clone());
        let dns_metrics = Arc::new(DnsMetrics::limited(&metrics, config.observing.metrics)?);
        let encrypted = encrypted_dns(&config, &keys, &dns_metrics)?;
        let dns = settings::dns(&config);
        let mut dns =
            DnsServer::bind(dns, responder, reader.clone(), dns_metrics, reports.nonces(), demand.clone())?;
        if let Some(encrypted) = encrypted {
            dns = dns.with(encrypted);
        }
        let (log, log_writers) =
            querylog::open(&config.dns.log, &settings::peer_name(&config), &metrics)?.unzip();
        if let Some(log) = log {
            dns = dns.logging(log);
        }
        let agents = AgentServer::bind(settings::agents(&config), &keys.broker)?;
        let beacons = BeaconServer::bind(&config.agents.beacon_listen)?;
        let clients = ClientServer::bind(settings::clients(&config), &keys.broker)?;

        let peers = peers::bind(&config, &keys.broker)?;
        let registrar_settings = RegistrarSettings {
            advertise: settings::advertise(&config, &agents.local_addrs()),
            defaults: settings::probe_defaults(&config),
            endpoints: peers::endpoints(&config, peers.as_ref(), &agents.local_addrs(), &clients),
            known: peers::known(&config)?,
        };
        let (registrar, registry) = Registrar::open(store.clone(), &keys.broker, registrar_settings).await?;
        // Databases that are still being read would keep the start waiting; the corrections follow then.
        if geo.status().borrow().complete {
            // If they are not taken, they are tried again.
            let _ = correct(&geo, &registry.borrow().overrides.clone()).await;
        }
        let (desk, desk_task) = Desk::new(store.clone(), AuditMetrics::register(&metrics)?);
        let (admin, inbox) = registrar.handle(desk);
        admin.tokens().load().await?;
        let (peers_handle, questions) = PeersHandle::channel();
        let peer_parts = PeerParts {
            admin: admin.clone(),
            set: registrar.set(),
            followed: registrar.followed(),
            store: store.clone(),
            driver: driver_handle.clone(),
            questions,
            metrics: PeerMetrics::register(&metrics)?,
        };
        let keeping = watch::Sender::new(settings::keeping(&config));
        let keeper_metrics = KeeperMetrics::register(&metrics)?;
        let (feeder, keeper) = keeper::keeper(store.clone(), keeping.subscribe(), keeper_metrics);
        let first_event = keeper::begin(&store, unix_now().0).await?;
        let events = Arc::new(EventLog::starting_at(first_event).keeping(feeder));
        let intake_time = fleet_metrics.intake.clone();
        let (sink, verdict_writer) = StoredVerdicts::new(store.clone());
        let queues = QueueMetrics::new()?.with("driver", driver_handle.queue());
        queues.with("registrar", &admin.commands).register(&metrics)?;
        let prober = Prober::new(ProberOptions::default())?;
        let probe_metrics = ProbeMetrics::register(&metrics)?;
        let probes = Probes::new(prober, config.mirrors.probe.max_in_flight, probe_metrics, early.clone());
        let clock = Clock::start();
        let traffic = TrafficHandle::new(clock);
        telemetry::traffic::register(&metrics, traffic.clone(), config.observing.metrics)?;
        let table = Arc::new(SessionTable::default());
        let witness_metrics = WitnessMetrics::register(&metrics)?;
        let asking = Asking {
            probes,
            witnesses: Witnesses::new(table.clone(), witness_metrics.clone()),
            references: References::new(&config.mirrors.caution.references),
        };
        let mut fleet = Fleet::new(settings::fleet(&config), rand::random());
        fleet.set_broker(BrokerId(keys.broker.id().key));
        let parts = DriverParts {
            fleet,
            verdicts: verdicts::load(&store).await?,
            clock,
            registry: registry.clone(),
            places: places.borrow().clone(),
            publisher,
            asking,
            events: events.clone(),
            metrics: fleet_metrics,
            sink: Box::new(sink),
        };
        let driver = Driver::new(parts, driver_handle.clone());

        let path_metrics = PathMetrics::register(&metrics)?;
        let agent_parts = AgentParts {
            admin: admin.clone(),
            driver: driver_handle.clone(),
            registry: registry.clone(),
            site: keys.site.clone(),
            beacons: beacon_keys(&config, &keys, &beacons),
            table,
            metrics: Arc::new(AgentMetrics::register(&metrics)?),
            hints: Hints::new(learn.clone(), demand.clone(), path_metrics.clone(), &keys.broker.id().key),
            witnesses: witness_metrics,
            telling: Telling { snapshot: reader.clone(), traffic: traffic.clone() },
        };
        let intake = Intake { agents: agent_parts.metrics.clone(), time: intake_time.clone() };
        let pace = PaceParts {
            keys: agent_parts.beacons.clone(),
            driver: driver_handle.clone(),
            agents: agent_parts.metrics.clone(),
            intake: intake_time,
            budget: f64::from(config.mirrors.health.beacon_budget_percent) / 100.0,
        };
        let list_metrics = ListMetrics::register(&metrics)?;
        let (lists, followed) =
            ListTask::new(keys.broker.clone(), rand::random(), reader.clone(), news.clone(), list_metrics);
        let client_parts = ClientParts {
            snapshot: reader.clone(),
            reports: reports.clone(),
            lists: followed,
            demand: demand.clone(),
            metrics: ClientMetrics::register(&metrics)?,
        };
        let pairs = PairParts {
            config: settings::pairs(&config),
            seed: rand::random(),
            table: agent_parts.table.clone(),
            snapshot: reader.clone(),
            metrics: path_metrics,
        };
        let learner = LearnerParts {
            lessons,
            settings: settings::learner(&config),
            snapshot: reader.clone(),
            news: news.clone(),
            driver: driver_handle.clone(),
            metrics: learning_metrics,
        };
        let mapping = MappingParts {
            snapshot: reader.clone(),
            news: news.clone(),
            driver: driver_handle.clone(),
            memory: config.geo.cell_memory,
            metrics: MapMetrics::register(&metrics)?,
        };
        let steering = SteeringParts {
            snapshot: reader.clone(),
            news,
            demand: demand_inbox,
            traffic: traffic.clone(),
            driver: driver_handle.clone(),
            clock,
            config: settings::spread(&config),
            metrics: steering_metrics,
        };
        let (ready, ready_seen) = watch::channel(Readiness::default());
        StoreMetrics::register(&metrics)?.follow(&store);
        let examiner = Examiner::new(&config, Some(geo.status()));
        let peers_at = peers.as_ref().map(PeerServer::local_addrs).unwrap_or_default();
        let state = ApiState {
            me: Me {
                id: keys.broker.id(),
                name: settings::peer_name(&config),
                addresses: settings::advertise_to_peers(&config, &peers_at),
                clients: ports(&clients),
            },
            snapshot: reader,
            signing,
            events,
            admin,
            peers: peers.is_some().then_some(peers_handle),
            fleet: FleetAccess {
                sessions: agent_parts.table.clone(),
                driver: driver_handle.clone(),
                traffic,
                demand,
            },
            reports,
            registry: metrics.clone(),
            metrics: ApiMetrics::register(&metrics)?,
            settings: ApiSettings::try_from(&config.http)?,
            log: around.log.clone(),
            ready: ready_seen,
            examiner: examiner.clone(),
        };
        let desk = state.admin.desk().clone();
        let api = ApiServer::bind(&Listeners::from(&config), state).await?;
        let addresses = Addresses {
            broker: keys.broker.id().to_string(),
            dns: dns.local_addrs(),
            dot: dns.encrypted().map(EncryptedServer::dot_addrs).unwrap_or_default(),
            doq: dns.encrypted().map(EncryptedServer::doq_addrs).unwrap_or_default(),
            http: api.local_addrs(),
            redirect: api.redirect_addrs(),
            agents: agents.local_addrs(),
            beacons: beacons.local_addrs(),
            clients: clients.local_addrs(),
            peers: peers.as_ref().map(PeerServer::local_addrs).unwrap_or_default(),
            admin: config.admin.socket.clone(),
        };
        examiner.bound(&addresses);
        if let Some(given) = &around.given {
            started::note(&store, given).await?;
        }
        let tasks = Tasks {
            registrar: (registrar, inbox),
            desk: desk_task,
            keeper,
            liveness: Liveness {
                notifier: around.notifier.clone(),
                driver: driver_handle.clone(),
                dns: dns.local_addrs(),
                workers: dns.beats(),
                registry: registry.clone(),
            },
            registry,
            driver: (driver, inputs, complained),
            driver_handle,
            learner,
            mapping,
            steering,
            verdicts: Box::pin(verdict_writer),
            agents: agent_parts,
            clients: client_parts,
            peers: peer_parts,
            lists,
            log_writers,
            pairs,
            intake,
            pace,
            followed: Followed { places, resolver_metrics: ResolverMetrics::register(&metrics)? },
            store: (store_thread, store),
        };
        let sockets = Sockets { dns, api, agents, beacons, clients, peers };
        let control = Control {
            running: Arc::new(config.clone()),
            current: Arc::new(Mutex::new(Arc::new(config.clone()))),
            geo: geo.clone(),
            api: sockets.api.control(),
            certificate: sockets.dns.encrypted().map(EncryptedServer::certificate),
            log: around.log,
            keeping,
            desk,
        };
        Ok(Broker { config, addresses, sockets, tasks, control, geo, ready, early })
    }

    /// Where it is reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// For signals.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until cancelled.
    ///
    /// # Errors
    /// [`BrokerError::TaskEnded`] when a task ended that must not: everything was stopped then, since
    /// a broker that goes on without its driver would answer from a world that stands still.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), BrokerError> {
        let Broker { config, sockets, tasks, geo, ready, early, .. } = self;
        let handle = tasks.driver_handle;
        let names = HostnameParts {
            settings: settings::hostnames(&config),
            registry: tasks.registry.clone(),
            driver: handle.clone(),
            metrics: tasks.followed.resolver_metrics,
        };
        let (keys, metrics) = (tasks.agents.beacons.clone(), tasks.intake.clone());
        let registry = tasks.registry;
        let beacons = sockets.beacons.run(keys, handle.clone(), registry.clone(), metrics, cancel.clone());
        let mut front = Crew::default();
        front.spawn("dns", serve_dns(sockets.dns, cancel.clone()));
        front.spawn("api", sockets.api.run(cancel.clone()));
        front.spawn("beacons", beacons);
        front.spawn("agents", sockets.agents.run(tasks.agents, cancel.clone()));
        if let Some(peers) = sockets.peers {
            front.spawn("peers", peers.run(tasks.peers, cancel.clone()));
        }
        front.spawn("lists", until(cancel.clone(), tasks.lists.run()));
        front.spawn("clients", sockets.clients.run(tasks.clients, cancel.clone()));
        front.spawn("pairs", until(cancel.clone(), pairing::run(tasks.pairs)));
        front.spawn("pace", until(cancel.clone(), pace::run(tasks.pace)));
        front.spawn("places", follow_places(tasks.followed.places, handle, cancel.clone()));
        front.spawn("corrections", until(cancel.clone(), follow_corrections(registry, geo.clone())));
        front.spawn("steering", until(cancel.clone(), steering::run(tasks.steering)));
        front.spawn("mapping", until(cancel.clone(), mapping::run(tasks.mapping)));
        front.spawn("hostnames", hostnames::follow(names, cancel.clone()));
        front.spawn("liveness", tasks.liveness.run(cancel.clone()));

        // What the front hands work to ends after it.
        let mut back = Crew::default();
        let stop_back = CancellationToken::new();
        back.spawn("verdicts", tasks.verdicts);
        back.spawn("audit", tasks.desk.run(stop_back.clone()));
        if let Some(writers) = tasks.log_writers {
            back.spawn("query log", writers.run(stop_back.clone()));
        }
        let (store_thread, store) = tasks.store;
        back.spawn("store", until(stop_back.clone(), async move { store.stopped().await }));
        back.spawn("learner", learning::run(tasks.learner, stop_back.clone()));
        let (driver, inputs, complained) = tasks.driver;
        back.spawn("driver", driver.run(inputs, complained, stop_back.clone()));
        back.spawn("keeper", tasks.keeper.run(stop_back.clone()));
        back.spawn("registrar", tasks.registrar.0.run(tasks.registrar.1, stop_back.clone()));

        ready.send_replace(Readiness { places_complete: geo.status().borrow().complete, ..Readiness::READY });
        back.spawn("readiness", until(stop_back.clone(), follow_readiness(geo, ready.clone())));
        let ended = first_end(&mut front, &mut back, &cancel).await;
        if let Some(task) = ended {
            tracing::error!(task, "a task has ended that must not; stopping");
            cancel.cancel();
        }
        ready.send_modify(|r| r.stopping = true);
        stop(front).await;
        stop_back.cancel();
        match ended {
            Some(_) => stop(back).await,
            // What was handed to it is written, however long that takes.
            None => back.all_ended().await,
        }
        early.cancel();
        let stopped = store_thread.stop().await;
        match ended {
            Some(task) => Err(BrokerError::TaskEnded { task }),
            None => Ok(stopped?),
        }
    }
}

/// The first task that ends before the broker is told to stop; `None` when it is told to.
async fn first_end(front: &mut Crew, back: &mut Crew, cancel: &CancellationToken) -> Option<&'static str> {
    let task = tokio::select! {
        () = cancel.cancelled() => return None,
        task = front.ended() => task,
        task = back.ended() => task,
    };
    // Being told to stop ends tasks too.
    (!cancel.is_cancelled()).then_some(task)
}

/// Waits for the tasks, not for ever: one that they wait for may have failed, or a stranger.
async fn stop(mut crew: Crew) {
    if tokio::time::timeout(LAST_WORDS, crew.all_ended()).await.is_err() {
        tracing::error!(tasks = ?crew.running(), "tasks did not end");
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()> + Send) {
    stop.run_until_cancelled_owned(task).await;
}

fn beacon_keys(config: &BrokerConfig, keys: &Keys, beacons: &BeaconServer) -> Arc<BeaconKeys> {
    let port = beacons.local_addrs().first().map_or(0, SocketAddr::port);
    Arc::new(BeaconKeys::new(keys.site.clone(), port, config.mirrors.health.beacon_period))
}

/// Sockets and certificate of encrypted DNS, if it is on.
fn encrypted_dns(
    config: &BrokerConfig,
    keys: &Keys,
    metrics: &DnsMetrics,
) -> Result<Option<EncryptedServer>, DnsError> {
    let bind =
        |settings| EncryptedServer::bind(settings, &keys.broker, metrics.encrypted.certificate.clone());
    settings::encrypted_dns(config).map(bind).transpose()
}

async fn serve_dns(server: DnsServer, cancel: CancellationToken) {
    if let Err(error) = server.run(cancel).await {
        tracing::error!(%error, "DNS has stopped");
    }
}

/// The broker's id, made if there is none: `nearmost-broker init`.
pub fn init(config: &BrokerConfig) -> Result<(Id, bool), BrokerError> {
    keys::prepare_data_dir(&config.data_dir)?;
    let keys = keys::load_or_create(&config.data_dir)?;
    Ok((keys.broker.id(), keys.new))
}

#[cfg(test)]
mod tests;
