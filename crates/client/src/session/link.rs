//! One mirror that is being attached or is attached: its own socket, QUIC connection and tripwire.
//!
//! ```text
//!  handshake ──▶ control stream: attach ──▶ accepted ──▶ datagrams, drain, tripwire; retired, finished
//!      │                 │ refused                           │
//!      ▼                 ▼                                   ▼
//!    ended             ended       connection ended, or what came could not be read: ended
//! ```
//! The task tells the driver through a bounded queue and waits while it is full. Behind it quinn keeps at
//! most [`BUFFER`] bytes of datagrams each way and drops the oldest. When the driver is through with the
//! mirror it closes the connection and aborts the task; nothing here outlives that.

use super::counters::{Count, Counters};
use super::stream::Work;
use crate::clock::mono_now;
use crate::dial::{Dial, DialError, Dialed};
use crate::text::printable;
use nearmost_core::session::{self, MirrorKey, Role, SessionId};
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::identity::{Id, KeyPair};
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{Accepted, Attach, MAX_MESSAGE, ToClient, ToMirror};
use nearmost_wire::ingress::datagram::{FromMirror, Packet};
use nearmost_wire::tls::{self, ALPN_MIRROR, WRONG_KEY};
use quinn::{Connection, ConnectionError, Endpoint, IdleTimeout, RecvStream, SendStream, VarInt};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

/// Bytes of datagrams of one connection that wait, in each direction. Beacons wait with them, so that they
/// must not be many.
const BUFFER: usize = 64 * 1024;
/// Bytes of one stream, and of one connection, that a mirror can make us hold.
const STREAM_WINDOW: u32 = 1024 * 1024;
const WINDOW: u32 = 4 * 1024 * 1024;
/// Silence after which a connection is over, in milliseconds; beacons go more often.
const IDLE_MS: u32 = 20_000;
/// How long the tripwire may take to be established.
const TRIPWIRE: Duration = Duration::from_secs(5);
/// One that closes within so long and two round trips of being opened was not meant to be held.
const HELD: Duration = Duration::from_millis(200);
/// Routers forget connections on which nothing is said; this reminds them, and finds dead hosts.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What a link tells the driver.
pub(super) struct Said {
    pub mirror: MirrorKey,
    /// Which attempt: what an earlier one still has in the queue counts for nothing.
    pub link: u64,
    pub word: Word,
}

pub(super) enum Word {
    Accepted(Box<Up>),
    Refused {
        retry_after: Duration,
        go_to: Option<String>,
    },
    Heard {
        seq: u64,
        ack: Option<session::Ack>,
        packet: Option<Taken>,
    },
    TripwireClosed,
    /// It was closed as soon as it was opened.
    TripwireRefused,
    Drains {
        go_to: Option<String>,
    },
    Finished,
    Ended(String),
}

/// A packet of a flow, as it came.
pub(super) struct Taken {
    pub flow: u64,
    pub number: u64,
    pub payload: Vec<u8>,
}

/// An attached mirror.
pub(super) struct Up {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub accepted: Accepted,
    pub work: Work,
    /// Room in the buffer of datagrams that leave, when there are none.
    pub room: usize,
}

/// Who attaches, to what.
pub(super) struct Ticket {
    pub domain: String,
    pub session: SessionId,
    pub key: KeyPair,
}

/// Where a mirror is, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub address: SocketAddr,
    /// It was answering by a tunnel alone.
    pub by_tunnel: bool,
}

/// An attempt to attach, and what comes of it.
pub(super) struct Link {
    pub mirror: MirrorKey,
    pub link: u64,
    pub node: Id,
    pub way: Way,
    pub role: Role,
    pub ticket: Arc<Ticket>,
    pub to: mpsc::Sender<Said>,
    pub retired: Arc<Notify>,
    pub counters: Arc<Counters>,
}

/// Why a link ends.
enum Fault {
    /// The mirror said something that it should not have.
    Bad(Refusal, String),
    /// The connection ended or did not come about.
    Ended(String),
}

impl Fault {
    fn ended(error: impl std::fmt::Display) -> Fault {
        Fault::Ended(printable(&error.to_string()))
    }

    fn order(why: &str) -> Fault {
        Fault::Bad(Refusal::OutOfOrder, why.into())
    }

    /// What became of a control stream. A connection that ended says more than its streams.
    fn control(error: FrameError, connection: &Connection) -> Fault {
        match (connection.close_reason(), error) {
            (Some(reason), _) => Fault::ended(reason),
            (None, FrameError::Ended | FrameError::Io(_)) => Fault::order("the control stream ended"),
            (None, other) => Fault::Bad(Refusal::BadMessage, other.to_string()),
        }
    }
}

impl Link {
    /// To the end of the connection.
    pub async fn run(self) {
        let why = match self.connect().await {
            // What it goes through is held until it has ended.
            Ok(Dialed { endpoint, connection, tunnel: _tunnel }) => {
                match self.attach(endpoint, &connection).await {
                    Ok(()) => return,
                    Err(Fault::Ended(why)) => why,
                    Err(Fault::Bad(refusal, why)) => {
                        self.counters.add(Count::BadInput);
                        connection.close(refusal.code().into(), why.as_bytes());
                        why
                    }
                }
            }
            Err(why) => why,
        };
        self.tell(Word::Ended(why)).await;
    }

    /// A driver that is gone has no use for it.
    async fn tell(&self, word: Word) {
        let _ = self.to.send(Said { mirror: self.mirror, link: self.link, word }).await;
    }

    async fn connect(&self) -> Result<Dialed, String> {
        let config = config(&self.ticket.key, self.node).map_err(|e| e.to_string())?;
        let tcp_after = if self.way.by_tunnel { Duration::ZERO } else { Dial::TCP_AFTER };
        let dial = Dial { at: self.way.address, key: &self.ticket.key, server: self.node, config, tcp_after };
        dial.connect().await.map_err(|e| match e {
            DialError::Connection(e) if is_wrong_key(&e) => {
                self.counters.add(Count::WrongKey);
                format!("whoever answers at {} is another node", self.way.address)
            }
            other => printable(&other.to_string()),
        })
    }

    /// Attaches, and stays until the connection ends or has to. `Ok` when the mirror refused.
    async fn attach(&self, endpoint: Endpoint, connection: &Connection) -> Result<(), Fault> {
        let (mut send, mut recv) = connection.open_bi().await.map_err(Fault::ended)?;
        let Ticket { domain, session, .. } = &*self.ticket;
        let attach = Attach { domain: domain.clone(), session: session.0, role: self.role.into() };
        let asked = async {
            frame::write(&mut send, &ToMirror::Attach(attach)).await?;
            frame::read_at_most::<ToClient>(&mut recv, MAX_MESSAGE).await
        };
        let accepted = match asked.await.map_err(|e| Fault::control(e, connection))? {
            ToClient::Accepted(accepted) if accepted.role == self.role.into() => accepted,
            ToClient::Refused(refused) => {
                self.refused(refused.retry_after_ms, refused.go_to).await;
                return Ok(());
            }
            ToClient::Accepted(_) => return Err(Fault::order("accepted in another role")),
            ToClient::Drain { .. } => return Err(Fault::order("a drain before an answer")),
        };
        let work = Work::new();
        let room = connection.datagram_send_buffer_space();
        let up = Up { endpoint, connection: connection.clone(), accepted, work: work.clone(), room };
        self.tell(Word::Accepted(Box::new(up))).await;
        tokio::select! {
            fault = self.listen(recv, connection) => Err(fault),
            fault = self.datagrams(connection) => Err(fault),
            fault = self.leave(send, work, connection) => Err(fault),
            never = self.tripwire(connection) => match never {},
        }
    }

    async fn refused(&self, retry_after_ms: u32, go_to: Option<String>) {
        let retry_after = Duration::from_millis(retry_after_ms.into());
        self.tell(Word::Refused { retry_after, go_to }).await;
    }

    /// What the mirror says on the control stream.
    async fn listen(&self, mut recv: RecvStream, connection: &Connection) -> Fault {
        loop {
            match frame::read_at_most(&mut recv, MAX_MESSAGE).await {
                Ok(ToClient::Drain { go_to, .. }) => self.tell(Word::Drains { go_to }).await,
                Ok(ToClient::Refused(refused)) => self.refused(refused.retry_after_ms, refused.go_to).await,
                Ok(ToClient::Accepted(_)) => return Fault::order("accepted twice"),
                Err(error) => return Fault::control(error, connection),
            }
        }
    }

    async fn datagrams(&self, connection: &Connection) -> Fault {
        loop {
            let bytes = match connection.read_datagram().await {
                Ok(bytes) => bytes,
                Err(error) => return Fault::ended(error),
            };
            let (seq, ack, packet) = match FromMirror::decode(&bytes) {
                Ok(FromMirror::Beacon { seq, ack }) => (seq, ack, None),
                Ok(FromMirror::Data { seq, ack, packet: Packet { flow, number, payload } }) => {
                    (seq, ack, Some(Taken { flow, number, payload: payload.to_vec() }))
                }
                Err(error) => return Fault::Bad(Refusal::BadDatagram, error.to_string()),
            };
            self.tell(Word::Heard { seq, ack: ack.map(session::Ack::from), packet }).await;
        }
    }

    /// Once the driver says so: tells the mirror that new work goes elsewhere, and the driver when the
    /// last stream has ended.
    async fn leave(&self, mut send: SendStream, work: Work, connection: &Connection) -> Fault {
        self.retired.notified().await;
        if let Err(error) = frame::write(&mut send, &ToMirror::Retired).await {
            return Fault::control(error, connection);
        }
        work.done().await;
        self.tell(Word::Finished).await;
        // The stream stays open: its end would be an error to the mirror.
        std::future::pending().await
    }

    /// A TCP connection on which nobody says anything. Its end tells of a process that died long before
    /// silence does. Where none comes about the session does without.
    async fn tripwire(&self, connection: &Connection) -> std::convert::Infallible {
        match tokio::time::timeout(TRIPWIRE, TcpStream::connect(self.way.address)).await {
            Ok(Ok(mut stream)) => {
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
                // Without it a connection that a router forgot is only noticed later.
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                let opened = mono_now();
                match stream.read(&mut [0]).await {
                    Ok(0) | Err(_) if mono_now() - opened >= HELD + connection.rtt() * 2 => {
                        self.tell(Word::TripwireClosed).await;
                    }
                    Ok(0) | Err(_) => {
                        self.counters.add(Count::NoTripwire);
                        self.tell(Word::TripwireRefused).await;
                    }
                    // The mirror has no room for it, or something else listens there: its end means nothing.
                    Ok(_) => self.counters.add(Count::NoTripwire),
                }
            }
            Ok(Err(_)) | Err(_) => self.counters.add(Count::NoTripwire),
        }
        std::future::pending().await
    }
}

fn is_wrong_key(error: &ConnectionError) -> bool {
    error.to_string().contains(WRONG_KEY)
}

fn config(key: &KeyPair, node: Id) -> Result<quinn::ClientConfig, tls::TlsError> {
    let crypto = tls::client_config(key, node, ALPN_MIRROR)?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(WINDOW.into())
        .datagram_receive_buffer_size(Some(BUFFER))
        .datagram_send_buffer_size(BUFFER);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
