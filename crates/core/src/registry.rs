//! What exists, as plain types: domains, nodes and mirrors, indexed for the query path.
//!
//! A [`Registry`] is immutable. It is built from the signed records of the replica by the shell,
//! which has already refused what does not make sense.

mod keys;
mod policy;

pub use keys::{KeyEvent, KeyLife, KeyLifeError, KeyStage, MAX_ZONE_KEYS, ZoneKey};
pub use policy::{AllDown, Failover, MAX_RULES, Pace, Policy, Rule, RuleEffect, Strategy, Who};

use crate::check::CheckSpec;
use crate::geo::{Place, PlaceSource};
use crate::id::NodeId;
use crate::time::UnixMillis;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Position of a domain in [`Registry::domains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainIndex(pub u32);
/// Position of a node in [`Registry::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);
/// Position of a mirror in [`Registry::mirrors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorIndex(pub u32);

/// Most mirrors of one domain: rankings number them in 16 bits.
pub const MAX_MIRRORS: usize = 65_535;

/// Everything registered, at one version.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Grows with every change that this broker makes or hears of; a count of its own.
    pub version: u64,
    /// Serial of the zones (RFC 1035 §3.3.13). Equal on all brokers that hold the same records; grows
    /// with changes in the arithmetic of RFC 1982.
    pub serial: u32,
    /// Domains, sorted by name.
    pub domains: Vec<Domain>,
    /// Nodes, sorted by name.
    pub nodes: Vec<Node>,
    /// Mirrors, sorted by domain, then name: a domain's mirrors are one run.
    pub mirrors: Vec<Mirror>,
    /// Name (lower case, no final dot) → domain.
    pub domain_by_name: HashMap<Arc<str>, DomainIndex>,
    /// Key → node.
    pub node_by_id: HashMap<NodeId, NodeIndex>,
    /// Prefixes whose place people corrected; they win over databases. Of nested ones the longest decides.
    pub overrides: Vec<(IpNet, Place)>,
    /// Keys of the domains that are signed, of all sites, sorted by site and generation.
    pub zone_keys: HashMap<DomainIndex, Vec<ZoneKey>>,
    /// What [`Registry::index`] makes of the domains.
    pub names: NameIndex,
}

/// Answers what the names of all domains say, without looking at each.
#[derive(Clone, Debug, Default)]
pub struct NameIndex {
    /// Domains sorted by their labels from the last to the first: those below a name are one run.
    by_suffix: Vec<DomainIndex>,
    /// Of each domain that delegates parts of itself by static NS records: the delegated names.
    cuts: HashMap<DomainIndex, Vec<Arc<str>>>,
    /// Of each domain that has static records at wildcards: these names, `*` included.
    wildcards: HashMap<DomainIndex, Vec<Arc<str>>>,
}

/// A name users resolve, with its policy.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Lower case ASCII (A-labels), without the final dot.
    pub name: Arc<str>,
    /// This domain's mirrors in [`Registry::mirrors`].
    pub mirrors: std::ops::Range<u32>,
    /// How it is answered.
    pub policy: Policy,
    /// Records besides the mirrors' addresses, relative names resolved to full ones.
    pub records: Vec<StaticRecord>,
    /// Host names whose plain HTTP requests are redirected to this domain's nearest mirror.
    pub redirect_hosts: Vec<Arc<str>>,
    /// Whose word its mirrors stand on.
    pub trust: Trust,
}

/// Whose word a domain's mirrors stand on. Carried to clients, which verify it; nothing here looks into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The owner's public key (Ed25519).
    pub owner: Option<[u8; 32]>,
    /// The owner's delegations to brokers, as text.
    pub delegations: Vec<Arc<str>>,
}

/// A record that does not depend on the client.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticRecord {
    /// Full owner name, lower case, no final dot. A first label `*` stands for names that do not exist
    /// (RFC 4592).
    pub name: Arc<str>,
    /// In seconds.
    pub ttl_s: u32,
    /// What it says.
    pub data: StaticData,
}

/// Data of a static record.
#[derive(Clone, Debug, PartialEq)]
pub enum StaticData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name; alone at its owner.
    Cname(String),
    /// A mail exchanger.
    Mx {
        /// Lower is preferred.
        preference: u16,
        /// Its host name.
        exchange: String,
    },
    /// Text; each string at most 255 bytes.
    Txt(Vec<String>),
    /// A name server of the zone, or, below the domain's own name, of a part that it delegates.
    Ns(String),
    /// A key of a delegated part that its parent vouches for (RFC 4034 §5).
    Ds {
        /// Of the key.
        key_tag: u16,
        /// Of the key.
        algorithm: u8,
        /// How `digest` was made.
        digest_type: u8,
        /// Of the key.
        digest: Vec<u8>,
    },
    /// A certification authority authorisation (RFC 8659).
    Caa {
        /// Issuer critical flag.
        critical: bool,
        /// `issue`, `issuewild` or `iodef`.
        tag: String,
        /// Its value.
        value: String,
    },
    /// A service location (RFC 2782).
    Srv {
        /// Lower is preferred.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Port.
        port: u16,
        /// Host name.
        target: String,
    },
}

/// A machine with a node agent.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique, chosen by people.
    pub name: Arc<str>,
    /// Its key; `None` until it joined.
    pub id: Option<NodeId>,
    /// Revoked nodes are refused and their mirrors are never eligible.
    pub revoked: bool,
    /// Domains it may mirror.
    pub domains: Vec<Arc<str>>,
    /// Drained as a whole.
    pub drained: bool,
    /// Drained as a whole within these.
    pub windows: Vec<Window>,
    /// Given place, if any.
    pub place: Option<Place>,
}

/// One node's serving of one domain.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Unique within its domain.
    pub name: Arc<str>,
    /// What it mirrors.
    pub domain: DomainIndex,
    /// The node that runs it; `None` for machines without an agent.
    pub node: Option<NodeIndex>,
    /// Where users reach it.
    pub address: MirrorAddress,
    /// The service's port.
    pub port: u16,
    /// Share among near-equals.
    pub weight: u32,
    /// Where it is: given, or what the geo database says of its address (filled by the shell).
    pub place: Place,
    /// Where `place` came from.
    pub place_source: PlaceSource,
    /// Where its health comes from.
    pub health: HealthMode,
    /// How the broker probes it from outside; `None` when it cannot be probed.
    pub probe: Option<CheckSpec>,
    /// Base URL for redirects, e.g. `https://lon.example.com/`; from address and port when absent.
    pub url: Option<Arc<str>>,
    /// Port of its node's ingress; `None` where sessions are not taken in.
    pub ingress: Option<u16>,
    /// What people ordered.
    pub orders: Orders,
}

/// Where a mirror is reached. At most one address a family: health is kept per family, so a
/// second address of one family is a second mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorAddress {
    /// Fixed addresses, at least one.
    Declared {
        /// IPv4.
        v4: Option<Ipv4Addr>,
        /// IPv6.
        v6: Option<Ipv6Addr>,
    },
    /// A host name, resolved and followed by the broker.
    Hostname(Arc<str>),
    /// The address its agent's session comes from.
    Observed,
}

/// Where a mirror's health comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthMode {
    /// Beacons and reports of the node's agent, confirmed from outside.
    Agent,
    /// The broker's own probes.
    Probe,
    /// Set by hand.
    Manual {
        /// Eligible or not.
        up: bool,
    },
}

/// What people ordered of one mirror; the strongest wins: force, then drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// No new users; its own or its node's drain.
    pub drained: bool,
    /// No new users within these: its own and its node's maintenance windows.
    pub windows: Vec<Window>,
    /// Health overruled until then.
    pub force: Option<Force>,
    /// A person let back what was evicted before then.
    pub released: Option<UnixMillis>,
}

impl Orders {
    /// Whether a maintenance window is open.
    pub fn in_window(&self, now: UnixMillis) -> bool {
        self.windows.iter().any(|w| w.from <= now && now < w.until)
    }

    /// When the next window begins or ends.
    pub fn next_window(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.windows.iter().flat_map(|w| [w.from, w.until]).filter(|at| *at > now).min()
    }
}

/// Most maintenance windows of one mirror or node.
pub const MAX_WINDOWS: usize = 32;

/// A planned maintenance, on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning …
    pub from: UnixMillis,
    /// … and its end, which is no longer in it.
    pub until: UnixMillis,
}

/// A health verdict overruled by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Force {
    /// To what.
    pub to: ForcedTo,
    /// When the order ends.
    pub until: UnixMillis,
}

/// What a verdict is overruled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedTo {
    /// Eligible.
    Up,
    /// Not eligible.
    Down,
    /// Whatever it was when the order came.
    AsItWas,
}

impl Registry {
    /// The domain at an index. Indexes come from this registry, so they are in range.
    pub fn domain(&self, i: DomainIndex) -> &Domain {
        &self.domains[i.0 as usize]
    }

    /// The mirror at an index.
    pub fn mirror(&self, i: MirrorIndex) -> &Mirror {
        &self.mirrors[i.0 as usize]
    }

    /// A domain by name (any case, with or without the final dot).
    pub fn find_domain(&self, name: &str) -> Option<DomainIndex> {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self.domain_by_name.get(name) {
            Some(i) => Some(*i),
            None => self.domain_by_name.get(name.to_ascii_lowercase().as_str()).copied(),
        }
    }

    /// Builds [`Registry::names`]; to be called when the domains are complete.
    pub fn index(&mut self) {
        let mut by_suffix: Vec<DomainIndex> = (0..self.domains.len() as u32).map(DomainIndex).collect();
        by_suffix.sort_by(|a, b| by_labels(&self.domain(*a).name, &self.domain(*b).name));
        let delegates =
            |d: &Domain, r: &StaticRecord| matches!(r.data, StaticData::Ns(_)) && r.name != d.name;
        let cuts = self.names_where(delegates);
        let wildcards = self.names_where(|_, record| record.name.starts_with("*."));
        self.names = NameIndex { by_suffix, cuts, wildcards };
    }

    /// Of each domain the owners of static records of some kind, each once.
    fn names_where(
        &self,
        wanted: impl Fn(&Domain, &StaticRecord) -> bool,
    ) -> HashMap<DomainIndex, Vec<Arc<str>>> {
        let mut found: HashMap<DomainIndex, Vec<Arc<str>>> = HashMap::new();
        for (domain, i) in self.domains.iter().zip(0u32..) {
            for record in domain.records.iter().filter(|record| wanted(domain, record)) {
                let names = found.entry(DomainIndex(i)).or_default();
                if !names.contains(&record.name) {
                    names.push(record.name.clone());
                }
            }
        }
        found
    }

    /// Whether a domain's name lies strictly below a name (lower case, no final dot).
    pub fn any_domain_below(&self, name: &str) -> bool {
        let order = |i: &DomainIndex| by_labels(&self.domain(*i).name, name);
        let next = self.names.by_suffix.partition_point(|i| order(i).is_le());
        // A name sorts right before those below it.
        self.names.by_suffix.get(next).is_some_and(|i| {
            let below = self.domain(*i).name.strip_suffix(name);
            below.is_some_and(|prefix| prefix.ends_with('.'))
        })
    }

    /// Names within a domain, other than its own, at which static NS records stand.
    pub fn cuts(&self, domain: DomainIndex) -> &[Arc<str>] {
        self.names.cuts.get(&domain).map_or(&[], Vec::as_slice)
    }

    /// Names of a domain's static records that begin with a label `*`.
    pub fn wildcards(&self, domain: DomainIndex) -> &[Arc<str>] {
        self.names.wildcards.get(&domain).map_or(&[], Vec::as_slice)
    }

    /// The mirrors of a domain, with their indexes.
    pub fn mirrors_of(&self, domain: DomainIndex) -> impl Iterator<Item = (MirrorIndex, &Mirror)> {
        let range = self.domain(domain).mirrors.clone();
        range.map(|i| (MirrorIndex(i), &self.mirrors[i as usize]))
    }

    /// A mirror by domain and name. A domain's mirrors are sorted, so the largest one costs a dozen looks: users
    /// who are seen are looked up by the name of their mirror.
    pub fn find_mirror(&self, domain: DomainIndex, name: &str) -> Option<MirrorIndex> {
        let std::ops::Range { start, end } = self.domain(domain).mirrors;
        let run = self.mirrors.get(start as usize..end as usize)?;
        let at = run.binary_search_by(|mirror| (*mirror.name).cmp(name)).ok()?;
        Some(MirrorIndex(start + at as u32))
    }
}

/// Order by labels from the last to the first.
fn by_labels(a: &str, b: &str) -> std::cmp::Ordering {
    a.rsplit('.').cmp(b.rsplit('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registry<'a>(names: impl IntoIterator<Item = &'a str>) -> Registry {
        let policy = Policy::default();
        let domain = |name: &str| Domain {
            name: name.into(),
            mirrors: 0..0,
            policy: policy.clone(),
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        };
        let mut registry =
            Registry { domains: names.into_iter().map(domain).collect(), ..Registry::default() };
        registry.index();
        registry
    }

    #[test]
    fn delegated_names_are_known_by_domain() {
        let mut registry = registry(["a.test", "b.test"]);
        let ns = |name: &str| StaticRecord {
            name: name.into(),
            ttl_s: 1,
            data: StaticData::Ns("ns.example".into()),
        };
        registry.domains[1].records = vec![ns("b.test"), ns("sub.b.test"), ns("sub.b.test")];
        registry.index();
        assert!(registry.cuts(DomainIndex(0)).is_empty());
        assert_eq!(registry.cuts(DomainIndex(1)).iter().map(|n| &**n).collect::<Vec<_>>(), ["sub.b.test"]);
    }

    proptest! {
        /// Looking a mirror up finds what a look at every mirror of its domain does, and nothing of another domain.
        #[test]
        fn mirrors_are_found_by_name(
            names in proptest::collection::btree_set("[a-c]{1,3}", 0..12),
            split in 0_usize..12,
            name in "[a-c]{1,3}",
        ) {
            let mut registry = registry(["a.test", "b.test"]);
            let split = split.min(names.len());
            let (all, end) = (names.len() as u32, split as u32);
            let mut names: Vec<&String> = names.iter().collect();
            // Each domain's are sorted, and those of the second may come before those of the first.
            names.rotate_left(split);
            let mirror = |(at, name): (usize, &&String)| Mirror {
                name: name.as_str().into(),
                domain: DomainIndex(u32::from(at as u32 >= end)),
                node: None,
                address: MirrorAddress::Observed,
                port: 1,
                weight: 1,
                place: Place::default(),
                place_source: PlaceSource::Unknown,
                health: HealthMode::Probe,
                probe: None,
                url: None,
                ingress: None,
                orders: Orders::default(),
            };
            names[..split].sort_unstable();
            names[split..].sort_unstable();
            registry.mirrors = names.iter().enumerate().map(mirror).collect();
            (registry.domains[0].mirrors, registry.domains[1].mirrors) = (0..end, end..all);
            for domain in [DomainIndex(0), DomainIndex(1)] {
                let each = registry.mirrors_of(domain).find(|(_, m)| *m.name == *name).map(|(i, _)| i);
                prop_assert_eq!(registry.find_mirror(domain, &name), each);
            }
        }

        /// The index agrees with a look at every domain.
        #[test]
        fn names_below_are_found(
            names in proptest::collection::btree_set("[ab-]{1,2}(\\.[ab-]{1,2}){0,3}", 0..12),
            name in "[ab-]{1,2}(\\.[ab-]{1,2}){0,3}",
        ) {
            let registry = registry(names.iter().map(String::as_str));
            let below = format!(".{name}");
            prop_assert_eq!(registry.any_domain_below(&name), names.iter().any(|n| n.ends_with(&below)));
        }
    }
}
