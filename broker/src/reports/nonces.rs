//! Who asked for which one-time name: what DNS notes and a report uses up.
//!
//! The query path must not wait, so it only tries for the lock of a nonce's shard, and what does not
//! get it is dropped and counted: the lock is held for the time of a few map operations, and a tie
//! that is missed is made at the client's next visit. A shard that is full forgets its oldest entry: a
//! report follows its look-up within seconds, so the newest are worth most.

use crate::telemetry::ReportMetrics;
use nearmost_dns::Nonce;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// Old entries that one note removes at most, so that no query pays for many.
const SWEEP: usize = 4;

/// Bounds of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceLimits {
    /// Entries in all.
    pub most: usize,
    /// Entries that one resolver may have: an IPv4 address or an IPv6 /64.
    pub most_a_source: usize,
    /// How long an entry lives.
    pub life: Duration,
}

impl Default for NonceLimits {
    fn default() -> Self {
        NonceLimits { most: 65_536, most_a_source: 8192, life: Duration::from_secs(60) }
    }
}

/// Nonces of one-time names that were asked for lately.
pub struct SeenNonces {
    shards: [Mutex<Shard>; SHARDS],
    /// Nobody but us can tell which nonces share a shard.
    hasher: RandomState,
    limits: NonceLimits,
    metrics: Arc<ReportMetrics>,
}

impl SeenNonces {
    /// An empty table.
    pub fn new(limits: NonceLimits, metrics: Arc<ReportMetrics>) -> SeenNonces {
        let shards = std::array::from_fn(|_| Mutex::default());
        let a_shard = |all: usize| (all / SHARDS).max(1);
        let limits = NonceLimits {
            most: a_shard(limits.most),
            most_a_source: a_shard(limits.most_a_source),
            ..limits
        };
        SeenNonces { shards, hasher: RandomState::new(), limits, metrics }
    }

    fn shard(&self, nonce: &Nonce) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(nonce) % SHARDS as u64) as usize]
    }

    /// Notes that a resolver asked for a nonce's name. Never waits; what cannot be noted is counted.
    pub fn note(&self, nonce: &Nonce, resolver: IpAddr, now: Instant) {
        let noted = match self.shard(nonce).try_lock() {
            Ok(mut shard) => shard.note(*nonce, resolver.to_canonical(), now, &self.limits),
            // A shard is whole between any two operations on its parts.
            Err(TryLockError::Poisoned(shard)) => {
                shard.into_inner().note(*nonce, resolver.to_canonical(), now, &self.limits)
            }
            Err(TryLockError::WouldBlock) => Noted::Busy,
        };
        let dropped = |reason| self.metrics.nonces_dropped.with_label_values(&[reason]).inc();
        match noted {
            Noted::Again => return,
            Noted::Busy => return dropped("busy"),
            Noted::SourceFull => return dropped("source"),
            Noted::InPlaceOf { alive: true } => dropped("full"),
            Noted::New | Noted::InPlaceOf { alive: false } => {}
        }
        self.metrics.nonces.inc();
    }

    /// Who asked for a nonce's name, once.
    pub fn take(&self, nonce: &Nonce, now: Instant) -> Option<IpAddr> {
        let mut shard = self.shard(nonce).lock().unwrap_or_else(PoisonError::into_inner);
        shard.take(nonce, now, self.limits.life)
    }
}

/// What became of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    New,
    /// It is there, or was and is used up.
    Again,
    /// The oldest entry had to go for it, alive or not.
    InPlaceOf {
        alive: bool,
    },
    /// The resolver has its share.
    SourceFull,
    /// Somebody else had the lock.
    Busy,
}

#[derive(Default)]
struct Shard {
    seen: HashMap<Nonce, Seen>,
    /// Oldest first; one for each entry.
    order: VecDeque<Nonce>,
    by_source: HashMap<IpAddr, usize>,
}

struct Seen {
    resolver: IpAddr,
    at: Instant,
    /// It stays until its time is over, so that a late second query does not make it good again.
    used: bool,
}

/// Who counts as one resolver.
fn source_of(resolver: IpAddr) -> IpAddr {
    match resolver {
        IpAddr::V4(_) => resolver,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

impl Shard {
    fn note(&mut self, nonce: Nonce, resolver: IpAddr, now: Instant, limits: &NonceLimits) -> Noted {
        for _ in 0..SWEEP {
            match self.oldest() {
                Some(at) if now.saturating_duration_since(at) >= limits.life => self.forget_oldest(),
                _ => break,
            }
        }
        if self.seen.contains_key(&nonce) {
            return Noted::Again;
        }
        let source = source_of(resolver);
        if self.by_source.get(&source).is_some_and(|n| *n >= limits.most_a_source) {
            return Noted::SourceFull;
        }
        let mut noted = Noted::New;
        if self.seen.len() >= limits.most {
            let alive = |at| now.saturating_duration_since(at) < limits.life;
            noted = Noted::InPlaceOf { alive: self.oldest().is_some_and(alive) };
            self.forget_oldest();
        }
        *self.by_source.entry(source).or_insert(0) += 1;
        self.seen.insert(nonce, Seen { resolver, at: now, used: false });
        self.order.push_back(nonce);
        noted
    }

    fn take(&mut self, nonce: &Nonce, now: Instant, life: Duration) -> Option<IpAddr> {
        let seen = self.seen.get_mut(nonce)?;
        let good = !seen.used && now.saturating_duration_since(seen.at) < life;
        seen.used = true;
        good.then_some(seen.resolver)
    }

    fn oldest(&self) -> Option<Instant> {
        self.seen.get(self.order.front()?).map(|s| s.at)
    }

    fn forget_oldest(&mut self) {
        let Some(seen) = self.order.pop_front().and_then(|nonce| self.seen.remove(&nonce)) else { return };
        if let Entry::Occupied(mut count) = self.by_source.entry(source_of(seen.resolver)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;
    use proptest::prelude::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn nonce(n: usize) -> Nonce {
        Nonce::parse(&format!("{n:016}")).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn table(most: usize, most_a_source: usize) -> (SeenNonces, Arc<ReportMetrics>) {
        let metrics = Arc::new(ReportMetrics::register(&prometheus::Registry::new()).unwrap());
        let limits = NonceLimits { most, most_a_source, life: LIFE };
        (SeenNonces::new(limits, metrics.clone()), metrics)
    }

    fn dropped(metrics: &ReportMetrics, reason: &str) -> u64 {
        metrics.nonces_dropped.with_label_values(&[reason]).get()
    }

    #[test]
    fn a_nonce_is_good_once_and_for_a_minute() {
        let (table, metrics) = table(1600, 1600);
        let start = mono_now();
        table.note(&nonce(1), ip("::ffff:192.0.2.53"), start);
        table.note(&nonce(1), ip("192.0.2.54"), start);
        assert_eq!(table.take(&nonce(2), start), None);
        assert_eq!(table.take(&nonce(1), start), Some(ip("192.0.2.53")), "who asked first");
        table.note(&nonce(1), ip("192.0.2.53"), start);
        assert_eq!(table.take(&nonce(1), start), None, "a late query does not make it good again");
        table.note(&nonce(3), ip("192.0.2.53"), start);
        assert_eq!(table.take(&nonce(3), start + LIFE), None);
        assert_eq!(metrics.nonces.get(), 2);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_counts_it() {
        let (table, metrics) = table(SHARDS * 4, SHARDS * 100);
        let start = mono_now();
        for n in 0..10_000 {
            table.note(&nonce(n), ip("192.0.2.53"), start + Duration::from_millis(n as u64));
        }
        let entries = |table: &SeenNonces| table.shards.iter().map(|s| s.lock().unwrap().seen.len()).sum();
        let held: usize = entries(&table);
        assert_eq!((held, dropped(&metrics, "full")), (SHARDS * 4, 10_000 - held as u64));
        let end = start + Duration::from_secs(10);
        assert_eq!(table.take(&nonce(9_999), end), Some(ip("192.0.2.53")));
        assert_eq!(table.take(&nonce(0), end), None);
        // What is over makes room without being missed.
        for n in 10_000..10_200 {
            table.note(&nonce(n), ip("192.0.2.53"), end + LIFE);
        }
        assert!(dropped(&metrics, "full") < 10_000 - held as u64 + 200);
    }

    #[test]
    fn a_resolver_has_a_share() {
        let (table, metrics) = table(SHARDS * 100, SHARDS * 2);
        let start = mono_now();
        for n in 0..1000 {
            let resolver = format!("2001:db8::{n:x}");
            table.note(&nonce(n), ip(&resolver), start);
        }
        assert_eq!(dropped(&metrics, "source"), 1000 - SHARDS as u64 * 2, "the same /64");
        table.note(&nonce(5000), ip("192.0.2.53"), start);
        assert!(table.take(&nonce(5000), start).is_some());
    }

    #[test]
    fn whoever_finds_it_locked_does_not_wait() {
        let (table, metrics) = table(1600, 1600);
        let held: Vec<_> = table.shards.iter().map(|s| s.lock().unwrap()).collect();
        table.note(&nonce(1), ip("192.0.2.53"), mono_now());
        drop(held);
        assert_eq!((dropped(&metrics, "busy"), metrics.nonces.get()), (1, 0));
    }

    proptest! {
        /// Whatever happens, the parts of a shard agree and the bounds hold.
        #[test]
        fn a_shard_is_consistent_and_bounded(steps in prop::collection::vec((0usize..40, 0u8..4, 0u64..30, any::<bool>()), 0..200)) {
            let limits = NonceLimits { most: 12, most_a_source: 5, life: LIFE };
            let (mut shard, mut now) = (Shard::default(), mono_now());
            for (n, resolver, wait, take) in steps {
                now += Duration::from_secs(wait);
                if take {
                    shard.take(&nonce(n), now, LIFE);
                    prop_assert_eq!(shard.take(&nonce(n), now, LIFE), None);
                } else {
                    shard.note(nonce(n), IpAddr::from([192, 0, 2, resolver]), now, &limits);
                }
                prop_assert!(shard.seen.len() <= limits.most);
                prop_assert_eq!(shard.order.len(), shard.seen.len());
                prop_assert_eq!(shard.by_source.values().sum::<usize>(), shard.seen.len());
                prop_assert!(shard.by_source.values().all(|n| (1..=limits.most_a_source).contains(n)));
            }
        }
    }
}
