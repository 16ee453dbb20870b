//! Leaving a primary that still serves: at once when it drains or the list says so, and after a while
//! when another has been clearly nearer all the time. Make before break: the old one serves until the
//! new one is known to (`leave`).
//!
//! Moving back is damped. Better means by the margin and by the share, in every check of a hold that
//! doubles with each move of late but the first, so that a mirror that comes and goes is left alone for
//! longer and longer. The hold is jittered, so that the clients of a mirror that returned do not come in
//! one second.

use super::Client;
use super::join::Purpose;
use super::types::{Leave, MoveReason, Output, Shifting};
use crate::session::list::Standing;
use crate::session::{Dice, MirrorKey};
use crate::time::MonoTime;
use std::cmp::Ordering;
use std::time::Duration;

/// Until another target is tried.
const RETRY: Duration = Duration::from_millis(500);
/// A mirror that said that it drains is not attached again for so long, whatever the list says.
const DRAINED: Duration = Duration::from_secs(30);
/// Others that are probed at a time.
const PROBES: usize = 5;
/// Measured within so many checks, a round trip is fresh.
const FRESH: u32 = 3;

#[derive(Default)]
pub(super) struct Shift {
    intent: Option<Intent>,
    retry: MonoTime,
    better: Option<Better>,
    /// Whom the last check would rather have as a standby.
    rather: Option<MirrorKey>,
    /// Moves of late, and when the last one was.
    moves: u32,
    last: MonoTime,
    check: Option<MonoTime>,
}

/// To leave the primary.
#[derive(Clone, Copy)]
struct Intent {
    reason: MoveReason,
    to: Option<MirrorKey>,
    /// Only because the list says so; when it no longer does, that was all.
    listed: bool,
}

/// One that has been better since.
#[derive(Clone, Copy)]
struct Better {
    mirror: MirrorKey,
    until: MonoTime,
}

impl Shift {
    /// Why the primary is to be left.
    pub fn reason(&self) -> Option<MoveReason> {
        self.intent.map(|intent| intent.reason)
    }

    /// There is a new primary.
    pub fn attached(&mut self, config: &Shifting, dice: &mut Dice, now: MonoTime) {
        (self.intent, self.better, self.retry) = (None, None, now);
        self.rather = None;
        self.check = Some(now + dice.between(config.check, 0.8, 1.2));
    }

    /// There is none.
    pub fn lost(&mut self) {
        (self.intent, self.better, self.check) = (None, None, None);
    }

    /// Moves that nobody ordered count against moving again.
    pub fn moved(&mut self, reason: MoveReason, now: MonoTime) {
        if !matches!(reason, MoveReason::Drain | MoveReason::Unlisted) {
            self.moves = self.moves.saturating_add(1);
            self.last = now;
        }
    }

    fn hold(&mut self, config: &Shifting, dice: &mut Dice, now: MonoTime) -> Duration {
        if now.since(self.last) >= config.memory {
            self.moves = 0;
        }
        let hold = (config.hold * (1 << self.moves.saturating_sub(1).min(16))).min(config.most_hold);
        dice.between(hold, 1.0, 1.2)
    }

    pub fn deadline(&self, now: MonoTime) -> Option<MonoTime> {
        let retry = self.intent.map(|_| self.retry).filter(|at| *at > now);
        [self.check, retry].into_iter().flatten().min()
    }
}

impl Client {
    /// A mirror says that it drains.
    pub(super) fn drains(&mut self, mirror: MirrorKey, go_to: Option<MirrorKey>, now: MonoTime) {
        self.leaves(mirror, go_to, DRAINED, now);
    }

    /// The service behind a mirror takes nobody. It may only restart, so it is shunned like one that failed.
    pub(super) fn unserved(&mut self, mirror: MirrorKey, now: MonoTime) {
        self.leaves(mirror, None, Duration::ZERO, now);
    }

    fn leaves(&mut self, mirror: MirrorKey, go_to: Option<MirrorKey>, least: Duration, now: MonoTime) {
        if !self.links.has(mirror) && !self.joins.has(mirror) {
            self.me.tally.unexpected += 1;
            return;
        }
        self.book.failed(mirror, true, least, &mut self.me.dice, now);
        if self.primary() == Some(mirror) {
            self.intend(MoveReason::Drain, go_to, false, now);
        } else if self.standby() == Some(mirror) {
            self.drop_standby(mirror, Leave::Drained);
        } else if self.joins.has(mirror) {
            self.detach(mirror, Leave::Drained);
            self.attempt_failed(mirror, now);
        }
    }

    pub(super) fn intend(&mut self, reason: MoveReason, to: Option<MirrorKey>, listed: bool, now: MonoTime) {
        let forced = self.shift.reason().is_some_and(|reason| reason != MoveReason::Better);
        if !forced || !listed {
            self.shift.intent = Some(Intent { reason, to, listed });
            self.shift.retry = now;
        }
    }

    /// Does what a list or a change demands of what is attached.
    pub(super) fn reconcile(&mut self, now: MonoTime) {
        self.drop_joins();
        let standing = |key| self.book.get(key).map_or(Standing::Down, |m| m.standing);
        let forced = match self.primary().map(standing) {
            Some(Standing::Draining) => Some(MoveReason::Drain),
            Some(Standing::Down) => Some(MoveReason::Unlisted),
            _ => None,
        };
        let standby = self.standby().filter(|key| !standing(*key).attachable());
        if self.book.held.is_none() {
            return;
        }
        match forced {
            Some(reason) => self.intend(reason, None, true, now),
            None if self.shift.intent.is_some_and(|intent| intent.listed) => self.shift.intent = None,
            None => {}
        }
        if let Some(mirror) = standby {
            self.drop_standby(mirror, Leave::Unlisted);
        }
    }

    pub(super) fn drive_shift(&mut self, now: MonoTime) {
        if self.links.primary.is_none() {
            return;
        }
        if let Some(intent) = self.shift.intent {
            self.pursue(intent, now);
        }
        if self.shift.check.is_some_and(|at| now >= at) {
            self.check(now);
        }
    }

    fn pursue(&mut self, intent: Intent, now: MonoTime) {
        let to = intent.to.filter(|to| self.links.has(*to) || self.book.usable(*to, now));
        if intent.reason == MoveReason::Better && (to.is_none() || self.links.leaving.is_full()) {
            self.shift.intent = None;
            return;
        }
        let standby = self.links.standby.as_ref().filter(|standby| to.is_none_or(|to| to == standby.mirror));
        if let Some(standby) = standby.filter(|standby| standby.is_fresh(now)) {
            if intent.reason != MoveReason::Better {
                return self.promote(intent.reason, now);
            }
            // Nothing is wrong with the primary: the other must have shown that it serves.
            match standby.tried_at() {
                Some(_) if standby.is_tried(now) => self.promote(intent.reason, now),
                Some(at) if now < at => self.shift.retry = at,
                Some(_) => self.shift.retry = now + RETRY,
                None => self.shift.intent = None,
            }
            return;
        }
        if now < self.shift.retry || self.joins.for_purpose(Purpose::Move) {
            return;
        }
        self.shift.retry = now + RETRY;
        let nearest = || self.book.nearest(&self.links.all(), now).first().map(|m| m.key);
        if let Some(target) = to.filter(|to| !self.links.has(*to)).or_else(nearest) {
            let _ = self.join(target, Purpose::Move, now);
        }
    }

    /// Looks for a better mirror, and measures for the next look.
    fn check(&mut self, now: MonoTime) {
        let config = self.config.shifting;
        self.shift.check = Some(now + self.me.dice.between(config.check, 0.8, 1.2));
        let better = self.clearly_better(now);
        match (better, self.shift.better) {
            (None, _) => self.shift.better = None,
            (Some(mirror), Some(was)) if was.mirror == mirror => {
                if now >= was.until && self.shift.intent.is_none() {
                    self.intend(MoveReason::Better, Some(mirror), false, now);
                    self.shift.better = None;
                    self.pursue(Intent { reason: MoveReason::Better, to: Some(mirror), listed: false }, now);
                }
            }
            (Some(mirror), _) => {
                let hold = self.shift.hold(&config, &mut self.me.dice, now);
                self.shift.better = Some(Better { mirror, until: now + hold });
            }
        }
        self.check_standby(now);
        self.probe_others(now);
    }

    /// A standby that two checks in a row find to be the wrong one is replaced.
    fn check_standby(&mut self, now: MonoTime) {
        let chosen = self.choose_standby(now).filter(|chosen| self.standby().is_some_and(|is| is != *chosen));
        let again = chosen.filter(|_| self.shift.rather == chosen && self.joins.len() == 0);
        self.shift.rather = chosen;
        if let Some(mirror) = again.filter(|_| self.shift.intent.is_none()) {
            let _ = self.join(mirror, Purpose::Standby, now);
        }
    }

    /// The nearest other mirror, by what was measured lately, if it comes before this one by its tier, or is
    /// nearer by enough.
    fn clearly_better(&self, now: MonoTime) -> Option<MirrorKey> {
        let config = &self.config.shifting;
        let primary = self.links.primary.as_ref().filter(|link| link.rtt.is_measured())?;
        let unwell = self.links.standby.as_ref().filter(|link| !link.is_well()).map(|link| link.mirror);
        let measured = |key: MirrorKey| {
            let link =
                self.links.standby.as_ref().filter(|link| link.mirror == key && link.rtt.is_measured());
            let fresh = |at: MonoTime| now.since(at) <= config.check * FRESH;
            let known = self.book.known(key).and_then(|known| known.answered).is_some_and(fresh);
            let listed = self.book.get(key).filter(|_| known).map(|m| self.book.rtt(m));
            link.map(|link| link.rtt.smoothed()).or(listed)
        };
        let mut others = self.book.nearest(&[primary.mirror], now);
        others.retain(|m| Some(m.key) != unwell);
        let timed = others.iter().filter_map(|m| Some((m.tier, measured(m.key)?, m.key)));
        let (tier, rtt, mirror) = timed.min()?;
        let now_is = primary.rtt.smoothed();
        let nearer = rtt.saturating_add(config.margin.max(now_is.mul_f64(config.share))) <= now_is;
        match tier.cmp(&self.book.tier(primary.mirror)) {
            Ordering::Less => Some(mirror),
            Ordering::Equal => nearer.then_some(mirror),
            Ordering::Greater => None,
        }
    }

    fn probe_others(&mut self, now: MonoTime) {
        let others: Vec<_> = self.book.nearest(&self.links.all(), now).into_iter().copied().collect();
        for mirror in others.iter().take(PROBES) {
            if let Some(address) = self.book.address(mirror) {
                self.outputs.push_back(Output::Probe { mirror: mirror.key, address });
            }
        }
    }
}
