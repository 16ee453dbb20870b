//! What was dropped or refused, counted.

use nearmost_core::session::window::Seen;
use std::sync::atomic::{AtomicU64, Ordering};

/// What can be dropped or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Datagrams of the application that found no primary.
    Unattached,
    /// Datagrams of the application that were larger than the path took.
    TooLarge,
    /// Datagrams of the application that could not leave for another reason.
    NotSent,
    /// Datagrams for the application that it did not fetch in time.
    NotFetched,
    /// Copies of what came before.
    Duplicates,
    /// Packets too far behind to tell whether they came before.
    TooOld,
    /// Connections closed since a mirror's datagram or message could not be read or was out of order.
    BadInput,
    /// Mirrors that hold another key than the one that was given.
    WrongKey,
    /// Mirrors attached without a tripwire, since no TCP connection came about, or one that talks.
    NoTripwire,
    /// Lists of brokers that were not taken: not signed, not readable, or without the owner's word.
    BadList,
    /// Mirrors of lists that nobody whom the owner chose had granted.
    Ungranted,
}

const COUNTS: usize = Count::Ungranted as usize + 1;

/// Counters of one session.
#[derive(Default)]
pub(super) struct Counters([AtomicU64; COUNTS]);

impl Counters {
    pub fn add(&self, what: Count) {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self, what: Count) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }

    /// Counts what a duplicate window found; whether the packet is to be taken.
    pub fn fresh(&self, seen: Seen) -> bool {
        match seen {
            Seen::Fresh => return true,
            Seen::Duplicate => self.add(Count::Duplicates),
            Seen::TooOld => self.add(Count::TooOld),
        }
        false
    }
}
