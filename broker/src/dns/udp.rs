//! One UDP worker: everything that waits in its socket is answered, then it sleeps.

use super::Handler;
use nearmost_dns::Transport;
use std::io;
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Largest query taken; longer ones are cut by the kernel and refused as malformed.
const MAX_QUERY: usize = 4096;
/// Queries answered before other tasks of the thread get their turn.
const BATCH: usize = 64;

/// Serves one socket until cancelled.
pub(super) async fn serve(socket: UdpSocket, handler: Handler, stop: CancellationToken) {
    let mut query = [0; MAX_QUERY];
    let mut reply = Vec::with_capacity(MAX_QUERY);
    loop {
        let ready = tokio::select! {
            () = stop.cancelled() => return,
            ready = socket.readable() => ready,
        };
        if let Err(error) = ready {
            tracing::warn!(%error, "DNS over UDP: waiting for queries");
            handler.metrics.socket_errors.inc();
        }
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut query) {
                Ok((length, peer)) => {
                    if handler.answer(&query[..length], peer.ip(), Transport::Udp, &mut reply) {
                        send(&socket, &reply, peer, &handler).await;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "DNS over UDP: reading a query");
                    handler.metrics.socket_errors.inc();
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Sends a reply; one that cannot be sent is lost, and the client asks again.
async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr, handler: &Handler) {
    let sent = match socket.try_send_to(reply, peer) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.send_to(reply, peer).await,
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(%peer, %error, "DNS over UDP: sending a reply");
        handler.metrics.socket_errors.inc();
    }
}
