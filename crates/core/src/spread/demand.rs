//! Where a domain's users come from: a bounded sample of networks with weights that fade.
//!
//! A network's weight is the sum of what was reported of it, each report worth half after the half-life.
//! That of a network that is known for a short time is scaled up to what it will be when reports go on
//! as they came, so that newcomers compare with the others.
//!
//! When there are more networks than there is room for, a **priority sample** of them is kept (Duffield,
//! Lund and Thorup 2007): those whose weight, divided by a hash of the network in (0, 1), is greatest.
//! Each that stays counts at least as much as the least priority among them; so heavy networks are kept
//! as they are, and the light ones that happen to stay stand for those that do not. The hash makes all
//! brokers keep the same ones.

use crate::hash::{fnv1a, mix, unit};
use crate::map::network_of;
use crate::time::MonoTime;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Most users of one report that are believed …
const MOST_USERS: f32 = 1e8;
/// … and fewest that count.
const FEWEST_USERS: f32 = 1e-6;
/// Networks that were not reported for so many half-lives are forgotten.
const FORGOTTEN: u32 = 8;

/// Position of a mirror among its domain's, or nowhere.
pub(super) type At = Option<u32>;

/// What is known of one network.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// As of `updated`.
    weight: f64,
    updated: MonoTime,
    since: MonoTime,
    /// Where its users went by the last plan.
    at: At,
    /// Where they went before, and until when.
    from: At,
    until: MonoTime,
}

/// A network with its share of the demand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) network: IpAddr,
    /// In arbitrary units.
    pub(super) weight: f64,
    pub(super) at: At,
    pub(super) from: At,
    /// Share of its users who are likely still where they went before.
    pub(super) staying: f64,
}

/// The sample of one domain.
#[derive(Debug, Default)]
pub(super) struct Demand {
    entries: BTreeMap<IpAddr, Entry>,
    /// Whether networks had to be left out.
    partial: bool,
}

/// How reports fade, and how many networks are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) half_life: Duration,
    /// Time between two reports of a network.
    pub(super) period: Duration,
    pub(super) limit: usize,
    /// Half of a mirror's users stay connected for so long.
    pub(super) stay: Duration,
}

impl Memory {
    /// The share of a network's users who have not followed its last move.
    fn staying(&self, entry: &Entry, now: MonoTime) -> f64 {
        let half = self.stay.as_secs_f64().max(1e-3);
        entry.from.map_or(0.0, |_| (-now.since(entry.until).as_secs_f64() / half).exp2())
    }

    /// What is left of a weight after a time.
    fn left(&self, age: Duration) -> f64 {
        (-age.as_secs_f64() / self.half_life.as_secs_f64().max(1e-3)).exp2()
    }

    /// A weight now, as if the network had always been reported. It stands until the next report is
    /// overdue: else it would rise and fall with every report.
    fn settled(&self, entry: &Entry, now: MonoTime) -> f64 {
        let overdue = now.since(entry.updated).saturating_sub(self.period * 3 / 2);
        let known_for = entry.updated.since(entry.since) + self.period.max(Duration::from_millis(1));
        entry.weight * self.left(overdue) / (1.0 - self.left(known_for)).max(1e-6)
    }
}

impl Demand {
    /// Adds a report.
    pub(super) fn add(&mut self, addr: IpAddr, users: f32, now: MonoTime, memory: &Memory) {
        if users.is_nan() || users < FEWEST_USERS {
            return;
        }
        let users = f64::from(users.min(MOST_USERS));
        let network = network_of(addr);
        if let Some(entry) = self.entries.get_mut(&network) {
            entry.weight = entry.weight * memory.left(now.since(entry.updated)) + users;
            entry.updated = entry.updated.max(now);
            return;
        }
        // Twice as many as are kept, so that newcomers have time to be reported again.
        if self.entries.len() >= memory.limit.saturating_mul(2) {
            self.shrink(now, memory);
        }
        self.entries.insert(
            network,
            Entry { weight: users, updated: now, since: now, at: None, from: None, until: now },
        );
    }

    /// Leaves out the networks of least priority.
    fn shrink(&mut self, now: MonoTime, memory: &Memory) {
        let before = self.entries.len();
        self.forget(now, memory);
        if self.entries.len() > memory.limit {
            let kept: Vec<IpAddr> = self.kept(now, memory).iter().map(|s| s.network).collect();
            let entry = |network: IpAddr| Some((network, *self.entries.get(&network)?));
            self.entries = kept.into_iter().filter_map(entry).collect();
        }
        self.partial |= self.entries.len() < before;
    }

    fn forget(&mut self, now: MonoTime, memory: &Memory) {
        let longest = memory.half_life.saturating_mul(FORGOTTEN);
        self.entries.retain(|_, e| now.since(e.updated) <= longest);
        self.partial &= self.entries.len() >= memory.limit;
    }

    /// The networks of greatest priority with what they stand for, by network.
    fn kept(&self, now: MonoTime, memory: &Memory) -> Vec<Sample> {
        let sample = |(network, e): (&IpAddr, &Entry)| Sample {
            network: *network,
            weight: memory.settled(e, now),
            at: e.at,
            from: e.from,
            staying: memory.staying(e, now),
        };
        let mut samples: Vec<Sample> = self.entries.iter().map(sample).collect();
        if samples.len() <= memory.limit && !self.partial {
            return samples;
        }
        let mut ranked: Vec<(f64, Sample)> = samples.drain(..).map(|s| (priority(&s), s)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.network.cmp(&b.1.network)));
        ranked.truncate(memory.limit);
        let least = ranked.last().map_or(0.0, |r| r.0);
        let mut kept: Vec<Sample> =
            ranked.into_iter().map(|(_, s)| Sample { weight: s.weight.max(least), ..s }).collect();
        kept.sort_by_key(|s| s.network);
        kept
    }

    /// What to plan with, by network.
    pub(super) fn samples(&mut self, now: MonoTime, memory: &Memory) -> Vec<Sample> {
        self.forget(now, memory);
        self.kept(now, memory)
    }

    /// Notes where a network's users are sent.
    pub(super) fn sent(&mut self, network: IpAddr, at: At, now: MonoTime, memory: &Memory) {
        let Some(entry) = self.entries.get_mut(&network).filter(|e| e.at != at) else { return };
        // Of three mirrors, the two that most of them are at.
        if memory.staying(entry, now) < 0.5 {
            (entry.from, entry.until) = (entry.at, now);
        }
        entry.at = at;
    }

    /// Mirrors have other positions now: `to` has the new one of each old one.
    pub(super) fn renumber(&mut self, to: &[At]) {
        for entry in self.entries.values_mut() {
            let new = |at: At| at.and_then(|at| to.get(at as usize).copied().flatten());
            (entry.at, entry.from) = (new(entry.at), new(entry.from));
        }
    }
}

fn priority(sample: &Sample) -> f64 {
    let hash = match sample.network {
        IpAddr::V4(a) => fnv1a(a.octets()),
        IpAddr::V6(a) => fnv1a(a.octets()),
    };
    sample.weight / unit(mix(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MEMORY: Memory = Memory {
        half_life: Duration::from_secs(120),
        period: Duration::from_secs(10),
        limit: 500,
        stay: Duration::from_secs(300),
    };

    fn net(n: u32) -> IpAddr {
        Ipv4Addr::from_bits((10 << 24) + (n << 8) + 77).into()
    }

    fn secs(s: u64) -> MonoTime {
        MonoTime::from_millis(1000 * s)
    }

    /// Reports of `networks` every ten seconds.
    fn reported(networks: u32, until: u64, users: impl Fn(u32) -> f32) -> Demand {
        let mut demand = Demand::default();
        for at in (0..=until).step_by(10) {
            (0..networks).for_each(|n| demand.add(net(n), users(n), secs(at), &MEMORY));
        }
        demand
    }

    #[test]
    fn newcomers_count_as_if_they_had_always_been_there() {
        let mut demand = reported(1, 300, |_| 5.0);
        demand.add(net(1), 5.0, secs(300), &MEMORY);
        let weights: Vec<f64> = demand.samples(secs(300), &MEMORY).iter().map(|s| s.weight).collect();
        assert!((weights[0] / weights[1] - 1.0).abs() < 1e-6, "{weights:?}");
        assert_eq!(demand.samples(secs(300 + 8 * 120 + 1), &MEMORY).len(), 0, "forgotten");
    }

    #[test]
    fn a_few_networks_stand_for_many() {
        // A hundred heavy ones have two thirds of the users.
        let users = |n: u32| if n < 100 { 200.0 } else { 1.0 };
        let mut demand = reported(10_100, 600, users);
        assert!(demand.entries.len() <= 1000);
        let samples = demand.samples(secs(600), &MEMORY);
        assert!(samples.len() <= 500);
        let total: f64 = samples.iter().map(|s| s.weight).sum();
        let of_heavy = samples.iter().filter(|s| s.network < network_of(net(100)));
        let share = of_heavy.map(|s| s.weight).sum::<f64>() / total;
        assert!((share - 2.0 / 3.0).abs() < 0.07, "{share}");
    }

    #[test]
    fn nonsense_is_not_demand() {
        let mut demand = Demand::default();
        for users in [f32::NAN, -1.0, 0.0, f32::NEG_INFINITY] {
            demand.add(net(1), users, secs(1), &MEMORY);
        }
        assert_eq!(demand.entries.len(), 0);
        demand.add(net(1), f32::INFINITY, secs(9), &MEMORY);
        demand.add(net(1), 1.0, secs(1), &MEMORY);
        assert!(demand.samples(secs(9), &MEMORY)[0].weight.is_finite());
    }

    #[test]
    fn networks_are_as_wide_as_they_are_announced() {
        let of = |a: &str| network_of(a.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.77"), "192.0.2.0");
        assert_eq!(of("::ffff:192.0.2.77"), "192.0.2.0");
        assert_eq!(of("2001:db8:1:2::3"), "2001:db8:1::");
        assert_eq!(of("64:ff9b::c000:24d"), "64:ff9b::c000:200");
        assert_eq!(of("2002:c000:24d::1"), "2002:c000:200::");
    }
}
