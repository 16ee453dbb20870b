//! Records → the plain registry.
//!
//! Building never fails as a whole: an entry that makes no sense is left out and named in
//! [`Built::problems`]. A change that would add a problem is refused before it is written, so
//! problems come only from other brokers' records that arrived in another order.

use super::bodies::{BODY_VERSION, DomainBody, MirrorBody, NodeBody, PersonBody, PlaceBody};
use super::failover::failover;
use super::mirror::mirror;
use super::orders::{self, Drain, Forced};
use super::record::static_record;
use super::sharing::{Sharing, sharing};
use super::zone_key::{self, ZoneKeyBody, zone_key_id};
use super::{names, overrides, trust};
use crate::identity::{Id, Role};
use crate::name;
use ipnet::IpNet;
use nearmost_core::geo::{CountryCode, Place, Position, countries};
use nearmost_core::registry::{
    Domain, DomainIndex, MAX_MIRRORS, MAX_ZONE_KEYS, Node, NodeIndex, Orders, Policy, Registry, ZoneKey,
};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// [`DomainBody`]
    Domain,
    /// [`NodeBody`]
    Node,
    /// [`MirrorBody`]
    Mirror,
    /// [`super::DrainBody`]
    Drain,
    /// [`super::ForceBody`]
    Force,
    /// [`PersonBody`]
    Person,
    /// [`super::OverrideBody`]
    Override,
    /// [`super::ZoneKeyBody`]
    ZoneKey,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [EntryKind; 8] = [
        EntryKind::Domain,
        EntryKind::Node,
        EntryKind::Mirror,
        EntryKind::Drain,
        EntryKind::Force,
        EntryKind::Person,
        EntryKind::Override,
        EntryKind::ZoneKey,
    ];

    /// What people call it.
    pub fn noun(self) -> &'static str {
        match self {
            EntryKind::Domain => "domain",
            EntryKind::Node => "node",
            EntryKind::Mirror => "mirror",
            EntryKind::Drain => "drain",
            EntryKind::Force => "force",
            EntryKind::Person => "person",
            EntryKind::Override => "override",
            EntryKind::ZoneKey => "zone-key",
        }
    }
}

/// A live record's content.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it is of.
    pub kind: EntryKind,
    /// See the table in the module docs.
    pub scope: &'a str,
    /// See the table in the module docs.
    pub id: &'a str,
    /// JSON.
    pub body: &'a [u8],
}

/// An entry that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{kind} {name}: {problem}")]
pub struct Problem {
    /// `domain`, `mirror`, …
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

impl Problem {
    /// Most problems that [`Problem::list`] tells: more would hide the first ones.
    const LISTED: usize = 20;

    /// Problems in one line of bounded length.
    pub fn list(problems: &[Problem]) -> String {
        let told = problems.iter().take(Problem::LISTED).map(Problem::to_string);
        let mut told: Vec<String> = told.collect();
        if problems.len() > Problem::LISTED {
            told.push(format!("and {} more", problems.len() - Problem::LISTED));
        }
        told.join("; ")
    }
}

/// What absent parts of a probe take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuildDefaults {
    /// Between two probes.
    pub probe_interval: Duration,
    /// Of one probe.
    pub probe_timeout: Duration,
    /// Successes that make it good.
    pub probe_rise: u8,
    /// Failures that make it bad.
    pub probe_fall: u8,
}

impl Default for BuildDefaults {
    fn default() -> Self {
        BuildDefaults {
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(1),
            probe_rise: 1,
            probe_fall: 2,
        }
    }
}

/// The result of [`build`].
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// What queries read.
    pub registry: Registry,
    /// Persons whose records are accepted.
    pub persons: BTreeMap<[u8; 32], String>,
    /// Entries left out, sorted.
    pub problems: Vec<Problem>,
}

/// The entry of a live record of a kind this build knows.
pub fn entry_of(record: &nearmost_replica::Record) -> Option<Entry<'_>> {
    use nearmost_replica::{Body, Kind};
    let kind = match record.kind {
        Kind::DOMAIN => EntryKind::Domain,
        Kind::NODE => EntryKind::Node,
        Kind::MIRROR => EntryKind::Mirror,
        Kind::DRAIN => EntryKind::Drain,
        Kind::FORCE => EntryKind::Force,
        Kind::PERSON => EntryKind::Person,
        Kind::OVERRIDE => EntryKind::Override,
        Kind::ZONE_KEY => EntryKind::ZoneKey,
        _ => return None,
    };
    match &record.body {
        // A newer writer's body is kept and relayed, but not understood here.
        Body::Live { version, .. } if *version != BODY_VERSION => None,
        Body::Live { bytes, .. } => Some(Entry { kind, scope: &record.scope, id: &record.id, body: bytes }),
        Body::Tombstone => None,
    }
}

/// Builds the registry of `version` from live entries.
pub fn build<'a>(
    version: u64,
    entries: impl IntoIterator<Item = Entry<'a>>,
    defaults: &BuildDefaults,
) -> Built {
    let mut parsed = Parsed::default();
    for entry in entries {
        if let Err(problem) = parsed.take(&entry) {
            let at = if entry.scope.is_empty() || entry.id.is_empty() { "" } else { "/" };
            let name = format!("{}{at}{}", entry.scope, entry.id);
            parsed.problems.push(Problem { kind: entry.kind.noun(), name, problem });
        }
    }
    parsed.finish(version, defaults)
}

/// Entries by kind, each readable by itself.
#[derive(Default)]
struct Parsed {
    domains: BTreeMap<String, DomainBody>,
    nodes: BTreeMap<String, NodeBody>,
    mirrors: BTreeMap<(String, String), MirrorBody>,
    drains: BTreeMap<(String, String), Drain>,
    forces: BTreeMap<(String, String), Forced>,
    persons: BTreeMap<[u8; 32], String>,
    overrides: BTreeMap<IpNet, Place>,
    /// By domain, then by site and generation.
    zone_keys: BTreeMap<String, BTreeMap<(Arc<str>, u32), ZoneKey>>,
    problems: Vec<Problem>,
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("body: {e}"))
}

impl Parsed {
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let key = (entry.scope.to_owned(), entry.id.to_owned());
        match entry.kind {
            EntryKind::Domain => {
                canonical(name::domain(entry.scope), entry.scope)?;
                self.domains.insert(key.0, json(entry.body)?);
            }
            EntryKind::Node => {
                canonical(name::short(entry.id), entry.id)?;
                self.nodes.insert(key.1, json(entry.body)?);
            }
            EntryKind::Mirror => {
                canonical(name::short(entry.id), entry.id)?;
                self.mirrors.insert(key, json(entry.body)?);
            }
            EntryKind::Drain => drop(self.drains.insert(key, orders::drain(&json(entry.body)?)?)),
            EntryKind::Force => drop(self.forces.insert(key, orders::forced(&json(entry.body)?))),
            EntryKind::Person => {
                let id = Id::parse(entry.id, Role::Person).map_err(|e| e.to_string())?;
                self.persons.insert(id.key, json::<PersonBody>(entry.body)?.name);
            }
            EntryKind::Override => {
                let prefix = overrides::prefix(entry.scope, entry.id)?;
                self.overrides.insert(prefix, overrides::place(&json(entry.body)?)?);
            }
            EntryKind::ZoneKey => {
                let key = json::<ZoneKeyBody>(entry.body)?.plain(entry.id)?;
                let of_domain = self.zone_keys.entry(entry.scope.to_owned()).or_default();
                of_domain.insert((key.site.clone(), key.generation), key);
            }
        }
        Ok(())
    }

    fn finish(mut self, version: u64, defaults: &BuildDefaults) -> Built {
        let mut registry = Registry { version, ..Registry::default() };
        let nodes = self.nodes(&mut registry);
        let domains = self.domains(&mut registry);
        self.redirect_hosts(&mut registry);
        self.mirrors(&mut registry, &nodes, &domains, defaults);
        self.overrides(&mut registry);
        self.zone_keys(&mut registry, &domains);
        registry.index();
        self.problems.sort();
        Built { registry, persons: self.persons, problems: self.problems }
    }

    fn problem(&mut self, kind: EntryKind, name: &str, problem: String) {
        self.problems.push(Problem { kind: kind.noun(), name: name.into(), problem });
    }

    fn nodes(&mut self, registry: &mut Registry) -> HashMap<String, NodeIndex> {
        let mut index = HashMap::new();
        for (name, body) in std::mem::take(&mut self.nodes) {
            let drain = self.drains.remove(&(String::new(), name.clone())).unwrap_or_default();
            match node(&name, &body, drain) {
                Ok(node) => {
                    let i = NodeIndex(registry.nodes.len() as u32);
                    if let Some(other) = node.id.and_then(|id| registry.node_by_id.insert(id, i)) {
                        let taken =
                            format!("its key is that of node {}", registry.nodes[other.0 as usize].name);
                        registry.node_by_id.extend(node.id.map(|id| (id, other)));
                        self.problem(EntryKind::Node, &name, taken);
                        continue;
                    }
                    index.insert(name, i);
                    registry.nodes.push(node);
                }
                Err(e) => self.problem(EntryKind::Node, &name, e),
            }
        }
        index
    }

    fn domains(&mut self, registry: &mut Registry) -> HashMap<String, DomainIndex> {
        let mut index = HashMap::new();
        for (name, body) in std::mem::take(&mut self.domains) {
            match domain(&name, &body) {
                Ok(domain) => {
                    let i = DomainIndex(registry.domains.len() as u32);
                    registry.domain_by_name.insert(domain.name.clone(), i);
                    registry.domains.push(domain);
                    index.insert(name, i);
                }
                Err(e) => self.problem(EntryKind::Domain, &name, e),
            }
        }
        index
    }

    /// Of too many the last ones, in the order of prefixes, are left out: alike on every broker.
    fn overrides(&mut self, registry: &mut Registry) {
        let mut all = std::mem::take(&mut self.overrides).into_iter();
        registry.overrides = all.by_ref().take(overrides::MAX_OVERRIDES).collect();
        for (prefix, _) in all {
            self.problem(EntryKind::Override, &prefix.to_string(), overrides::too_many());
        }
    }

    /// Of too many those are left out that are needed least, and of these the last: alike on every broker,
    /// since it goes by what was written and not by the moment.
    fn zone_keys(&mut self, registry: &mut Registry, domains: &HashMap<String, DomainIndex>) {
        for (name, keys) in std::mem::take(&mut self.zone_keys) {
            let Some(&domain) = domains.get(&name) else {
                for key in keys.values() {
                    let id = format!("{name}/{}", zone_key_id(&key.site, key.generation));
                    self.problem(EntryKind::ZoneKey, &id, format!("unknown domain {name:?}"));
                }
                continue;
            };
            let mut keys: Vec<ZoneKey> = keys.into_values().collect();
            keys.sort_by_key(|key| zone_key::dispensable(key.life.stage));
            let left_out = keys.split_off(keys.len().min(MAX_ZONE_KEYS));
            keys.sort_by(|a, b| (&a.site, a.generation).cmp(&(&b.site, b.generation)));
            registry.zone_keys.insert(domain, keys);
            for key in left_out {
                let id = format!("{name}/{}", zone_key_id(&key.site, key.generation));
                self.problem(EntryKind::ZoneKey, &id, format!("a domain has at most {MAX_ZONE_KEYS} keys"));
            }
        }
    }

    /// A host that two domains claim is the first one's.
    fn redirect_hosts(&mut self, registry: &mut Registry) {
        for (domain, problem) in names::settle_redirect_hosts(registry) {
            self.problem(EntryKind::Domain, &domain, problem);
        }
    }

    /// A mirror's own orders and its node's.
    fn orders(&mut self, key: &(String, String), node: Option<&Node>) -> Orders {
        let Drain { mut drained, mut windows } = self.drains.remove(key).unwrap_or_default();
        if let Some(node) = node {
            drained |= node.drained;
            windows.extend_from_slice(&node.windows);
        }
        let Forced { force, released } = self.forces.get(key).copied().unwrap_or_default();
        Orders { drained, windows, force, released }
    }

    fn mirrors(
        &mut self,
        registry: &mut Registry,
        nodes: &HashMap<String, NodeIndex>,
        domains: &HashMap<String, DomainIndex>,
        defaults: &BuildDefaults,
    ) {
        let mut run = (None, 0);
        // Sorted by (domain, name), and so are the registry's domains: each domain's run is contiguous.
        for (key, body) in std::mem::take(&mut self.mirrors) {
            let full = format!("{}/{}", key.0, key.1);
            let Some(&domain) = domains.get(&key.0) else {
                self.problem(EntryKind::Mirror, &full, format!("unknown domain {:?}", key.0));
                continue;
            };
            run = if run.0 == Some(domain) { run } else { (Some(domain), 0) };
            // The map numbers the mirrors of a domain in 16 bits. The last by name are left out, alike on
            // every broker.
            if run.1 == MAX_MIRRORS {
                let many = format!("a domain has at most {MAX_MIRRORS} mirrors");
                self.problem(EntryKind::Mirror, &full, many);
                continue;
            }
            let made = names::check_mirror(registry, domain, &key.1)
                .and_then(|()| mirror(&key.1, domain, &body, nodes, registry, defaults));
            match made {
                Ok(mut mirror) => {
                    let node = mirror.node.map(|n| &registry.nodes[n.0 as usize]);
                    mirror.orders = self.orders(&key, node);
                    registry.mirrors.push(mirror);
                    run.1 += 1;
                }
                Err(e) => self.problem(EntryKind::Mirror, &full, e),
            }
        }
        let mut at = 0u32;
        for (i, domain) in registry.domains.iter_mut().enumerate() {
            let end = at
                + registry.mirrors[at as usize..].iter().take_while(|m| m.domain.0 as usize == i).count()
                    as u32;
            domain.mirrors = at..end;
            at = end;
        }
    }
}

fn canonical(parsed: Result<String, name::NameError>, given: &str) -> Result<(), String> {
    match parsed {
        Ok(name) if name == given => Ok(()),
        Ok(name) => Err(format!("the name must be written {name:?}")),
        Err(e) => Err(e.to_string()),
    }
}

fn node(name: &str, body: &NodeBody, drain: Drain) -> Result<Node, String> {
    let id = match &body.id {
        Some(text) => Some(Id::parse(text, Role::Node).map_err(|e| e.to_string())?.node_id()),
        None => None,
    };
    Ok(Node {
        name: name.into(),
        id,
        revoked: body.revoked,
        domains: body.domains.iter().map(|d| Arc::from(d.as_str())).collect(),
        drained: drain.drained,
        windows: drain.windows,
        place: body.place.as_ref().map(place).transpose()?,
    })
}

/// The plain place of a body.
pub(super) fn place(body: &PlaceBody) -> Result<Place, String> {
    let position = match (body.latitude, body.longitude) {
        (Some(lat), Some(lon)) => Some(Position::from_degrees(lat, lon).ok_or_else(|| {
            format!("place {lat}, {lon}: expected latitude -90..90 and longitude -180..180")
        })?),
        (None, None) => None,
        _ => return Err("place: latitude and longitude go together".into()),
    };
    let country = match body.country {
        Some(letters) => {
            let text = String::from_utf8_lossy(&letters).into_owned();
            let code = CountryCode::new(&text).filter(|c| countries::find(*c).is_some());
            Some(code.ok_or_else(|| {
                format!("place: {text:?} is no country; expected its two letters such as GB")
            })?)
        }
        None => None,
    };
    Ok(Place { position, country, asn: body.asn })
}

/// Refuses a number outside its range.
pub(super) fn range<T>(what: &str, value: T, low: f64, high: f64) -> Result<(), String>
where
    T: Copy + Into<f64> + std::fmt::Display,
{
    match (low..=high).contains(&value.into()) {
        true => Ok(()),
        false => Err(format!("{what} = {value}: expected {low} to {high}")),
    }
}

fn domain(domain_name: &str, body: &DomainBody) -> Result<Domain, String> {
    range("answers", body.answers, 1.0, 8.0)?;
    range("ttl_s", body.ttl_s, 1.0, 86_400.0)?;
    range("negative_ttl_s", body.negative_ttl_s, 1.0, 86_400.0)?;
    if let Some(bad) = body.alpn.iter().find(|a| a.is_empty() || a.len() > 255) {
        return Err(format!("alpn {bad:?}: expected 1 to 255 bytes"));
    }
    let Sharing { tie_band_ms, tie_band_share, strategy, rules, explore } = sharing(&body.sharing)?;
    let policy = Policy {
        answers: body.answers,
        ttl: Duration::from_secs(body.ttl_s.into()),
        negative_ttl: Duration::from_secs(body.negative_ttl_s.into()),
        tie_band_ms,
        tie_band_share,
        failover: failover(&body.failover, &body.all_down, body.ttl_s)?,
        alpn: body.alpn.clone(),
        strategy,
        rules,
        explore,
    };
    let records =
        body.records.iter().map(|r| static_record(domain_name, r)).collect::<Result<Vec<_>, _>>()?;
    super::record::check(domain_name, &records)?;
    let hosts = body.redirect_hosts.iter().map(|h| name::domain(h).map(Arc::from).map_err(|e| e.to_string()));
    Ok(Domain {
        name: domain_name.into(),
        mirrors: 0..0,
        policy,
        records,
        redirect_hosts: hosts.collect::<Result<_, _>>()?,
        trust: trust::trust(domain_name, body)?,
    })
}
