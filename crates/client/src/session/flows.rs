//! Numbers of packets within their flows, both ways.

use nearmost_core::session::window::{DuplicateWindow, Seen};
use std::collections::HashMap;

/// The most flows of which numbers are kept; then the one that was quiet for longest is forgotten.
const MOST_FLOWS: usize = 1024;

/// State of flows, by their ids. Beyond [`MOST_FLOWS`] the one that was not used for longest gives way.
struct Table<T> {
    flows: HashMap<u64, (T, u64)>,
    clock: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { flows: HashMap::new(), clock: 0 }
    }
}

impl<T> Table<T> {
    /// The state of a flow, made where there is none, and what gave way to it.
    fn get(&mut self, flow: u64, make: impl FnOnce() -> T) -> (&mut T, Option<T>) {
        self.clock += 1;
        let clock = self.clock;
        let mut gone = None;
        if self.flows.len() >= MOST_FLOWS
            && !self.flows.contains_key(&flow)
            && let Some(oldest) = self.flows.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)
        {
            gone = self.flows.remove(&oldest).map(|(state, _)| state);
        }
        let (state, used) = self.flows.entry(flow).or_insert_with(|| (make(), clock));
        *used = clock;
        (state, gone)
    }
}

/// Numbers the application's packets.
///
/// Mirrors drop a number that lies far below one that they had, so a flow that comes back after it was
/// forgotten here goes on above all that were forgotten.
#[derive(Default)]
pub(super) struct Numbers {
    next: Table<u64>,
    forgotten: u64,
}

impl Numbers {
    /// The number of the next packet of a flow.
    pub fn next(&mut self, flow: u64) -> u64 {
        let above = self.forgotten;
        let (next, gone) = self.next.get(flow, || above);
        let number = *next;
        *next += 1;
        self.forgotten = above.max(gone.unwrap_or(0));
        number
    }
}

/// What came of a mirror's flows by one connection.
///
/// Each mirror numbers the packets of its own service, so numbers of two mirrors say nothing of each other.
#[derive(Default)]
pub(super) struct Windows(Table<DuplicateWindow>);

impl Windows {
    /// Whether a packet is the first of its number.
    pub fn accept(&mut self, flow: u64, number: u64) -> Seen {
        self.0.get(flow, DuplicateWindow::default).0.accept(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_numbered_apart_and_never_go_back() {
        let mut numbers = Numbers::default();
        assert_eq!([7, 7, 8, 7].map(|flow| numbers.next(flow)), [0, 1, 0, 2]);
        // Enough others that both are forgotten.
        for flow in 0..MOST_FLOWS as u64 {
            let _ = numbers.next(100 + flow);
        }
        assert_eq!(numbers.next.flows.len(), MOST_FLOWS);
        assert!(numbers.next(7) >= 3, "a number may have been used before");
    }

    #[test]
    fn copies_are_known_within_their_flow() {
        let mut windows = Windows::default();
        let found = [(1, 0), (1, 0), (2, 0), (1, 5000), (1, 1)].map(|(flow, n)| windows.accept(flow, n));
        assert_eq!(found, [Seen::Fresh, Seen::Duplicate, Seen::Fresh, Seen::Fresh, Seen::TooOld]);
    }
}
