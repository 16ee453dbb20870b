//! The sessions of a test's mirror: drives the mirror's machine, and echoes what comes.

use nearmost_client::clock::mono_now;
use nearmost_core::session::Role;
use nearmost_core::session::mirror::{
    AttachRequest, Beacon, MirrorConfig, MirrorInput, MirrorOutput, SessionKey, Sessions,
};
use nearmost_core::session::window::{DuplicateWindow, Seen};
use nearmost_core::time::MonoTime;
use nearmost_wire::frame;
use nearmost_wire::ingress::control::{Accepted, Refused, ToClient};
use nearmost_wire::ingress::datagram::{Ack, FromMirror, Packet};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// A payload that is echoed as two copies of one packet.
pub const COPIED: &[u8] = b"copied";

/// A client's connection.
#[derive(Clone)]
pub struct Link {
    pub connection: quinn::Connection,
    /// Bytes for its control stream.
    pub words: mpsc::UnboundedSender<Vec<u8>>,
}

impl Link {
    fn say(&self, word: &ToClient) {
        // A client that is gone is noticed elsewhere.
        let _ = self.words.send(frame::encode(word).expect("encoded"));
    }
}

pub enum ToHub {
    Attach {
        session: SessionKey,
        role: Role,
        link: Link,
    },
    Beacon {
        session: SessionKey,
        seq: u64,
        beacon: Beacon,
    },
    Data {
        session: SessionKey,
        seq: u64,
        flow: u64,
        number: u64,
        payload: Vec<u8>,
    },
    Retired(SessionKey),
    Detach(SessionKey),
    Drain(Duration),
    /// Sends bytes that are no datagram of the protocol to every client.
    Garbage(Vec<u8>),
    /// Writes bytes on the control stream of every client.
    Say(Vec<u8>),
    /// A stream of a session was opened, or ended.
    Stream(SessionKey, bool),
    /// From now on clients are told that there is no service over TCP.
    NoTcp,
}

/// Who is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    pub all: usize,
    pub served: usize,
}

pub struct Hub {
    machine: Sessions,
    links: HashMap<SessionKey, Link>,
    flows: HashMap<(SessionKey, u64), (DuplicateWindow, u64)>,
    asking: Option<Link>,
    open: HashMap<SessionKey, u32>,
    started: Instant,
    tcp: bool,
    attached: watch::Sender<Attached>,
}

impl Hub {
    pub fn new(attached: watch::Sender<Attached>) -> Hub {
        Hub {
            machine: Sessions::new(MirrorConfig::default()),
            links: HashMap::new(),
            flows: HashMap::new(),
            asking: None,
            open: HashMap::new(),
            started: mono_now(),
            tcp: true,
            attached,
        }
    }

    pub async fn run(mut self, mut told: mpsc::Receiver<ToHub>) {
        loop {
            let deadline = self.machine.next_deadline();
            let at = self.started + Duration::from_micros(deadline.map_or(u64::from(u32::MAX), |at| at.0));
            tokio::select! {
                message = told.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = tokio::time::sleep_until(tokio::time::Instant::from_std(at)) => {
                    self.handle(MirrorInput::Tick);
                }
            }
        }
    }

    fn now(&self) -> MonoTime {
        MonoTime::ZERO + mono_now().saturating_duration_since(self.started)
    }

    fn take(&mut self, message: ToHub) {
        match message {
            ToHub::Attach { session, role, link } => {
                self.asking = Some(link);
                let request = AttachRequest { session, role, proven: true };
                self.handle(MirrorInput::Attach(request));
            }
            ToHub::Beacon { session, seq, beacon } => {
                self.handle(MirrorInput::Packet { session, seq, beacon: Some(beacon) });
            }
            ToHub::Data { session, seq, flow, number, payload } => {
                self.handle(MirrorInput::Packet { session, seq, beacon: None });
                self.echo(session, flow, number, &payload);
            }
            ToHub::Retired(session) => self.handle(MirrorInput::Retired(session)),
            ToHub::Detach(session) => {
                self.links.remove(&session);
                self.handle(MirrorInput::Detach(session));
            }
            ToHub::NoTcp => self.tcp = false,
            ToHub::Drain(within) => self.handle(MirrorInput::Drain { within }),
            ToHub::Garbage(bytes) => {
                for link in self.links.values() {
                    link.connection.send_datagram(bytes.clone().into()).expect("sent");
                }
            }
            ToHub::Say(bytes) => {
                for link in self.links.values() {
                    let _ = link.words.send(bytes.clone());
                }
            }
            ToHub::Stream(session, opened) => {
                let open = self.open.entry(session).or_default();
                *open = if opened { *open + 1 } else { *open - 1 };
                let open = *open;
                self.handle(MirrorInput::Work { session, open });
            }
        }
    }

    fn handle(&mut self, input: MirrorInput) {
        self.machine.handle(input, self.now());
        while let Some(output) = self.machine.poll_output() {
            self.act(output);
        }
        let attached = Attached { all: self.machine.len(), served: self.machine.served() };
        self.attached.send_replace(attached);
    }

    fn act(&mut self, output: MirrorOutput) {
        match output {
            MirrorOutput::Accept { session, role } => {
                let link = self.asking.take().expect("somebody asks");
                let accepted = Accepted { role: role.into(), udp: true, tcp: self.tcp, max_flows: 100 };
                link.say(&ToClient::Accepted(accepted));
                self.links.insert(session, link);
            }
            MirrorOutput::Refuse { session, reason, retry_after, .. } => {
                let link = self.asking.take().or_else(|| self.links.get(&session).cloned());
                let retry_after_ms = retry_after.as_millis() as u32;
                let refused = Refused { reason: reason.into(), retry_after_ms, go_to: None };
                link.expect("somebody asks").say(&ToClient::Refused(refused));
            }
            MirrorOutput::Beacon { session, seq, ack } => {
                self.send(session, FromMirror::Beacon { seq, ack: ack.map(Ack::from) });
            }
            MirrorOutput::TellDrain { session, .. } => {
                if let Some(link) = self.links.get(&session) {
                    link.say(&ToClient::Drain { go_to: None, within_ms: 10_000 });
                }
            }
            MirrorOutput::Close { session, .. } => {
                if let Some(link) = self.links.remove(&session) {
                    link.connection.close(0u8.into(), b"left");
                }
            }
            MirrorOutput::Promoted(_) | MirrorOutput::Drained => {}
        }
    }

    /// What comes goes back, once; what asks for it, in two copies.
    fn echo(&mut self, session: SessionKey, flow: u64, number: u64, payload: &[u8]) {
        let (window, next) = self.flows.entry((session, flow)).or_default();
        if window.accept(number) != Seen::Fresh {
            return;
        }
        let number = *next;
        *next += 1;
        for _ in 0..if payload == COPIED { 2 } else { 1 } {
            let Some((seq, ack)) = self.machine.stamp(session, self.now()) else { return };
            let packet = Packet { flow, number, payload };
            self.send(session, FromMirror::Data { seq, ack: ack.map(Ack::from), packet });
        }
    }

    fn send(&self, session: SessionKey, datagram: FromMirror<'_>) {
        if let Some(link) = self.links.get(&session) {
            // A client that is gone is noticed elsewhere.
            let _ = link.connection.send_datagram(datagram.encode().expect("encoded").into());
        }
    }
}
