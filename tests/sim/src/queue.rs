//! The agenda: a calendar queue. Most events lie within seconds of now, so that pushing and popping
//! one costs a few stores; events of one moment come in the order in which they were pushed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A day of the calendar is 2^10 µs.
const DAY: u32 = 10;
/// Days of the calendar: about eight seconds. A power of two.
const DAYS: u64 = 8192;

struct Entry<E> {
    at: u64,
    count: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (u64, u64) {
        (self.at, self.count)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Events by time in microseconds.
pub struct Queue<E> {
    /// What is left of today, the latest first.
    today: Vec<Entry<E>>,
    /// Number of today.
    day: u64,
    /// The days after today, unsorted.
    days: Vec<Vec<Entry<E>>>,
    /// A bit for each of `days` that has entries.
    busy: Vec<u64>,
    /// What lies beyond the calendar.
    far: BinaryHeap<Reverse<Entry<E>>>,
    count: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue {
            today: Vec::new(),
            day: 0,
            days: (0..DAYS).map(|_| Vec::new()).collect(),
            busy: vec![0; DAYS as usize / 64],
            far: BinaryHeap::new(),
            count: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Puts an event on the agenda; one of the past comes next.
    pub fn push(&mut self, at: u64, event: E) {
        self.count += 1;
        let entry = Entry { at, count: self.count, event };
        self.place(entry);
    }

    fn place(&mut self, entry: Entry<E>) {
        let day = entry.at >> DAY;
        if day <= self.day {
            let place = self.today.partition_point(|other| *other > entry);
            self.today.insert(place, entry);
        } else if day < self.day + DAYS {
            let slot = (day % DAYS) as usize;
            self.days[slot].push(entry);
            self.busy[slot / 64] |= 1 << (slot % 64);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// When the next event is.
    pub fn next_at(&mut self) -> Option<u64> {
        if self.today.is_empty() {
            self.turn();
        }
        self.today.last().map(|entry| entry.at)
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.next_at()?;
        self.today.pop().map(|entry| (entry.at, entry.event))
    }

    /// Goes on to the next day that has events.
    fn turn(&mut self) {
        let next = self.next_busy().or_else(|| self.far.peek().map(|Reverse(e)| e.at >> DAY));
        let Some(next) = next else { return };
        self.day = next;
        let slot = (next % DAYS) as usize;
        std::mem::swap(&mut self.today, &mut self.days[slot]);
        self.busy[slot / 64] &= !(1 << (slot % 64));
        self.today.sort_unstable_by(|a, b| b.cmp(a));
        while self.far.peek().is_some_and(|Reverse(e)| e.at >> DAY < next + DAYS) {
            if let Some(Reverse(entry)) = self.far.pop() {
                self.place(entry);
            }
        }
    }

    /// The first day after today with entries in the calendar.
    fn next_busy(&self) -> Option<u64> {
        let first = self.day + 1;
        let (mut word, bit) = ((first % DAYS / 64) as usize, first % 64);
        let mut mask = u64::MAX << bit;
        // Once around, and the first word again for its lower bits.
        for _ in 0..=self.busy.len() {
            let found = self.busy[word] & mask;
            if found != 0 {
                let slot = word as u64 * 64 + u64::from(found.trailing_zeros());
                return Some(first + (slot + DAYS - first % DAYS) % DAYS);
            }
            mask = u64::MAX;
            word = (word + 1) % self.busy.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is pushed and popped: the order is that of a sorted list.
        #[test]
        fn events_come_in_order(steps in prop::collection::vec((0..40_000_000u64, any::<bool>()), 1..300)) {
            let (mut queue, mut list, mut now) = (Queue::default(), Vec::new(), 0);
            for (i, (ahead, pop)) in steps.into_iter().enumerate() {
                // Some soon, some beyond the calendar.
                let ahead = if i % 3 == 0 { ahead / 10_000 } else { ahead };
                queue.push(now + ahead, i);
                list.push((now + ahead, i));
                if pop {
                    list.sort_unstable();
                    let first = list.remove(0);
                    prop_assert_eq!(queue.next_at(), Some(first.0));
                    prop_assert_eq!(queue.pop(), Some(first));
                    now = first.0;
                }
            }
            list.sort_unstable();
            for first in list {
                prop_assert_eq!(queue.pop(), Some(first));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }

    #[test]
    fn what_is_late_comes_next() {
        let mut queue = Queue::default();
        queue.push(30_000_000, "far");
        queue.push(5, "soon");
        assert_eq!(queue.pop(), Some((5, "soon")));
        assert_eq!(queue.pop(), Some((30_000_000, "far")));
        queue.push(1, "late");
        assert_eq!(queue.pop(), Some((1, "late")));
        assert_eq!(queue.next_at(), None);
    }
}
