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

mod answering;
mod beat;
mod control;
mod mmsg;

pub(super) use beat::Entered;
pub use beat::{Beat, Beats};

use super::{DnsError, Handler};
pub(super) use answering::{Answering, Turn};
use mmsg::{Batch, Shape};
use nearmost_dns::limiter::Limiter;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Datagrams of one system call.
const BATCH: usize = 64;
/// How long a worker waits in one system call. It is woken when it is to end, and looks by itself as
/// often as this in case it was not.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// Pause after a read that failed.
const READ_PAUSE: Duration = Duration::from_millis(50);
/// Room for replies on their way: a few hundred may wait for a neighbour that does not answer.
const SEND_BUFFER: usize = 4 << 20;

/// A bound socket, set up for its worker.
#[derive(Debug)]
pub(super) struct Socket {
    socket: Arc<socket2::Socket>,
    /// Bound to all addresses: a reply's is that of its query.
    wildcard: bool,
    /// Of the worker that serves it.
    beat: Beat,
}

impl Socket {
    /// Prepares a bound socket, the one of this number at its address.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(socket: socket2::Socket, number: usize) -> io::Result<Socket> {
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let wildcard = address.ip().is_unspecified();
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(WAIT))?;
        // The system may cap it.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        mmsg::never_fragment(socket.as_fd(), address.is_ipv6())?;
        if wildcard {
            mmsg::tell_asked(socket.as_fd(), address.is_ipv6())?;
        }
        Ok(Socket { socket: Arc::new(socket), wildcard, beat: Beat::new(address, number) })
    }

    /// Whether its worker turns.
    pub(super) fn beat(&self) -> Beat {
        self.beat.clone()
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

/// Has a worker serve in a thread of its own, not in one of those that blocking calls of all the broker
/// share. The future ends when it does, and panics if it did.
///
/// # Errors
/// When there can be no more threads.
pub(super) fn thread<S: FnOnce() + Send + 'static>(
    name: &str,
    serve: S,
) -> Result<impl Future<Output = ()> + Send + use<S>, DnsError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let serve = move || {
        let ended = catch_unwind(AssertUnwindSafe(serve));
        // Nobody waits for it when the server was given up.
        let _ = tell.send(ended);
    };
    std::thread::Builder::new().name(name.into()).spawn(serve).map_err(DnsError::Thread)?;
    Ok(async move {
        if let Ok(Err(panic)) = told.await {
            resume_unwind(panic);
        }
    })
}

/// One thread's part of answering.
pub(super) struct Worker {
    socket: Socket,
    shape: Shape,
    answering: Answering,
}

impl Worker {
    pub(super) fn new(socket: Socket, handler: Handler, limiter: Limiter, segments: bool) -> Worker {
        let shape = Shape { size: BATCH, asked: socket.wildcard, segments };
        Worker { socket, shape, answering: Answering::new(handler, limiter) }
    }

    /// Serves until told to stop. Blocks the thread.
    pub(super) fn serve(mut self, stop: &CancellationToken) {
        self.answering.metrics().cpu.enter();
        let mut batch = Batch::new(self.shape);
        while !stop.is_cancelled() {
            self.socket.beat.stamp();
            match batch.receive(self.socket.socket.as_fd()) {
                Ok(read) => self.answer_all(&mut batch, read),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "DNS over UDP: reading queries");
                    self.answering.metrics().socket_errors.inc();
                    // What fails at once would fail as fast again.
                    std::thread::park_timeout(READ_PAUSE);
                }
            }
        }
    }

    /// Answers what was read.
    fn answer_all(&mut self, batch: &mut Batch, read: usize) {
        let mut turn = self.answering.turn();
        if Turn::pays(read) {
            for at in 0..read {
                if let Some((message, peer, _)) = batch.slot(at) {
                    turn.expect(message, peer.ip());
                }
            }
            turn.look_ahead();
        }
        for at in 0..read {
            if let Some((message, peer, reply)) = batch.slot(at) {
                turn.answer(message, peer.ip(), reply);
            }
        }
        turn.end();
        let (lost, why) = batch.send(self.socket.socket.as_fd());
        if let Some(error) = why {
            tracing::debug!(lost, %error, "DNS over UDP: sending replies");
            self.answering.metrics().socket_errors.inc_by(lost as u64);
        }
    }
}
