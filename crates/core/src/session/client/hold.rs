//! Holding a primary and a standby: beacons, doubt, promotion.
//!
//! Doubt is cheap: the first missed packet raises it. Then both mirrors are asked every few
//! milliseconds, datagrams go over the standby as well where they may, and two things together make
//! the standby primary: it answered what it was asked since, and the primary has been silent for the
//! bound of [`crate::session::loss`]. A closed tripwire needs no silence, and no answer either when the
//! standby was heard just before.
//!
//! A primary that is silent while nobody confirms it is *forsaken*: others are raced, and the first that
//! accepts takes over. It stays primary until then, and is one again as soon as it is heard: the outage
//! may be this machine's. Only the end of its connection, a closed tripwire and silence together, or
//! silence for as long as a connection bears end it without another.

use super::Client;
use super::leave::{Departures, GONE};
use super::link::{Cause, Doubt, Link, Tripwire};
use super::types::{ClientConfig, Event, Leave, MoveReason, Output};
use crate::session::{Ack, Duplicate, MirrorKey, Mode};
use crate::time::MonoTime;
use std::time::Duration;

/// When the standby does not answer either for so long after that, others are raced.
const FORSAKE: Duration = Duration::from_secs(1);
/// Until another standby is looked for, when there was none.
const NO_STANDBY: Duration = Duration::from_secs(1);
#[derive(Default)]
pub(super) struct Links {
    pub primary: Option<Link>,
    pub standby: Option<Link>,
    pub leaving: Departures,
    /// A move whose new primary has not answered yet.
    pub pending: Option<Pending>,
    doubled: Option<MirrorKey>,
    /// When a standby may be looked for again.
    pub retry: MonoTime,
    /// When the last doubt ended.
    restored: MonoTime,
}

#[derive(Clone, Copy)]
pub(super) struct Pending {
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
        attached.chain(self.leaving.all()).collect()
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

    /// There is none, or its tripwire closed.
    pub fn wants_standby(&self) -> bool {
        self.standby.as_ref().is_none_or(|standby| standby.tripwire == Tripwire::Closed)
    }

    /// The primary is silent, and no standby says that it is not this machine's network.
    pub fn is_forsaken(&self, config: &ClientConfig, now: MonoTime) -> bool {
        let Some(primary) = self.primary.as_ref().filter(|primary| primary.doubt.is_some()) else {
            return false;
        };
        let alone = if self.standby.is_some() { FORSAKE } else { Duration::ZERO };
        now >= primary.gone_at(&config.patience) + alone
    }

    /// Whether a mirror's link counts as dead while it answers probes: it has been asked all the while.
    pub fn is_deaf(&self, mirror: MirrorKey, config: &ClientConfig, now: MonoTime) -> bool {
        let Some(primary) = self.primary.as_ref().filter(|primary| primary.doubt.is_some()) else {
            return false;
        };
        primary.mirror == mirror && now >= primary.gone_at(&config.patience) + FORSAKE
    }

    pub fn excuse(&mut self, now: MonoTime) {
        let attached = [&mut self.primary, &mut self.standby].into_iter().flatten();
        attached.chain(self.leaving.links_mut()).for_each(|link| link.excuse(now));
    }

    #[cfg(test)]
    pub fn doubled(&self) -> Option<MirrorKey> {
        self.doubled
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

    /// When something must be looked at while there is a primary.
    pub fn deadline(&self, config: &ClientConfig, now: MonoTime) -> Option<MonoTime> {
        let primary = self.primary.as_ref()?;
        let judged = match primary.doubt {
            None => primary.missed_at(),
            Some(_) => {
                let gone = primary.gone_at(&config.patience);
                let dates = [gone, gone + FORSAKE, primary.heard + GONE];
                dates.into_iter().filter(|at| *at > now).min().unwrap_or(now)
            }
        };
        let standby = self.standby.as_ref().map(|link| link.beacon_at());
        let gone = self.standby_gone_at(config);
        let retry = Some(self.retry).filter(|at| self.wants_standby() && *at > now);
        [Some(judged), Some(primary.beacon_at()), standby, gone, retry].into_iter().flatten().min()
    }
}

impl Client {
    pub(super) fn heard(&mut self, mirror: MirrorKey, seq: u64, ack: Option<Ack>, now: MonoTime) {
        if let Some(pending) = self.links.pending.as_mut().filter(|pending| pending.from == mirror) {
            pending.heard = now;
        }
        let is_primary = self.primary() == Some(mirror);
        let left = self.links.leaving.links_mut().find(|link| link.mirror == mirror);
        let attached = [&mut self.links.primary, &mut self.links.standby].into_iter().flatten();
        let Some(link) = left.or(attached.into_iter().find(|link| link.mirror == mirror)) else {
            self.me.tally.unexpected += u64::from(!self.joins.has(mirror));
            return;
        };
        let hearing = link.hear(seq, ack, now);
        self.me.tally.false_acks += u64::from(hearing.false_ack);
        if self.links.primary.is_none() {
            // One that was given up is back before any other was found.
            let _ = self.go_back(now);
        }
        if hearing.proved && is_primary {
            if let Some(event) = self.links.moved(now) {
                self.outputs.push_back(Output::Event(event));
            }
            self.tell_left(now);
        }
        if hearing.restored && is_primary {
            self.links.restored = now;
            self.outputs.push_back(Output::Event(Event::Restored(mirror)));
        }
    }

    /// Raises doubt, or makes it worse.
    pub(super) fn doubt_primary(&mut self, cause: Cause, now: MonoTime) {
        let Some(primary) = &mut self.links.primary else { return };
        match &mut primary.doubt {
            Some(doubt) if cause > doubt.cause => *doubt = Doubt { since: now, cause },
            Some(_) => return,
            none => {
                *none = Some(Doubt { since: now, cause });
                self.outputs.push_back(Output::Event(Event::Degraded(primary.mirror)));
            }
        }
        primary.hurry(now);
        if let Some(standby) = &mut self.links.standby {
            standby.hurry(now);
        }
        self.links.retry = now;
    }

    /// The tripwire of a mirror closed.
    pub(super) fn tripwire_closed(&mut self, mirror: MirrorKey, now: MonoTime) {
        if self.links.leaving.has(mirror) {
            return;
        }
        let Some(link) = self.links.get_mut(mirror) else {
            self.me.tally.unexpected += 1;
            return;
        };
        link.tripwire = Tripwire::Closed;
        link.hurry(now);
        if self.primary() == Some(mirror) {
            self.doubt_primary(Cause::Tripwire, now);
            let ready = |standby: &Link| standby.is_fresh(now) && standby.is_well();
            if self.links.standby.as_ref().is_some_and(ready) {
                self.promote(MoveReason::Tripwire, now);
            }
        } else {
            self.book.failed(mirror, false, Duration::ZERO, &mut self.me.dice, now);
            self.links.retry = now;
        }
    }

    /// The tripwire of a mirror was closed as soon as it was opened.
    pub(super) fn tripwire_refused(&mut self, mirror: MirrorKey) {
        match self.links.get_mut(mirror) {
            Some(link) => link.tripwire = Tripwire::Refused,
            None => self.me.tally.unexpected += u64::from(!self.links.has(mirror)),
        }
    }

    /// The connection of a mirror ended.
    pub(super) fn ended(&mut self, mirror: MirrorKey, now: MonoTime) {
        if self.primary() == Some(mirror) {
            self.doubt_primary(Cause::Ended, now);
            if self.links.standby.as_ref().is_some_and(|standby| standby.is_fresh(now)) {
                self.promote(MoveReason::Tripwire, now);
            }
        } else if self.standby() == Some(mirror) {
            self.bury_standby(mirror, now);
        } else {
            self.left_ended(mirror, now);
        }
    }

    /// Doubts, promotes, gives up, lets go.
    pub(super) fn watch(&mut self, now: MonoTime) {
        if self.links.primary.as_ref().is_some_and(|link| link.doubt.is_none() && now >= link.missed_at()) {
            self.doubt_primary(Cause::Silence, now);
        }
        self.judge(now);
        self.watch_standby(now);
        self.release(now);
    }

    fn judge(&mut self, now: MonoTime) {
        let Some(primary) = &self.links.primary else { return };
        let Some(Doubt { since, cause }) = primary.doubt else { return };
        let standby = self.links.standby.as_ref();
        let confirms = standby.is_some_and(|standby| standby.proven >= since);
        if confirms && cause == Cause::Tripwire && standby.is_some_and(Link::is_well) {
            return self.promote(MoveReason::Tripwire, now);
        }
        let gone_at = primary.gone_at(&self.config.patience);
        if now < gone_at {
            return;
        }
        let ends = match cause {
            Cause::Silence => primary.heard + GONE,
            Cause::Tripwire | Cause::Ended if standby.is_some() => gone_at + FORSAKE,
            Cause::Tripwire | Cause::Ended => gone_at,
        };
        if confirms {
            self.promote(cause.reason(), now);
        } else if now >= ends || self.can_go_back(now) {
            self.lose_primary(cause.reason(), now);
        }
    }

    fn watch_standby(&mut self, now: MonoTime) {
        if self.links.standby_gone_at(&self.config).is_some_and(|at| now >= at)
            && let Some(mirror) = self.standby()
        {
            self.bury_standby(mirror, now);
        }
    }

    /// The standby becomes primary. The old primary is told only once the new one is known to serve.
    pub(super) fn promote(&mut self, reason: MoveReason, now: MonoTime) {
        let Some(mut standby) = self.links.standby.take() else { return };
        if let Some(old) = self.links.primary.take() {
            self.links.note_move(&old, reason);
            self.replaced(old, reason, now);
        }
        self.outputs.push_back(Output::Promote(standby.mirror));
        standby.promote(&self.config.pace, now);
        self.links.primary = Some(standby);
        self.links.retry = now;
        self.shift.moved(reason, now);
        self.shift.attached(&self.config.shifting, &mut self.me.dice, now);
        self.reconcile(now);
    }

    fn replaced(&mut self, old: Link, reason: MoveReason, now: MonoTime) {
        let mirror = old.mirror;
        let ended = old.doubt.is_some_and(|doubt| doubt.cause == Cause::Ended);
        match reason {
            MoveReason::Refused => self.detach(mirror, Leave::Refused),
            _ if ended => self.detach(mirror, Leave::Dead),
            _ => self.depart(old, reason, now),
        }
        if !reason.orderly() && reason != MoveReason::Refused {
            self.book.failed(mirror, false, Duration::ZERO, &mut self.me.dice, now);
            if ended || reason == MoveReason::Silence {
                self.outputs.push_back(Output::ReportFailed(mirror));
            }
        }
    }

    /// The primary is gone. Where there is no other to go back to, everyone is asked again.
    pub(super) fn lose_primary(&mut self, reason: MoveReason, now: MonoTime) {
        let Some(old) = self.links.primary.take() else { return };
        self.links.note_move(&old, reason);
        let mirror = old.mirror;
        match old.doubt.map(|doubt| doubt.cause) {
            _ if reason == MoveReason::Refused => self.detach(mirror, Leave::Refused),
            // Silent and without a tripwire it is no primary; that it is heard again would make it one.
            Some(Cause::Tripwire) => self.depart(old, reason, now),
            _ => {
                self.detach(mirror, Leave::Dead);
                self.outputs.push_back(Output::ReportFailed(mirror));
                self.book.failed(mirror, false, Duration::ZERO, &mut self.me.dice, now);
            }
        }
        if self.go_back(now) {
            return;
        }
        if let Some(standby) = self.links.standby.take() {
            self.detach(standby.mirror, Leave::Dead);
        }
        self.nobody_left(mirror);
    }

    /// The primary's link is dead though the mirror answers: it is attached anew.
    pub(super) fn drop_deaf(&mut self, reason: MoveReason) {
        if let Some(old) = self.links.primary.take() {
            self.links.note_move(&old, reason);
            self.detach(old.mirror, Leave::Dead);
            self.nobody_left(old.mirror);
        }
    }

    fn nobody_left(&mut self, lost: MirrorKey) {
        self.outputs.push_back(Output::Event(Event::Lost(lost)));
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
        if self.links.primary.is_none() || !self.links.wants_standby() {
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
