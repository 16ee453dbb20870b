//! QUIC inside TLS over TCP, for clients whose network lets no UDP through.
//!
//! ```text
//!  client                                                        server (broker, mirror)
//!  quinn ◀─ UDP on loopback ─▶ relay ◀══ TLS 1.3 over TCP ══▶ relay ◀─ UDP on loopback ─▶ quinn
//! ```
//!
//! Each datagram is written behind its length, two bytes, big-endian. TLS is there so that it looks like the
//! web to what stands between: raw public keys, and the client pins the server's as over UDP. The
//! session inside is the same QUIC, handshake and all, so nothing above knows of the tunnel but that it is
//! slower: a lost segment holds up what is behind it.
//!
//! The server's relay has a socket of its own for each tunnel, by whose address the endpoint tells tunnels
//! apart; [`Tunnels`] says where the client of such an address really is. A datagram that finds its way
//! full is dropped, as any may be. A tunnel on which nothing comes or goes for [`IDLE`] ends.

use crate::identity::{Id, KeyPair};
use crate::tls::{self, SERVER_NAME, TlsError};
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Application protocol of tunnels.
pub const ALPN_TUNNEL: &[u8] = b"nearmost-tunnel/1";
/// Longest datagram: more than QUIC sends on any path.
pub const MAX_DATAGRAM: usize = 4096;
/// First byte of a TLS handshake (RFC 8446 §5.1), by which a listener tells a tunnel from what is silent.
pub const TLS_HANDSHAKE: u8 = 22;
/// How long connecting and the handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Silence after which a tunnel is over; QUIC inside says something more often.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a datagram may take to be written: a client that does not read has it end.
const WRITE: Duration = Duration::from_secs(10);

/// Why a tunnel did not come about.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection or the handshake failed, or a socket.
    #[error("tunnel (TLS over TCP) to {at}: {source}")]
    Io {
        /// The other side.
        at: SocketAddr,
        /// What happened.
        source: io::Error,
    },
}

/// A client's end. Dropped, the tunnel ends.
#[derive(Debug)]
pub struct Tunnel {
    /// Where QUIC connects to instead.
    pub relay: SocketAddr,
    task: AbortHandle,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects to the holder of `server`'s key at `at`, for the endpoint whose socket is `endpoint`.
///
/// # Errors
/// [`TunnelError`] names the address.
pub async fn open(
    at: SocketAddr,
    key: &KeyPair,
    server: Id,
    endpoint: SocketAddr,
) -> Result<Tunnel, TunnelError> {
    let io = |source| TunnelError::Io { at, source };
    let config = Arc::new(tls::stream_client_config(key, server, ALPN_TUNNEL)?);
    let connect = async {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    let stream = tokio::time::timeout(HANDSHAKE, connect).await;
    let stream = stream.map_err(|_| io(io::ErrorKind::TimedOut.into()))?.map_err(io)?;
    let socket = beside(endpoint).await.map_err(io)?;
    let relay = socket.local_addr().map_err(io)?;
    // Whoever waits on the session inside learns of its end by that.
    let task = tokio::spawn(async move { drop(relay_datagrams(stream, &socket).await) }).abort_handle();
    Ok(Tunnel { relay, task })
}

/// Where the clients of tunnels really are.
#[derive(Clone, Debug, Default)]
pub struct Tunnels(Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>);

impl Tunnels {
    /// Where a client is that the endpoint sees at `remote`.
    pub fn origin(&self, remote: SocketAddr) -> SocketAddr {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&remote).copied().unwrap_or(remote)
    }

    /// Serves a TCP connection as a tunnel into the endpoint that is bound to `endpoint`, to its end.
    ///
    /// # Errors
    /// The handshake, or how the tunnel ended.
    pub async fn serve(
        &self,
        stream: TcpStream,
        tls: Arc<rustls::ServerConfig>,
        endpoint: SocketAddr,
    ) -> io::Result<()> {
        let client = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let handshake = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream));
        let stream = handshake.await.map_err(|_| io::ErrorKind::TimedOut)??;
        let socket = beside(endpoint).await?;
        // Goes before the socket does, whose port may then be another's.
        let entry = Entry::new(self, socket.local_addr()?, client);
        let ended = relay_datagrams(stream, &socket).await;
        drop(entry);
        ended
    }
}

/// Stands in the table while its tunnel lives.
struct Entry<'a>(&'a Tunnels, SocketAddr);

impl Entry<'_> {
    fn new(tunnels: &Tunnels, relay: SocketAddr, client: SocketAddr) -> Entry<'_> {
        tunnels.0.lock().unwrap_or_else(PoisonError::into_inner).insert(relay, client);
        Entry(tunnels, relay)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// A socket on this machine that speaks with one other only.
async fn beside(other: SocketAddr) -> io::Result<UdpSocket> {
    let mut other = other;
    if other.ip().is_unspecified() {
        other.set_ip(match other {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    // Bound to the same address, so that one on this machine is spoken to as it is.
    let socket = UdpSocket::bind((loopback_of(other.ip()), 0)).await?;
    socket.connect(other).await?;
    Ok(socket)
}

fn loopback_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        other => other,
    }
}

/// Passes datagrams on until either side ends, or does not go on in time.
async fn relay_datagrams<S: AsyncRead + AsyncWrite>(stream: S, socket: &UdpSocket) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let inwards = async {
        let mut datagram = [0; MAX_DATAGRAM];
        loop {
            let frame = async {
                let length = usize::from(read.read_u16().await?);
                let place = datagram.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
                read.read_exact(place).await
            };
            let length = tokio::time::timeout(IDLE, frame).await.map_err(late)??;
            // As over UDP: what cannot be taken is lost.
            let _ = socket.send(&datagram[..length]).await;
        }
    };
    let outwards = async {
        let mut framed = [0; 2 + MAX_DATAGRAM];
        loop {
            let length =
                match tokio::time::timeout(IDLE, socket.recv(&mut framed[2..])).await.map_err(late)? {
                    Ok(length) => length,
                    // The endpoint's socket may be gone and come again.
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
                    Err(e) => return Err(e),
                };
            // No datagram is longer than the buffer.
            framed[..2].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            let written = async {
                write.write_all(&framed[..2 + length]).await?;
                write.flush().await
            };
            tokio::time::timeout(WRITE, written).await.map_err(late)??;
        }
    };
    tokio::select! {
        end = inwards => end,
        end = outwards => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use tokio::net::TcpListener;

    fn key(role: Role, seed: u8) -> KeyPair {
        KeyPair::from_seed(role, &[seed; 32])
    }

    async fn serve(tunnels: Tunnels, endpoint: SocketAddr) -> SocketAddr {
        let tls = Arc::new(tls::stream_server_config(&key(Role::Node, 1), ALPN_TUNNEL).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tunnels, tls) = (tunnels.clone(), tls.clone());
                tokio::spawn(async move { tunnels.serve(stream, tls, endpoint).await });
            }
        });
        at
    }

    async fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        (socket, at)
    }

    #[tokio::test]
    async fn datagrams_go_both_ways_and_the_server_knows_where_they_are_from() {
        let ((server, endpoint), (client, mine)) = (socket().await, socket().await);
        let tunnels = Tunnels::default();
        let at = serve(tunnels.clone(), endpoint).await;
        let tunnel = open(at, &key(Role::Person, 2), key(Role::Node, 1).id(), mine).await.unwrap();
        let mut heard = [0; MAX_DATAGRAM];
        let mut seen = None;
        for payload in [vec![1u8], vec![2; 1500], Vec::new(), vec![3; 1200]] {
            client.send_to(&payload, tunnel.relay).await.unwrap();
            let (n, from) = server.recv_from(&mut heard).await.unwrap();
            assert_eq!(heard[..n], payload);
            server.send_to(&payload, from).await.unwrap();
            let (n, relay) = client.recv_from(&mut heard).await.unwrap();
            assert_eq!((&heard[..n], relay), (&*payload, tunnel.relay));
            seen = Some(from);
        }
        let seen = seen.unwrap();
        assert_ne!(tunnels.origin(seen), seen);
        drop(tunnel);
        while tunnels.origin(seen) != seen {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn another_key_and_another_protocol_are_refused() {
        let ((_server, endpoint), (_client, mine)) = (socket().await, socket().await);
        let at = serve(Tunnels::default(), endpoint).await;
        let wrong = open(at, &key(Role::Person, 2), key(Role::Node, 9).id(), mine).await;
        assert!(matches!(wrong, Err(TunnelError::Io { .. })), "{wrong:?}");
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        // An alert, and the end: nothing more.
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(said.len() < 64, "{said:?}");
    }
}
