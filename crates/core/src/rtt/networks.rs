//! What client networks measured: a bounded memory of votes.
//!
//! For each network and target there is at most one vote a reporter, and within one window (an hour)
//! a reporter's vote only gets lower: what queues add to a round trip is not the path's. The network's
//! value is the median of the votes, its weight their number with a half-life of a day. Votes end
//! after a week, or what the settings say. When there is no more room, the network that was heard of longest ago goes; within a
//! network the target, and for a target the vote.

use super::observation::{Coarseness, Source};
use super::scale::stretch;
use crate::time::UnixMillis;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// Most targets of one network.
const MAX_TARGETS: usize = 8;
/// Most votes for one target of one network.
const MAX_VOTES: usize = 5;
/// A reporter has one vote in this long.
const WINDOW: Duration = Duration::from_secs(3600);
/// A vote's weight halves in this long.
const HALF_LIFE: Duration = Duration::from_secs(24 * 3600);

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// One reporter's word about one target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Vote {
    reporter: u64,
    at: UnixMillis,
    /// On the scale.
    point: f32,
}

/// The votes of one network for one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Votes {
    target: u32,
    /// Bits by [`Source`].
    sources: u8,
    votes: Vec<Vote>,
}

/// One network's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Network {
    heard: UnixMillis,
    /// Users that were seen there at once, as far as is known.
    users: u32,
    targets: Vec<Votes>,
}

/// A network's value for one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// The target's number.
    pub(super) target: u32,
    /// On the scale.
    pub(super) point: f32,
    /// Number of votes, aged.
    pub(super) weight: f32,
    /// Bits by [`Source`].
    pub(super) sources: u8,
}

/// The memory of all networks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Networks {
    by_prefix: HashMap<IpNet, Network>,
}

impl Networks {
    /// Number of networks.
    pub(super) fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// Forgets networks that are finer than they may be.
    pub(super) fn coarsen(&mut self, coarseness: Coarseness) {
        self.by_prefix.retain(|net, _| coarseness.network(net.addr()) == *net);
    }

    /// Takes a vote; at most `most` networks are kept.
    pub(super) fn vote(&mut self, prefix: IpNet, ballot: Ballot, most: usize, now: UnixMillis) {
        if !self.by_prefix.contains_key(&prefix) {
            self.make_room(most);
        }
        let network =
            self.by_prefix.entry(prefix).or_insert(Network { heard: now, users: 0, targets: Vec::new() });
        network.heard = network.heard.max(now);
        network.users =
            if ballot.source == Source::Connections { ballot.users } else { network.users.max(1) };
        let votes = network.votes(ballot.target);
        votes.sources |= 1 << ballot.source as u8;
        votes.take(Vote { reporter: ballot.reporter, at: now, point: stretch(ballot.rtt_ms) });
    }

    /// Forgets the networks heard of longest ago when there are `most`: a hundredth of them at once, so
    /// that looking for them is paid for.
    fn make_room(&mut self, most: usize) {
        if self.by_prefix.len() < most.max(1) {
            return;
        }
        let mut heard: Vec<(UnixMillis, IpNet)> = self.by_prefix.iter().map(|(p, n)| (n.heard, *p)).collect();
        heard.sort_unstable();
        let surplus = self.by_prefix.len() + 1 - most.max(1);
        for (_, prefix) in heard.iter().take(surplus.max(most / 100)) {
            self.by_prefix.remove(prefix);
        }
    }

    /// Forgets what is stale, and votes for targets that `keep` does not want.
    pub(super) fn prune(&mut self, keep: impl Fn(u32) -> bool, now: UnixMillis, stale: Duration) {
        self.by_prefix.retain(|_, network| {
            network.targets.retain_mut(|votes| {
                votes.votes.retain(|v| age(v.at, now) < stale);
                keep(votes.target) && !votes.votes.is_empty()
            });
            !network.targets.is_empty()
        });
    }

    /// Renumbers targets; votes for those that have no new number go.
    pub(super) fn renumber(&mut self, new: impl Fn(u32) -> Option<u32>) {
        for network in self.by_prefix.values_mut() {
            network.targets.retain_mut(|votes| new(votes.target).map(|t| votes.target = t).is_some());
        }
    }

    /// Each network with its users and what it measured, in no particular order.
    pub(super) fn measured(
        &self,
        now: UnixMillis,
        stale: Duration,
    ) -> impl Iterator<Item = (IpNet, u32, Vec<Measured>)> {
        self.by_prefix.iter().map(move |(prefix, network)| {
            let values = network.targets.iter().filter_map(|votes| votes.value(now, stale)).collect();
            (*prefix, network.users.max(1), values)
        })
    }
}

/// A vote as it comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ballot {
    pub(super) target: u32,
    pub(super) rtt_ms: f32,
    pub(super) reporter: u64,
    pub(super) source: Source,
    pub(super) users: u32,
}

impl Network {
    /// The votes for a target; room for it is made by the one voted for longest ago.
    fn votes(&mut self, target: u32) -> &mut Votes {
        let known = self.targets.iter().position(|v| v.target == target);
        let at = known.unwrap_or_else(|| {
            if self.targets.len() >= MAX_TARGETS
                && let Some(oldest) = position_min(&self.targets, |v| v.votes.iter().map(|v| v.at).max())
            {
                self.targets.swap_remove(oldest);
            }
            self.targets.push(Votes { target, sources: 0, votes: Vec::with_capacity(1) });
            self.targets.len() - 1
        });
        &mut self.targets[at]
    }
}

impl Votes {
    fn take(&mut self, vote: Vote) {
        let own = self.votes.iter_mut().find(|v| v.reporter == vote.reporter);
        if let Some(own) = own {
            let window = |at: UnixMillis| at.0 / millis(WINDOW);
            *own = match window(own.at) == window(vote.at) {
                true => Vote { point: own.point.min(vote.point), ..vote },
                false => vote,
            };
            return;
        }
        if self.votes.len() >= MAX_VOTES
            && let Some(oldest) = position_min(&self.votes, |v| v.at)
        {
            self.votes.swap_remove(oldest);
        }
        self.votes.push(vote);
    }

    fn value(&self, now: UnixMillis, stale: Duration) -> Option<Measured> {
        let mut points = [0.0; MAX_VOTES];
        let mut weight = 0.0;
        let mut n = 0;
        for vote in self.votes.iter().filter(|v| age(v.at, now) < stale).take(MAX_VOTES) {
            points[n] = vote.point;
            weight += (-age(vote.at, now).as_secs_f32() / HALF_LIFE.as_secs_f32()).exp2();
            n += 1;
        }
        let points = &mut points[..n];
        points.sort_by(f32::total_cmp);
        let (low, high) = (points.get(n.checked_sub(1)? / 2)?, points.get(n / 2)?);
        Some(Measured { target: self.target, point: (low + high) / 2.0, weight, sources: self.sources })
    }
}

fn age(at: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

fn position_min<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> Option<usize> {
    items.iter().enumerate().min_by_key(|(_, item)| key(item)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtt::scale;

    const HOUR: u64 = 3_600_000;
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    const DAY: u64 = 24 * HOUR;

    fn net(i: u32) -> IpNet {
        IpNet::V4(ipnet::Ipv4Net::new((0x0a00_0000 + (i << 8)).into(), 24).unwrap())
    }

    fn ballot(target: u32, rtt_ms: f32, reporter: u64) -> Ballot {
        Ballot { target, rtt_ms, reporter, source: Source::Client, users: 1 }
    }

    fn value(networks: &Networks, target: u32, now: u64) -> Option<(f32, f32)> {
        let all: Vec<_> = networks.measured(UnixMillis(now), WEEK).collect();
        let found = all.iter().flat_map(|(_, _, m)| m).find(|m| m.target == target)?;
        Some((scale::millis(found.point).round(), found.weight))
    }

    #[test]
    fn a_reporter_has_one_vote_and_the_median_counts() {
        let mut networks = Networks::default();
        for rtt in [500.0, 400.0, 600.0] {
            networks.vote(net(0), ballot(1, rtt, 9), 10, UnixMillis(HOUR));
        }
        assert_eq!(value(&networks, 1, HOUR), Some((400.0, 1.0)), "within a window the lowest");
        networks.vote(net(0), ballot(1, 20.0, 1), 10, UnixMillis(HOUR));
        networks.vote(net(0), ballot(1, 30.0, 2), 10, UnixMillis(HOUR));
        assert_eq!(value(&networks, 1, HOUR), Some((30.0, 3.0)));
        networks.vote(net(0), ballot(1, 700.0, 9), 10, UnixMillis(2 * HOUR));
        assert_eq!(value(&networks, 1, 2 * HOUR).unwrap().0, 30.0, "in a new window anew");
    }

    #[test]
    fn weight_halves_in_a_day_and_is_gone_after_a_week() {
        let mut networks = Networks::default();
        networks.vote(net(0), ballot(1, 20.0, 1), 10, UnixMillis(0));
        assert_eq!(value(&networks, 1, DAY), Some((20.0, 0.5)));
        assert_eq!(value(&networks, 1, 7 * DAY), None);
        networks.prune(|_| true, UnixMillis(7 * DAY), WEEK);
        assert_eq!(networks.len(), 0);
    }

    #[test]
    fn the_network_heard_of_longest_ago_goes() {
        let mut networks = Networks::default();
        for i in 0..4 {
            networks.vote(net(i), ballot(1, 20.0, 1), 4, UnixMillis(i.into()));
        }
        networks.vote(net(0), ballot(1, 20.0, 1), 4, UnixMillis(10));
        networks.vote(net(7), ballot(1, 20.0, 1), 4, UnixMillis(11));
        let mut left: Vec<IpNet> = networks.measured(UnixMillis(11), WEEK).map(|(n, _, _)| n).collect();
        left.sort();
        assert_eq!(left, [net(0), net(2), net(3), net(7)]);
    }

    #[test]
    fn targets_and_votes_are_bounded() {
        let mut networks = Networks::default();
        for target in 0..20 {
            for reporter in 0..20 {
                networks.vote(net(0), ballot(target, 20.0, reporter), 4, UnixMillis(u64::from(target)));
            }
        }
        let (_, _, measured) = networks.measured(UnixMillis(20), WEEK).next().unwrap();
        assert_eq!(measured.len(), MAX_TARGETS);
        assert!(measured.iter().all(|m| m.target >= 12 && m.weight <= MAX_VOTES as f32));
    }

    #[test]
    fn unwanted_and_renumbered_targets() {
        let mut networks = Networks::default();
        networks.vote(net(0), ballot(1, 20.0, 1), 4, UnixMillis(0));
        networks.vote(net(0), ballot(2, 30.0, 1), 4, UnixMillis(0));
        networks.prune(|t| t == 2, UnixMillis(0), WEEK);
        networks.renumber(|t| (t == 2).then_some(0));
        assert_eq!((value(&networks, 0, 0).map(|v| v.0), value(&networks, 1, 0)), (Some(30.0), None));
    }
}
