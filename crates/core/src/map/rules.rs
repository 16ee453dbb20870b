//! Rules of a domain as the set of its mirrors needs them: names become slots.

use crate::geo::Place;
use crate::hash::mix;
use crate::registry::{MAX_RULES, Rule, RuleEffect, Who};
use arrayvec::ArrayVec;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Rules that can be about one client; the registry takes no more of a domain.
const MATCHING: usize = MAX_RULES;

/// A rule about slots.
#[derive(Clone, Debug)]
struct SlotRule {
    who: Who,
    effect: RuleEffect,
    /// Ascending.
    slots: Box<[u16]>,
}

/// The rules of one set of mirrors. Names that no mirror has are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    list: Vec<SlotRule>,
    cuts_v4: Vec<u32>,
    cuts_v6: Vec<u128>,
}

/// The rules that are about one client.
#[derive(Clone, Debug, Default)]
pub(super) struct Matching<'r> {
    excluded: ArrayVec<&'r [u16], MATCHING>,
    pinned: Option<&'r [u16]>,
}

impl Rules {
    pub(super) fn new(rules: &[Rule], names: &[Arc<str>]) -> Rules {
        let slot =
            |name: &Arc<str>| names.iter().position(|n| n == name).and_then(|at| u16::try_from(at).ok());
        let compile = |rule: &Rule| {
            let mut slots: Vec<u16> = rule.mirrors.iter().filter_map(slot).collect();
            slots.sort_unstable();
            SlotRule { who: rule.who, effect: rule.effect, slots: slots.into() }
        };
        let mut rules = Rules { list: rules.iter().map(compile).collect(), ..Rules::default() };
        rules.cut();
        rules
    }

    fn cut(&mut self) {
        let nets: Vec<IpNet> = self.prefixes().map(|(_, net)| net).collect();
        for net in nets {
            match net {
                IpNet::V4(n) => {
                    let end = n.broadcast().to_bits().checked_add(1);
                    self.cuts_v4.extend([Some(n.network().to_bits()), end].into_iter().flatten());
                }
                IpNet::V6(n) => {
                    let end = n.broadcast().to_bits().checked_add(1);
                    self.cuts_v6.extend([Some(n.network().to_bits()), end].into_iter().flatten());
                }
            }
        }
        self.cuts_v4.sort_unstable();
        self.cuts_v4.dedup();
        self.cuts_v6.sort_unstable();
        self.cuts_v6.dedup();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether any rule is about an AS.
    pub(super) fn name_as(&self, asn: u32) -> bool {
        self.list.iter().any(|r| r.who == Who::Asn(asn))
    }

    fn prefixes(&self) -> impl Iterator<Item = (usize, IpNet)> + '_ {
        self.list.iter().enumerate().filter_map(|(at, r)| match r.who {
            Who::Prefix(net) => Some((at, net)),
            _ => None,
        })
    }

    /// First addresses of what prefixes of rules tell apart, ascending.
    pub(super) fn cuts(&self) -> (&[u32], &[u128]) {
        (&self.cuts_v4, &self.cuts_v6)
    }

    /// Which rules' prefixes hold an address, as a number: equal where the same do, 0 where none does.
    pub(super) fn prefixes_at(&self, addr: IpAddr) -> u64 {
        let holding = self.prefixes().filter(|(_, net)| net.contains(&addr));
        holding.fold(0, |h, (at, _)| mix(h ^ (at as u64 + 1)))
    }

    /// The rules about a client. Of pins, that of the longest prefix counts, else that of the AS.
    pub(super) fn matching(&self, place: &Place, addr: Option<IpAddr>) -> Matching<'_> {
        let mut matching = Matching::default();
        let mut closest = None;
        for rule in &self.list {
            let closeness = match rule.who {
                Who::Country(code) if place.country == Some(code) => 0,
                Who::Asn(asn) if place.asn == Some(asn) => 1,
                Who::Prefix(net) if addr.is_some_and(|a| net.contains(&a)) => 2 + u16::from(net.prefix_len()),
                _ => continue,
            };
            match rule.effect {
                // There is room for all that the registry takes.
                RuleEffect::Exclude => drop(matching.excluded.try_push(&rule.slots)),
                RuleEffect::Pin if closest.is_none_or(|c| closeness > c) && !rule.slots.is_empty() => {
                    closest = Some(closeness);
                    matching.pinned = Some(&rule.slots);
                }
                RuleEffect::Pin => {}
            }
        }
        matching
    }
}

impl<'r> Matching<'r> {
    /// Never for this client.
    pub(super) fn excludes(&self, slot: u16) -> bool {
        self.excluded.iter().any(|slots| slots.binary_search(&slot).is_ok())
    }

    /// Before others for this client.
    pub(super) fn pins(&self, slot: u16) -> bool {
        self.pinned.is_some_and(|slots| slots.binary_search(&slot).is_ok())
    }

    /// All that come before others.
    pub(super) fn pinned(&self) -> &'r [u16] {
        self.pinned.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::CountryCode;

    fn rule(effect: RuleEffect, who: Who, mirrors: &[&str]) -> Rule {
        Rule { who, effect, mirrors: mirrors.iter().map(|m| Arc::from(*m)).collect() }
    }

    fn place(country: &str, asn: u32) -> Place {
        Place { country: CountryCode::new(country), asn: Some(asn), ..Place::default() }
    }

    #[test]
    fn the_pin_of_the_longest_prefix_counts_and_all_exclusions_do() {
        let names: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).to_vec();
        let prefix = |p: &str| Who::Prefix(p.parse().unwrap());
        let country = Who::Country(CountryCode::new("CN").unwrap());
        let rules = Rules::new(
            &[
                rule(RuleEffect::Pin, country, &["a"]),
                rule(RuleEffect::Pin, Who::Asn(7), &["b", "nobody"]),
                rule(RuleEffect::Pin, prefix("10.0.0.0/8"), &["c"]),
                rule(RuleEffect::Pin, prefix("10.1.0.0/16"), &["d"]),
                rule(RuleEffect::Pin, prefix("10.1.1.0/24"), &["nobody"]),
                rule(RuleEffect::Exclude, country, &["b"]),
                rule(RuleEffect::Exclude, prefix("10.0.0.0/8"), &["a"]),
            ],
            &names,
        );
        let at = |place: Place, addr: &str| {
            let matching = rules.matching(&place, Some(addr.parse().unwrap()));
            let excluded: Vec<u16> = (0..4).filter(|s| matching.excludes(*s)).collect();
            (matching.pinned().to_vec(), excluded)
        };
        assert_eq!(at(place("CN", 1), "192.0.2.1"), (vec![0], vec![1]));
        assert_eq!(at(place("CN", 7), "192.0.2.1"), (vec![1], vec![1]));
        assert_eq!(at(place("CN", 7), "10.2.0.1"), (vec![2], vec![0, 1]));
        assert_eq!(at(place("DE", 1), "10.1.0.1"), (vec![3], vec![0]));
        assert_eq!(at(place("DE", 1), "10.1.1.1"), (vec![3], vec![0]), "a pin to nobody pins nothing");
        assert_eq!(at(place("DE", 1), "192.0.2.1"), (vec![], vec![]));
    }
}
