//! The machine's driver: moves messages between connections and the machine, records between the machine
//! and the registrar, and dials.

use super::dial::{DialError, Dialler};
use super::dns;
use super::endpoint::{Arrivals, PeerSettings};
use super::handle::Question;
use super::talk::{self, Doorman, Ends, Established, WRITE_QUEUE};
use super::view::{self, Splits};
use crate::admin::AdminHandle;
use crate::clock::{mono_now, unix_now};
use crate::driver::DriverHandle;
use crate::quic::gate::Permit;
use crate::registrar::{Followed, Received, SharedSet};
use crate::store::{Logged, StoreError, StoreHandle};
use crate::telemetry::{PeerMetrics, PeerSample};
use nearmost_core::time::UnixMillis;
use nearmost_replica::federation::{Event as Told, LogHead, Output, PeerStatus, Ticket};
use nearmost_replica::message::{Answer, Checked, Follow, Message};
use nearmost_replica::peer::Link;
use nearmost_replica::peer::PeerState;
use nearmost_replica::set::slot_of_record;
use nearmost_replica::{Federation, Now, PublicKey, SignedRecord};
use nearmost_wire::identity::KeyPair;
use nearmost_wire::peer::{Protocol, Refusal};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Events that wait; readers wait when there are more.
const EVENTS: usize = 64;
/// Log entries read at once.
const TAIL: usize = 2000;
/// Between two looks at who does not see whom.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells connections with one peer apart.
pub(super) type LineId = u64;

/// What the task works with.
pub struct PeerParts {
    /// The registrar.
    pub admin: AdminHandle,
    /// All statements.
    pub set: SharedSet,
    /// What the registrar tells.
    pub followed: Followed,
    /// Peers' states, the log.
    pub store: StoreHandle,
    /// Takes peers' facts and gives ours.
    pub driver: DriverHandle,
    /// What people ask.
    pub questions: mpsc::Receiver<Question>,
    /// Counters.
    pub metrics: PeerMetrics,
}

/// What happened beside the task.
pub(super) enum Event {
    Connected {
        peer: PublicKey,
        established: Established,
        dialled: bool,
        permit: Option<Permit>,
    },
    DialFailed {
        peer: PublicKey,
        error: DialError,
    },
    Message {
        peer: PublicKey,
        line: LineId,
        message: Message<Checked>,
    },
    Ended {
        peer: PublicKey,
        line: LineId,
        why: String,
    },
    /// A line has room.
    Room,
}

/// What was done beside the task.
enum Done {
    Stored(Ticket, Result<Received, StoreError>),
    Forked(Box<(SignedRecord, SignedRecord)>),
    Tail { entries: Result<Vec<Logged>, StoreError>, head: u64 },
    Nothing,
}

pub(super) struct Line {
    id: LineId,
    to: mpsc::Sender<Message>,
    pub connection: quinn::Connection,
    protocol: Protocol,
    reading: watch::Sender<bool>,
    dialled: bool,
    _permit: Option<Permit>,
}

/// Where our log was read up to.
struct Tail {
    seen: u64,
    reading: bool,
}

/// The task.
pub(super) struct PeerTask {
    federation: Federation,
    parts: PeerParts,
    dialler: Dialler,
    lines: HashMap<PublicKey, Line>,
    next_line: LineId,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    work: JoinSet<Done>,
    /// Connections, and attempts at them.
    talks: JoinSet<()>,
    tail: Tail,
    states: BTreeMap<PublicKey, PeerState>,
    began: Instant,
    splits: Splits,
    /// Most items in one peer's queue.
    most: usize,
    dns: watch::Receiver<dns::Told>,
}

impl PeerTask {
    /// From what is known of peers. The sender is for those who accept connections.
    pub async fn new(
        settings: PeerSettings,
        key: KeyPair,
        endpoints: Vec<quinn::Endpoint>,
        parts: PeerParts,
    ) -> Result<(PeerTask, mpsc::Sender<Event>), StoreError> {
        let began = mono_now();
        let own = PublicKey(key.id().key);
        let log = LogHead { epoch: parts.store.log_epoch().await?, position: parts.store.log_head().await? };
        let now = Now { mono_ms: 0, unix_ms: unix_now().0 };
        let mut federation =
            Federation::new(own, settings.federation.clone(), log, now.unix_ms, rand::random(), now);
        // Brokers that were not there then are told too.
        for (_, a, b) in parts.store.load_evidence().await? {
            federation.on_forked(a, b);
        }
        let read = |(key, bytes): (PublicKey, Vec<u8>)| Some((key, serde_json::from_slice(&bytes).ok()?));
        let states = parts.store.load_peers().await?.into_iter().filter_map(read).collect();
        let (sender, receiver) = mpsc::channel(EVENTS);
        let (told, by_dns) = watch::channel(dns::Told::default());
        let mut talks = JoinSet::new();
        talks.spawn(dns::follow(settings.dns, settings.lookup, told));
        let task = PeerTask {
            federation,
            parts,
            dialler: Dialler { endpoints, key, advertise: settings.advertise },
            lines: HashMap::new(),
            next_line: 0,
            events: (sender.clone(), receiver),
            work: JoinSet::new(),
            talks,
            tail: Tail { seen: log.position, reading: false },
            states,
            began,
            splits: Splits::default(),
            most: settings.federation.queue_items,
            dns: by_dns,
        };
        Ok((task, sender))
    }

    /// What those need who accept connections.
    pub fn arrivals(&self) -> Arrivals {
        let PeerParts { admin, followed, metrics, .. } = &self.parts;
        let (admin, followed, metrics) = (admin.clone(), followed.clone(), metrics.clone());
        Arrivals { parts: Doorman { admin, followed, metrics } }
    }

    fn now(&self) -> Now {
        let mono = mono_now().saturating_duration_since(self.began);
        Now { mono_ms: u64::try_from(mono.as_millis()).unwrap_or(u64::MAX), unix_ms: unix_now().0 }
    }

    /// Serves until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        self.follow_members(false).await;
        loop {
            self.pump();
            let due = self.began + Duration::from_millis(self.federation.next_deadline_ms());
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(event) = self.events.1.recv() => self.on_event(event).await,
                Some(done) = self.work.join_next() => self.on_done(done.unwrap_or(Done::Nothing)),
                Some(_) = self.talks.join_next() => {}
                changed = self.parts.followed.members.changed() => match changed {
                    Ok(()) => self.follow_members(true).await,
                    Err(_) => break,
                },
                Ok(()) = self.dns.changed() => self.on_dns(),
                changed = self.parts.followed.head.changed() => match changed {
                    Ok(()) => self.read_tail(),
                    Err(_) => break,
                },
                Some(question) = self.parts.questions.recv() => self.answer(question),
                _ = look.tick() => self.look(),
                () = tokio::time::sleep_until(due.into()) => {
                    let now = self.now();
                    self.federation.on_deadline(now);
                }
            }
        }
        self.finish().await;
    }

    /// Tells every peer that the broker leaves, and keeps where they are.
    async fn finish(mut self) {
        for line in self.lines.values() {
            line.connection.close(Refusal::Leaving.code().into(), b"the broker is stopping");
        }
        self.talks.shutdown().await;
        self.lines.clear();
        let now = self.now();
        self.federation.save_changed(now);
        self.pump();
        while let Some(done) = self.work.join_next().await {
            if let Ok(done) = done {
                self.on_done(done);
            }
        }
    }

    /// Peers are the other members. Where something new is said of them, all that are down are tried.
    async fn follow_members(&mut self, news: bool) {
        let members = self.parts.followed.members.borrow_and_update().clone();
        let now = self.now();
        let gone: Vec<PublicKey> =
            self.federation.peers().filter(|peer| !members.iter().any(|m| m.key == *peer)).collect();
        for peer in gone {
            self.federation.remove_peer(&peer);
            if let Some(line) = self.lines.remove(&peer) {
                line.connection.close(Refusal::Removed.code().into(), b"no member any more");
            }
        }
        for member in members.iter() {
            if self.federation.is_peer(&member.key) {
                if news {
                    // It may be reached elsewhere now.
                    self.federation.on_knock(member.key, now);
                }
                continue;
            }
            let state = self.states.get(&member.key).cloned();
            let backlog = match &state {
                Some(state) => self.backlog(state.acked).await,
                None => Vec::new(),
            };
            self.federation.add_peer(member.key, state, backlog, now);
        }
        self.tell_driver().await;
    }

    /// DNS has told where peers are: those that are not connected are tried.
    fn on_dns(&mut self) {
        let (now, told) = (self.now(), self.dns.borrow_and_update().clone());
        told.keys().for_each(|peer| self.federation.on_knock(*peer, now));
    }

    /// Own writes that a peer has not acknowledged.
    async fn backlog(&self, acked: u64) -> Vec<(u64, nearmost_replica::digest::Slot, u64)> {
        // One more than a queue holds is enough to know that it is too many.
        match self.parts.store.log_after(acked, self.most + 1, true).await {
            Ok(entries) => entries.iter().map(|(p, at, s)| (*p, slot_of_record(s.record()), *at)).collect(),
            Err(error) => {
                tracing::warn!(%error, "what a peer was not told cannot be read; comparing will find it");
                Vec::new()
            }
        }
    }

    async fn tell_driver(&self) {
        let connected = self.lines.keys().map(|key| key.0).collect();
        self.parts.driver.peers_connected(connected).await;
    }

    async fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Connected { peer, established, dialled, permit } => {
                // Whoever was let in just now is a member that may not have been told of yet.
                self.follow_members(false).await;
                self.on_connected(peer, established, dialled, permit).await;
            }
            Event::DialFailed { peer, error } => {
                tracing::debug!(%peer, %error, "not connected");
                if matches!(error, DialError::Refused { refusal: Refusal::BadToken, .. }) {
                    tracing::error!(%peer, %error, "the token was refused; ask for another and join again");
                    let _ = self.parts.admin.joined(peer).await;
                }
                self.federation.on_dial_failed(peer, &error.to_string(), now);
            }
            Event::Message { peer, line, message } => self.on_message(peer, line, message),
            Event::Ended { peer, line, why } => {
                if self.lines.get(&peer).is_some_and(|known| known.id == line) {
                    self.lines.remove(&peer);
                    self.federation.on_down(peer, &why, now);
                    self.tell_driver().await;
                }
            }
            Event::Room => {}
        }
    }

    async fn on_connected(
        &mut self,
        peer: PublicKey,
        established: Established,
        dialled: bool,
        permit: Option<Permit>,
    ) {
        let now = self.now();
        let twice = |connection: &quinn::Connection| {
            connection.close(Refusal::Twice.code().into(), b"there is another connection");
        };
        if !self.federation.is_peer(&peer) {
            established.connection.close(Refusal::Removed.code().into(), b"no member any more");
            return;
        }
        if dialled && self.parts.followed.joins.borrow().contains_key(&peer) {
            // Kept until it is known to be used.
            let _ = self.parts.admin.joined(peer).await;
        }
        if let Some(known) = self.lines.get(&peer) {
            // Of two the one stays that the smaller key dialled: both sides see it so. Of two that one of them
            // dialled the later: it would not have if it knew of the earlier.
            let smaller_dials = PublicKey(self.dialler.key.id().key) < peer;
            let other_way = known.dialled != dialled;
            if known.connection.close_reason().is_none() && other_way && known.dialled == smaller_dials {
                twice(&established.connection);
                return;
            }
            twice(&known.connection);
            self.lines.remove(&peer);
            self.federation.on_down(peer, "replaced by another connection", now);
        }
        tracing::info!(%peer, address = %established.connection.remote_address(), software = %established.software, "connected with a peer");
        self.next_line += 1;
        let (to, outgoing) = mpsc::channel(WRITE_QUEUE);
        let (reading, read) = watch::channel(true);
        let ends = Ends {
            peer,
            line: self.next_line,
            events: self.events.0.clone(),
            reading: read,
            driver: self.parts.driver.clone(),
        };
        let line = Line {
            id: self.next_line,
            to,
            connection: established.connection.clone(),
            protocol: established.protocol,
            reading,
            dialled,
            _permit: permit,
        };
        self.lines.insert(peer, line);
        self.talks.spawn(talk::talk(established, outgoing, ends));
        self.federation.on_up(peer, now);
        self.tell_driver().await;
    }

    fn on_message(&mut self, peer: PublicKey, line: LineId, message: Message<Checked>) {
        let Some(known) = self.lines.get(&peer).filter(|known| known.id == line) else { return };
        self.parts.driver.peer_heard();
        let now = self.now();
        let label = message.label();
        count(&self.parts.metrics, &message);
        let set = self.parts.set.lock();
        if let Err(breach) = self.federation.on_message(peer, message, &set, now) {
            self.parts.metrics.breaches.with_label_values(&[label]).inc();
            tracing::warn!(%peer, message = label, %breach, "a peer breaks the rules; hanging up");
            known.connection.close(Refusal::BadMessage.code().into(), breach.to_string().as_bytes());
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Stored(ticket, Ok(received)) => {
                self.federation.on_logged(*self.parts.followed.head.borrow());
                for (a, b) in received.forks {
                    self.federation.on_forked(a, b);
                }
                for stored in &received.results {
                    self.parts.metrics.received.with_label_values(&[stored.answer.label()]).inc();
                }
                self.federation.on_stored(ticket, received.results, now);
            }
            Done::Stored(ticket, Err(error)) => {
                tracing::warn!(%error, "what a peer delivered was not stored; it will be offered again");
                // Each without a result is answered as overloaded.
                self.federation.on_stored(ticket, Vec::new(), now);
            }
            Done::Forked(both) => {
                let (a, b) = *both;
                self.federation.on_forked(a, b);
            }
            Done::Tail { entries, head } => self.on_tail(entries, head),
            Done::Nothing => {}
        }
    }

    /// Reads what was written here since the last time.
    fn read_tail(&mut self) {
        if self.tail.reading {
            return;
        }
        self.tail.reading = true;
        let head = *self.parts.followed.head.borrow_and_update();
        let (store, seen) = (self.parts.store.clone(), self.tail.seen);
        self.work.spawn(async move { Done::Tail { entries: store.log_after(seen, TAIL, true).await, head } });
    }

    fn on_tail(&mut self, entries: Result<Vec<Logged>, StoreError>, head: u64) {
        let now = self.now();
        self.tail.reading = false;
        match entries {
            Ok(entries) => {
                // What is beyond the head is in the log, but perhaps not in the set yet.
                let shown = entries.iter().filter(|entry| entry.0 <= head);
                for (position, _, signed) in shown {
                    self.federation.on_local(*position, slot_of_record(signed.record()), now);
                }
                let last = entries.last().map_or(0, |entry| entry.0);
                self.tail.seen = if entries.len() < TAIL { head } else { last.min(head) };
            }
            Err(error) => tracing::warn!(%error, "own writes cannot be read; comparing will find them"),
        }
        if self.tail.seen < *self.parts.followed.head.borrow() {
            self.read_tail();
        }
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Peers(reply) => {
                let now = self.now();
                self.splits.look(&self.federation.status(now), now.unix_ms);
                let set = self.parts.set.lock();
                let members = self.parts.followed.members.borrow();
                let own = self.dialler.key.id();
                let response =
                    view::response(own, &self.federation, &set, &members, &self.lines, &self.splits, now);
                drop((set, members));
                // Who asked may have given up.
                let _ = reply.send(response);
            }
        }
    }

    fn look(&mut self) {
        let now = self.now();
        let status = self.federation.status(now);
        self.splits.look(&status, now.unix_ms);
        let members = self.parts.followed.members.borrow();
        let sample = |status: &PeerStatus| PeerSample {
            name: members.iter().find(|m| m.key == status.key).map(|m| m.name.clone()).unwrap_or_default(),
            state: match status.link {
                Link::Up { .. } => "up",
                Link::Dialling => "dialling",
                Link::Down { .. } => "down",
            },
            queued: status.standing.queued as u64,
            oldest: status.standing.oldest_ms.map(Duration::from_millis),
            rtt: self.lines.get(&status.key).map(|line| line.connection.rtt()),
            contact: UnixMillis(status.state.last_contact_unix_ms),
            compared: UnixMillis(status.state.last_compared_unix_ms),
        };
        self.parts.metrics.set(status.iter().map(sample).collect());
    }

    /// Does what follows: orders of the machine, and messages where lines have room.
    fn pump(&mut self) {
        let mut states = Vec::new();
        while let Some(output) = self.federation.poll_output() {
            match output {
                Output::Save(key, state) => states.push((key, state)),
                other => self.obey(other),
            }
        }
        self.save(states);
        let now = self.now();
        let set = self.parts.set.lock();
        for (peer, line) in &self.lines {
            let wants = self.federation.wants_input(peer);
            line.reading.send_if_modified(|reading| std::mem::replace(reading, wants) != wants);
            while let Ok(room) = line.to.try_reserve() {
                match self.federation.poll_message(*peer, &set, now) {
                    Some(message) if line.protocol.knows(&message) => room.send(message),
                    Some(_) => {}
                    None => break,
                }
            }
        }
    }

    fn save(&mut self, states: Vec<(PublicKey, PeerState)>) {
        if states.is_empty() {
            return;
        }
        let bytes = |state: &PeerState| serde_json::to_vec(state).ok();
        let rows = states.iter().filter_map(|(key, state)| Some((*key, Some(bytes(state)?)))).collect();
        self.states.extend(states);
        let store = self.parts.store.clone();
        self.work.spawn(async move {
            if let Err(error) = store.save_peers(rows).await {
                tracing::warn!(%error, "what is known of peers was not kept");
            }
            Done::Nothing
        });
    }

    fn obey(&mut self, output: Output) {
        let admin = self.parts.admin.clone();
        match output {
            Output::Dial(peer) => self.dial(peer),
            Output::Store { ticket, peer, records } => {
                self.work.spawn(async move { Done::Stored(ticket, admin.receive(peer, records).await) });
            }
            Output::Forked { a, b } => {
                self.work.spawn(async move {
                    match admin.forked(a.clone(), b.clone()).await {
                        Ok(true) => Done::Forked(Box::new((a, b))),
                        _ => Done::Nothing,
                    }
                });
            }
            Output::Event(peer, told) => tell(peer, &told, &self.parts.metrics),
            // Taken out before.
            Output::Save(..) => {}
        }
    }

    fn dial(&mut self, peer: PublicKey) {
        let members = self.parts.followed.members.borrow();
        let mut addresses =
            members.iter().find(|m| m.key == peer).map(|m| m.addresses.clone()).unwrap_or_default();
        drop(members);
        addresses.extend(self.dns.borrow().get(&peer).into_iter().flatten().cloned());
        let secret = self.parts.followed.joins.borrow().get(&peer).copied();
        let (dialler, events) = (self.dialler.clone(), self.events.0.clone());
        self.talks.spawn(async move {
            let event = match dialler.dial(peer, &addresses, secret).await {
                Ok(established) => Event::Connected { peer, established, dialled: true, permit: None },
                Err(error) => Event::DialFailed { peer, error },
            };
            // It fails when the broker stops.
            let _ = events.send(event).await;
        });
    }
}

/// Counts what the answers in a message say, and what it delivers.
fn count(metrics: &PeerMetrics, message: &Message<Checked>) {
    match message {
        Message::Answers { answers, .. } => {
            for answer in answers {
                metrics.delivered.with_label_values(&[answer.label()]).inc();
                match answer.follow() {
                    Follow::Retry => metrics.retries.inc(),
                    Follow::Refused => metrics.refused.with_label_values(&[answer.label()]).inc(),
                    Follow::Settled => {}
                }
            }
        }
        Message::Records { records, .. } => metrics.compared_records.inc_by(records.len() as u64),
        _ => {}
    }
}

fn tell(peer: PublicKey, told: &Told, metrics: &PeerMetrics) {
    match told {
        Told::Up => {}
        Told::Down(why) => tracing::info!(%peer, %why, "the connection with a peer has ended"),
        Told::FellBehind(why, dropped) => {
            metrics.expired.inc_by(*dropped as u64);
            tracing::warn!(%peer, why = why.label(), dropped, "a peer has fallen behind; it will be compared with");
        }
        Told::Refused(item) => {
            tracing::warn!(%peer, answer = item.answer.label(), why = why_of(&item.answer), "a peer refused a record for good");
        }
        Told::Compared(tree, found) => {
            metrics.comparisons.inc();
            tracing::debug!(%peer, ?tree, received = found.received, applied = found.applied, offered = found.offered, "compared with a peer");
        }
    }
}

/// The reason in a refusal.
pub(super) fn why_of(answer: &Answer) -> String {
    match answer {
        Answer::Unauthorised { why } | Answer::Malformed { why } => why.clone(),
        Answer::Banned { until_unix_ms } => format!("its author is banned until {until_unix_ms}"),
        Answer::Forked => "its author stated something else under the same number".into(),
        other => other.label().into(),
    }
}
