//! One heap of deadlines for the whole fleet.
//!
//! An owner remembers when it is `armed`. Arming it earlier pushes a second entry; arming it later
//! pushes nothing, since the owner looks again when the earlier entry fires. An entry that is not
//! its owner's `armed` is dead and passed over, so an owner has one living entry at most.

use crate::health::Family;
use crate::time::MonoTime;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Between being armed and firing.
const SOONEST: Duration = Duration::from_millis(1);

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Node(u32),
    Mirror(u32, Family),
}

#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(MonoTime, Timer)>>,
}

impl Timers {
    /// Sees to it that `timer` fires at `due`, or earlier if it is armed already. A deadline that
    /// passed fires a little later, so that no owner can hold up the others by wanting it now
    /// again and again.
    pub fn arm(&mut self, armed: &mut Option<MonoTime>, due: Option<MonoTime>, timer: Timer, now: MonoTime) {
        let Some(due) = due.map(|due| due.max(now + SOONEST)) else { return };
        if armed.is_none_or(|at| due < at) {
            *armed = Some(due);
            self.heap.push(Reverse((due, timer)));
        }
    }

    pub fn next(&self) -> Option<MonoTime> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub fn pop_due(&mut self, now: MonoTime) -> Option<(MonoTime, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
