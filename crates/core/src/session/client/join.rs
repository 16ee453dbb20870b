//! Attempts to attach: how they begin and end.

use super::Client;
use super::link::Link;
use super::types::{Event, Leave, MoveReason, Output};
use crate::session::{MirrorKey, Role};
use crate::time::MonoTime;
use arrayvec::ArrayVec;
use std::time::Duration;

/// Attempts under way at a time: a race's, and one for another end that was begun before.
const MOST_JOINS: usize = 6;

/// What an attempt is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To have a primary.
    Race,
    /// To have a standby.
    Standby,
    /// To move there.
    Move,
}

#[derive(Clone, Copy, Debug)]
struct Join {
    mirror: MirrorKey,
    purpose: Purpose,
    role: Role,
    until: MonoTime,
}

#[derive(Default)]
pub(super) struct Joins(ArrayVec<Join, MOST_JOINS>);

impl Joins {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn has(&self, mirror: MirrorKey) -> bool {
        self.0.iter().any(|join| join.mirror == mirror)
    }

    pub fn for_purpose(&self, purpose: Purpose) -> bool {
        self.0.iter().any(|join| join.purpose == purpose)
    }

    pub fn all(&self) -> Vec<MirrorKey> {
        self.0.iter().map(|join| join.mirror).collect()
    }

    pub fn deadline(&self) -> Option<MonoTime> {
        self.0.iter().map(|join| join.until).min()
    }

    /// The primary is gone: whoever is on the way may be the next.
    pub fn race_all(&mut self) {
        self.0.iter_mut().for_each(|join| join.purpose = Purpose::Race);
    }

    fn remove(&mut self, mirror: MirrorKey) -> Option<Join> {
        let at = self.0.iter().position(|join| join.mirror == mirror)?;
        Some(self.0.swap_remove(at))
    }
}

impl Client {
    /// Begins to attach. One that is being left is attached anew only where there is no primary, since
    /// that ends what is still under way over it.
    pub(super) fn race(&mut self, mirror: MirrorKey, now: MonoTime) {
        if self.links.primary.is_none() && self.links.leaving.has(mirror) {
            self.drop_left(mirror);
        }
        if self.links.is_deaf(mirror, &self.config, now) {
            self.drop_deaf(MoveReason::Silence);
        }
        let _ = self.join(mirror, Purpose::Race, now);
    }

    /// Begins to attach, if the list has the mirror, lets it be attached and it is not attached yet.
    pub(super) fn join(&mut self, mirror: MirrorKey, purpose: Purpose, now: MonoTime) -> bool {
        let busy = self.joins.has(mirror) || self.links.has(mirror) || self.joins.0.is_full();
        if busy || !self.book.usable(mirror, now) {
            return false;
        }
        let Some(listed) = self.book.get(mirror) else { return false };
        let Some(address) = self.book.address(listed) else { return false };
        let until = now + self.book.rtt(listed) * 4 + Duration::from_secs(1);
        let role = if purpose == Purpose::Race { Role::Primary } else { Role::Standby };
        if let Some(known) = self.book.entry(mirror) {
            known.tried = Some(now);
        }
        self.joins.0.push(Join { mirror, purpose, role, until });
        self.outputs.push_back(Output::Attach { mirror, address, role });
        true
    }

    pub(super) fn accepted(&mut self, mirror: MirrorKey, now: MonoTime) {
        let Some(join) = self.joins.remove(mirror) else {
            self.me.tally.unexpected += 1;
            // An answer to an attempt that was given up: it was told so then.
            return;
        };
        let listed = self.book.get(mirror).filter(|m| m.standing.attachable());
        let Some(listed) = listed.copied() else { return self.detach(mirror, Leave::Unlisted) };
        let rtt = self.book.estimate(&listed);
        let mut link = Link::new(mirror, listed.domain, rtt, join.role, &self.config.pace, now);
        if self.links.primary.is_none() {
            if join.role == Role::Standby {
                self.outputs.push_back(Output::Promote(mirror));
                link.promote(&self.config.pace, now);
            }
            return self.first_primary(link, now);
        }
        let forsaken = self.links.is_forsaken(&self.config, now);
        match join.purpose {
            _ if forsaken => {
                if let Some(old) = self.links.standby.replace(link) {
                    self.detach(old.mirror, Leave::Dead);
                }
                let cause = self.links.primary.as_ref().and_then(|primary| primary.doubt);
                self.promote(cause.map_or(MoveReason::Silence, |doubt| doubt.cause.reason()), now);
            }
            Purpose::Move => {
                if let Some(old) = self.links.standby.replace(link) {
                    self.detach(old.mirror, Leave::Unneeded);
                }
                self.drive_shift(now);
            }
            // Where there is one already, this one was found to be the better choice.
            Purpose::Standby if self.links.wants_standby() || self.links.is_calm() => {
                if let Some(old) = self.links.standby.replace(link) {
                    self.detach(old.mirror, Leave::Unneeded);
                }
            }
            Purpose::Standby | Purpose::Race => self.detach(mirror, Leave::Unneeded),
        }
    }

    fn first_primary(&mut self, link: Link, now: MonoTime) {
        let mirror = link.mirror;
        self.links.primary = Some(link);
        for other in self.joins.all() {
            self.joins.remove(other);
            self.detach(other, Leave::Unneeded);
        }
        self.shift.attached(&self.config.shifting, &mut self.me.dice, now);
        // Its word that it serves is proof.
        self.tell_left(now);
        match self.links.moved(now) {
            Some(event) => self.outputs.push_back(Output::Event(event)),
            None => self.outputs.push_back(Output::Event(Event::Attached(mirror))),
        }
    }

    pub(super) fn refused(
        &mut self,
        mirror: MirrorKey,
        retry_after: Duration,
        go_to: Option<MirrorKey>,
        now: MonoTime,
    ) {
        let join = self.joins.remove(mirror);
        if join.is_none() && !self.links.has(mirror) {
            self.me.tally.unexpected += 1;
            return;
        }
        self.book.failed(mirror, true, retry_after, &mut self.me.dice, now);
        let purpose = match join {
            Some(join) => join.purpose,
            None if self.primary() == Some(mirror) => {
                let ready = self.links.standby.as_ref().is_some_and(|standby| standby.is_fresh(now));
                match ready && !self.can_go_back(now) {
                    true => self.promote(MoveReason::Refused, now),
                    false => self.lose_primary(MoveReason::Refused, now),
                }
                Purpose::Race
            }
            None => {
                self.drop_standby(mirror, Leave::Refused);
                Purpose::Standby
            }
        };
        let wanted = join.is_some() || self.links.primary.is_none();
        if let Some(other) = go_to.filter(|_| wanted) {
            let _ = self.join(other, purpose, now);
        }
    }

    /// An attempt failed, or an attached mirror's connection ended.
    pub(super) fn attempt_failed(&mut self, mirror: MirrorKey, now: MonoTime) {
        match self.joins.remove(mirror) {
            Some(_) => self.book.failed(mirror, true, Duration::ZERO, &mut self.me.dice, now),
            None if self.links.has(mirror) => self.ended(mirror, now),
            None => self.me.tally.unexpected += 1,
        }
    }

    pub(super) fn expire_joins(&mut self, now: MonoTime) {
        for mirror in self.joins.all() {
            if self.joins.0.iter().any(|join| join.mirror == mirror && now >= join.until) {
                self.detach(mirror, Leave::TimedOut);
                self.attempt_failed(mirror, now);
            }
        }
    }

    /// Attempts to mirrors that may no longer be attached end.
    pub(super) fn drop_joins(&mut self) {
        for mirror in self.joins.all() {
            if !self.book.get(mirror).is_some_and(|m| m.standing.attachable()) {
                self.joins.remove(mirror);
                self.detach(mirror, Leave::Unlisted);
            }
        }
    }

    pub(super) fn detach(&mut self, mirror: MirrorKey, reason: Leave) {
        self.outputs.push_back(Output::Detach { mirror, reason });
    }
}
