//! Whether a worker turns: each stamps the time of every turn, of which there is one a second at least.
//!
//! A worker that hangs stamps nothing; one that is flooded stamps with each batch. So this tells the two
//! apart, which a query from outside, that a flood may push out, does not.

use super::WAIT;
use crate::clock::mono_now;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without a stamp for so long, a worker hangs: several times what it waits for at most.
const HANGS: Duration = WAIT.saturating_mul(5);
/// What is stamped before the first turn.
const NEVER: u64 = u64::MAX;

/// The heartbeat of one worker; clones are the same.
#[derive(Clone, Debug)]
pub struct Beat {
    place: Arc<str>,
    number: usize,
    epoch: Instant,
    /// Milliseconds after the epoch.
    last: Arc<AtomicU64>,
}

impl Beat {
    /// Of the worker of this number at a place, such as an address; it has not turned yet.
    pub(crate) fn new(place: impl ToString, number: usize) -> Beat {
        Beat {
            place: place.to_string().into(),
            number,
            epoch: mono_now(),
            last: Arc::new(AtomicU64::new(NEVER)),
        }
    }

    /// It turns now, or is about to.
    pub(crate) fn stamp(&self) {
        let elapsed = mono_now().saturating_duration_since(self.epoch).as_millis();
        // Milliseconds of a process's life fit; one at a time writes.
        self.last.store(u64::try_from(elapsed).unwrap_or(NEVER - 1), Ordering::Relaxed);
    }

    /// Whether it has turned lately.
    pub fn turns(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let elapsed = mono_now().saturating_duration_since(self.epoch);
        last != NEVER && elapsed < Duration::from_millis(last).saturating_add(HANGS)
    }

    /// Where it answers.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Which of those that share the place, from 0.
    pub fn number(&self) -> usize {
        self.number
    }
}

/// The heartbeats of all workers that there are now; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Beats(Arc<Mutex<Vec<Beat>>>);

impl Beats {
    /// One more worker, which is about to begin; until what is returned is dropped.
    pub(in crate::dns) fn enter(&self, beat: Beat) -> Entered {
        // It comes to a server that is ready, and hangs only if its thread is not there in time.
        beat.stamp();
        self.all(|all| all.push(beat.clone()));
        Entered { beats: self.clone(), beat }
    }

    /// One more worker, for good.
    pub(crate) fn add(&self, beat: Beat) {
        self.all(|all| all.push(beat));
    }

    /// One that has not turned lately.
    pub fn hanging(&self) -> Option<Beat> {
        self.all(|all| all.iter().find(|beat| !beat.turns()).cloned())
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.all(|all| all.len())
    }

    fn all<T>(&self, what: impl FnOnce(&mut Vec<Beat>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A worker that comes and goes is there.
#[derive(Debug)]
pub(in crate::dns) struct Entered {
    beats: Beats,
    beat: Beat,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.beats.all(|all| all.retain(|beat| !Arc::ptr_eq(&beat.last, &self.beat.last)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_turns_from_its_first_stamp_until_long_after_its_last() {
        let beat = Beat::new("127.0.0.1:53", 1);
        assert!(!beat.turns(), "it has not begun");
        beat.clone().stamp();
        assert!(beat.turns());
        let Some(epoch) = beat.epoch.checked_sub(HANGS * 2) else { return };
        assert!(!Beat { epoch, last: Arc::new(AtomicU64::new(1)), ..beat }.turns());
    }

    #[test]
    fn a_worker_that_ended_hangs_no_more() {
        let beats = Beats::default();
        let stays = Beat::new("127.0.0.1:53", 0);
        stays.stamp();
        beats.add(stays);
        let beat = Beat::new("eth0", 1);
        let goes = beats.enter(beat.clone());
        assert!(beats.hanging().is_none(), "it was entered just now");
        beat.last.store(NEVER, Ordering::Relaxed);
        assert_eq!(
            beats.hanging().map(|beat| (beat.place().to_owned(), beat.number())),
            Some(("eth0".into(), 1))
        );
        drop(goes);
        assert!(beats.hanging().is_none());
        assert_eq!(beats.count(), 1);
    }
}
