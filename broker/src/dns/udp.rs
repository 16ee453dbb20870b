//! One UDP worker: everything that waits in its socket is answered, then it sleeps.
//!
//! Each reply leaves from the address that its query was sent to, which the kernel tells with the
//! query (`IP_PKTINFO`, RFC 3542 for IPv6): on a wildcard address of a host with several, the address
//! on the way to the client need not be the one that was asked. Datagrams are sent whole or not at
//! all (RFC 9715 §3.1): fragments get lost and can be forged.

use super::Handler;
use crate::batched::{BatchedSocket, MAX_READ, datagrams};
use nearmost_dns::Transport;
use quinn_udp::{RecvMeta, Transmit};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::Interest;
use tokio_util::sync::CancellationToken;

/// Reads of one system call.
const READS: usize = 8;
/// System calls before other tasks of the thread get their turn.
const BATCHES: usize = 8;

/// A bound socket with what the kernel tells and takes beside datagrams.
#[derive(Debug)]
pub(super) struct Socket {
    batched: BatchedSocket,
    /// Bound to all addresses: a reply's is that of its query.
    wildcard: bool,
}

impl Socket {
    /// Prepares a bound socket. Must be called inside a tokio runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Socket> {
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        Ok(Socket { batched: BatchedSocket::new(socket)?, wildcard })
    }

    async fn write(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let BatchedSocket { io, state } = &self.batched;
        let send = || state.try_send(io.into(), transmit);
        match io.try_io(Interest::WRITABLE, send) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => io.async_io(Interest::WRITABLE, send).await,
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
            ready = socket.batched.io.readable() => ready,
        };
        if let Err(error) = ready {
            tracing::warn!(%error, "DNS over UDP: waiting for queries");
            handler.metrics.socket_errors.inc();
        }
        for _ in 0..BATCHES {
            let mut meta = [RecvMeta::default(); READS];
            let reads = match socket.batched.read(&mut buffers, &mut meta) {
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
