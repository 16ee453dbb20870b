//! Whether a worker turns: each stamps the time of every turn, of which there is one a second at least.
//!
//! A worker that hangs stamps nothing; one that is flooded stamps with each batch. So this tells the two
//! apart, which a query from outside, that a flood may push out, does not.

use super::WAIT;
use crate::clock::mono_now;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Without a stamp for so long, a worker hangs: several times what it waits for at most.
const HANGS: Duration = WAIT.saturating_mul(5);
/// What is stamped before the first turn.
const NEVER: u64 = u64::MAX;

/// The heartbeat of one worker; clones are the same.
#[derive(Clone, Debug)]
pub struct Beat {
    address: SocketAddr,
    number: usize,
    epoch: Instant,
    /// Milliseconds after the epoch.
    last: Arc<AtomicU64>,
}

impl Beat {
    /// Of the worker of this number at an address; it has not turned yet.
    pub(crate) fn new(address: SocketAddr, number: usize) -> Beat {
        Beat { address, number, epoch: mono_now(), last: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// It turns now.
    pub(crate) fn stamp(&self) {
        let elapsed = mono_now().saturating_duration_since(self.epoch).as_millis();
        // Milliseconds of a process's life fit; only the worker writes.
        self.last.store(u64::try_from(elapsed).unwrap_or(NEVER - 1), Ordering::Relaxed);
    }

    /// Whether it has turned lately.
    pub fn turns(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let elapsed = mono_now().saturating_duration_since(self.epoch);
        last != NEVER && elapsed < Duration::from_millis(last).saturating_add(HANGS)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which of those that share the address, from 0.
    pub fn number(&self) -> usize {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_turns_from_its_first_stamp_until_long_after_its_last() {
        let beat = Beat::new("127.0.0.1:53".parse().unwrap(), 1);
        assert!(!beat.turns(), "it has not begun");
        beat.clone().stamp();
        assert!(beat.turns());
        let Some(epoch) = beat.epoch.checked_sub(HANGS * 2) else { return };
        assert!(!Beat { epoch, last: Arc::new(AtomicU64::new(1)), ..beat }.turns());
    }
}
