//! The sessions of one service: drives their machine, and is all that speaks to it.
//!
//! ```text
//!  connections ─ bounded queue ─▶ hub ── Sessions ──▶ words, datagrams and ends of connections
//!  flows ─────── bounded queue ─▶ │
//!  orders (drain) ───────────────▶ └──▶ flows
//! ```
//!
//! A connection is known by its link, a number of its own: what an earlier connection of a session still
//! says does not count once another took the session over.

use super::Shared;
use super::endpoint::DATAGRAMS;
use super::metrics::{Kind, Way};
use super::udp::{self, FlowKey, Flows, Means, Packet};
use nearmost_config::ServiceIngress;
use nearmost_core::session::Role;
use nearmost_core::session::mirror::{
    AttachRequest, Beacon, CloseReason, MirrorConfig, MirrorInput, MirrorOutput, RefuseReason, SessionKey,
    Sessions,
};
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{self, Accepted, Refused, ToClient};
use nearmost_wire::ingress::datagram::{self, FromMirror};
use nearmost_wire::ingress::flow::OpenError;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// What waits for the hub; connections wait when it is full.
const QUEUE: usize = 4096;
/// Taken from the queue at once.
const BATCH: usize = 64;
/// Bytes of datagrams that may wait in a connection without being a burst.
const BEHIND: usize = 8 * 1024;
/// Sessions kept warm for each that may be served.
const STANDBYS: usize = 4;
/// How long after a packet of the client a service's packets count as its answers.
const ANSWERS: Duration = Duration::from_secs(1);

/// A session as one connection speaks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub session: SessionKey,
    /// The connection.
    pub link: u64,
}

/// The way back to a client.
#[derive(Clone)]
pub(super) struct Link {
    pub connection: quinn::Connection,
    /// What is said on its control stream.
    pub words: mpsc::Sender<ToClient>,
}

/// A client wants to attach.
pub(super) struct Asking {
    pub at: At,
    pub role: Role,
    pub link: Link,
    /// Whether it is attached.
    pub attached: oneshot::Sender<bool>,
}

/// The answer to [`ToHub::Open`]: a place among all flows.
pub(super) type Opened = Result<OwnedSemaphorePermit, OpenError>;

/// What connections and flows tell the hub.
pub(super) enum ToHub {
    /// A client wants to attach.
    Attach(Asking),
    /// A beacon came.
    Beacon { at: At, seq: u64, beacon: Beacon },
    /// A packet for the service came.
    Data { at: At, seq: u64, packet: Packet },
    /// A stream wants a connection to the service.
    Open { at: At, answer: oneshot::Sender<Opened> },
    /// A stream that had one ended.
    Closed { at: At },
    /// The client sends new work elsewhere.
    Retired { at: At },
    /// The connection ended.
    Detach { at: At },
    /// The service sent a packet.
    Answer { key: FlowKey, payload: Box<[u8]> },
    /// A flow's socket was closed.
    FlowEnded { key: FlowKey, idle: bool },
}

/// What the agent wants of a service's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Take them in.
    Serve,
    /// Let them leave; others may come once it serves again.
    Drain { within: Duration },
    /// Let them leave, and end.
    Leave { within: Duration },
}

/// The bounds of a service that declares this capacity; 0 when it declares none.
pub(super) fn limits(capacity: u32) -> MirrorConfig {
    let default = MirrorConfig::default();
    match usize::try_from(capacity) {
        Ok(capacity @ 1..) => {
            MirrorConfig { capacity, standbys: capacity.saturating_mul(STANDBYS), ..default }
        }
        _ => default,
    }
}

/// The task of one service.
pub(super) struct Hub {
    machine: Sessions,
    held: HashMap<SessionKey, Held>,
    /// Who attaches just now, until the machine has answered.
    asking: Option<Asking>,
    target: ServiceIngress,
    udp: Means,
    shared: Shared,
    inbox: mpsc::Receiver<ToHub>,
    /// What flows say: a client that floods the other queue keeps no answers from anybody.
    answers: mpsc::Receiver<ToHub>,
    /// Of the last drain.
    within: Duration,
    /// Sessions served and kept warm, as the metrics have it.
    counted: (i64, i64),
}

/// A session that is attached.
struct Held {
    at: At,
    link: Link,
    flows: Flows,
    /// Streams with a connection to the service.
    streams: usize,
    /// Streams that wait for the session to be promoted.
    parked: Vec<oneshot::Sender<Opened>>,
}

impl Hub {
    /// Nobody is attached. With it comes what connections talk to.
    pub(super) fn new(
        target: ServiceIngress,
        limits: MirrorConfig,
        shared: Shared,
    ) -> (mpsc::Sender<ToHub>, Hub) {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let (flows, answers) = mpsc::channel(QUEUE);
        let udp = Means {
            target: target.udp,
            hub: flows,
            places: shared.flows.clone(),
            metrics: shared.metrics.clone(),
            idle: udp::IDLE,
        };
        let hub = Hub {
            machine: Sessions::new(limits),
            held: HashMap::new(),
            asking: None,
            target,
            udp,
            shared,
            inbox,
            answers,
            within: Duration::ZERO,
            counted: (0, 0),
        };
        (sender, hub)
    }

    /// Until a [`Order::Leave`] is done.
    pub(super) async fn run(
        mut self,
        mut orders: watch::Receiver<Order>,
        mut bounds: watch::Receiver<MirrorConfig>,
    ) {
        let (mut batch, mut answered) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            self.count();
            if matches!(*orders.borrow(), Order::Leave { .. }) && self.held.is_empty() {
                return;
            }
            let deadline = self.machine.next_deadline().map(|at| self.shared.clock.instant(at));
            let tick = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Which queue is looked at first is drawn each time.
                _ = self.inbox.recv_many(&mut batch, BATCH) => {}
                _ = self.answers.recv_many(&mut answered, BATCH) => {}
                Ok(()) = orders.changed() => {
                    let order = *orders.borrow_and_update();
                    self.obey(order);
                }
                Ok(()) = bounds.changed() => {
                    let MirrorConfig { capacity, standbys, .. } = *bounds.borrow_and_update();
                    self.machine.set_bounds(capacity, standbys);
                }
                () = tick => self.handle(MirrorInput::Tick),
            }
            batch.drain(..).chain(answered.drain(..)).for_each(|message| self.take(message));
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Serve => self.handle(MirrorInput::Undrain),
            Order::Drain { within } | Order::Leave { within } => {
                self.within = within;
                self.handle(MirrorInput::Drain { within });
            }
        }
    }

    fn take(&mut self, message: ToHub) {
        match message {
            ToHub::Attach(asking) => self.attach(asking),
            ToHub::Beacon { at, seq, beacon } if self.holds(at) => {
                self.handle(MirrorInput::Packet { session: at.session, seq, beacon: Some(beacon) });
            }
            ToHub::Data { at, seq, packet } if self.holds(at) => self.data(at.session, seq, packet),
            ToHub::Open { at, answer } if self.holds(at) => self.open(at.session, answer),
            ToHub::Open { answer, .. } => drop(answer.send(Err(OpenError::NotPrimary))),
            ToHub::Closed { at } if self.holds(at) => {
                if let Some(held) = self.held.get_mut(&at.session) {
                    held.streams = held.streams.saturating_sub(1);
                }
                self.work(at.session);
            }
            ToHub::Retired { at } if self.holds(at) => self.handle(MirrorInput::Retired(at.session)),
            ToHub::Detach { at } if self.holds(at) => {
                self.held.remove(&at.session);
                self.handle(MirrorInput::Detach(at.session));
            }
            ToHub::Answer { key, payload } => self.answer(key, &payload),
            ToHub::FlowEnded { key, idle } => {
                if let Some(held) = self.held.get_mut(&key.session) {
                    held.flows.ended(key, idle);
                    self.work(key.session);
                }
            }
            ToHub::Data { .. } => self.shared.metrics.dropped("not_attached"),
            // Of a connection whose session was refused, ended or taken over.
            ToHub::Beacon { .. } | ToHub::Closed { .. } | ToHub::Retired { .. } | ToHub::Detach { .. } => {}
        }
    }

    /// Whether the connection has the session.
    fn holds(&self, at: At) -> bool {
        self.held.get(&at.session).is_some_and(|held| held.at == at)
    }

    fn attach(&mut self, asking: Asking) {
        let Asking { at: At { session, .. }, role, .. } = asking;
        self.asking = Some(asking);
        // The handshake proved the key.
        self.handle(MirrorInput::Attach(AttachRequest { session, role, proven: true }));
        self.asking = None;
    }

    /// Hands an input to the machine, and does what it says.
    fn handle(&mut self, input: MirrorInput) {
        self.machine.handle(input, self.shared.clock.now());
        while let Some(output) = self.machine.poll_output() {
            self.act(output);
        }
    }

    fn act(&mut self, output: MirrorOutput) {
        match output {
            MirrorOutput::Accept { session, role } => self.accept(session, role),
            MirrorOutput::Refuse { session, reason, retry_after, .. } => {
                self.refuse(session, reason, retry_after);
            }
            MirrorOutput::Promoted(session) => {
                let parked = self.held.get_mut(&session).map(|held| std::mem::take(&mut held.parked));
                parked.into_iter().flatten().for_each(|answer| self.grant(session, answer));
            }
            MirrorOutput::Beacon { session, seq, ack } => {
                self.send(session, FromMirror::Beacon { seq, ack: ack.map(datagram::Ack::from) });
            }
            MirrorOutput::TellDrain { session, .. } => {
                let drain = ToClient::Drain { go_to: None, within_ms: millis(self.within) };
                if let Some(held) = self.held.get(&session) {
                    self.say(&held.link, drain);
                }
            }
            MirrorOutput::Close { session, reason } => {
                if let Some(held) = self.held.remove(&session) {
                    let (refusal, why) = match reason {
                        CloseReason::Idle => (Refusal::Idle, "nothing came for too long"),
                        CloseReason::Drained => (Refusal::Drained, "the work is done"),
                        CloseReason::DrainDeadline => (Refusal::DrainDeadline, "the time to leave is over"),
                    };
                    self.close(&held.link, refusal, why);
                }
            }
            MirrorOutput::Drained => tracing::debug!("no client is left"),
        }
    }

    fn accept(&mut self, session: SessionKey, role: Role) {
        let Some(asking) = self.asking.take() else { return };
        let Asking { at, link, attached, .. } = asking;
        let accepted = Accepted {
            role: role.into(),
            udp: self.target.udp.is_some(),
            tcp: self.target.tcp.is_some(),
            max_flows: self.shared.max_session_flows,
        };
        self.say(&link, ToClient::Accepted(accepted));
        let mut held = Held { at, link, flows: Flows::default(), streams: 0, parked: Vec::new() };
        if let Some(former) = self.held.remove(&session) {
            self.close(&former.link, Refusal::Superseded, "the session was attached elsewhere");
            held.flows = former.flows;
        }
        self.held.insert(session, held);
        let _ = attached.send(true);
        self.work(session);
    }

    fn refuse(&mut self, session: SessionKey, reason: RefuseReason, retry_after: Duration) {
        let reason = control::RefuseReason::from(reason);
        self.shared.metrics.refused(reason.label());
        let refused = Refused { reason, retry_after_ms: millis(retry_after), go_to: None };
        match self.asking.take() {
            Some(asking) => {
                self.say(&asking.link, ToClient::Refused(refused));
                let _ = asking.attached.send(false);
            }
            // One that is attached was not promoted.
            None => {
                let Some(held) = self.held.get_mut(&session) else { return };
                for answer in std::mem::take(&mut held.parked) {
                    let _ = answer.send(Err(OpenError::NotPrimary));
                }
                let link = held.link.clone();
                self.say(&link, ToClient::Refused(refused));
            }
        }
    }

    fn data(&mut self, session: SessionKey, seq: u64, packet: Packet) {
        self.handle(MirrorInput::Packet { session, seq, beacon: None });
        let now = self.shared.clock.now();
        let Some(held) = self.held.get_mut(&session) else { return };
        let most = self.shared.max_session_flows as usize - held.streams;
        match held.flows.take(session, packet, most, &self.udp, now) {
            Ok(true) => self.work(session),
            Ok(false) => {}
            Err(reason) => self.shared.metrics.dropped(reason),
        }
    }

    /// A packet of the service: to the client, if the session is served here or it answers the client.
    fn answer(&mut self, key: FlowKey, payload: &[u8]) {
        let (session, now) = (key.session, self.shared.clock.now());
        let sends = self.machine.sends(session);
        let Some(held) = self.held.get_mut(&session) else { return };
        let Some((number, heard)) = held.flows.answer(key) else { return };
        if !sends && now.since(heard) > ANSWERS {
            return self.shared.metrics.dropped("not_served");
        }
        // How old the acknowledgement is when it leaves is not known of a packet that waits behind others.
        let waits = held.link.connection.datagram_send_buffer_space() + BEHIND < DATAGRAMS;
        let Some((seq, ack)) = self.machine.stamp(session, now) else { return };
        let ack = ack.filter(|_| !waits);
        let packet = datagram::Packet { flow: key.flow, number, payload };
        let ack = ack.map(datagram::Ack::from);
        if self.send(session, FromMirror::Data { seq, ack, packet }) {
            self.shared.metrics.bytes(Kind::Udp, Way::Down, payload.len());
        }
    }

    fn open(&mut self, session: SessionKey, answer: oneshot::Sender<Opened>) {
        let refusal = match self.held.get_mut(&session) {
            _ if self.target.tcp.is_none() => OpenError::NotServed,
            Some(_) if self.machine.serves(session) => return self.grant(session, answer),
            // Retired: it asked for no new work here.
            Some(_) if self.machine.sends(session) => OpenError::NotPrimary,
            // The beacon that promotes it may be on its way, or lost; the next one comes soon.
            Some(held) if held.parked.len() < self.shared.max_session_flows as usize => {
                held.parked.retain(|answer| !answer.is_closed());
                return held.parked.push(answer);
            }
            Some(_) => OpenError::TooMany,
            None => OpenError::NotPrimary,
        };
        let _ = answer.send(Err(refusal));
    }

    fn grant(&mut self, session: SessionKey, answer: oneshot::Sender<Opened>) {
        let Some(held) = self.held.get_mut(&session) else { return };
        let room = held.flows.open() + held.streams < self.shared.max_session_flows as usize;
        let place = if room { self.shared.flows.clone().try_acquire_owned().ok() } else { None };
        // A stream that waits no longer has no use for the place.
        match answer.send(place.ok_or(OpenError::TooMany)) {
            Ok(()) if room => held.streams += 1,
            Ok(()) | Err(_) => return,
        }
        self.work(session);
    }

    /// Tells the machine how much work of a session is under way.
    fn work(&mut self, session: SessionKey) {
        let Some(held) = self.held.get(&session) else { return };
        let open = u32::try_from(held.flows.open() + held.streams).unwrap_or(u32::MAX);
        self.handle(MirrorInput::Work { session, open });
    }

    /// Sends a datagram, and whether it went out.
    fn send(&self, session: SessionKey, datagram: FromMirror<'_>) -> bool {
        let metrics = &self.shared.metrics;
        let Some(held) = self.held.get(&session) else { return false };
        let sent = match datagram.encode() {
            Ok(bytes) => held.link.connection.send_datagram(bytes.into()).map_err(|e| match e {
                quinn::SendDatagramError::TooLarge => "too_large",
                _ => "connection",
            }),
            Err(e) => Err(e.label()),
        };
        match sent {
            Ok(()) => metrics.datagram(Way::Down),
            Err(reason) => metrics.dropped(reason),
        }
        sent.is_ok()
    }

    /// Says something on a control stream. Who does not read what little is said there is let go.
    fn say(&self, link: &Link, message: ToClient) {
        if let Err(mpsc::error::TrySendError::Full(_)) = link.words.try_send(message) {
            self.close(link, Refusal::Slow, "what is said is not read");
        }
    }

    fn close(&self, link: &Link, refusal: Refusal, why: &str) {
        self.shared.metrics.closed(refusal);
        link.connection.close(refusal.code().into(), why.as_bytes());
    }

    fn count(&mut self) {
        let (served, all) = (self.machine.served(), self.machine.len());
        let now =
            (i64::try_from(served).unwrap_or(i64::MAX), i64::try_from(all - served).unwrap_or(i64::MAX));
        self.shared.metrics.sessions(now.0 - self.counted.0, now.1 - self.counted.1);
        self.counted = now;
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.metrics.sessions(-self.counted.0, -self.counted.1);
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
