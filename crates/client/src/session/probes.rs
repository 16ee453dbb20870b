//! Probes under way, and by which way mirrors answered.
//!
//! A probe goes over UDP; only while nobody has answered over UDP on this network does it try a tunnel when it
//! was not answered. Answers are awaited longer than the machine waits for them: a failure that comes after a
//! later probe of the same mirror was begun says nothing any more.

use super::link::Ticket;
use super::probe::{self, Answer};
use nearmost_core::health::Family;
use nearmost_core::session::MirrorKey;
use nearmost_wire::identity::Id;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

/// Probes under way; one more fails at once.
const MOST: usize = 128;

/// A probe that ended.
pub(super) struct Probed {
    pub mirror: MirrorKey,
    pub family: Family,
    number: u64,
    pub result: io::Result<Answer>,
}

/// Probes of one session.
#[derive(Default)]
pub(super) struct Probes {
    tasks: JoinSet<Probed>,
    last: u64,
    latest: HashMap<(MirrorKey, Family), u64>,
    tunnelled: HashSet<MirrorKey>,
    udp: Arc<AtomicBool>,
}

impl Probes {
    /// Begins one. False when too many are under way.
    pub fn begin(&mut self, mirror: MirrorKey, address: SocketAddr, node: Id, ticket: Arc<Ticket>) -> bool {
        if self.tasks.len() >= MOST {
            return false;
        }
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        self.last += 1;
        let (number, udp) = (self.last, self.udp.clone());
        self.latest.insert((mirror, family), number);
        self.tasks.spawn(async move {
            let result = probe::round_trip(address, &ticket.key, node, &udp).await;
            Probed { mirror, family, number, result }
        });
        true
    }

    /// The next that ends; never, while there is none. May be cancelled.
    pub async fn next(&mut self) -> Probed {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(probed)) => return probed,
                // One that panicked says nothing.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }

    /// Takes down by which way it was answered. False for a failure that says nothing any more.
    pub fn counts(&mut self, probed: &Probed) -> bool {
        let Probed { mirror, family, number, result } = probed;
        match result {
            Ok(answer) if answer.tunnelled => drop(self.tunnelled.insert(*mirror)),
            Ok(_) => {
                self.udp.store(true, Ordering::Relaxed);
                self.tunnelled.remove(mirror);
            }
            Err(_) => return self.latest.get(&(*mirror, *family)) == Some(number),
        }
        true
    }

    /// Whether a mirror was answering by a tunnel alone.
    pub fn by_tunnel(&self, mirror: MirrorKey) -> bool {
        self.tunnelled.contains(&mirror)
    }

    /// Another network may let other things through.
    pub fn forget(&mut self) {
        self.udp.store(false, Ordering::Relaxed);
        self.tunnelled.clear();
    }

    /// Forgets mirrors that are not there any more.
    pub fn retain(&mut self, keep: impl Fn(MirrorKey) -> bool) {
        self.latest.retain(|(mirror, _), _| keep(*mirror));
        self.tunnelled.retain(|mirror| keep(*mirror));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn probed(mirror: u64, number: u64, result: io::Result<Answer>) -> Probed {
        Probed { mirror: MirrorKey(mirror), family: Family::V4, number, result }
    }

    #[test]
    fn late_failures_say_nothing_and_ways_are_remembered() {
        let mut probes = Probes::default();
        probes.latest.insert((MirrorKey(1), Family::V4), 5);
        let failed = || Err(io::ErrorKind::TimedOut.into());
        assert!(!probes.counts(&probed(1, 4, failed())) && probes.counts(&probed(1, 5, failed())));
        let answer = |tunnelled| Ok(Answer { rtt: Duration::from_millis(1), tunnelled });
        assert!(probes.counts(&probed(1, 4, answer(true))) && probes.by_tunnel(MirrorKey(1)));
        assert!(!probes.udp.load(Ordering::Relaxed));
        assert!(probes.counts(&probed(1, 6, answer(false))) && !probes.by_tunnel(MirrorKey(1)));
        assert!(probes.udp.load(Ordering::Relaxed));
        probes.forget();
        assert!(!probes.udp.load(Ordering::Relaxed));
    }
}
