//! Orders that one session was given and has not answered: to measure, or to be a witness.
//!
//! ```text
//!            give               answered by number
//!   none ──────────▶ waiting ─────────────────────▶ the order, once
//!                      │ PATIENCE over, or MOST newer ones
//!                      └──▶ lost
//! ```

use nearmost_core::fleet::ProbeToken;
use nearmost_core::rtt::Target;
use nearmost_wire::witness::WitnessOrder;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Orders that wait for an answer; of more, the oldest is given up.
const MOST: usize = 256;
/// How long an agent may take: its queue at the least rate that makes sense, and then some.
const PATIENCE: Duration = Duration::from_secs(300);

/// A round trip to have measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is measured …
    pub target: Target,
    /// … and where it is.
    pub at: SocketAddr,
}

/// What a session is handed to have its agent do.
#[derive(Clone, Debug)]
pub enum Ordered {
    /// A round trip to measure, when there is time.
    Measure(Order),
    /// A mirror to probe, now.
    Witness(Box<Ask>),
}

/// A mirror that an agent is asked about.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Whose answer it is.
    pub token: ProbeToken,
    /// As it is sent, but for its number.
    pub order: WitnessOrder,
}

/// What waits for an answer, the oldest first.
#[derive(Debug)]
pub struct Given<T> {
    next: u64,
    waiting: VecDeque<(u64, T, Instant)>,
}

impl<T> Given<T> {
    /// Nothing given; numbers begin at `first`, so that no other session's fit.
    pub fn new(first: u64) -> Given<T> {
        Given { next: first, waiting: VecDeque::new() }
    }

    /// Notes an order: its number, and how many older ones are given up.
    pub fn give(&mut self, order: T, now: Instant) -> (u64, usize) {
        let before = self.waiting.len();
        let late = |(_, _, at): &(u64, T, Instant)| now.saturating_duration_since(*at) > PATIENCE;
        while self.waiting.len() >= MOST || self.waiting.front().is_some_and(late) {
            self.waiting.pop_front();
        }
        let lost = before - self.waiting.len();
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.waiting.push_back((number, order, now));
        (number, lost)
    }

    /// The order of a number, if it was given and not answered yet.
    pub fn answered(&mut self, number: u64) -> Option<T> {
        let at = self.waiting.iter().position(|(n, ..)| *n == number)?;
        self.waiting.remove(at).map(|(_, order, _)| order)
    }

    /// Orders that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;
    use nearmost_core::id::NodeId;

    fn order(n: u8) -> Order {
        Order { target: Target::Node(NodeId([n; 32])), at: ([192, 0, 2, n], 80).into() }
    }

    #[test]
    fn an_order_is_answered_once_and_only_by_its_number() {
        let now = mono_now();
        let mut given: Given<Order> = Given::new(u64::MAX);
        assert_eq!(given.answered(u64::MAX), None);
        let (first, second) = (given.give(order(1), now), given.give(order(2), now));
        assert_eq!((first, second), ((u64::MAX, 0), (0, 0)));
        assert_eq!(given.answered(7), None);
        assert_eq!(given.answered(0), Some(order(2)));
        assert_eq!(given.answered(0), None);
        assert_eq!(given.answered(u64::MAX), Some(order(1)));
        assert!(given.is_empty());
    }

    #[test]
    fn what_is_never_answered_is_given_up() {
        let start = mono_now();
        let mut given: Given<Order> = Given::new(0);
        let lost: usize = (0..MOST + 3).map(|_| given.give(order(1), start).1).sum();
        assert_eq!((lost, given.len()), (3, MOST));
        assert_eq!(given.answered(2), None);
        assert!(given.answered(3).is_some());
        let late = start + PATIENCE + Duration::from_secs(1);
        assert_eq!(given.give(order(2), late), ((MOST + 3) as u64, MOST - 1));
        assert_eq!(given.len(), 1);
    }
}
