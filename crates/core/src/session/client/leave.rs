//! Mirrors that are being left, and the way back to one of them.
//!
//! Make before break: a mirror that is left keeps its link. It is told so ([`Output::Retire`]) only when
//! the new primary is known to serve. Until then it is primary still as far as it knows, and when the new
//! one refuses, ends or says nothing, the session goes back to it.
//!
//! Then it is kept until nothing is under way over it: the shell says when the last stream has ended, and
//! packets are given a round trip more. No time bounds a stream; the end of its connection does, silence
//! that the new primary confirms, and silence of [`GONE`].

use super::Client;
use super::link::Link;
use super::types::{ClientConfig, Leave, MoveReason, Output};
use crate::session::MirrorKey;
use crate::time::MonoTime;
use arrayvec::ArrayVec;
use std::time::Duration;

/// Silence after which a link is over, whatever the shell says: as long as a QUIC connection bears it.
pub(super) const GONE: Duration = Duration::from_secs(20);
/// A mirror whose tripwire closed is asked so often before it is dead.
const QUESTIONS: u32 = 4;
/// What a mirror that was left may take longer than its round trip to deliver what it owes.
const OWED: Duration = Duration::from_millis(50);
/// Mirrors that are being left at a time.
const MOST_LEAVING: usize = 2;

#[derive(Default)]
pub(super) struct Departures(ArrayVec<Leaving, MOST_LEAVING>);

struct Leaving {
    link: Link,
    reason: MoveReason,
    since: MonoTime,
    /// It was told, and what it owes will have come by then.
    owed: Option<MonoTime>,
    /// No stream is open over it.
    finished: bool,
    /// Its death is known, and was reported.
    dead: bool,
}

impl Leaving {
    /// Whether it would serve if the session came back: it does not know yet that it is left.
    fn serves(&self, now: MonoTime) -> bool {
        let lives = match self.reason.orderly() {
            true => self.link.is_fresh(now),
            false => self.link.proven > self.since,
        };
        self.owed.is_none() && lives
    }

    /// Left because its tripwire closed, and nothing has shown yet that it lives.
    fn is_asked(&self) -> bool {
        self.reason == MoveReason::Tripwire && !self.dead && self.link.proven <= self.since
    }

    /// Left because its tripwire closed, it is dead once it is silent as well. No pause of a server closes a
    /// tripwire, so this takes less silence than elsewhere: [`QUESTIONS`] without an answer.
    fn dies_at(&self, config: &ClientConfig) -> Option<MonoTime> {
        let (rtt, allowance) = (self.link.rtt.smoothed(), self.link.rtt.allowance());
        let asked = self.since + rtt + allowance + config.pace.doubting.saturating_mul(QUESTIONS);
        self.is_asked().then(|| asked.min(self.link.gone_at(&config.patience)))
    }

    /// From when on it may go, once it was told. The silence of one that is dead was confirmed: what is
    /// open over it ends then, unless it has answered since.
    fn free_at(&self, config: &ClientConfig) -> Option<MonoTime> {
        let dead = self.dead && self.link.proven <= self.since;
        self.owed.filter(|_| (self.finished || dead) && self.dies_at(config).is_none())
    }

    fn leave(&self) -> Leave {
        match self.reason {
            MoveReason::Drain => Leave::Drained,
            _ if self.dead => Leave::Dead,
            _ => Leave::Moved,
        }
    }

    fn deadline(&self, config: &ClientConfig) -> MonoTime {
        let silent = self.link.heard + GONE;
        let due =
            [self.free_at(config), self.dies_at(config)].into_iter().flatten().fold(silent, MonoTime::min);
        due.min(self.link.beacon_at())
    }
}

impl Departures {
    pub fn all(&self) -> impl Iterator<Item = MirrorKey> {
        self.0.iter().map(|left| left.link.mirror)
    }

    pub fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.0.iter_mut().map(|left| &mut left.link)
    }

    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    pub fn has(&self, mirror: MirrorKey) -> bool {
        self.all().any(|left| left == mirror)
    }

    pub fn finished(&mut self, mirror: MirrorKey) {
        self.0.iter_mut().filter(|left| left.link.mirror == mirror).for_each(|left| left.finished = true);
    }

    pub fn deadline(&self, config: &ClientConfig) -> Option<MonoTime> {
        self.0.iter().map(|left| left.deadline(config)).min()
    }

    fn take(&mut self, which: impl FnMut(&Leaving) -> bool) -> Option<Leaving> {
        let at = self.0.iter().position(which)?;
        Some(self.0.remove(at))
    }
}

impl Client {
    /// New work goes elsewhere; nothing is said of it yet.
    pub(super) fn depart(&mut self, mut link: Link, reason: MoveReason, now: MonoTime) {
        if self.links.leaving.is_full() {
            let least = self.links.leaving.take(|left| left.finished);
            if let Some(left) = least.or_else(|| self.links.leaving.take(|_| true)) {
                self.detach(left.link.mirror, left.leave());
            }
        }
        link.demote();
        link.hurry(now);
        let dead = reason == MoveReason::Silence;
        let left = Leaving { link, reason, since: now, owed: None, finished: false, dead };
        self.links.leaving.0.push(left);
    }

    /// The primary is known to serve: those before it are told.
    pub(super) fn tell_left(&mut self, now: MonoTime) {
        for left in self.links.leaving.0.iter_mut().filter(|left| left.owed.is_none()) {
            left.owed = Some(now + left.link.rtt.smoothed() + OWED);
            self.outputs.push_back(Output::Retire(left.link.mirror));
        }
    }

    /// Makes a mirror primary again that does not know that it was left; whether there is one. The
    /// primary after it must be gone.
    pub(super) fn go_back(&mut self, now: MonoTime) -> bool {
        let Some(left) = self.links.leaving.take(|left| left.serves(now)) else { return false };
        let Leaving { mut link, reason, .. } = left;
        self.links.pending = None;
        self.outputs.push_back(Output::Promote(link.mirror));
        link.promote(&self.config.pace, now);
        self.links.primary = Some(link);
        self.links.retry = now;
        self.shift.attached(&self.config.shifting, &mut self.me.dice, now);
        self.reconcile(now);
        if reason == MoveReason::Drain && self.shift.reason().is_none() {
            self.intend(reason, None, false, now);
        }
        true
    }

    /// Whether there is a mirror to go back to.
    pub(super) fn can_go_back(&self, now: MonoTime) -> bool {
        self.links.pending.is_some() && self.links.leaving.0.iter().any(|left| left.serves(now))
    }

    /// The connection of a mirror that was left ended.
    pub(super) fn left_ended(&mut self, mirror: MirrorKey, now: MonoTime) {
        if let Some(mut left) = self.links.leaving.take(|left| left.link.mirror == mirror) {
            self.bury(&mut left, now);
            self.detach(mirror, left.leave());
        }
    }

    /// Ends what is still under way over it.
    pub(super) fn drop_left(&mut self, mirror: MirrorKey) {
        if let Some(left) = self.links.leaving.take(|left| left.link.mirror == mirror) {
            self.detach(mirror, left.leave());
        }
    }

    /// Who was left in order owed nothing but that.
    fn bury(&mut self, left: &mut Leaving, now: MonoTime) {
        if !left.reason.orderly() && !std::mem::replace(&mut left.dead, true) {
            self.outputs.push_back(Output::ReportFailed(left.link.mirror));
            self.book.failed(left.link.mirror, false, Duration::ZERO, &mut self.me.dice, now);
        }
    }

    /// Detaches mirrors that were left once they owe nothing or are gone.
    pub(super) fn release(&mut self, now: MonoTime) {
        let config = self.config;
        let mut left = std::mem::take(&mut self.links.leaving.0);
        for left in &mut left {
            if left.dies_at(&config).is_some_and(|at| now >= at) {
                self.bury(left, now);
            }
        }
        for mut left in left {
            if now >= left.link.heard + GONE {
                self.bury(&mut left, now);
                self.detach(left.link.mirror, left.leave());
            } else if left.free_at(&config).is_some_and(|at| now >= at) {
                self.detach(left.link.mirror, left.leave());
            } else {
                self.links.leaving.0.push(left);
            }
        }
    }

    /// A mirror that is left must not think that its client is gone; one that may be dead is asked.
    pub(super) fn keep_left(&mut self, now: MonoTime) {
        let pace = self.config.pace;
        for left in self.links.leaving.0.iter_mut().filter(|left| now >= left.link.beacon_at()) {
            let asked = left.is_asked();
            let link = &mut left.link;
            let (seq, ask) = link.beacon(&pace, asked, now);
            let (mirror, role, period) = (link.mirror, link.role(), link.period());
            self.outputs.push_back(Output::Beacon { mirror, seq, ask, role, period });
        }
    }
}
