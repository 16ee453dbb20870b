//! Answering what came over UDP, turn by turn, however it came: the hot path, limits, counts, the query log.
//! Nothing here is shared with another thread.

use crate::dns::{DnsMetrics, Handler, Message, Sheet, tally};
use arc_swap::Guard;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::limiter::{self, Limiter, Verdict};
use nearmost_dns::{Client, HotPath, Outcome, Transport};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// What one thread answers with.
pub(in crate::dns) struct Answering {
    handler: Handler,
    hot: HotPath,
    sheet: Arc<Sheet>,
    tally: tally::Writer,
    limiter: Limiter,
    /// The epoch of the limiter's clock.
    started: Instant,
}

/// Messages that came together are answered from one snapshot, at one time.
pub(in crate::dns) struct Turn<'a> {
    of: &'a mut Answering,
    snapshot: Guard<Arc<Snapshot>>,
    begun: Instant,
    now: UnixMillis,
    answered: u64,
}

impl Answering {
    pub(in crate::dns) fn new(handler: Handler, limiter: Limiter) -> Answering {
        let domains = handler.snapshots.load().registry.domains.len();
        let hot = HotPath::new(Arc::clone(&handler.responder), domains);
        let (sheet, tally) = (handler.metrics.sheets.own(), handler.metrics.book.writer());
        Answering { handler, hot, sheet, tally, limiter, started: crate::clock::mono_now() }
    }

    /// What the thread counts besides answers.
    pub(in crate::dns) fn metrics(&self) -> &DnsMetrics {
        &self.handler.metrics
    }

    /// Begins to answer what came.
    pub(in crate::dns) fn turn(&mut self) -> Turn<'_> {
        let snapshot = self.handler.snapshots.load();
        let (begun, now) = (crate::clock::mono_now(), crate::clock::unix_now());
        Turn { of: self, snapshot, begun, now, answered: 0 }
    }

    /// Answers one message, within the limits.
    fn answer(
        &mut self,
        snapshot: &Snapshot,
        message: &[u8],
        client: &Client,
        (begun, reply): (Instant, &mut Vec<u8>),
    ) -> Outcome {
        let hot = AssertUnwindSafe(|| self.hot.answer(snapshot, message, client, reply));
        let Ok(mut outcome) = catch_unwind(hot) else {
            return self.survive(message, reply);
        };
        if reply.is_empty() {
            return outcome;
        }
        let mono_ms = begun.saturating_duration_since(self.started).as_millis() as u64;
        let verdict = self.limiter.check(mono_ms, client, &outcome, message.len(), reply);
        match verdict {
            Verdict::Send => {}
            Verdict::Slip(_) => limiter::slip(reply, &mut outcome),
            Verdict::Drop(_) => reply.clear(),
        }
        self.sheet.limited(verdict);
        outcome
    }

    /// After a fault of ours that one message brought out: it is left without a reply, and others are not.
    fn survive(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Outcome {
        reply.clear();
        tracing::error!(?message, "a DNS message could not be answered: please report this");
        self.renew();
        Outcome::default()
    }

    /// After a fault of ours: what it was in the middle of changing is made anew.
    fn renew(&mut self) {
        self.sheet.panicked();
        self.hot = HotPath::new(Arc::clone(&self.handler.responder), 0);
    }
}

impl Turn<'_> {
    /// Whether there are so many messages that it is of use to tell of them beforehand.
    pub(in crate::dns) fn pays(messages: usize) -> bool {
        messages >= HotPath::FEWEST
    }

    /// Is told of all messages before the first is answered.
    pub(in crate::dns) fn expect(&mut self, message: &[u8], source: IpAddr) {
        let hot = AssertUnwindSafe(|| self.of.hot.expect(message, source));
        if catch_unwind(hot).is_err() {
            tracing::error!(?message, "a DNS message could not be looked at: please report this");
            self.of.renew();
        }
    }

    /// Once all were told.
    pub(in crate::dns) fn look_ahead(&mut self) {
        let hot = AssertUnwindSafe(|| self.of.hot.look_ahead(&self.snapshot));
        if catch_unwind(hot).is_err() {
            tracing::error!("DNS messages could not be looked ahead for: please report this");
            self.of.renew();
        }
    }

    /// Answers one message into `reply`, which stays empty when it gets none.
    pub(in crate::dns) fn answer(&mut self, message: &[u8], source: IpAddr, reply: &mut Vec<u8>) {
        let Turn { snapshot, begun, now, .. } = self;
        let client = Client { source, transport: Transport::Udp, now: *now };
        let outcome = self.of.answer(snapshot, message, &client, (*begun, reply));
        // What a limit dropped was no answer.
        if reply.is_empty() && !outcome.dropped() {
            return;
        }
        let Answering { handler, sheet, tally, .. } = &mut *self.of;
        handler.follow(snapshot, &outcome, &client, *begun);
        sheet.record(Transport::Udp, &outcome, reply.len());
        tally.count(&snapshot.registry, &outcome);
        let seen = Message { query: message, reply, outcome: &outcome };
        handler.write_down(snapshot, &seen, &client, *begun);
        self.answered += u64::from(!outcome.dropped());
    }

    /// Replies leave together, so each took as long as all of them.
    pub(in crate::dns) fn end(self) {
        let took = crate::clock::mono_now().saturating_duration_since(self.begun);
        self.of.sheet.took(Transport::Udp, took, self.answered);
    }
}
