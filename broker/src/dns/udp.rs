//! One UDP worker: everything that waits in its socket is answered, then it sleeps.
//!
//! Each reply leaves from the address that its query was sent to, which the kernel tells with the
//! query (`IP_PKTINFO`, RFC 3542 for IPv6): on a wildcard address of a host with several, the address
//! on the way to the client need not be the one that was asked. Datagrams are sent whole or not at
//! all (RFC 9715 §3.1): fragments get lost and can be forged.

use super::Handler;
use nearmost_dns::Transport;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Room for one read: the kernel may join datagrams of one client up to this (UDP GRO).
const MAX_READ: usize = 65_535;
/// Reads of one system call.
const READS: usize = 8;
/// System calls before other tasks of the thread get their turn.
const BATCHES: usize = 8;

/// A bound socket with what the kernel tells and takes beside datagrams.
#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    /// Bound to all addresses: a reply's is that of its query.
    wildcard: bool,
}

impl Socket {
    /// Prepares a bound socket. Must be called inside a tokio runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Socket> {
        let state = UdpSocketState::new((&socket).into())?;
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        Ok(Socket { io: UdpSocket::from_std(socket)?, state, wildcard })
    }

    fn read(&self, buffers: &mut [Vec<u8>], meta: &mut [RecvMeta; READS]) -> io::Result<usize> {
        let mut slices = buffers.iter_mut().map(|b| IoSliceMut::new(b));
        let mut slices: [IoSliceMut<'_>; READS] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slices, meta))
    }

    async fn write(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || self.state.try_send((&self.io).into(), transmit);
        match self.io.try_io(Interest::WRITABLE, send) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.io.async_io(Interest::WRITABLE, send).await
            }
            sent => sent,
        }
    }

    /// The address that replies to a query leave from; `None` leaves it to the kernel.
    fn source(&self, asked: Option<IpAddr>) -> Option<IpAddr> {
        asked.filter(|a| {
            let broadcast = matches!(a, IpAddr::V4(v4) if v4.is_broadcast());
            self.wildcard && !a.is_multicast() && !broadcast
        })
    }
}

/// Serves one socket until cancelled.
pub(super) async fn serve(socket: Socket, handler: Handler, stop: CancellationToken) {
    let mut buffers = vec![vec![0; MAX_READ]; READS];
    let mut reply = Vec::new();
    loop {
        let ready = tokio::select! {
            () = stop.cancelled() => return,
            ready = socket.io.readable() => ready,
        };
        if let Err(error) = ready {
            tracing::warn!(%error, "DNS over UDP: waiting for queries");
            handler.metrics.socket_errors.inc();
        }
        for _ in 0..BATCHES {
            let mut meta = [RecvMeta::default(); READS];
            let reads = match socket.read(&mut buffers, &mut meta) {
                Ok(reads) => reads,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "DNS over UDP: reading queries");
                    handler.metrics.socket_errors.inc();
                    break;
                }
            };
            for (buffer, meta) in buffers.iter().zip(&meta).take(reads) {
                for query in datagrams(buffer, meta) {
                    if handler.answer(query, meta.addr.ip(), Transport::Udp, &mut reply) {
                        send(&socket, &reply, meta.addr, meta.dst_ip, &handler).await;
                    }
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// The datagrams of one read: all of one length but the last. An empty datagram is one, too.
fn datagrams<'b>(buffer: &'b [u8], meta: &RecvMeta) -> impl Iterator<Item = &'b [u8]> {
    let read = buffer.get(..meta.len).unwrap_or_default();
    let empty = read.is_empty().then_some(read);
    read.chunks(meta.stride.max(1)).chain(empty)
}

/// Sends a reply; one that cannot be sent is lost, and the client asks again.
async fn send(socket: &Socket, reply: &[u8], peer: SocketAddr, asked: Option<IpAddr>, handler: &Handler) {
    let transmit = Transmit {
        destination: peer,
        ecn: None,
        contents: reply,
        segment_size: None,
        src_ip: socket.source(asked),
    };
    if let Err(error) = socket.write(&transmit).await {
        tracing::debug!(%peer, %error, "DNS over UDP: sending a reply");
        handler.metrics.socket_errors.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_datagrams_come_apart() {
        let split = |len, stride| {
            let meta = RecvMeta { len, stride, ..RecvMeta::default() };
            datagrams(b"abcdefgh", &meta).collect::<Vec<_>>()
        };
        assert_eq!(split(5, 2), [&b"ab"[..], b"cd", b"e"]);
        assert_eq!(split(4, 4), [&b"abcd"[..]]);
        assert_eq!(split(0, 0), [&b""[..]]);
    }
}
