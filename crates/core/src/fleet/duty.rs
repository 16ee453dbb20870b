//! Whose duty it is to probe a mirror as a matter of routine.
//!
//! Of the connected brokers and this one, the few with the highest hashes of mirror, family and broker have
//! the duty (rendezvous hashing: Thaler, Ravishankar 1998): all that know the same brokers agree without a word,
//! and one more broker takes from the others only what falls to it. Who has no duty looks rarely, while one
//! that has it tells that the mirror is reached. Whatever raises suspicion is looked into by everyone.

use super::Fleet;
use super::mirror::MirrorState;
use crate::hash::{fnv1a, mix};
use crate::health::Family;
use crate::health::machine::Cadence;
use crate::health::phase::Phase;
use crate::id::BrokerId;
use crate::time::MonoTime;
use std::cmp::Reverse;

/// Of so many routine looks in a row, who has no duty makes one: what its own way to the mirror is like
/// must not be forgotten.
const RARELY: u8 = 20;

/// The other brokers, as far as they are connected, and what they are to be told.
#[derive(Default)]
pub(super) struct Peers {
    /// This broker.
    pub me: BrokerId,
    /// Each once, and not this one.
    pub connected: Vec<BrokerId>,
    /// Of which mirrors they have not been told the newest; each once.
    pub queued: Vec<(u32, Family)>,
}

impl Peers {
    /// Who probes a mirror in a family.
    pub fn on_duty(&self, domain: &str, mirror: &str, family: Family, vantages: usize) -> Vec<BrokerId> {
        let name = domain.bytes().chain([0]).chain(mirror.bytes()).chain([0, family.index() as u8]);
        let subject = fnv1a(name);
        let score = |broker: &BrokerId| mix(subject ^ mix(fnv1a(broker.0)));
        let mut all: Vec<BrokerId> = self.connected.iter().copied().chain([self.me]).collect();
        all.sort_by_cached_key(|broker| Reverse((score(broker), *broker)));
        all.truncate(vantages.max(1));
        all
    }
}

/// The routine of one mirror in one family that is others' duty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excuse {
    /// The last routine look was left to others.
    pub given: bool,
    skipped: u8,
}

impl Excuse {
    /// Whether the next routine look is left to others, who look as well.
    pub fn skip(&mut self) -> bool {
        self.skipped = (self.skipped + 1) % RARELY;
        self.given = self.skipped != 0;
        self.given
    }
}

impl Fleet {
    /// Whether others look at a mirror that is well, and tell that they reach it.
    pub(super) fn excused(&self, mirror: &MirrorState, family: Family, now: MonoTime) -> bool {
        let side = &mirror.sides[family.index()];
        let due = side.abroad.excuse.given || side.probing.next.is_some_and(|next| next <= now);
        if !due || self.peers.connected.is_empty() || side.abroad.is_empty() {
            return false;
        }
        let calm = matches!(side.machine.phase(), Phase::Up | Phase::Warming | Phase::Unattended);
        let owed = side.abroad.telling.owed.is_some();
        if !calm || owed || side.machine.cadence() == Cadence::Idle {
            return false;
        }
        let (domain, name) = &mirror.key;
        let duty = self.peers.on_duty(domain, name, family, self.config.probe_vantages);
        let lately = side.lately(&self.schedule(mirror));
        let tells = |broker| duty.contains(&broker);
        let mut looks = side.abroad.looks(now);
        !duty.contains(&self.peers.me)
            && looks.any(|(broker, look)| look.reached && look.age(now) <= lately && tells(broker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(me: u8, all: std::ops::Range<u8>) -> Peers {
        let connected = all.filter(|b| *b != me).map(|b| BrokerId([b; 32])).collect();
        Peers { me: BrokerId([me; 32]), connected, ..Peers::default() }
    }

    #[test]
    fn everyone_agrees_and_the_duty_is_shared_out_evenly() {
        let mut load = [0u32; 10];
        for m in 0..1_000 {
            let name = format!("m{m}");
            let of = |me| peers(me, 0..10).on_duty("play.example", &name, Family::V4, 3);
            let duty = of(0);
            assert_eq!(duty.len(), 3);
            assert!((1..10).all(|me| of(me) == duty));
            for broker in duty {
                load[broker.0[0] as usize] += 1;
            }
        }
        assert!(load.iter().all(|n| (240..=360).contains(n)), "{load:?}");
    }

    #[test]
    fn a_broker_more_takes_over_only_what_falls_to_it() {
        for m in 0..300 {
            let name = format!("m{m}");
            let of = |n| peers(0, 0..n).on_duty("play.example", &name, Family::V6, 3);
            let (before, after) = (of(6), of(7));
            let lost = before.iter().filter(|b| !after.contains(b)).count();
            assert_eq!(lost, usize::from(after.contains(&BrokerId([6; 32]))));
        }
        assert_eq!(peers(4, 4..5).on_duty("a", "b", Family::V4, 3), [BrokerId([4; 32])]);
    }
}
