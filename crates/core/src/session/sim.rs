//! Clients, mirrors, a broker and the paths between them in virtual time, seeded.
//!
//! Beacons, probes and data get lost; attaching, refusing, draining and detaching go over a reliable
//! connection and are late instead. A paused mirror handles what has come in when it wakes.

use super::client::{Client, ClientConfig, Event, Input, Leave, Output};
use super::list::{FailureDomain, ListVersion, Listed, MirrorList, Standing};
use super::mirror::{
    AttachRequest, Beacon, ClientId, MirrorConfig, MirrorInput, MirrorOutput, SessionKey, Sessions,
};
use super::{Ack, Dice, MirrorKey, Mode, Role, SessionId};
use crate::hash;
use crate::health::Family;
use crate::time::{MonoTime, Now, UnixMillis};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

const STREAM: Duration = Duration::from_millis(10);
const EPOCH: u64 = 1_800_000_000_000;

#[derive(Clone, Copy)]
enum Up {
    Probe { sent: MonoTime },
    Attach(Role),
    Packet { seq: u64, beacon: Beacon },
    Retired,
    Detach,
}

#[derive(Clone, Copy)]
enum Down {
    ProbeAnswer {
        sent: MonoTime,
    },
    Accept,
    Refuse {
        retry_after: Duration,
        go_to: Option<MirrorKey>,
    },
    Packet {
        seq: u64,
        ack: Option<Ack>,
        data: bool,
    },
    Drains(Option<MirrorKey>),
    Close,
    Tripwire,
    TripwireRefused,
    /// No stream is open over it.
    Finished,
}

#[derive(Clone, Copy)]
enum Happening {
    ToMirror { from: usize, to: usize, what: Up },
    ToClient { from: usize, to: usize, what: Down },
    List(usize),
    WakeClient(usize),
    WakeMirror(usize),
    Stream(usize),
}

pub(super) struct Host {
    pub sessions: Sessions,
    pub alive: bool,
    pub paused: MonoTime,
    pub listed: Listed,
    /// Its tripwires hold.
    pub well: bool,
    armed: Option<MonoTime>,
}

pub(super) struct Peer {
    pub machine: Client,
    /// Round trips.
    pub paths: Vec<Duration>,
    /// What arrived of the stream, from whom.
    pub received: Vec<(MonoTime, usize)>,
    pub events: Vec<(MonoTime, Event)>,
    /// Mirrors over which a stream is open, and those whose connection was closed from here.
    pub streams: Vec<usize>,
    pub detached: Vec<(MonoTime, usize, Leave)>,
    pub reported: Vec<usize>,
    armed: Option<MonoTime>,
    asleep: MonoTime,
}

/// What the network does to packets.
#[derive(Default)]
pub(super) struct Net {
    pub loss: f64,
    pub jitter: Duration,
    /// Mirrors that nothing reaches, and from which nothing comes.
    pub up_cut: Vec<usize>,
    pub down_cut: Vec<usize>,
}

pub(super) struct World {
    pub now: MonoTime,
    pub hosts: Vec<Host>,
    pub peers: Vec<Peer>,
    pub net: Net,
    pub version: u64,
    pub broker: bool,
    dice: Dice,
    queue: BTreeMap<(MonoTime, u64), Happening>,
    order: u64,
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A mirror in a site and region of its own.
pub(super) fn listed(index: usize, weight: f64) -> Listed {
    let domain = FailureDomain { site: index as u64, asn: index as u32, region: index as u32 };
    Listed {
        key: MirrorKey(index as u64),
        v4: Some(SocketAddrV4::new([192, 0, 2, index as u8].into(), 7850)),
        v6: None,
        predicted: ms(50),
        weight,
        tier: 0,
        domain,
        standing: Standing::Eligible,
    }
}

/// The session of a peer at mirrors.
pub(super) fn whose(peer: usize) -> SessionKey {
    SessionKey { client: ClientId([peer as u8; 32]), session: SessionId(peer as u64) }
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            now: MonoTime::from_millis(1000),
            hosts: Vec::new(),
            peers: Vec::new(),
            net: Net::default(),
            version: 1,
            broker: true,
            dice: Dice(seed),
            queue: BTreeMap::new(),
            order: 0,
        }
    }

    pub fn add_host(&mut self, listed: Listed, config: MirrorConfig) {
        let sessions = Sessions::new(config);
        self.hosts.push(Host {
            sessions,
            alive: true,
            paused: MonoTime::ZERO,
            listed,
            well: true,
            armed: None,
        });
    }

    pub fn add_peer(&mut self, paths: Vec<Duration>, mode: Mode, config: ClientConfig) {
        let id = self.peers.len();
        let session = SessionId(id as u64);
        let machine = Client::new(config, session, mode, 2, hash::mix(self.dice.next()));
        self.peers.push(Peer {
            machine,
            paths,
            received: Vec::new(),
            events: Vec::new(),
            streams: Vec::new(),
            detached: Vec::new(),
            reported: Vec::new(),
            armed: None,
            asleep: MonoTime::ZERO,
        });
        self.tell(id, Input::Tick);
    }

    /// Every mirror streams to those it serves.
    pub fn stream(&mut self) {
        (0..self.hosts.len()).for_each(|host| self.push(self.now, Happening::Stream(host)));
    }

    /// Ends a mirror; its tripwires close, or everything just stops.
    pub fn kill(&mut self, host: usize, tripwire: bool) {
        self.hosts[host].alive = false;
        for to in 0..self.peers.len() {
            if tripwire && self.hosts[host].sessions.phase(whose(to)).is_some() {
                let at = self.now + self.peers[to].paths[host] / 2;
                self.push(at, Happening::ToClient { from: host, to, what: Down::Tripwire });
            }
        }
    }

    /// A mirror no longer calls itself well: its tripwires close, and it serves on.
    pub fn unwell(&mut self, host: usize) {
        for to in 0..self.peers.len() {
            if self.hosts[host].sessions.phase(whose(to)).is_some() {
                let at = self.now + self.peers[to].paths[host] / 2;
                self.push(at, Happening::ToClient { from: host, to, what: Down::Tripwire });
            }
        }
        self.hosts[host].well = false;
    }

    /// The last stream over a mirror ends.
    pub fn finish(&mut self, peer: usize, host: usize) {
        self.peers[peer].streams.retain(|open| *open != host);
        self.tell(peer, Input::Finished(MirrorKey(host as u64)));
    }

    /// It starts again and remembers nobody.
    pub fn revive(&mut self, host: usize, config: MirrorConfig) {
        let host = &mut self.hosts[host];
        (host.sessions, host.alive, host.armed) = (Sessions::new(config), true, None);
        host.well = true;
    }

    pub fn drain(&mut self, host: usize, within: Duration) {
        self.tell_mirror(host, MirrorInput::Drain { within });
    }

    /// The broker says something else of a mirror, to everyone.
    pub fn push_list(&mut self) {
        self.version += 1;
        (0..self.peers.len()).for_each(|peer| self.push(self.now + ms(20), Happening::List(peer)));
    }

    /// A client's driver does nothing for a while.
    pub fn asleep(&mut self, peer: usize, time: Duration) {
        self.peers[peer].asleep = self.now + time;
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), what) = entry.remove_entry();
            self.now = at;
            self.happen(what);
        }
        self.now = end;
    }

    pub fn tell(&mut self, peer: usize, input: Input) {
        let now = self.clock();
        self.peers[peer].machine.handle(input, now);
        self.drain_client(peer);
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, unix: UnixMillis(EPOCH + self.now.0 / 1000) }
    }

    fn push(&mut self, at: MonoTime, what: Happening) {
        self.order += 1;
        self.queue.insert((at, self.order), what);
    }

    fn lost(&mut self) -> bool {
        hash::unit(self.dice.next()) < self.net.loss
    }

    /// How long a message takes one way; `None` when it is lost.
    fn way(&mut self, peer: usize, host: usize, reliable: bool) -> Option<Duration> {
        let rtt = self.peers[peer].paths[host];
        let mut way = rtt / 2 + self.dice.between(self.net.jitter, 0.0, 1.0);
        while self.lost() {
            if !reliable {
                return None;
            }
            way += rtt + ms(30);
        }
        Some(way)
    }

    fn up(&mut self, from: usize, to: usize, what: Up) {
        let reliable = matches!(what, Up::Attach(_) | Up::Retired | Up::Detach);
        if self.net.up_cut.contains(&to) {
            return;
        }
        if let Some(way) = self.way(from, to, reliable) {
            self.push(self.now + way, Happening::ToMirror { from, to, what });
        }
    }

    fn down(&mut self, from: usize, to: usize, what: Down) {
        let reliable = !matches!(what, Down::ProbeAnswer { .. } | Down::Packet { .. });
        if self.net.down_cut.contains(&from) {
            return;
        }
        if let Some(way) = self.way(to, from, reliable) {
            self.push(self.now + way, Happening::ToClient { from, to, what });
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::ToMirror { to, .. } | Happening::WakeMirror(to) | Happening::Stream(to)
                if self.hosts[to].paused > self.now =>
            {
                self.push(self.hosts[to].paused, what);
            }
            Happening::ToClient { to: peer, .. } | Happening::WakeClient(peer) | Happening::List(peer)
                if self.peers[peer].asleep > self.now =>
            {
                if matches!(what, Happening::WakeClient(_)) {
                    self.peers[peer].armed = Some(self.peers[peer].asleep);
                }
                self.push(self.peers[peer].asleep, what);
            }
            Happening::ToMirror { from, to, what } => self.mirror_gets(from, to, what),
            Happening::ToClient { from, to, what } => self.client_gets(from, to, what),
            Happening::List(peer) => self.list(peer),
            Happening::WakeClient(peer) if self.peers[peer].armed == Some(self.now) => {
                self.peers[peer].armed = None;
                self.tell(peer, Input::Tick);
            }
            Happening::WakeMirror(host) if self.hosts[host].armed.is_some_and(|at| at <= self.now) => {
                self.hosts[host].armed = None;
                self.tell_mirror(host, MirrorInput::Tick);
            }
            Happening::Stream(host) => self.send_stream(host),
            Happening::WakeClient(_) | Happening::WakeMirror(_) => {}
        }
    }

    fn list(&mut self, peer: usize) {
        let paths = &self.peers[peer].paths;
        let mirrors = self.hosts.iter().zip(paths).map(|(h, rtt)| Listed { predicted: *rtt, ..h.listed });
        let version = ListVersion { source: 1, number: self.version };
        let list = MirrorList { version, ends: None, issued: self.clock().unix, mirrors: mirrors.collect() };
        let input = if self.broker { Input::ListArrived(list) } else { Input::BrokerLost };
        self.tell(peer, input);
    }

    fn send_stream(&mut self, host: usize) {
        self.push(self.now + STREAM, Happening::Stream(host));
        let audience = if self.hosts[host].alive { self.peers.len() } else { 0 };
        for to in 0..audience {
            let session = whose(to);
            if self.hosts[host].sessions.sends(session)
                && let Some((seq, ack)) = self.hosts[host].sessions.stamp(session, self.now)
            {
                self.down(host, to, Down::Packet { seq, ack, data: true });
            }
        }
    }

    fn mirror_gets(&mut self, from: usize, to: usize, what: Up) {
        if !self.hosts[to].alive {
            return;
        }
        let session = whose(from);
        let input = match what {
            Up::Probe { sent } => return self.down(to, from, Down::ProbeAnswer { sent }),
            Up::Attach(role) => MirrorInput::Attach(AttachRequest { session, role, proven: true }),
            Up::Packet { seq, beacon } => MirrorInput::Packet { session, seq, beacon: Some(beacon) },
            Up::Retired => MirrorInput::Retired(session),
            Up::Detach => MirrorInput::Detach(session),
        };
        self.tell_mirror(to, input);
    }

    fn tell_mirror(&mut self, host: usize, input: MirrorInput) {
        if !self.hosts[host].alive {
            return;
        }
        self.hosts[host].sessions.handle(input, self.now);
        while let Some(output) = self.hosts[host].sessions.poll_output() {
            let (session, what) = match output {
                MirrorOutput::Accept { session, .. } => (session, Down::Accept),
                MirrorOutput::Refuse { session, retry_after, go_to, .. } => {
                    (session, Down::Refuse { retry_after, go_to })
                }
                MirrorOutput::Beacon { session, seq, ack } => {
                    (session, Down::Packet { seq, ack, data: false })
                }
                MirrorOutput::TellDrain { session, go_to } => (session, Down::Drains(go_to)),
                MirrorOutput::Close { session, .. } => (session, Down::Close),
                MirrorOutput::Promoted(_) | MirrorOutput::Drained => continue,
            };
            self.down(host, session.session.0 as usize, what);
            if matches!(what, Down::Accept) && !self.hosts[host].well {
                // Its tripwire comes about a round trip after that, and is closed at once.
                let (to, what) = (session.session.0 as usize, Down::TripwireRefused);
                let at = self.now + self.peers[to].paths[host] * 3 / 2 + ms(1);
                self.push(at, Happening::ToClient { from: host, to, what });
            }
        }
        let host_of = &mut self.hosts[host];
        if let Some(due) = host_of.sessions.next_deadline()
            && host_of.armed.is_none_or(|at| due < at)
        {
            host_of.armed = Some(due);
            self.push(due, Happening::WakeMirror(host));
        }
    }

    fn client_gets(&mut self, from: usize, to: usize, what: Down) {
        let mirror = MirrorKey(from as u64);
        let input = match what {
            Down::ProbeAnswer { sent } => {
                Input::ProbeAnswered { mirror, family: Family::V4, rtt: self.now.since(sent) }
            }
            Down::Accept => Input::Accepted(mirror),
            Down::Refuse { retry_after, go_to } => Input::Refused { mirror, retry_after, go_to },
            Down::Packet { seq, ack, data } => {
                if data {
                    self.peers[to].received.push((self.now, from));
                }
                Input::Heard { mirror, seq, ack }
            }
            Down::Drains(go_to) => Input::Drains { mirror, go_to },
            Down::Close => Input::Failed(mirror),
            Down::Tripwire => Input::TripwireClosed(mirror),
            Down::TripwireRefused => Input::TripwireRefused(mirror),
            Down::Finished => Input::Finished(mirror),
        };
        self.tell(to, input);
    }

    fn drain_client(&mut self, peer: usize) {
        while let Some(output) = self.peers[peer].machine.poll_output() {
            self.client_does(peer, output);
        }
        let of = &mut self.peers[peer];
        if let Some(due) = of.machine.next_deadline() {
            assert!(due > self.now, "a deadline in the past");
            if of.armed.is_none_or(|at| due < at || at < self.now) {
                of.armed = Some(due);
                self.push(due, Happening::WakeClient(peer));
            }
        }
    }

    fn client_does(&mut self, peer: usize, output: Output) {
        let to = |mirror: MirrorKey| mirror.0 as usize;
        match output {
            Output::Resolve { .. } => self.push(self.now + ms(20), Happening::List(peer)),
            Output::Probe { mirror, .. } => self.up(peer, to(mirror), Up::Probe { sent: self.now }),
            Output::Attach { mirror, role, .. } => self.up(peer, to(mirror), Up::Attach(role)),
            Output::Retire(mirror) => {
                self.up(peer, to(mirror), Up::Retired);
                if !self.peers[peer].streams.contains(&to(mirror)) {
                    let finished = Happening::ToClient { from: to(mirror), to: peer, what: Down::Finished };
                    self.push(self.now, finished);
                }
            }
            Output::Detach { mirror, reason } => {
                self.peers[peer].detached.push((self.now, to(mirror), reason));
                self.up(peer, to(mirror), Up::Detach);
            }
            Output::Beacon { mirror, seq, ask, role, period } => {
                let beacon = Beacon { ask, role, period };
                self.up(peer, to(mirror), Up::Packet { seq, beacon });
            }
            Output::Event(event) => self.peers[peer].events.push((self.now, event)),
            Output::ReportFailed(mirror) => self.peers[peer].reported.push(to(mirror)),
            Output::Promote(_) | Output::Duplicate(_) => {}
        }
    }
}
