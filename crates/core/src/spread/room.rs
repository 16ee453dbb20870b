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
    /// Those of them that come from mirrors that went away.
    pub(super) arrived: f64,
    /// Parts of turns before this are shed for the load.
    pub(super) closed: u16,
    /// It must be closed here as soon as it refuses.
    pending: u16,
    shut: bool,
    /// Less than `cold` and `floor` when those are overruled.
    least: u16,
}

impl Room {
    /// For another pass.
    pub(super) fn clear(&mut self, patience: Patience) {
        let least = if patience == Patience::None { 0 } else { self.floor.max(self.cold) };
        self.work = Work { least, ..Work::default() };
    }

    pub(super) fn offer(&self) -> Offer {
        Offer { withheld: self.withheld, shed: self.work.closed.max(self.work.least) }
    }

    pub(super) fn take(&mut self, users: f64, displaced: bool) {
        self.work.used += users;
        self.work.arrived += if displaced { users } else { 0.0 };
    }

    /// Whether it has no room for these users of a part, and where it closes then.
    pub(super) fn refuses(&mut self, turn: u16, users: f64, displaced: bool, patience: Patience) -> bool {
        let Some(capacity) = self.capacity else { return false };
        let (marks, before) = (self.marks, self.before);
        let with = self.work.used + users;
        let here = turn.saturating_add(1);
        let crammed = displaced && before.held + self.work.arrived + users > self.limit(capacity, patience);
        let at = match patience {
            Patience::None => (with > capacity || crammed).then_some(here),
            _ if with > capacity * f64::from(marks.hard) || crammed => Some(here),
            Patience::AtOnce => (with > capacity * f64::from(marks.high)).then_some(here),
            Patience::Gradual if turn >= before.closed => {
                (with > capacity * f64::from(marks.high) && turn < before.rise_to).then_some(here)
            }
            // It shed this part before.
            Patience::Gradual if self.work.used >= capacity * f64::from(marks.low) => Some(before.closed),
            Patience::Gradual if turn < before.fall_to => Some(before.fall_to),
            Patience::Gradual => (with > capacity * f64::from(marks.refill)).then_some(here),
        };
        self.work.pending = at.unwrap_or(0);
        at.is_some()
    }

    /// Whether there is room for so many users more, marks aside.
    pub(super) fn holds(&self, users: f64, patience: Patience) -> bool {
        self.capacity.is_none_or(|c| self.work.used + users <= self.limit(c, patience))
    }

    /// What it holds together with what comes may not be more than this.
    fn limit(&self, capacity: f64, patience: Patience) -> f64 {
        let share = if patience == Patience::None { 1.0 } else { f64::from(self.marks.hard) };
        capacity * share
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
        let enough = self.work.used >= capacity * f64::from(self.marks.low);
        self.work.closed = if enough { self.before.closed } else { self.before.fall_to };
    }
}
