//! One queue's worker: it takes the frames that came, answers each in its place, sends all replies, and waits.

use super::super::udp::{Answering, Beat, Entered, Turn, WAIT};
use super::metrics::Tally;
use nearmost_xdp::frame::{Datagram, parse};
use nearmost_xdp::{Queue, Received, Woken};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Frames of one turn, as the workers of sockets take.
const BATCH: usize = 64;
/// Most turns of the last drain: all that the largest ring holds.
const LAST_TURNS: usize = 16_384 / BATCH;
/// How long the last replies have to leave.
const LEAVING: Duration = Duration::from_millis(50);
/// Room for one reply: beyond what any setting lets a datagram be.
const REPLY_ROOM: usize = 1536;

/// A queue, and what answers its queries.
pub(super) struct Worker {
    queue: Queue,
    answering: Answering,
    beat: Beat,
    /// It counts among those that must turn.
    _entered: Entered,
    /// Of the turn at hand, by the frames' numbers: what was read in them.
    datagrams: Vec<Option<Datagram>>,
    /// Of the query at hand.
    reply: Vec<u8>,
    tally: Tally,
    /// When it was shown last.
    shown: Instant,
}

impl Worker {
    pub(super) fn new(queue: Queue, answering: Answering, (beat, entered): (Beat, Entered)) -> Worker {
        let tally = answering.metrics().xdp.tally();
        let (datagrams, reply) = (Vec::with_capacity(BATCH), Vec::with_capacity(REPLY_ROOM));
        let shown = crate::clock::mono_now();
        Worker { queue, answering, beat, _entered: entered, datagrams, reply, tally, shown }
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
            self.show();
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
        self.queue.flush(LEAVING);
        self.tally.show(self.queue.lost());
    }

    /// Answers what came before the program was detached; nothing comes any more.
    fn drain(&mut self) {
        for _ in 0..LAST_TURNS {
            self.beat.stamp();
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
        let Worker { queue, answering, datagrams, reply, tally, .. } = self;
        let (mtu, ahead) = (queue.mtu(), Turn::pays(read));
        let mut turn = answering.turn();
        datagrams.clear();
        for at in 0..read {
            let frame = queue.frame(at).and_then(|Received { buffer, length }| buffer.get(..length));
            let frame = frame.unwrap_or_default();
            let datagram = parse(frame).inspect_err(|refusal| tally.refused(*refusal)).ok();
            if let Some(datagram) = datagram.as_ref().filter(|_| ahead) {
                turn.expect(frame.get(datagram.payload.clone()).unwrap_or_default(), datagram.source.ip());
            }
            datagrams.push(datagram);
        }
        if ahead {
            turn.look_ahead();
        }
        let mut long = 0;
        for (at, datagram) in datagrams.iter().enumerate() {
            let (Some(datagram), Some(Received { buffer, .. })) = (datagram, queue.frame(at)) else {
                continue;
            };
            tally.query();
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
        if long > 0 {
            answering.metrics().socket_errors.inc_by(long);
        }
    }

    /// Shows what was counted, and what the kernel lost, now and then.
    fn show(&mut self) {
        let now = crate::clock::mono_now();
        if now.saturating_duration_since(self.shown) >= WAIT {
            self.shown = now;
            self.tally.show(self.queue.lost());
        }
    }
}
