//! What networks have in common beyond their region: country, autonomous system, covering prefix.
//!
//! The levels are gone through from the widest to the narrowest; at each, a group of networks corrects
//! what the levels before it left over:
//!
//! ```text
//! line ─▶ region ─▶ country ─▶ AS ─▶ covering prefix ─▶ the network itself
//! ```
//!
//! A group's correction for a target is the median of its networks' left-overs, in which "nothing" has
//! a vote, times `n / (n + 1)` for the weight `n` of the networks that voted. So one network alone
//! corrects nothing for others, and of two the more cautious one decides.

use super::observation::Coarseness;
use crate::geo::CountryCode;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::HashMap;
use std::net::IpAddr;

/// Lengths of covering prefixes; in IPv6 what registries hand out.
pub(super) const COVERS: Coarseness = Coarseness { v4: 16, v6: 32 };

/// Networks that are corrected together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Group {
    Country(CountryCode),
    As(u32),
    Prefix(IpNet),
}

/// The prefix that covers a network at the level of prefixes.
pub(super) fn covering(network: IpNet) -> IpNet {
    match network {
        IpNet::V4(n) if n.prefix_len() > COVERS.v4 => {
            IpNet::V4(Ipv4Net::new(n.addr(), COVERS.v4).unwrap_or(n).trunc())
        }
        IpNet::V6(n) if n.prefix_len() > COVERS.v6 => {
            IpNet::V6(Ipv6Net::new(n.addr(), COVERS.v6).unwrap_or(n).trunc())
        }
        wide => wide,
    }
}

/// The covering prefix of an address; IPv4-mapped addresses are IPv4.
pub(super) fn covering_address(addr: IpAddr) -> IpNet {
    covering(IpNet::from(addr.to_canonical()))
}

/// A group's correction for one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Correction {
    /// Which target, by its number in the model.
    pub(super) target: u32,
    /// What to add, on the scale.
    pub(super) residual: f32,
    /// The group's share against the levels before it, 0..1.
    pub(super) share: f32,
}

/// Corrections of all groups; of one group they are sorted by target.
#[derive(Clone, Debug, Default)]
pub(super) struct Corrections(HashMap<Group, Box<[Correction]>>);

impl Corrections {
    /// Those of one group.
    pub(super) fn of(&self, group: Group) -> &[Correction] {
        self.0.get(&group).map_or(&[], |c| &**c)
    }

    /// Whether a group has any.
    pub(super) fn has(&self, group: Group) -> bool {
        self.0.contains_key(&group)
    }

    /// Covering prefixes that have any, in ascending order.
    pub(super) fn prefixes(&self) -> Vec<IpNet> {
        let prefix = |g: &Group| match g {
            Group::Prefix(net) => Some(*net),
            _ => None,
        };
        let mut prefixes: Vec<IpNet> = self.0.keys().filter_map(prefix).collect();
        prefixes.sort_unstable();
        prefixes
    }

    /// Adds a level: left-overs of each network by group and target, with their weights.
    pub(super) fn add(&mut self, left_over: HashMap<(Group, u32), Vec<(f32, f32)>>) {
        let mut by_group: HashMap<Group, Vec<Correction>> = HashMap::new();
        for ((group, target), mut votes) in left_over {
            if let Some((residual, share)) = agreed(&mut votes) {
                by_group.entry(group).or_default().push(Correction { target, residual, share });
            }
        }
        for (group, mut corrections) in by_group {
            corrections.sort_by_key(|c| c.target);
            self.0.insert(group, corrections.into_boxed_slice());
        }
    }
}

/// What the networks of a group agree on, and its share; `None` when that is nothing.
fn agreed(votes: &mut Vec<(f32, f32)>) -> Option<(f32, f32)> {
    let weight: f32 = votes.iter().map(|v| v.1).sum();
    votes.push((0.0, 1.0));
    votes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (low, high) = (votes.get((votes.len() - 1) / 2)?.0, votes.get(votes.len() / 2)?.0);
    // Of two in the middle the more cautious one.
    let median = if low.abs() <= high.abs() { low } else { high };
    let share = weight / (weight + 1.0);
    (median != 0.0 && votes.len() > 2).then_some((median * share, share))
}

/// The correction for a target among those of a group.
pub(super) fn find(corrections: &[Correction], target: u32) -> Option<&Correction> {
    let at = corrections.binary_search_by_key(&target, |c| c.target).ok()?;
    corrections.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agreed_on(residuals: &[f32]) -> f32 {
        let mut votes: Vec<(f32, f32)> = residuals.iter().map(|r| (*r, 1.0)).collect();
        agreed(&mut votes).map_or(0.0, |a| a.0)
    }

    #[test]
    fn one_network_corrects_nothing_and_two_as_the_more_cautious_says() {
        assert_eq!(agreed_on(&[0.9]), 0.0);
        assert!((agreed_on(&[0.9, 0.3]) - 0.2).abs() < 1e-6, "two thirds of 0.3");
        assert_eq!(agreed_on(&[0.9, -0.3]), 0.0);
        assert!((agreed_on(&[0.4, 0.4, 0.4]) - 0.3).abs() < 1e-6);
    }

    #[test]
    fn covering_prefixes() {
        let net = |n: &str| covering(n.parse().unwrap()).to_string();
        assert_eq!(net("192.0.2.0/24"), "192.0.0.0/16");
        assert_eq!(net("10.0.0.0/8"), "10.0.0.0/8");
        assert_eq!(net("2001:db8:7::/48"), "2001:db8::/32");
    }

    #[test]
    fn corrections_are_found_by_target() {
        let mut corrections = Corrections::default();
        let group = Group::As(64496);
        let votes = |r: f32| vec![(r, 1.0), (r, 1.0)];
        corrections.add(HashMap::from([
            ((group, 7), votes(0.1)),
            ((group, 2), votes(-0.2)),
            ((group, 4), votes(0.0)),
        ]));
        let found = |t| find(corrections.of(group), t).map(|c| c.residual);
        assert!(found(7).unwrap() > 0.0 && found(2).unwrap() < 0.0);
        assert_eq!((found(4), found(5)), (None, None));
        assert!(corrections.of(Group::As(1)).is_empty() && !corrections.has(Group::As(1)));
    }

    proptest! {
        /// One more network, whatever it says, moves a group's correction only within what the others say.
        #[test]
        fn one_liar_stays_within_what_others_say(
            honest in proptest::collection::vec(0.1f32..0.5, 2..20), lie in -5.0f32..5.0,
        ) {
            let least = honest.iter().copied().fold(f32::INFINITY, f32::min);
            let most = honest.iter().copied().fold(0.0, f32::max);
            let mut all = honest.clone();
            all.push(lie);
            let now = agreed_on(&all);
            prop_assert!(now <= most && (now >= 0.0 || least < 0.0), "{} of {:?}", now, all);
        }
    }
}
