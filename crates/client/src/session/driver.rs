//! The one task that owns the machine: inputs in, outputs done, deadlines kept.

use super::counters::{Count, Counters};
use super::event::Event;
use super::flows::{Numbers, Windows};
use super::inbox::{Datagram, Inbox};
use super::known::Known;
use super::line::Heard;
use super::link::{Link, Said, Taken, Ticket, Up, Way, Word};
use super::lists::{Lists, Took};
use super::probe::Answer;
use super::probes::{Probed, Probes};
use super::stream::Work;
use crate::clock::{mono_now, now_unix_ms};
use nearmost_core::health::Family;
use nearmost_core::session::client::{self, Client, Input, MoveReason, Output};
use nearmost_core::session::{MirrorKey, Role};
use nearmost_core::time::{MonoTime, Now, UnixMillis};
use nearmost_wire::fare::{Cause, Fare, TELL_EVERY};
use nearmost_wire::identity::Id;
use nearmost_wire::ingress::datagram::{FromClient, MAX_PERIOD_MS, Packet};
use quinn::{Connection, Endpoint, SendDatagramError};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// How long what was sent may take to leave, and then mirrors to acknowledge that the session is over.
const FAREWELL: Duration = Duration::from_millis(500);
/// Mirrors and brokers whose last problem is kept.
const MOST_PROBLEMS: usize = 256;
/// Bytes of datagrams that may wait in a connection without being a burst.
const BEHIND: usize = 8 * 1024;
/// How often it is looked whether all has left.
const LOOK: Duration = Duration::from_millis(5);

/// What handles ask of the driver.
pub(super) enum Command {
    /// Send a packet of a flow.
    Send { flow: u64, payload: Vec<u8> },
    /// This machine's addresses or routes changed.
    NetworkChanged,
    /// The service behind a mirror does not serve.
    Leave(Id),
    /// End.
    Close,
}

/// Where new work goes.
#[derive(Clone)]
pub(super) struct Primary {
    pub node: Id,
    /// The connection's number in this session.
    pub link: u64,
    pub connection: quinn::Connection,
    pub tcp: bool,
    pub work: Work,
}

/// The last problem with each mirror and broker.
pub(super) type Problems = Mutex<HashMap<Id, String>>;

/// What the mirrors of each node are called.
pub(super) type Names = Mutex<HashMap<Id, String>>;

/// Where the driver puts what handles see.
pub(super) struct Outlets {
    pub primary: watch::Sender<Option<Primary>>,
    pub events: broadcast::Sender<Event>,
    pub inbox: Arc<Inbox>,
    pub counters: Arc<Counters>,
    pub problems: Arc<Problems>,
    pub names: Arc<Names>,
}

impl Drop for Outlets {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// A mirror that is attached or on the way.
struct Held {
    link: u64,
    task: AbortHandle,
    retired: Arc<Notify>,
    up: Option<Up>,
    windows: Windows,
}

/// Links' tasks, which end with this.
struct Tasks {
    /// Number of the last one.
    last: u64,
    to: mpsc::Sender<Said>,
    links: JoinSet<()>,
}

/// The machine, and what its outputs are done with.
pub(super) struct Driver {
    machine: Client,
    started: Instant,
    lists: Lists,
    ticket: Arc<Ticket>,
    held: HashMap<MirrorKey, Held>,
    tasks: Tasks,
    probes: Probes,
    numbers: Numbers,
    duplicate: Option<MirrorKey>,
    /// What the broker is told next of how the session stands.
    fare: Fare,
    outlets: Outlets,
}

impl Driver {
    pub fn new(
        machine: Client,
        lists: Lists,
        ticket: Ticket,
        to: mpsc::Sender<Said>,
        outlets: Outlets,
    ) -> Driver {
        Driver {
            machine,
            started: mono_now(),
            lists,
            ticket: Arc::new(ticket),
            held: HashMap::new(),
            tasks: Tasks { last: 0, to, links: JoinSet::new() },
            probes: Probes::default(),
            numbers: Numbers::default(),
            duplicate: None,
            fare: Fare::default(),
            outlets,
        }
    }

    /// Until the last handle is gone, or one says so.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut said: mpsc::Receiver<Said>,
        mut heard: mpsc::Receiver<Heard>,
    ) {
        self.name();
        self.handle(Input::Tick);
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut tell = tokio::time::interval(TELL_EVERY);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(at) = self.machine.next_deadline() {
                let at = self.started + Duration::from_micros(at.0);
                sleep.as_mut().reset(tokio::time::Instant::from_std(at));
            }
            tokio::select! {
                Some(said) = said.recv() => self.said(said),
                Some(heard) = heard.recv() => self.heard(heard),
                command = commands.recv() => match command {
                    Some(Command::Send { flow, payload }) => self.send(flow, &payload),
                    Some(Command::NetworkChanged) => self.network_changed(),
                    Some(Command::Leave(node)) => self.leave(node),
                    Some(Command::Close) | None => break,
                },
                probed = self.probes.next() => self.probed(probed),
                Some(_) = self.tasks.links.join_next() => {}
                () = &mut sleep => self.handle(Input::Tick),
                _ = tell.tick() => self.tell(),
            }
        }
        self.close().await;
    }

    async fn close(&mut self) {
        let ups = || self.held.values().filter_map(|held| held.up.as_ref());
        let endpoints: Vec<Endpoint> = ups().map(|up| up.endpoint.clone()).collect();
        let connections: Vec<_> = ups().map(|up| (up.connection.clone(), up.room)).collect();
        let _ = tokio::time::timeout(FAREWELL, sent(&connections)).await;
        self.handle(Input::Close);
        let idle = async {
            for endpoint in &endpoints {
                endpoint.wait_idle().await;
            }
        };
        // Who does not acknowledge learns it from the tripwire, or from silence.
        let _ = tokio::time::timeout(FAREWELL, idle).await;
    }

    /// Tells the broker how the session stands.
    fn tell(&mut self) {
        self.fare.attached = self.machine.primary().is_some();
        self.fare.standby = self.fare.attached && self.machine.standby().is_some();
        if self.lists.tell(&self.fare) {
            self.fare = Fare::default();
        }
    }

    fn mono(&self) -> MonoTime {
        MonoTime::ZERO + mono_now().saturating_duration_since(self.started)
    }

    /// Hands an input in, and does what comes of it.
    fn handle(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = Now { mono: self.mono(), unix: UnixMillis(now_unix_ms()) };
            self.machine.handle(input, now);
            while let Some(output) = self.machine.poll_output() {
                inputs.extend(self.act(output, now.unix));
            }
        }
        self.publish();
    }

    /// Does an output; some are answered at once.
    fn act(&mut self, output: Output, now: UnixMillis) -> Option<Input> {
        match output {
            Output::Resolve { broker, have } => return self.lists.resolve(broker, have, now),
            Output::Probe { mirror, address } => return self.probe(mirror, address),
            Output::Attach { mirror, address, role } => self.attach(mirror, address, role),
            Output::Detach { mirror, reason } => self.detach(mirror, &format!("{reason:?}")),
            Output::Retire(mirror) => {
                if let Some(held) = self.held.get(&mirror) {
                    held.retired.notify_one();
                }
            }
            Output::Duplicate(mirror) => self.duplicate = mirror,
            Output::Beacon { mirror, seq, ask, role, period } => {
                let most = u128::from(MAX_PERIOD_MS);
                let period_ms = u32::try_from(period.as_millis().clamp(1, most)).unwrap_or(u32::MAX);
                self.datagram(mirror, FromClient::Beacon { seq, ask, role: role.into(), period_ms });
            }
            // The next beacon carries the promotion, and work follows `publish`.
            Output::Promote(_) => {}
            Output::ReportFailed(mirror) => self.lists.failed(mirror),
            Output::Event(event) => {
                if matches!(event, client::Event::Attached(_)) {
                    self.lists.report();
                }
                self.event(event);
            }
        }
        None
    }

    fn known(&self, mirror: MirrorKey) -> Option<&Known> {
        self.lists.mirrors.get(mirror)
    }

    fn named(&self, name: Option<String>) -> Option<MirrorKey> {
        self.lists.mirrors.named(&name?)
    }

    fn heard(&mut self, heard: Heard) {
        let now = UnixMillis(now_unix_ms());
        let Took { input, problem } = self.lists.heard(heard, &self.outlets.counters, now);
        if let Some((broker, what)) = problem {
            self.trouble(broker, what);
        }
        if let Some(input) = input {
            self.name();
            self.handle(input);
            let (machine, held) = (&self.machine, &self.held);
            let keep = |key| held.contains_key(&key) || machine.lists(key);
            self.lists.mirrors.retain(keep);
            self.probes.retain(keep);
        }
    }

    /// Leaves a mirror in order, while it is the primary.
    fn leave(&mut self, node: Id) {
        let primary = self.machine.primary();
        let named = primary.filter(|mirror| self.known(*mirror).is_some_and(|known| known.node == node));
        if let Some(mirror) = named {
            self.handle(Input::Unserved(mirror));
        }
    }

    /// What leads to brokers and mirrors, and what was learnt of the ways, may be another network's.
    fn network_changed(&mut self) {
        self.probes.forget();
        self.lists.network_changed();
        self.handle(Input::NetworkChanged);
        self.handle(Input::BrokerBack);
    }

    fn probe(&mut self, mirror: MirrorKey, address: SocketAddr) -> Option<Input> {
        let node = self.known(mirror)?.node;
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let begun = self.probes.begin(mirror, address, node, self.ticket.clone());
        (!begun).then_some(Input::ProbeFailed { mirror, family })
    }

    fn probed(&mut self, probed: Probed) {
        if !self.probes.counts(&probed) {
            return;
        }
        let Probed { mirror, family, result, .. } = probed;
        match result {
            Ok(Answer { rtt, tunnelled }) => {
                if !tunnelled {
                    self.lists.measured(mirror, rtt);
                }
                self.handle(Input::ProbeAnswered { mirror, family, rtt });
            }
            Err(error) => {
                self.problem(mirror, format!("does not answer: {error}"));
                self.handle(Input::ProbeFailed { mirror, family });
            }
        }
    }

    fn attach(&mut self, mirror: MirrorKey, address: SocketAddr, role: Role) {
        self.detach(mirror, "attached anew");
        let Some(node) = self.known(mirror).map(|known| known.node) else { return };
        let (ticket, counters) = (self.ticket.clone(), self.outlets.counters.clone());
        let tasks = &mut self.tasks;
        tasks.last += 1;
        let (link, to, retired) = (tasks.last, tasks.to.clone(), Arc::<Notify>::default());
        let way = Way { address, by_tunnel: self.probes.by_tunnel(mirror) };
        let attempt = Link { mirror, link, node, way, role, ticket, to, retired: retired.clone(), counters };
        let task = tasks.links.spawn(attempt.run());
        let held = Held { link, task, retired, up: None, windows: Windows::default() };
        self.held.insert(mirror, held);
    }

    fn detach(&mut self, mirror: MirrorKey, why: &str) {
        let Some(held) = self.held.remove(&mirror) else { return };
        if let Some(up) = held.up {
            up.connection.close(0u8.into(), why.as_bytes());
        }
        held.task.abort();
    }

    fn said(&mut self, said: Said) {
        let Said { mirror, link, word } = said;
        let Some(held) = self.held.get_mut(&mirror).filter(|held| held.link == link) else { return };
        let input = match word {
            Word::Accepted(up) => {
                held.up = Some(*up);
                Input::Accepted(mirror)
            }
            Word::Refused { retry_after, go_to } => {
                self.problem(mirror, "refused".into());
                Input::Refused { mirror, retry_after, go_to: self.named(go_to) }
            }
            Word::Heard { seq, ack, packet } => {
                packet.into_iter().for_each(|packet| self.taken(mirror, packet));
                Input::Heard { mirror, seq, ack }
            }
            Word::TripwireClosed => Input::TripwireClosed(mirror),
            Word::TripwireRefused => Input::TripwireRefused(mirror),
            Word::Drains { go_to } => Input::Drains { mirror, go_to: self.named(go_to) },
            Word::Finished => Input::Finished(mirror),
            Word::Ended(why) => {
                self.problem(mirror, why);
                Input::Failed(mirror)
            }
        };
        self.handle(input);
    }

    fn taken(&mut self, mirror: MirrorKey, packet: Taken) {
        let Some(held) = self.held.get_mut(&mirror) else { return };
        let Taken { flow, number, payload } = packet;
        if self.outlets.counters.fresh(held.windows.accept(flow, number)) {
            self.outlets.inbox.put(Datagram { flow, payload });
        }
    }

    /// Sends a packet of the application to the primary, and over the standby while that is wanted. Its
    /// number in the flow is the same on both ways.
    fn send(&mut self, flow: u64, payload: &[u8]) {
        let Some(primary) = self.machine.primary() else {
            return self.outlets.counters.add(Count::Unattached);
        };
        let number = self.numbers.next(flow);
        for mirror in [Some(primary), self.duplicate.filter(|over| *over != primary)].into_iter().flatten() {
            let stamp = match self.waits(mirror) {
                true => self.machine.stamp_behind(mirror),
                false => self.machine.stamp(mirror, self.mono()),
            };
            if let Some(seq) = stamp {
                self.datagram(mirror, FromClient::Data { seq, packet: Packet { flow, number, payload } });
            }
        }
    }

    /// Whether a packet would wait behind others, as in a burst.
    fn waits(&self, mirror: MirrorKey) -> bool {
        let up = self.held.get(&mirror).and_then(|held| held.up.as_ref());
        up.is_some_and(|up| up.connection.datagram_send_buffer_space() + BEHIND < up.room)
    }

    fn datagram(&self, mirror: MirrorKey, datagram: FromClient<'_>) {
        let Some(up) = self.held.get(&mirror).and_then(|held| held.up.as_ref()) else { return };
        let bytes = datagram.encode().map_err(|_| Count::NotSent);
        let sent = bytes.and_then(|bytes| {
            up.connection.send_datagram(bytes.into()).map_err(|e| match e {
                SendDatagramError::TooLarge => Count::TooLarge,
                _ => Count::NotSent,
            })
        });
        if let Err(what) = sent {
            self.outlets.counters.add(what);
        }
    }

    /// Shows handles what mirrors are called.
    fn name(&self) {
        let mut names = self.outlets.names.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.lists.mirrors.all();
        *names = all.into_iter().filter_map(|(_, known)| Some((known.node, known.name.clone()?))).collect();
    }

    fn problem(&self, mirror: MirrorKey, what: String) {
        if let Some(node) = self.known(mirror).map(|known| known.node) {
            self.trouble(node, what);
        }
    }

    fn trouble(&self, with: Id, what: String) {
        let mut problems = self.outlets.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < MOST_PROBLEMS || problems.contains_key(&with) {
            problems.insert(with, what);
        }
    }

    /// Shows handles where new work goes.
    fn publish(&self) {
        let primary = self.machine.primary().and_then(|mirror| {
            let (node, held) = (self.known(mirror)?.node, self.held.get(&mirror)?);
            let Up { connection, accepted, work, .. } = held.up.as_ref()?;
            let (connection, work) = (connection.clone(), work.clone());
            Some(Primary { node, link: held.link, connection, tcp: accepted.tcp, work })
        });
        self.outlets.primary.send_if_modified(|was| {
            let other = was.as_ref().map(|was| was.link) != primary.as_ref().map(|now| now.link);
            if other {
                *was = primary;
            }
            other
        });
    }

    fn event(&mut self, event: client::Event) {
        match event {
            client::Event::Moved { reason, gap, .. } => self.fare.moved(cause(reason), gap),
            client::Event::Lost(_) => self.fare.lost = self.fare.lost.saturating_add(1),
            _ => {}
        }
        let node = |mirror: MirrorKey| self.known(mirror).map(|known| known.node);
        let event = match event {
            client::Event::Attached(mirror) => node(mirror).map(|to| Event::Attached { to }),
            client::Event::Degraded(mirror) => node(mirror).map(|primary| Event::Degraded { primary }),
            client::Event::Restored(mirror) => node(mirror).map(|primary| Event::Restored { primary }),
            client::Event::Lost(mirror) => node(mirror).map(|primary| Event::Lost { primary }),
            client::Event::Moved { from, to, reason, gap } => {
                node(from).zip(node(to)).map(|(from, to)| Event::Moved { from, to, reason, gap })
            }
        };
        // Who sees the event finds the primary that it speaks of.
        self.publish();
        // Nobody may be listening.
        let _ = event.map(|event| self.outlets.events.send(event));
    }
}

fn cause(reason: MoveReason) -> Cause {
    match reason {
        MoveReason::Silence => Cause::Silence,
        MoveReason::Tripwire => Cause::Tripwire,
        MoveReason::Drain => Cause::Drain,
        MoveReason::Unlisted => Cause::Unlisted,
        MoveReason::Refused => Cause::Refused,
        MoveReason::Better => Cause::Better,
    }
}

/// Until all datagrams have left. quinn 0.11 does not even say that a connection is over while congestion
/// control holds datagrams of it back, and tells of no moment at which they are gone.
async fn sent(connections: &[(Connection, usize)]) {
    let waits = |(connection, room): &(Connection, usize)| {
        connection.close_reason().is_none() && connection.datagram_send_buffer_space() < *room
    };
    let mut look = tokio::time::interval(LOOK);
    while connections.iter().any(waits) {
        look.tick().await;
    }
}
