//! One UDP worker: a thread and a socket of its own. It takes what waits, answers all of it, sends all
//! replies, and waits again, with a system call for each of the three.
//!
//! ```text
//!  recvmmsg ─► for each: hot path, else general path ─► sheet ─► sendmmsg
//!     ▲ waits                                                       │
//!     └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing in the loop is shared with another thread but the snapshot, which is only read. Each reply
//! leaves from the address that its query was sent to, which the kernel tells with the query where the
//! socket is bound to all addresses: there, the address on the way to the client need not be the one
//! that was asked. Datagrams are sent whole or not at all (RFC 9715 §3.1): fragments get lost and can be
//! forged.
//!
//! To stop a worker its socket is shut down, which wakes it; it answers what it has read and ends.

mod control;
mod mmsg;

use super::{Handler, Message, Sheet, tally};
use mmsg::{Batch, Shape};
use nearmost_dns::limiter::{self, Limiter, Verdict};
use nearmost_dns::{Client, HotPath, Transport};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Datagrams of one system call.
const BATCH: usize = 64;
/// How long a worker waits in one system call. It is woken when it is to end, and looks by itself as
/// often as this in case it was not.
const WAIT: Duration = Duration::from_secs(1);

/// A bound socket, set up for its worker.
#[derive(Debug)]
pub(super) struct Socket {
    socket: Arc<socket2::Socket>,
    /// Bound to all addresses: a reply's is that of its query.
    wildcard: bool,
}

impl Socket {
    /// Prepares a bound socket.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(socket: socket2::Socket) -> io::Result<Socket> {
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let wildcard = address.ip().is_unspecified();
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(WAIT))?;
        mmsg::never_fragment(socket.as_fd(), address.is_ipv6())?;
        if wildcard {
            mmsg::tell_asked(socket.as_fd(), address.is_ipv6())?;
        }
        Ok(Socket { socket: Arc::new(socket), wildcard })
    }

    /// Wakes the worker that waits on it, once `stop` is told.
    pub(super) fn wake_on(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let socket = Arc::clone(&self.socket);
        async move {
            stop.cancelled().await;
            // A socket that is connected to nobody is said not to be connected, and is woken all the same.
            let _ = socket.shutdown(std::net::Shutdown::Read);
        }
    }
}

/// One thread's part of answering.
pub(super) struct Worker {
    socket: Socket,
    handler: Handler,
    hot: HotPath,
    sheet: Arc<Sheet>,
    tally: tally::Writer,
    limiter: Limiter,
    /// The epoch of the limiter's clock.
    started: Instant,
}

impl Worker {
    pub(super) fn new(socket: Socket, handler: Handler, limiter: Limiter) -> Worker {
        let domains = handler.snapshots.load().registry.domains.len();
        let hot = HotPath::new(Arc::clone(&handler.responder), domains);
        let (sheet, tally) = (handler.metrics.sheets.own(), handler.metrics.book.writer());
        Worker { socket, handler, hot, sheet, tally, limiter, started: crate::clock::mono_now() }
    }

    /// Serves until told to stop. Blocks the thread.
    pub(super) fn serve(mut self, stop: &CancellationToken) {
        let mut batch = Batch::new(Shape { size: BATCH, asked: self.socket.wildcard, segments: true });
        while !stop.is_cancelled() {
            match batch.receive(self.socket.socket.as_fd()) {
                Ok(read) => self.answer(&mut batch, read),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "DNS over UDP: reading queries");
                    self.handler.metrics.socket_errors.inc();
                }
            }
        }
    }

    /// Answers what was read.
    fn answer(&mut self, batch: &mut Batch, read: usize) {
        let begun = crate::clock::mono_now();
        let now = crate::clock::unix_now();
        let mono_ms = begun.saturating_duration_since(self.started).as_millis() as u64;
        let mut answered = 0;
        {
            let snapshot = self.handler.snapshots.load();
            for at in 0..read {
                let Some((message, peer, reply)) = batch.slot(at) else { continue };
                let client = Client { source: peer.ip(), transport: Transport::Udp, now };
                let outcome = self.hot.answer(&snapshot, message, &client, reply);
                let verdict = self.limiter.check(mono_ms, &client, &outcome, message.len(), reply);
                match verdict {
                    Verdict::Send => {}
                    Verdict::Slip(_) => drop(limiter::slip(reply, &outcome)),
                    Verdict::Drop(_) => reply.clear(),
                }
                self.sheet.limited(verdict);
                self.handler.follow(&snapshot, &outcome, &client, begun);
                self.sheet.record(Transport::Udp, &outcome, reply.len());
                self.tally.count(&snapshot.registry, &outcome);
                let seen = Message { query: message, reply, outcome: &outcome };
                self.handler.write_down(&snapshot, &seen, &client, begun);
                answered += u64::from(!outcome.dropped());
            }
        }
        // Replies leave together, so each took as long as all of them.
        let took = crate::clock::mono_now().saturating_duration_since(begun);
        self.sheet.took(Transport::Udp, took, answered);
        let (lost, why) = batch.send(self.socket.socket.as_fd());
        if let Some(error) = why {
            tracing::debug!(lost, %error, "DNS over UDP: sending replies");
            self.handler.metrics.socket_errors.inc_by(lost as u64);
        }
    }
}
