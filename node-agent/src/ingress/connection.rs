//! One client's connection: its control stream, its datagrams and its streams.
//!
//! ```text
//!  handshake ──▶ control stream ──▶ attach ──▶ attached: datagrams and streams go to the service's hub
//!      │              │               │ refused: may attach again
//!      ▼              ▼               ▼
//!   refused       idle, or what cannot be read: closed with a reason
//! ```

use super::Shared;
use super::directory::{Door, Doors};
use super::hub::{Asking, At, Link, ToHub};
use super::metrics::{Way, held};
use super::tcp::{self, Ends};
use super::udp::Packet;
use nearmost_core::session::SessionId;
use nearmost_core::session::mirror::{ClientId, SessionKey};
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{Attach, MAX_MESSAGE, ToClient, ToMirror};
use nearmost_wire::ingress::datagram::{self, DatagramError, FromClient};
use nearmost_wire::tls;
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// A handshake not done by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// So long may a connection be without a session, between two words.
const ATTACH: Duration = Duration::from_secs(10);
/// Attempts to attach on one connection.
const MAX_ATTACHES: usize = 16;
/// Words that wait for a client to read them.
const WORDS: usize = 16;
/// How long a word may take to be written.
const SAY: Duration = Duration::from_secs(5);
/// TLS alert of a client that offers other protocols only (RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// The session of a connection, and the way to it.
#[derive(Clone)]
pub(super) struct Attached {
    pub at: At,
    pub door: Door,
}

/// Why a connection is closed from here.
pub(super) struct Fault {
    refusal: Refusal,
    /// What could not be read, for the counter.
    bad_frame: Option<&'static str>,
    why: String,
}

impl Fault {
    fn new(refusal: Refusal, why: &str) -> Fault {
        Fault { refusal, bad_frame: None, why: why.into() }
    }

    /// A message or header that could not be read.
    pub(super) fn message(error: &FrameError) -> Fault {
        Fault { refusal: Refusal::BadMessage, bad_frame: Some(error.label()), why: error.to_string() }
    }

    fn datagram(error: DatagramError) -> Fault {
        let label = match error.label() {
            "empty" => "datagram_empty",
            "kind" => "datagram_kind",
            "truncated" => "datagram_truncated",
            "overlong" => "datagram_overlong",
            "trailing" => "datagram_trailing",
            _ => "datagram_range",
        };
        Fault { refusal: Refusal::BadDatagram, bad_frame: Some(label), why: error.to_string() }
    }
}

/// Serves a connection, which came to `local`, to its end.
pub(super) async fn serve(incoming: Incoming, local: SocketAddr, doors: Doors, shared: Shared) {
    let connection = match handshake(incoming).await {
        Ok(connection) => connection,
        Err(reason) => return shared.metrics.refused(reason),
    };
    let _counted = held(&shared.metrics.connections);
    let ip = connection.local_ip().unwrap_or(local.ip());
    let (words, said) = mpsc::channel(WORDS);
    let number = shared.links.fetch_add(1, Ordering::Relaxed);
    let attached = watch::Sender::new(None);
    // The round trip of a tunnel is no path's.
    let remote = connection.remote_address();
    let direct = shared.tunnels.origin(remote) == remote;
    let _timed = direct.then(|| shared.paths.enter(number, connection.clone(), attached.subscribe()));
    let client = Client {
        link: Link { connection: connection.clone(), words },
        number,
        local: SocketAddr::new(ip, local.port()),
        doors,
        attached,
        shared,
    };
    if let Err(fault) = client.run(said).await {
        if let Some(what) = fault.bad_frame {
            client.shared.metrics.bad_frame(what);
        }
        tracing::debug!(remote = %connection.remote_address(), reason = fault.refusal.label(), why = fault.why, "a client's connection is closed");
        client.shared.metrics.closed(fault.refusal);
        connection.close(fault.refusal.code().into(), fault.why.as_bytes());
    }
    let attached = client.attached.borrow().clone();
    if let Some(Attached { at, door }) = attached {
        let _ = door.hub.send(ToHub::Detach { at }).await;
    }
}

async fn handshake(incoming: Incoming) -> Result<Connection, &'static str> {
    let label = |e: ConnectionError| if of_another_protocol(&e) { "protocol" } else { "handshake" };
    let connecting = incoming.accept().map_err(label)?;
    match tokio::time::timeout(HANDSHAKE, connecting).await {
        Ok(connected) => connected.map_err(label),
        Err(_) => Err("handshake_timeout"),
    }
}

fn of_another_protocol(error: &ConnectionError) -> bool {
    let code = quinn_proto::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
    matches!(error, ConnectionError::TransportError(e) if e.code == code)
}

struct Client {
    link: Link,
    number: u64,
    local: SocketAddr,
    doors: Doors,
    attached: watch::Sender<Option<Attached>>,
    shared: Shared,
}

impl Client {
    /// Until the connection ends.
    ///
    /// # Errors
    /// Why it has to.
    async fn run(&self, said: mpsc::Receiver<ToClient>) -> Result<(), Fault> {
        let key = tls::peer_key(&self.link.connection).map(ClientId);
        let key = key.ok_or_else(|| Fault::new(Refusal::NoKey, "no Ed25519 key was shown"))?;
        if self.link.connection.max_datagram_size().is_none() {
            return Err(Fault::new(Refusal::OutOfOrder, "datagrams are not taken"));
        }
        let control = tokio::time::timeout(ATTACH, self.link.connection.accept_bi()).await;
        let idle = |_| Fault::new(Refusal::Idle, "no control stream was opened");
        let Ok((send, recv)) = control.map_err(idle)? else { return Ok(()) };
        tokio::select! {
            end = self.listen(recv, key) => end,
            end = self.speak(send, said) => end,
            end = self.datagrams() => end,
            end = self.streams() => end,
        }
    }

    fn session(&self) -> Option<Attached> {
        self.attached.borrow().clone()
    }

    async fn listen(&self, mut recv: RecvStream, key: ClientId) -> Result<(), Fault> {
        let mut attaches = 0;
        loop {
            let read = frame::read_at_most::<ToMirror>(&mut recv, MAX_MESSAGE);
            let message = match self.session() {
                Some(_) => read.await,
                None => tokio::time::timeout(ATTACH, read)
                    .await
                    .map_err(|_| Fault::new(Refusal::Idle, "no session was attached"))?,
            };
            match (message, self.session()) {
                (Ok(ToMirror::Attach(attach)), None) if attaches < MAX_ATTACHES => {
                    attaches += 1;
                    self.attach(attach, key).await?;
                }
                (Ok(ToMirror::Attach(_)), None) => {
                    return Err(Fault::new(Refusal::OutOfOrder, "too many attempts to attach"));
                }
                (Ok(ToMirror::Attach(_)), Some(_)) => {
                    return Err(Fault::new(Refusal::OutOfOrder, "a session is attached already"));
                }
                (Ok(ToMirror::Retired), Some(Attached { at, door })) => {
                    let _ = door.hub.send(ToHub::Retired { at }).await;
                }
                (Ok(ToMirror::Retired), None) => {
                    return Err(Fault::new(Refusal::OutOfOrder, "no session is attached"));
                }
                (Err(_), _) if self.link.connection.close_reason().is_some() => return Ok(()),
                (Err(FrameError::Ended | FrameError::Io(_)), _) => {
                    return Err(Fault::new(Refusal::OutOfOrder, "the control stream ended"));
                }
                (Err(e), _) => return Err(Fault::message(&e)),
            }
        }
    }

    async fn attach(&self, attach: Attach, client: ClientId) -> Result<(), Fault> {
        let door = self.doors.borrow().get(&attach.domain).cloned();
        let Some(door) = door else {
            self.shared.metrics.refused("unknown_domain");
            return Err(Fault::new(Refusal::UnknownDomain, "the domain is not served here"));
        };
        let session = SessionKey { client, session: SessionId(attach.session) };
        let at = At { session, link: self.number };
        // Known before the hub says so: what the client then sends must find it.
        self.attached.send_replace(Some(Attached { at, door: door.clone() }));
        let (attached, answer) = oneshot::channel();
        let role = attach.role.into();
        let asking = Asking { at, role, link: self.link.clone(), attached };
        if door.hub.send(ToHub::Attach(asking)).await.is_err() {
            return Err(Fault::new(Refusal::Leaving, "the service is no longer served here"));
        }
        if !answer.await.unwrap_or(false) {
            self.attached.send_replace(None);
        }
        Ok(())
    }

    async fn speak(&self, mut send: SendStream, mut said: mpsc::Receiver<ToClient>) -> Result<(), Fault> {
        while let Some(message) = said.recv().await {
            match tokio::time::timeout(SAY, frame::write(&mut send, &message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) if self.link.connection.close_reason().is_some() => return Ok(()),
                Ok(Err(_)) => return Err(Fault::new(Refusal::OutOfOrder, "the control stream is not read")),
                Err(_) => return Err(Fault::new(Refusal::Slow, "what is said is not read")),
            }
        }
        Ok(())
    }

    async fn datagrams(&self) -> Result<(), Fault> {
        let metrics = &self.shared.metrics;
        loop {
            let Ok(bytes) = self.link.connection.read_datagram().await else { return Ok(()) };
            metrics.datagram(Way::Up);
            let datagram = FromClient::decode(&bytes).map_err(Fault::datagram)?;
            let Some(Attached { at, door }) = self.session() else {
                metrics.dropped("not_attached");
                continue;
            };
            let message = match datagram {
                FromClient::Beacon { seq, ask, role, period_ms } => {
                    ToHub::Beacon { at, seq, beacon: datagram::beacon(ask, role, period_ms) }
                }
                FromClient::Data { seq, packet } => {
                    let datagram::Packet { flow, number, payload } = packet;
                    ToHub::Data { at, seq, packet: Packet { flow, number, payload: payload.into() } }
                }
            };
            // A hub that ended closes its connections' sessions; the client attaches elsewhere.
            if door.hub.send(message).await.is_err() {
                return Err(Fault::new(Refusal::Leaving, "the service is no longer served here"));
            }
        }
    }

    async fn streams(&self) -> Result<(), Fault> {
        let mut tasks: JoinSet<Result<(), Fault>> = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.link.connection.accept_bi() => {
                    let Ok((send, recv)) = stream else { return Ok(()) };
                    let Some(to) = self.session() else {
                        return Err(Fault::new(Refusal::OutOfOrder, "a stream without a session"));
                    };
                    let client = self.shared.tunnels.origin(self.link.connection.remote_address());
                    let ends = Ends { client, local: self.local };
                    tasks.spawn(tcp::serve(send, recv, to, ends, self.shared.clone()));
                }
                Some(ended) = tasks.join_next() => {
                    if let Ok(Err(fault)) = ended {
                        return Err(fault);
                    }
                }
            }
        }
    }
}
