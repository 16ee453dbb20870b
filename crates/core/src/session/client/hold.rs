//! Holding a primary and a standby: beacons, doubt, promotion, and mirrors that are left.
//!
//! Doubt is cheap: the first missed packet raises it. Then both mirrors are asked every few
//! milliseconds, datagrams go over the standby as well where they may, and two things together make
//! the standby primary: it answered what it was asked since, and the primary has been silent for the
//! bound of [`crate::session::loss`]. A closed tripwire needs no silence, and no answer either when the
//! standby was heard just before.

use super::Client;
use super::link::{Doubt, Link};
use super::types::{ClientConfig, Event, Leave, MoveReason, Output};
use crate::session::{Ack, Duplicate, MirrorKey, Mode};
use crate::time::MonoTime;
use arrayvec::ArrayVec;
use std::time::Duration;

/// When neither answers for so long after the primary counts as gone, all are asked.
const FORSAKE: Duration = Duration::from_secs(1);
/// Until another standby is looked for, when there was none.
const NO_STANDBY: Duration = Duration::from_secs(1);
/// What a mirror that was left may take longer than its round trip to deliver what it owes.
const OWED: Duration = Duration::from_millis(50);
/// Mirrors that are being left at a time.
const MOST_LEAVING: usize = 2;

#[derive(Default)]
pub(super) struct Links {
    pub primary: Option<Link>,
    pub standby: Option<Link>,
    leaving: ArrayVec<Leaving, MOST_LEAVING>,
    /// A move whose new primary has not answered yet.
    pending: Option<Pending>,
    doubled: Option<MirrorKey>,
    /// When a standby may be looked for again.
    retry: MonoTime,
    /// When the last doubt ended.
    restored: MonoTime,
}

struct Leaving {
    mirror: MirrorKey,
    reason: Leave,
    rtt: Duration,
    finished: bool,
    until: MonoTime,
}

#[derive(Clone, Copy)]
struct Pending {
    from: MirrorKey,
    reason: MoveReason,
    heard: MonoTime,
    period: Duration,
}

impl Links {
    pub fn get(&self, mirror: MirrorKey) -> Option<&Link> {
        [&self.primary, &self.standby].into_iter().flatten().find(|link| link.mirror == mirror)
    }

    pub fn get_mut(&mut self, mirror: MirrorKey) -> Option<&mut Link> {
        [&mut self.primary, &mut self.standby].into_iter().flatten().find(|link| link.mirror == mirror)
    }

    /// Attached, or being left.
    pub fn has(&self, mirror: MirrorKey) -> bool {
        self.all().contains(&mirror)
    }

    pub fn all(&self) -> Vec<MirrorKey> {
        let attached = [&self.primary, &self.standby].into_iter().flatten().map(|link| link.mirror);
        attached.chain(self.leaving.iter().map(|left| left.mirror)).collect()
    }

    /// When the standby's silence counts. While the primary is silent too it may be this machine's
    /// network, and after that the standby's answers are given the time that they take.
    fn standby_gone_at(&self, config: &ClientConfig) -> Option<MonoTime> {
        let standby = self.standby.as_ref().filter(|_| self.is_calm())?;
        let answer = self.restored + standby.rtt.smoothed() + standby.rtt.allowance();
        Some(standby.gone_at(&config.patience).max(answer))
    }

    /// There is a primary, and it is not in doubt.
    pub fn is_calm(&self) -> bool {
        self.primary.as_ref().is_some_and(|primary| primary.doubt.is_none())
    }

    pub fn excuse(&mut self, now: MonoTime) {
        for link in [&mut self.primary, &mut self.standby].into_iter().flatten() {
            link.excuse(now);
        }
    }

    #[cfg(test)]
    pub fn doubled(&self) -> Option<MirrorKey> {
        self.doubled
    }

    pub fn finished(&mut self, mirror: MirrorKey) {
        self.leaving.iter_mut().filter(|left| left.mirror == mirror).for_each(|left| left.finished = true);
    }

    /// What to say of a move that is complete.
    pub fn moved(&mut self, now: MonoTime) -> Option<Event> {
        let to = self.primary.as_ref()?.mirror;
        let Pending { from, reason, heard, period } = self.pending.take()?;
        let gap = now.since(heard).saturating_sub(period);
        (from != to).then_some(Event::Moved { from, to, reason, gap })
    }

    fn note_move(&mut self, old: &Link, reason: MoveReason) {
        let (from, heard, period) = (old.mirror, old.heard, old.period());
        self.pending.get_or_insert(Pending { from, reason, heard, period });
    }

    /// What was left in order owes no more than what is under way.
    fn settle_leaving(&mut self, datagrams: bool, now: MonoTime) {
        for left in self.leaving.iter_mut().filter(|_| datagrams) {
            left.until = left.until.min(now + left.rtt + OWED);
        }
    }

    pub fn leaving_until(&self) -> Option<MonoTime> {
        self.leaving.iter().map(|left| left.until).min()
    }

    /// When something must be looked at while there is a primary.
    pub fn deadline(&self, config: &ClientConfig, now: MonoTime) -> Option<MonoTime> {
        let primary = self.primary.as_ref()?;
        let judged = match primary.doubt {
            None => primary.missed_at(),
            Some(_) => {
                let gone = primary.gone_at(&config.patience);
                if gone > now { gone } else { gone + FORSAKE }
            }
        };
        let standby = self.standby.as_ref().map(|link| link.beacon_at());
        let gone = self.standby_gone_at(config);
        let retry = Some(self.retry).filter(|at| standby.is_none() && *at > now);
        [Some(judged), Some(primary.beacon_at()), standby, gone, retry].into_iter().flatten().min()
    }
}

impl Client {
    pub(super) fn heard(&mut self, mirror: MirrorKey, seq: u64, ack: Option<Ack>, now: MonoTime) {
        if let Some(pending) = self.links.pending.as_mut().filter(|pending| pending.from == mirror) {
            pending.heard = now;
        }
        let is_primary = self.primary() == Some(mirror);
        let Some(link) = self.links.get_mut(mirror) else {
            let expected = self.links.has(mirror) || self.joins.has(mirror);
            self.me.tally.unexpected += u64::from(!expected);
            return;
        };
        let hearing = link.hear(seq, ack, now);
        self.me.tally.false_acks += u64::from(hearing.false_ack);
        if hearing.proved && is_primary {
            if let Some(event) = self.links.moved(now) {
                self.outputs.push_back(Output::Event(event));
            }
            self.links.settle_leaving(matches!(self.me.mode, Mode::Datagram(_)), now);
        }
        if hearing.restored && is_primary {
            self.links.restored = now;
            self.outputs.push_back(Output::Event(Event::Restored(mirror)));
        }
    }

    /// Raises doubt, or makes it worse.
    pub(super) fn doubt_primary(&mut self, severed: bool, now: MonoTime) {
        let Some(primary) = &mut self.links.primary else { return };
        match &mut primary.doubt {
            Some(doubt) if severed && !doubt.severed => *doubt = Doubt { since: now, severed },
            Some(_) => return,
            none => {
                *none = Some(Doubt { since: now, severed });
                self.outputs.push_back(Output::Event(Event::Degraded(primary.mirror)));
            }
        }
        primary.hurry(now);
        if let Some(standby) = &mut self.links.standby {
            standby.hurry(now);
        }
        self.links.retry = now;
    }

    /// The connection or tripwire of a mirror closed.
    pub(super) fn severed(&mut self, mirror: MirrorKey, now: MonoTime) {
        if self.primary() == Some(mirror) {
            self.doubt_primary(true, now);
            if self.links.standby.as_ref().is_some_and(|standby| standby.is_fresh(now)) {
                self.promote(MoveReason::Tripwire, now);
            }
        } else if self.standby() == Some(mirror) {
            self.bury_standby(mirror, now);
        } else if let Some(at) = self.links.leaving.iter().position(|left| left.mirror == mirror) {
            self.links.leaving.remove(at);
            self.detach(mirror, Leave::Dead);
        } else {
            self.me.tally.unexpected += 1;
        }
    }

    /// Doubts, promotes, gives up, lets go.
    pub(super) fn watch(&mut self, now: MonoTime) {
        if self.links.primary.as_ref().is_some_and(|link| link.doubt.is_none() && now >= link.missed_at()) {
            self.doubt_primary(false, now);
        }
        self.judge(now);
        self.watch_standby(now);
        self.release(now);
    }

    fn judge(&mut self, now: MonoTime) {
        let Some(primary) = &self.links.primary else { return };
        let Some(doubt) = primary.doubt else { return };
        let gone_at = primary.gone_at(&self.config.patience);
        if now < gone_at {
            return;
        }
        let reason = if doubt.severed { MoveReason::Tripwire } else { MoveReason::Silence };
        match &self.links.standby {
            Some(standby) if standby.proven >= doubt.since => self.promote(reason, now),
            Some(_) if now < gone_at + FORSAKE => {}
            _ => self.lose_primary(reason, now),
        }
    }

    fn watch_standby(&mut self, now: MonoTime) {
        if self.links.standby_gone_at(&self.config).is_some_and(|at| now >= at)
            && let Some(mirror) = self.standby()
        {
            self.bury_standby(mirror, now);
        }
    }

    /// Detaches mirrors that were left in order once they owe nothing.
    fn release(&mut self, now: MonoTime) {
        let moved = self.links.pending.is_none();
        let done = |left: &Leaving| now >= left.until || left.finished && moved;
        while let Some(at) = self.links.leaving.iter().position(done) {
            let left = self.links.leaving.remove(at);
            self.detach(left.mirror, left.reason);
        }
    }

    /// The standby becomes primary. The old primary is told first: there are never two.
    pub(super) fn promote(&mut self, reason: MoveReason, now: MonoTime) {
        let Some(mut standby) = self.links.standby.take() else { return };
        if let Some(old) = self.links.primary.take() {
            self.links.note_move(&old, reason);
            match reason {
                _ if reason.orderly() => self.retire(&old, reason, now),
                MoveReason::Refused => self.detach(old.mirror, Leave::Refused),
                _ => {
                    self.detach(old.mirror, Leave::Dead);
                    self.outputs.push_back(Output::ReportFailed(old.mirror));
                    self.book.failed(old.mirror, false, Duration::ZERO, &mut self.me.dice, now);
                }
            }
        }
        self.outputs.push_back(Output::Promote(standby.mirror));
        standby.promote(&self.config.pace, now);
        self.links.primary = Some(standby);
        self.links.retry = now;
        self.shift.moved(reason, now);
        self.shift.attached(&self.config.shifting, &mut self.me.dice, now);
        self.reconcile(now);
    }

    fn retire(&mut self, old: &Link, reason: MoveReason, now: MonoTime) {
        if self.links.leaving.is_full() {
            let first = self.links.leaving.remove(0);
            self.detach(first.mirror, first.reason);
        }
        let reason = if reason == MoveReason::Drain { Leave::Drained } else { Leave::Moved };
        let (mirror, rtt) = (old.mirror, old.rtt.smoothed());
        let until = now + self.config.shifting.linger;
        self.outputs.push_back(Output::Retire(mirror));
        self.links.leaving.push(Leaving { mirror, reason, rtt, finished: false, until });
    }

    /// Nothing is left to move to: everyone is asked again.
    pub(super) fn lose_primary(&mut self, reason: MoveReason, now: MonoTime) {
        let Some(old) = self.links.primary.take() else { return };
        self.links.note_move(&old, reason);
        let leave = if reason == MoveReason::Refused { Leave::Refused } else { Leave::Dead };
        self.detach(old.mirror, leave);
        if reason == MoveReason::Tripwire {
            self.outputs.push_back(Output::ReportFailed(old.mirror));
        }
        if reason != MoveReason::Refused {
            self.book.failed(old.mirror, false, Duration::ZERO, &mut self.me.dice, now);
        }
        if let Some(standby) = self.links.standby.take() {
            self.detach(standby.mirror, Leave::Dead);
        }
        self.outputs.push_back(Output::Event(Event::Lost(old.mirror)));
        self.joins.race_all();
        self.gain.again();
        self.shift.lost();
    }

    fn bury_standby(&mut self, mirror: MirrorKey, now: MonoTime) {
        self.drop_standby(mirror, Leave::Dead);
        self.outputs.push_back(Output::ReportFailed(mirror));
        self.book.failed(mirror, false, Duration::ZERO, &mut self.me.dice, now);
    }

    pub(super) fn drop_standby(&mut self, mirror: MirrorKey, reason: Leave) {
        if self.links.standby.take_if(|link| link.mirror == mirror).is_some() {
            self.detach(mirror, reason);
        }
    }

    pub(super) fn keep_standby(&mut self, now: MonoTime) {
        if self.links.primary.is_none() || self.links.standby.is_some() {
            return;
        }
        if self.joins.len() > 0 || now < self.links.retry {
            return;
        }
        let chosen = self.choose_standby(now);
        if !chosen.is_some_and(|mirror| self.join(mirror, super::join::Purpose::Standby, now)) {
            self.links.retry = now + NO_STANDBY;
        }
    }

    /// The best choice beside the primary, the standby that there is included.
    pub(super) fn choose_standby(&self, now: MonoTime) -> Option<MirrorKey> {
        let primary = self.links.primary.as_ref()?;
        let mut except = self.links.all();
        except.retain(|mirror| Some(*mirror) != self.standby());
        let beside = (primary.domain, primary.rtt.smoothed());
        self.book.standby(self.me.session, beside, &except, now)
    }

    pub(super) fn send_beacons(&mut self, now: MonoTime) {
        let doubting = self.links.primary.as_ref().is_some_and(|primary| primary.doubt.is_some());
        let pace = self.config.pace;
        for link in [&mut self.links.primary, &mut self.links.standby].into_iter().flatten() {
            if now >= link.beacon_at() {
                let (seq, ask) = link.beacon(&pace, doubting, now);
                let (mirror, role, period) = (link.mirror, link.role(), link.period());
                self.outputs.push_back(Output::Beacon { mirror, seq, ask, role, period });
            }
        }
    }

    pub(super) fn duplicate(&mut self) {
        let doubt = self.links.primary.as_ref().is_some_and(|primary| primary.doubt.is_some());
        let wanted = match self.me.mode {
            Mode::Datagram(Duplicate::Always) => true,
            Mode::Datagram(Duplicate::WhileDegraded) => doubt,
            Mode::Datagram(Duplicate::Never) | Mode::Stream => false,
        };
        let over = self.standby().filter(|_| wanted);
        if over != self.links.doubled {
            self.links.doubled = over;
            self.outputs.push_back(Output::Duplicate(over));
        }
    }
}
