//! How much room one mirror has in one pass, and from where on it sheds.

use super::config::Marks;
use super::placing::Patience;
use crate::live::Offer;

/// What a mirror was and may do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// Where it closed in the last plan.
    pub(super) closed: u16,
    /// It may rise to here, unless it must …
    pub(super) rise_to: u16,
    /// … and fall to here.
    pub(super) fall_to: u16,
    /// Users it holds now.
    pub(super) held: f64,
}

/// One mirror in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// Users it can carry; `None` when nobody said.
    pub(super) capacity: Option<f64>,
    /// As shares of that.
    pub(super) marks: Marks,
    pub(super) before: Before,
    /// It sheds this much for other reasons than its planned load: its reported load …
    pub(super) floor: u16,
    /// … and its slow start.
    pub(super) cold: u16,
    /// Share of its weight withheld.
    pub(super) withheld: u16,
    pub(super) work: Work,
}

/// What a pass found out so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Users placed.
    pub(super) used: f64,
    /// Parts of turns before this are shed for the load.
    pub(super) closed: u16,
    /// The last turn that it took a part of.
    pub(super) lowest: u16,
    /// Where it is closed when it refuses.
    pending: u16,
    shut: bool,
    /// It sheds at least this.
    least: u16,
}

/// A part as one mirror is asked to take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) turn: u16,
    /// What they add to what the mirror holds.
    pub(super) users: f64,
}

impl Room {
    /// For another pass.
    pub(super) fn clear(&mut self, patience: Patience, failing: bool) {
        let floor = if patience == Patience::None { 0 } else { self.floor.max(self.cold) };
        // While displaced users arrive, what was shed before stays shed if that can be.
        let kept = if failing && patience == Patience::Gradual { self.before.closed } else { 0 };
        let used = if failing { self.before.held } else { 0.0 };
        self.work = Work { used, least: floor.max(kept), lowest: u16::MAX, ..Work::default() };
    }

    pub(super) fn offer(&self) -> Offer {
        Offer { withheld: self.withheld, shed: self.work.closed.max(self.work.least) }
    }

    /// The load up to which it takes users, whatever moves for it.
    fn limit(&self, capacity: f64, patience: Patience) -> f64 {
        capacity * if patience == Patience::None { 1.0 } else { f64::from(self.marks.hard) }
    }

    /// Whether there is room for so many users more, marks aside.
    pub(super) fn holds(&self, users: f64, patience: Patience) -> bool {
        self.capacity.is_none_or(|c| self.work.used + users <= self.limit(c, patience))
    }

    /// Whether it has no room for a part whose users displace nobody yet.
    pub(super) fn refuses(&mut self, asked: Asked, patience: Patience, failing: bool) -> bool {
        let at = match failing {
            true => self.refuses_arrivals(asked, patience),
            false => self.closes_at(asked, patience),
        };
        self.work.pending = at.unwrap_or(0);
        at.is_some()
    }

    fn refuses_arrivals(&self, asked: Asked, patience: Patience) -> Option<u16> {
        (asked.users > 0.0 && !self.holds(asked.users, patience)).then(|| asked.turn.saturating_add(1))
    }

    /// Where it closes rather than taking a part.
    fn closes_at(&self, asked: Asked, patience: Patience) -> Option<u16> {
        let capacity = self.capacity?;
        let (marks, before, turn) = (self.marks, self.before, asked.turn);
        let here = turn.saturating_add(1);
        let above = |mark: f32| self.work.used + asked.users > capacity * f64::from(mark);
        match patience {
            _ if !self.holds(asked.users, patience) => Some(here),
            Patience::None => None,
            Patience::AtOnce => above(marks.high).then_some(here),
            Patience::Gradual if turn >= before.closed => {
                (above(marks.high) && turn < before.rise_to).then_some(here)
            }
            // It shed this part before; what it took back already is not shed again.
            Patience::Gradual if self.work.lowest >= before.closed && self.enough(capacity) => {
                Some(before.closed)
            }
            Patience::Gradual if turn < before.fall_to => Some(before.fall_to.min(self.work.lowest)),
            Patience::Gradual => above(marks.refill).then_some(here),
        }
    }

    /// Closes where it last refused.
    pub(super) fn close(&mut self) {
        self.work.closed = self.work.closed.max(self.work.pending);
        self.work.shut = true;
    }

    /// No more parts come. One that never had to close keeps its point, or lets it fall.
    pub(super) fn finish(&mut self, patience: Patience) {
        let (Some(capacity), Patience::Gradual, false) = (self.capacity, patience, self.work.shut) else {
            return;
        };
        let before = if self.enough(capacity) { self.before.closed } else { self.before.fall_to };
        self.work.closed = before.min(self.work.lowest);
    }

    /// Whether its load is such that it takes nothing back.
    fn enough(&self, capacity: f64) -> bool {
        self.work.used >= capacity * f64::from(self.marks.low)
    }
}
