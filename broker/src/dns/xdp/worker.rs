//! One queue's worker: it takes the frames that came, answers each in its place, sends all replies, and waits.

use super::super::udp::{Answering, Beat, Entered, WAIT};
use super::metrics::Counted;
use nearmost_xdp::frame::parse;
use nearmost_xdp::{Queue, Received, Woken};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Frames of one turn, as the workers of sockets take.
const BATCH: usize = 64;
/// Most turns of the last drain: all that the largest ring holds.
const LAST_TURNS: usize = 16_384 / BATCH;
/// Room for one reply: beyond what any setting lets a datagram be.
const REPLY_ROOM: usize = 1536;

/// A queue, and what answers its queries.
pub(super) struct Worker {
    queue: Queue,
    answering: Answering,
    beat: Beat,
    /// It counts among those that must turn.
    _entered: Entered,
    /// Of the query at hand.
    reply: Vec<u8>,
    counted: Counted,
    /// When losses were asked for last.
    asked: Instant,
}

impl Worker {
    pub(super) fn new(queue: Queue, answering: Answering, (beat, entered): (Beat, Entered)) -> Worker {
        let counted = answering.metrics().xdp.counted();
        let (reply, asked) = (Vec::with_capacity(REPLY_ROOM), crate::clock::mono_now());
        Worker { queue, answering, beat, _entered: entered, reply, counted, asked }
    }

    /// Serves until told to stop, or until the interface is gone. Blocks the thread.
    pub(super) fn serve(mut self, stop: &CancellationToken) {
        self.answering.metrics().cpu.enter();
        while !stop.is_cancelled() {
            self.beat.stamp();
            let read = self.queue.receive(BATCH);
            if read > 0 {
                self.answer_all(read);
            }
            // Without new ones, too: what was sent is there to be filled again.
            if let Err(error) = self.queue.finish() {
                tracing::debug!(%error, "DNS over AF_XDP: sending replies");
                self.answering.metrics().socket_errors.inc();
            }
            self.count_losses();
            if read > 0 {
                continue;
            }
            match self.queue.wait(WAIT) {
                Ok(Woken::Look) => {}
                Ok(Woken::Gone) => break,
                Err(error) => {
                    tracing::warn!(%error, "DNS over AF_XDP: waiting for queries");
                    break;
                }
            }
        }
        self.drain();
        self.counted.lost(self.queue.lost());
    }

    /// Answers what came before the program was detached; nothing comes any more.
    fn drain(&mut self) {
        for _ in 0..LAST_TURNS {
            let read = self.queue.receive(BATCH);
            if read == 0 {
                break;
            }
            self.answer_all(read);
            // The interface may be gone; then nobody waits for these.
            let _ = self.queue.finish();
        }
    }

    fn answer_all(&mut self, read: usize) {
        let Worker { queue, answering, reply, counted, .. } = self;
        let mtu = queue.mtu();
        let mut turn = answering.turn();
        for at in 0..read {
            let frame = queue.frame(at).and_then(|Received { buffer, length }| buffer.get(..length));
            if let Some((frame, datagram)) = frame.and_then(|frame| Some((&*frame, parse(frame).ok()?))) {
                turn.expect(frame.get(datagram.payload).unwrap_or_default(), datagram.source.ip());
            }
        }
        turn.look_ahead();
        let (mut queries, mut long) = (0, 0);
        for at in 0..read {
            let Some(Received { buffer, length }) = queue.frame(at) else { continue };
            let datagram = match parse(buffer.get(..length).unwrap_or_default()) {
                Ok(datagram) => datagram,
                Err(refusal) => {
                    counted.refused(refusal);
                    continue;
                }
            };
            queries += 1;
            reply.clear();
            let message = buffer.get(datagram.payload.clone()).unwrap_or_default();
            turn.answer(message, datagram.source.ip(), reply);
            if reply.is_empty() {
                continue;
            }
            let fits = reply.len() <= datagram.room(buffer.len(), mtu);
            match fits.then(|| datagram.reply(buffer, reply)).flatten() {
                Some(length) => queue.reply(at, length),
                // A socket would refuse it as well: it leaves whole or not at all.
                None => long += 1,
            }
        }
        turn.end();
        counted.queries(queries);
        answering.metrics().socket_errors.inc_by(long);
    }

    /// Asks the kernel for what it lost, now and then.
    fn count_losses(&mut self) {
        let now = crate::clock::mono_now();
        if now.saturating_duration_since(self.asked) >= WAIT {
            self.asked = now;
            self.counted.lost(self.queue.lost());
        }
    }
}
