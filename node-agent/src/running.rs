//! The agent's one loop.
//!
//! ```text
//!  checks ──▶ ┐                        ┌──▶ sessions (one task a broker): reports
//!  load ────▶ ├─ report ── loop ───────┼──▶ beacons, straight from the loop
//!  signals ─▶ ┘     ▲                  └──▶ status, metrics
//!                   └── events of sessions        (round trips go to and from sessions past the loop)
//! ```
//!
//! The loop owns all state: [`Sessions`] (with whom, and whom to try), [`Schedule`] (which beacon is
//! due), [`Drain`]. The ingress works past it and is told of health, drains and new settings.
//! It never waits for a broker, a check or a file; those have tasks of their own. Beacons are sent
//! from the loop itself, so that an agent whose loop hangs falls silent and is taken out.

use crate::agent::{Agent, Shutdown};
use crate::beacons::{Schedule, Sockets};
use crate::declare;
use crate::dial::LinkError;
use crate::drain::{Drain, Stage};
use crate::health::Health;
use crate::ingress;
use crate::link::{Event, Link, Paths, ReportBody};
use crate::load::Load;
use crate::measure::Measurer;
use crate::paths::{Reading, Watched};
use crate::report::{self, Known};
use crate::sessions::{Ended, Fate, SessionId, Sessions};
use crate::slots::SUPERSEDED;
use crate::status::{BrokerStatus, MachineStatus, ServiceStatus, SessionState, StandingStatus};
use crate::witness::Witness;
use nearmost_config::AgentConfig;
use nearmost_core::time::MonoTime;
use nearmost_wire::agent::Refusal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The loop turns at least this often.
const TURN: Duration = Duration::from_secs(1);
/// How often the status is told where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// How long the first report waits for first results of checks. Brokers do not send users to services
/// that a report leaves out, so one without them would take healthy mirrors out.
const FIRST_RESULTS: Duration = Duration::from_secs(5);
/// How long sessions may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// The loop's state.
pub(crate) struct Running {
    agent: Agent,
    health: Health,
    meter: Meter,
    sessions: Sessions,
    beacons: Schedule,
    sockets: Sockets,
    drain: Drain,
    /// Takes clients in, where that is enabled.
    ingress: Option<ingress::Running>,
    due: Due,
    rng: StdRng,
}

/// When the loop does next what it does again and again.
struct Due {
    report: MonoTime,
    /// Checks are looked at that may hang.
    watch: MonoTime,
    /// The service manager is told that the loop turns.
    alive: MonoTime,
    /// The first report goes out even though some check had no result yet.
    first_by: MonoTime,
}

/// The tasks that measure, seen from the loop.
pub(crate) struct Meter {
    /// Whose connections they look at.
    pub(crate) services: watch::Sender<Vec<Watched>>,
    /// The load as last read.
    pub(crate) load: watch::Receiver<Load>,
    /// Round trips of connections as last read; for the sessions.
    pub(crate) readings: watch::Receiver<Arc<Reading>>,
    /// Measures on order; for the sessions.
    pub(crate) measurer: Measurer,
    /// Probes on order; for the sessions.
    pub(crate) witness: Witness,
}

impl Running {
    /// Nothing connected and nothing checked yet.
    pub(crate) fn new(mut agent: Agent, meter: Meter) -> Running {
        let mut rng = StdRng::seed_from_u64(rand::random());
        let now = agent.clock.now();
        let metrics = agent.pages.metrics.ingress.clone();
        let ingress = agent.listeners.ingress.take();
        let ingress = ingress.map(|ingress| ingress.start(&agent.config.services, agent.clock, metrics));
        Running {
            health: Health::new(Arc::clone(&agent.prober), rng.random(), agent.clock),
            sessions: Sessions::new(&agent.config),
            meter,
            beacons: Schedule::new(agent.boot),
            sockets: Sockets::default(),
            drain: Drain::new(agent.config.drain_grace),
            ingress,
            due: Due { report: now, watch: now, alive: now, first_by: now + FIRST_RESULTS },
            rng,
            agent,
        }
    }

    /// Runs the checks of the configuration, and watches its processes.
    pub(crate) fn set_checks(&mut self) {
        self.health.set(&self.agent.config.services);
    }

    /// Turns until it is time to leave.
    pub(crate) async fn work(&mut self, shutdown: &Shutdown, mut reloads: mpsc::Receiver<AgentConfig>) {
        let mut may_reload = true;
        self.agent.notifier.ready(&self.summary());
        while self.turn() {
            let wake = self.agent.clock.instant(self.wake());
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                Some((session, event)) = self.sessions.events.recv() => self.on_event(session, event),
                Some(ended) = self.sessions.tasks.join_next_with_id() => self.on_ended(ended),
                () = self.health.changed() => self.on_health(),
                () = shutdown.now.cancelled() => return,
                () = shutdown.drain.cancelled(), if !self.drain.draining() => self.on_drain(),
                config = reloads.recv(), if may_reload => match config {
                    Some(config) => self.on_reload(config),
                    None => may_reload = false,
                },
            }
        }
    }

    /// All that time alone brings; whether to go on.
    fn turn(&mut self) -> bool {
        let now = self.agent.clock.now();
        self.agent.pages.pulse.beat(now);
        self.drain.advance(now);
        self.send_beacons(now);
        self.watch_checks(now);
        self.say_alive(now);
        if self.due.report <= now {
            self.publish();
        }
        while let Some(attempt) = self.sessions.slots.next(now) {
            self.connect(attempt.broker, attempt.address);
        }
        // Replacements that failed and are due again.
        self.renew();
        self.drain.stage() != Stage::Leaving
    }

    /// When time will bring something next.
    fn wake(&self) -> MonoTime {
        let turn = self.agent.clock.now() + TURN;
        let deadlines = [
            self.beacons.deadline(),
            self.sessions.slots.deadline(),
            self.sessions.deadline(),
            self.drain.deadline(),
            Some(self.due.report),
            self.agent.notifier.watchdog_every().map(|_| self.due.alive),
        ];
        deadlines.into_iter().flatten().fold(turn, MonoTime::min)
    }

    /// Looks for checks that hang, now and then; what is found comes back as a change.
    fn watch_checks(&mut self, now: MonoTime) {
        if self.due.watch > now {
            return;
        }
        self.due.watch = now + TURN;
        let (stuck, failing) = self.health.watch_checks();
        let ingress = self.ingress.as_ref().map(ingress::Running::status);
        self.agent.pages.metrics.checks_stuck.set(i64::try_from(stuck).unwrap_or(i64::MAX));
        let sent = self.agent.pages.metrics.beacons.sent.get();
        self.agent.status.send_if_modified(|s| {
            let changed = s.checks != failing || s.ingress != ingress;
            (s.checks, s.ingress, s.beacons_sent) = (failing, ingress, sent);
            changed
        });
    }

    /// Tells the service manager, where one wants to know, that the loop turns: a loop that hangs does not.
    fn say_alive(&mut self, now: MonoTime) {
        if self.due.alive > now || !self.agent.notifier.is_on() {
            return;
        }
        self.due.alive = now + self.agent.notifier.watchdog_every().unwrap_or(STATUS_EVERY);
        self.agent.notifier.status(&self.summary());
        self.agent.notifier.alive();
    }

    /// For people, in `systemctl status`.
    fn summary(&self) -> String {
        let status = self.agent.status.borrow();
        let live = status.brokers.iter().filter(|b| b.session == SessionState::Attached).count();
        let failing = status.checks.len();
        format!("{live} of {} brokers attached, {failing} checks do not pass", status.brokers.len())
    }

    fn send_beacons(&mut self, now: MonoTime) {
        let draining = self.drain.draining();
        let metrics = &self.agent.pages.metrics;
        while let Some(datagram) = self.beacons.due(now, draining) {
            match self.sockets.send(&datagram) {
                Ok(()) => metrics.beacons.sent.inc(),
                Err(e) => {
                    metrics.beacons.failed.inc();
                    tracing::debug!(to = %datagram.to, error = %e, "a beacon could not be sent");
                }
            }
        }
    }

    /// Begins a session at a slot's turn.
    fn connect(&mut self, broker: usize, address: usize) {
        if self.begin(broker, address) {
            self.agent.status.send_modify(|s| s.brokers[broker].session = SessionState::Connecting);
        }
    }

    fn begin(&mut self, broker: usize, address: usize) -> bool {
        let addresses = self.agent.config.brokers.get(broker).map(|b| &b.addresses);
        let Some(address) = addresses.and_then(|a| a.get(address)).cloned() else { return false };
        let Some(ticket) = self.sessions.begin(broker) else { return false };
        self.sessions.spawn(Link {
            key: Arc::clone(&self.agent.key),
            id: self.agent.brokers[broker],
            address,
            outgoing: self.agent.outgoing.subscribe(),
            paths: Paths {
                readings: self.meter.readings.clone(),
                measurer: self.meter.measurer.clone(),
                metrics: self.agent.pages.metrics.paths.clone(),
            },
            witness: self.meter.witness.clone(),
            ticket,
        });
        true
    }

    /// Replaces sessions that declared something else than what the configuration says now.
    fn renew(&mut self) {
        let generation = self.agent.outgoing.borrow().generation;
        for broker in self.sessions.outdated(generation, self.agent.clock.now()) {
            self.begin(broker, self.sessions.slots.address(broker));
        }
    }

    fn on_event(&mut self, session: SessionId, event: Event) {
        let broker = session.broker;
        let now = self.agent.clock.now();
        let metrics = &self.agent.pages.metrics;
        match event {
            Event::Attached { generation, remote, beacon, observed, warnings } => {
                if !self.sessions.attached(session, generation, now) {
                    return;
                }
                let id = self.agent.brokers[broker];
                tracing::info!(broker = %id, %remote, %observed, period_ms = beacon.period_ms, "session is on");
                for warning in &warnings {
                    tracing::warn!(broker = %id, "{warning}");
                }
                self.beacons.grant(broker, remote, &beacon, now);
                self.agent.status.send_modify(|s| {
                    let b = &mut s.brokers[broker];
                    (b.session, b.error) = (SessionState::Attached, None);
                    (b.observed, b.warnings, b.reports_taken) = (Some(observed), warnings, 0);
                });
                // The configuration may have changed while it began.
                self.renew();
            }
            Event::Beacon { remote, beacon } => self.beacons.grant(broker, remote, &beacon, now),
            Event::Reported => metrics.reports.sent.inc(),
            Event::Standing(standing) => self.said(broker, |b| {
                b.standing = standing.verdicts.into_iter().map(StandingStatus::from).collect();
            }),
            Event::Usage(usage) => self.said(broker, |b| b.usage = Some(usage.into())),
            Event::Acked { draining } => {
                metrics.reports.acks.inc();
                self.agent.status.send_modify(|s| s.brokers[broker].reports_taken += 1);
                if draining {
                    self.drain.settled(broker, now);
                }
            }
        }
        self.count_sessions();
    }

    /// A session's task ended.
    fn on_ended(&mut self, ended: Ended) {
        let now = self.agent.clock.now();
        let (task, result) = match ended {
            Ok((task, result)) => (task, Some(result)),
            Err(e) => {
                tracing::error!(error = %e, "a session's task failed");
                (e.id(), None)
            }
        };
        let Some(session) = self.sessions.of_task(task) else { return };
        // What the session said before it ended comes first.
        while let Ok((session, event)) = self.sessions.events.try_recv() {
            self.on_event(session, event);
        }
        let broker = session.broker;
        let id = self.agent.brokers[broker];
        let error = result.and_then(Result::err);
        let refusal = error.as_ref().and_then(LinkError::refusal);
        match (self.sessions.ended(session, refusal, now, self.rng.random()), &error) {
            (Fate::Replaced, _) => {
                tracing::debug!(broker = %id, "a session ended that another had replaced");
                return;
            }
            (fate @ (Fate::Kept | Fate::NotReplacing), _) => {
                self.not_replaced(broker, fate, error.as_ref());
                return;
            }
            (Fate::Anew, _) => self.sessions.slots.again(broker, now),
            (Fate::Over, Some(e)) => {
                let uniform = self.rng.random();
                self.failed(broker, e, now, uniform);
            }
            (Fate::Over, None) => self.sessions.slots.ended(broker, now, self.rng.random()),
        }
        self.drain.settled(broker, now);
        self.agent.status.send_modify(|s| {
            let b = &mut s.brokers[broker];
            b.session = SessionState::Idle;
            b.standing.clear();
            b.usage = None;
            if let Some(e) = error {
                b.error = Some(e.to_string());
            }
        });
        self.agent.pages.metrics.told(&self.agent.status.borrow());
        self.count_sessions();
    }

    /// A session that should have replaced another did not come about.
    fn not_replaced(&self, broker: usize, fate: Fate, error: Option<&LinkError>) {
        let id = self.agent.brokers[broker];
        let why = error.map(LinkError::to_string).unwrap_or_default();
        if fate == Fate::Kept {
            tracing::warn!(broker = %id, why, "the session goes on as declared before: no second one could replace it yet");
        } else {
            tracing::warn!(broker = %id, why, "the session is begun anew: no second one could replace it");
        }
        if let Some(error) = error {
            self.agent.pages.metrics.sessions.ends.with_label_values(&[error.label()]).inc();
            self.agent.status.send_modify(|s| s.brokers[broker].error = Some(why));
        }
    }

    fn failed(&mut self, broker: usize, error: &LinkError, now: MonoTime, uniform: f64) {
        let id = self.agent.brokers[broker];
        self.agent.pages.metrics.sessions.ends.with_label_values(&[error.label()]).inc();
        match error.refusal() {
            Some(Refusal::Superseded) => {
                tracing::error!(
                    broker = %id, retry_s = SUPERSEDED.as_secs(),
                    "{error}; no two machines may share a key: let the other one join with a token of its own"
                );
                self.beacons.forget(broker);
                self.sessions.slots.superseded(broker, now);
            }
            Some(refusal) if !refusal.retryable() => {
                tracing::error!(broker = %id, "{error}");
                self.beacons.forget(broker);
                self.sessions.slots.refused(broker, now, uniform);
            }
            _ => {
                tracing::warn!(broker = %id, "{error}");
                self.beacons.linger(broker, now);
                self.sessions.slots.ended(broker, now, uniform);
            }
        }
    }

    /// A broker said what it thinks of this node.
    fn said(&self, broker: usize, change: impl FnOnce(&mut BrokerStatus)) {
        self.agent.status.send_modify(|s| change(&mut s.brokers[broker]));
        self.agent.pages.metrics.told(&self.agent.status.borrow());
    }

    fn count_sessions(&self) {
        let attached = self.agent.status.borrow().attached();
        self.agent.pages.metrics.sessions.on.set(i64::try_from(attached).unwrap_or(i64::MAX));
    }

    fn on_drain(&mut self) {
        let attached: Vec<usize> = {
            let status = self.agent.status.borrow();
            let on = |b: &usize| status.brokers[*b].session == SessionState::Attached;
            (0..status.brokers.len()).filter(on).collect()
        };
        tracing::info!(sessions = attached.len(), "draining");
        self.drain.order(attached, self.agent.clock.now());
        if let Some(ingress) = &self.ingress {
            ingress.drain(self.agent.config.drain_grace);
        }
        self.agent.status.send_modify(|s| s.draining = true);
        self.publish();
    }

    fn on_reload(&mut self, config: AgentConfig) {
        let hello = match declare::hello(
            &config,
            self.agent.boot,
            self.ingress.as_ref().and_then(ingress::Running::port),
        ) {
            Ok(hello) => Arc::new(hello),
            Err(e) => {
                tracing::error!(error = %e, "the new configuration is not used");
                return;
            }
        };
        let mut kept = config.clone();
        let current = &mut self.agent.config;
        kept.services.clone_from(&current.services);
        kept.node.place.clone_from(&current.node.place);
        kept.report_interval = current.report_interval;
        kept.drain_grace = current.drain_grace;
        // Its levels are in force already.
        kept.log.level = current.log.level;
        kept.log.levels.clone_from(&current.log.levels);
        if kept != *current {
            tracing::warn!("some changed settings take effect only after a restart");
        }
        current.services = config.services;
        current.node.place = config.node.place;
        current.report_interval = config.report_interval;
        if current.drain_grace != config.drain_grace && !self.drain.draining() {
            current.drain_grace = config.drain_grace;
            self.drain = Drain::new(config.drain_grace);
        }
        self.agent.pages.metrics.forget_services();
        self.meter.services.send_replace(Watched::all(&self.agent.config.services));
        self.set_checks();
        // While draining nobody is taken in, whatever the services are.
        if let Some(ingress) = self.ingress.as_mut().filter(|_| !self.drain.draining()) {
            ingress.set(&self.agent.config.services, self.agent.config.drain_grace);
        }
        self.agent.outgoing.send_if_modified(|outgoing| {
            let changed = outgoing.hello != hello;
            if changed {
                outgoing.hello = hello;
                outgoing.generation += 1;
            }
            changed
        });
        self.publish();
        self.renew();
        tracing::info!("the new configuration is in use");
    }

    fn body(&self) -> ReportBody {
        let load = self.meter.load.borrow().clone();
        let said = self.agent.outgoing.borrow().report.clone().unwrap_or_default();
        let services = &self.agent.config.services;
        let (statuses, machines) = (self.health.statuses(), self.health.machines());
        let known = Known { statuses: &statuses, machines: &machines, load: &load };
        report::assemble(services, known, self.drain.draining(), &said)
    }

    /// Reports now, unless the first results of checks are still to come.
    fn publish(&mut self) {
        let now = self.agent.clock.now();
        let body = self.body();
        let first = self.agent.outgoing.borrow().report.is_none();
        let complete = body.services.len() == self.agent.config.services.len();
        if first && !complete && !body.draining && now < self.due.first_by {
            // A first result also brings us here.
            self.due.report = self.due.first_by;
            return;
        }
        self.agent.pages.metrics.reported(&body);
        self.agent.status.send_modify(|s| {
            s.machine = MachineStatus { cpu: body.cpu, memory: body.memory };
            s.services = body.services.iter().map(ServiceStatus::from).collect();
        });
        if let Some(ingress) = &self.ingress {
            ingress.told(&body);
        }
        self.agent.outgoing.send_modify(|outgoing| outgoing.report = Some(Arc::new(body)));
        self.due.report = now + self.agent.config.report_interval;
    }

    /// A check became good or bad, or something came of a process.
    fn on_health(&mut self) {
        let processes = self.health.process_status();
        if self.agent.status.borrow().processes != processes {
            self.agent.pages.metrics.processes(&processes);
            self.agent.status.send_modify(|s| s.processes = processes);
        }
        self.publish_if_changed();
    }

    fn publish_if_changed(&mut self) {
        let said = self.agent.outgoing.borrow().report.clone();
        if said.is_none_or(|said| report::differs(&said, &self.body())) {
            self.publish();
        }
    }

    /// Says goodbye to the brokers and stops the checks, unless there is no time even for that.
    pub(crate) async fn finish(mut self, now: &CancellationToken) {
        let goodbye = tokio::time::timeout(FAREWELL, self.sessions.farewell());
        let said = now.run_until_cancelled(goodbye).await;
        if !matches!(said, Some(Ok(()))) {
            tracing::warn!("left without every broker's notice");
        }
        self.sessions.tasks.abort_all();
        if let Some(ingress) = self.ingress {
            let _ = now.run_until_cancelled(ingress.finish()).await;
        }
        self.health.shutdown().await;
    }
}
