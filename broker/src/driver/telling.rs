//! When other brokers are told what this one saw.

use super::Driver;
use nearmost_core::fleet::PeerFact;
use nearmost_core::time::{MonoTime, Now};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Least time between two tellings of what changed: a death is to be known everywhere within the second.
const CHANGES: Duration = Duration::from_millis(200);
/// How often all is told.
const ALL: Duration = Duration::from_secs(5);
/// Tellings that wait for a slow connection; the oldest give way, and all is told again soon.
const WAITING: usize = 16;
/// Questions that wait likewise.
const ASKS: usize = 256;

/// What the driver tells and asks other brokers; every connection follows on its own.
#[derive(Clone)]
pub(super) struct ToPeers {
    pub facts: broadcast::Sender<Arc<Vec<PeerFact>>>,
    pub asks: broadcast::Sender<nearmost_core::fleet::PeerAsk>,
}

impl Default for ToPeers {
    fn default() -> ToPeers {
        ToPeers { facts: broadcast::channel(WAITING).0, asks: broadcast::channel(ASKS).0 }
    }
}

/// When others are told next; never while none are connected.
#[derive(Debug, Default)]
pub(super) struct Telling {
    connected: Vec<[u8; 32]>,
    all: Option<MonoTime>,
    last: MonoTime,
}

impl Telling {
    /// These brokers are connected now: one that was not before is told all at once.
    pub fn connected(&mut self, mut keys: Vec<[u8; 32]>, now: MonoTime) {
        keys.sort_unstable();
        let newcomer = keys.iter().any(|key| self.connected.binary_search(key).is_err());
        self.connected = keys;
        self.all = match self.connected.is_empty() {
            true => None,
            false if newcomer => Some(now),
            false => self.all,
        };
    }

    /// When to tell next.
    pub fn deadline(&self, changed: bool) -> Option<MonoTime> {
        let changes = changed.then_some(self.last + CHANGES);
        self.all.map(|all| changes.map_or(all, |changes| changes.min(all)))
    }
}

impl Driver {
    /// Tells other brokers what they are to be told by now.
    pub(super) fn tell_peers(&mut self, now: Now) {
        let fleet = &mut self.parts.fleet;
        let Some(all) = self.telling.all else { return };
        if self.telling.deadline(fleet.facts_changed()).is_none_or(|due| due > now.mono) {
            return;
        }
        // Whatever is told, it is no news any more.
        let changed = fleet.changed_facts(now);
        let facts: Vec<PeerFact> = match all <= now.mono {
            true => {
                self.telling.all = Some(now.mono + ALL);
                fleet.own_facts(now).collect()
            }
            false => changed,
        };
        self.telling.last = now.mono;
        if !facts.is_empty() {
            // Nobody may be listening yet; all is told again soon.
            let _ = self.handle.to_peers().facts.send(Arc::new(facts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    #[test]
    fn newcomers_are_told_at_once_and_changes_soon() {
        let mut telling = Telling::default();
        assert_eq!(telling.deadline(true), None, "nobody is there");
        telling.connected(vec![[2; 32], [1; 32]], at(100));
        assert_eq!(telling.deadline(false), Some(at(100)));
        telling.all = Some(at(5_100));
        telling.last = at(100);
        telling.connected(vec![[1; 32]], at(150));
        assert_eq!(telling.deadline(false), Some(at(5_100)));
        assert_eq!(telling.deadline(true), Some(at(300)));
        telling.connected(vec![[1; 32], [3; 32]], at(160));
        assert_eq!(telling.deadline(false), Some(at(160)));
        telling.connected(Vec::new(), at(170));
        assert_eq!(telling.deadline(true), None);
    }
}
