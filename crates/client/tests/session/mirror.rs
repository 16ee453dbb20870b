//! A mirror of a test: an ingress in a runtime of its own, so that it can die like a process.

use super::hub::{Attached, Hub, Link, ToHub};
use nearmost_client::identity::{Id, KeyPair, Role};
use nearmost_client::session::{FailureDomain, Known};
use nearmost_core::session::SessionId;
use nearmost_core::session::mirror::{ClientId, SessionKey};
use nearmost_wire::frame;
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::ToMirror;
use nearmost_wire::ingress::datagram::{self, FromClient};
use nearmost_wire::ingress::flow::{Open, OpenAnswer};
use nearmost_wire::tls::{self, ALPN_MIRROR};
use quinn::{RecvStream, SendStream};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// What is behind a mirror's streams, in place of an echo.
pub trait Service: Send + Sync {
    /// The answer to a stream's header.
    fn open(&self) -> OpenAnswer;
    /// Serves a stream that was opened, to its end.
    fn serve(&self, send: SendStream, recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

type Behind = Option<Arc<dyn Service>>;

pub struct Mirror {
    runtime: Option<Runtime>,
    hung: Option<std::sync::mpsc::Sender<()>>,
    key: KeyPair,
    behind: Behind,
    pub address: SocketAddr,
    pub hub: mpsc::Sender<ToHub>,
    pub attached: watch::Receiver<Attached>,
    /// Tripwires that are held.
    pub tripwires: watch::Receiver<usize>,
    /// Streams that ended in order, and those that broke.
    pub streams: watch::Receiver<(usize, usize)>,
    /// The last code with which a client closed a connection.
    pub closed: watch::Receiver<Option<u64>>,
}

impl Mirror {
    pub fn start(seed: u8) -> Mirror {
        Mirror::before(seed, None)
    }

    /// With this service behind its streams.
    pub fn serving(seed: u8, service: Arc<dyn Service>) -> Mirror {
        Mirror::before(seed, Some(service))
    }

    fn before(seed: u8, behind: Behind) -> Mirror {
        let key = KeyPair::from_seed(Role::Node, &[seed; 32]);
        // A port that is free for UDP may not be for TCP.
        (0..50).find_map(|_| Mirror::at(&key, 0, &behind)).expect("a port that is free for both")
    }

    /// The same node on the same port, as after a restart; once the system has closed the old sockets.
    pub async fn again(&self) -> Mirror {
        loop {
            match Mirror::at(&self.key, self.address.port(), &self.behind) {
                Some(mirror) => return mirror,
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// `None` when the port is not free.
    fn at(key: &KeyPair, port: u16, behind: &Behind) -> Option<Mirror> {
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        let address = udp.local_addr().unwrap();
        let tcp = std::net::TcpListener::bind(address).ok()?;
        tcp.set_nonblocking(true).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (hub, told) = mpsc::channel(1024);
        let (attached, seen) = watch::channel(Attached::default());
        let (wires, tripwires) = watch::channel(0);
        let (closes, closed) = watch::channel(None);
        let (ends, streams) = watch::channel((0, 0));
        let seen_by = Shown { closes, ends, behind: behind.clone() };
        let entered = runtime.enter();
        let tls = tls::server_config(key, ALPN_MIRROR).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let (io, with) = (Arc::new(quinn::TokioRuntime), quinn::EndpointConfig::default());
        let endpoint = quinn::Endpoint::new(with, Some(config), udp, io).unwrap();
        let tcp = TcpListener::from_std(tcp).unwrap();
        runtime.spawn(Hub::new(attached).run(told));
        runtime.spawn(hold(tcp, wires));
        runtime.spawn(accept(endpoint, hub.clone(), Arc::new(seen_by)));
        drop(entered);
        let key = key.clone();
        Some(Mirror {
            runtime: Some(runtime),
            hung: None,
            key,
            behind: behind.clone(),
            address,
            hub,
            attached: seen,
            tripwires,
            streams,
            closed,
        })
    }

    pub fn id(&self) -> Id {
        self.key.id()
    }

    /// As a client is told of it, in a failure domain of its own.
    pub fn known(&self) -> Known {
        let mut known = Known::new(&self.id().to_string(), vec![self.address.ip()]).unwrap();
        known.port = self.address.port();
        known.name = Some(format!("m{}", self.address.port()));
        known.predicted = Duration::from_millis(1);
        known.domain = FailureDomain { site: u64::from(self.address.port()), asn: 0, region: 0 };
        known
    }

    /// Dies at once: nothing is said, and the system closes the sockets.
    pub fn kill(&mut self) {
        self.hung = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Stands still like a process that was stopped: its sockets are open, and nobody reads them.
    pub fn hang(&mut self) {
        let (hung, released) = std::sync::mpsc::channel::<()>();
        if let Some(runtime) = &self.runtime {
            // It has one thread.
            runtime.spawn(async move { released.recv().is_ok() });
        }
        self.hung = Some(hung);
    }

    /// Goes on.
    pub fn resume(&mut self) {
        self.hung = None;
    }

    pub async fn tell(&self, message: ToHub) {
        let sent = self.hub.send(message).await;
        sent.map_err(|_| "gone").expect("the mirror lives");
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What tests look at, and what they put there.
struct Shown {
    behind: Behind,
    closes: watch::Sender<Option<u64>>,
    ends: watch::Sender<(usize, usize)>,
}

/// Holds tripwires.
async fn hold(listener: TcpListener, held: watch::Sender<usize>) {
    let held = Arc::new(held);
    let mut tasks = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        held.send_modify(|n| *n += 1);
        let held = held.clone();
        tasks.spawn(async move {
            let _ = stream.read(&mut [0]).await;
            held.send_modify(|n| *n -= 1);
        });
    }
}

async fn accept(endpoint: quinn::Endpoint, hub: mpsc::Sender<ToHub>, shown: Arc<Shown>) {
    while let Some(incoming) = endpoint.accept().await {
        let (hub, shown) = (hub.clone(), shown.clone());
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            if let Some(session) = serve(&connection, &hub, &shown).await {
                let _ = hub.send(ToHub::Detach(session)).await;
            }
            if let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await {
                shown.closes.send_replace(Some(close.error_code.into_inner()));
            }
        });
    }
}

/// Serves a connection to its end, and says whose it was.
async fn serve(
    connection: &quinn::Connection,
    hub: &mpsc::Sender<ToHub>,
    shown: &Arc<Shown>,
) -> Option<SessionKey> {
    let client = ClientId(tls::peer_key(connection)?);
    let (mut send, mut recv) = connection.accept_bi().await.ok()?;
    let Ok(ToMirror::Attach(attach)) = frame::read(&mut recv).await else { return None };
    let session = SessionKey { client, session: SessionId(attach.session) };
    let (words, mut said) = mpsc::unbounded_channel();
    let link = Link { connection: connection.clone(), words };
    hub.send(ToHub::Attach { session, role: attach.role.into(), link }).await.ok()?;
    let speak = async {
        while let Some(word) = said.recv().await {
            let _ = send.write_all(&word).await;
        }
    };
    let listen = async {
        while let Ok(ToMirror::Retired) = frame::read(&mut recv).await {
            let _ = hub.send(ToHub::Retired(session)).await;
        }
    };
    tokio::select! {
        ((), (), (), ()) = async { tokio::join!(speak, listen, datagrams(connection, session, hub), streams(connection, session, hub, shown)) } => {}
        _ = connection.closed() => {}
    }
    Some(session)
}

async fn datagrams(connection: &quinn::Connection, session: SessionKey, hub: &mpsc::Sender<ToHub>) {
    while let Ok(bytes) = connection.read_datagram().await {
        let message = match FromClient::decode(&bytes) {
            Ok(FromClient::Beacon { seq, ask, role, period_ms }) => {
                ToHub::Beacon { session, seq, beacon: datagram::beacon(ask, role, period_ms) }
            }
            Ok(FromClient::Data { seq, packet }) => {
                let (flow, number, payload) = (packet.flow, packet.number, packet.payload.to_vec());
                ToHub::Data { session, seq, flow, number, payload }
            }
            Err(_) => return connection.close(Refusal::BadDatagram.code().into(), b"bad"),
        };
        let _ = hub.send(message).await;
    }
}

/// The service behind streams echoes too, unless another was put there.
async fn streams(
    connection: &quinn::Connection,
    session: SessionKey,
    hub: &mpsc::Sender<ToHub>,
    shown: &Arc<Shown>,
) {
    let mut tasks = JoinSet::new();
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let (hub, shown) = (hub.clone(), shown.clone());
        tasks.spawn(async move {
            let Ok(Open { .. }) = frame::read(&mut recv).await else { return };
            let answer = shown.behind.as_ref().map_or(OpenAnswer::Opened, |service| service.open());
            if answer != OpenAnswer::Opened {
                let _ = frame::write(&mut send, &answer).await;
                return drop(send.finish());
            }
            let _ = hub.send(ToHub::Stream(session, true)).await;
            let _ = frame::write(&mut send, &OpenAnswer::Opened).await;
            if let Some(service) = &shown.behind {
                service.serve(send, recv).await;
                return drop(hub.send(ToHub::Stream(session, false)).await);
            }
            // What is written may find nobody: only the end of what is read is looked at.
            loop {
                match recv.read_chunk(4096, true).await {
                    Ok(Some(chunk)) => drop(send.write_chunk(chunk.bytes).await),
                    Ok(None) => {
                        let _ = send.finish();
                        break shown.ends.send_modify(|(ended, _)| *ended += 1);
                    }
                    Err(_) => {
                        let _ = send.reset(64u8.into());
                        break shown.ends.send_modify(|(_, broken)| *broken += 1);
                    }
                }
            }
            let _ = hub.send(ToHub::Stream(session, false)).await;
        });
    }
}
