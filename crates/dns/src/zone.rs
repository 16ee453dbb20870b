//! Which zone a name belongs to, and what stands at the name.
//!
//! A zone's apex is a configured zone, or a domain that lies in none. The deepest apex at or above a
//! name is its zone; within it the deepest domain at or above the name owns it. What can stand at
//! a name, first match wins:
//!
//! ```text
//! <apex>                          SOA, NS
//! <domain>                        addresses and services of the chosen mirrors
//! configured servers              addresses of the name servers
//! <mirror>.<domain>               that mirror's own addresses
//! ns1.<apex>, none configured     addresses of the name servers
//! _service._proto.<domain>        SRV of the chosen mirrors
//! <nonce>.probe.<domain>          addresses as at the domain: a one-time name
//! probe.<domain>                  nothing, but the name exists, since one-time names stand below it
//! a static record's owner         that record, and it wins over all of the above of its type
//! above any of these              nothing, but the name exists (an empty non-terminal)
//! a zone below this one           nothing, but the name exists: only DS is asked here
//! *.<closest encloser>            its static records, for every name below that does not exist
//! ```
//!
//! A wildcard is the last resort (RFC 4592 §3.3.1): it stands for a name only if that name does not
//! exist and no name between it and the wildcard's parent does. So it never covers what the broker
//! derives, what is delegated, other domains, or names below these.
//!
//! So a mirror or a static record named `probe` is what its own name answers; one-time names below it
//! stay, unless static NS records at or above it delegate them away, or a domain is registered at it.

use crate::config::Prepared;
use crate::name::{self, LookupName};
use crate::onetime::{self, Nonce};
use nearmost_core::registry::{Domain, DomainIndex, MirrorIndex, Registry, StaticData, StaticRecord};

/// First label of the default name server of each zone.
pub(crate) const DEFAULT_NS: &str = "ns1";

/// The zone of a name, and the domain in it that owns the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zone<'n> {
    /// Name of the apex; a part of the name that was looked up.
    pub(crate) apex: &'n str,
    /// The deepest domain of the zone at or above the name.
    pub(crate) domain: Option<DomainIndex>,
    /// Whether the apex is configured, rather than a domain of its own.
    pub(crate) configured: bool,
}

/// Finds the zone of a name; `skip` leaves out that many of its first labels.
pub(crate) fn find<'n>(
    registry: &Registry,
    config: &Prepared,
    name: &'n LookupName,
    skip: usize,
) -> Option<Zone<'n>> {
    let deepest = name.suffixes().skip(skip).find_map(|s| registry.domain_by_name.get(s).map(|i| (s, *i)));
    let configured = match config.zones.is_empty() {
        true => None,
        false => name.suffixes().skip(skip).find(|s| config.zones.iter().any(|z| z == s)),
    };
    match (configured, deepest) {
        (None, None) => None,
        (None, Some((apex, i))) => Some(Zone { apex, domain: Some(i), configured: false }),
        (Some(apex), Some((domain, i))) if domain.len() >= apex.len() => {
            Some(Zone { apex, domain: Some(i), configured: true })
        }
        (Some(apex), _) => Some(Zone { apex, domain: None, configured: true }),
    }
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// A domain's own name.
    Domain(DomainIndex),
    /// A name server of the zone.
    NameServer,
    /// A mirror's own name.
    Mirror(MirrorIndex),
    /// `_service._proto.<domain>`.
    Service(DomainIndex),
    /// `<nonce>.probe.<domain>`.
    OneTime(DomainIndex, Nonce),
    /// The name exists; what it has is static, or the apex's, or nothing.
    Plain,
    /// No such name.
    Missing,
}

/// A name within its zone.
pub(crate) struct Node<'s, 'n> {
    pub(crate) name: &'n str,
    pub(crate) apex: bool,
    pub(crate) kind: NodeKind,
    /// The domain that owns the name.
    pub(crate) owner: Option<&'s Domain>,
    /// The wildcard that stands for the name, which does not exist itself; its kind is `Plain` then.
    /// Answers have the name as their owner, as if it existed.
    pub(crate) wildcard: Option<&'s str>,
}

impl<'s> Node<'s, '_> {
    /// The static records at this name, or at the wildcard that stands for it.
    pub(crate) fn statics(&self) -> impl Iterator<Item = &'s StaticRecord> {
        let name = self.wildcard.unwrap_or(self.name);
        self.owner.into_iter().flat_map(|d| d.records.iter()).filter(move |r| &*r.name == name)
    }

    /// The alias at this name. An apex has SOA and NS, so it cannot be one (RFC 1034 §3.6.2).
    pub(crate) fn alias(&self) -> Option<(&'s str, u32)> {
        if self.apex {
            return None;
        }
        self.statics().find_map(|r| match &r.data {
            StaticData::Cname(target) => Some((target.as_str(), r.ttl_s)),
            _ => None,
        })
    }

    /// The name at or above this one where static NS records delegate to others, if one does. NS at
    /// an apex or at a domain's own name is the zone's, not a delegation.
    pub(crate) fn cut(&self, registry: &'s Registry, zone: &Zone<'_>) -> Option<&'s str> {
        let cuts = registry.cuts(zone.domain?).iter().map(|cut| &**cut);
        cuts.filter(|cut| name::below(self.name, cut).is_some()).min_by_key(|cut| cut.len())
    }
}

/// Finds out what stands at a name of a zone.
pub(crate) fn node<'s, 'n>(
    registry: &'s Registry,
    config: &Prepared,
    zone: &Zone<'n>,
    name: &'n LookupName,
) -> Node<'s, 'n> {
    let text = name.as_str();
    let owner = zone.domain.map(|i| registry.domain(i));
    let mut node =
        Node { name: text, apex: text == zone.apex, kind: NodeKind::Missing, owner, wildcard: None };
    node.kind = kind(registry, config, zone, &node);
    if node.kind == NodeKind::Missing
        && let Some(wildcard) = wildcard_for(registry, config, zone, owner, name)
    {
        node.wildcard = Some(wildcard);
        node.kind = NodeKind::Plain;
    }
    node
}

/// The wildcard that stands for a name which does not exist. The parent of the deepest wildcard above
/// the name exists; it is the closest encloser unless the name one label below it on the way to the name
/// (the next closer name of RFC 5155 §1.3) exists too, and then there is no wildcard at the encloser.
fn wildcard_for<'s>(
    registry: &'s Registry,
    config: &Prepared,
    zone: &Zone<'_>,
    owner: Option<&'s Domain>,
    name: &LookupName,
) -> Option<&'s str> {
    let all = registry.wildcards(zone.domain?).iter().filter_map(|w| Some((&**w, w.strip_prefix("*.")?)));
    let above = all.filter(|(_, parent)| name::strictly_below(name.as_str(), parent));
    let (wildcard, parent) = above.max_by_key(|(_, parent)| parent.len())?;
    let next = name.suffixes().take_while(|s| s.len() > parent.len()).last()?;
    let next = Node { name: next, apex: false, kind: NodeKind::Missing, owner, wildcard: None };
    (kind(registry, config, zone, &next) == NodeKind::Missing).then_some(wildcard)
}

fn kind(registry: &Registry, config: &Prepared, zone: &Zone<'_>, node: &Node<'_, '_>) -> NodeKind {
    let inside = match (zone.domain, node.owner) {
        (Some(i), Some(domain)) => name::below(node.name, &domain.name).map(|prefix| (i, domain, prefix)),
        _ => None,
    };
    if let Some((i, _, "")) = inside {
        return NodeKind::Domain(i);
    }
    if config.nameservers.iter().any(|(n, _)| n == node.name) {
        return NodeKind::NameServer;
    }
    if let Some((i, domain, prefix)) = inside {
        if let Some(mirror) = mirror_named(registry, domain, prefix) {
            return NodeKind::Mirror(mirror);
        }
        match service(prefix) {
            Some(true) if !domain.mirrors.is_empty() => return NodeKind::Service(i),
            Some(false) if !domain.mirrors.is_empty() => return NodeKind::Plain,
            _ => {}
        }
        match onetime::place(prefix) {
            Some(onetime::Place::Name(n)) if !domain.mirrors.is_empty() => return NodeKind::OneTime(i, n),
            Some(onetime::Place::Above) if !domain.mirrors.is_empty() => return NodeKind::Plain,
            _ => {}
        }
    }
    if config.nameservers.is_empty() && name::below(node.name, zone.apex) == Some(DEFAULT_NS) {
        return NodeKind::NameServer;
    }
    if node.apex || node.statics().next().is_some() || has_descendants(registry, config, zone, node) {
        return NodeKind::Plain;
    }
    NodeKind::Missing
}

/// A domain's mirrors are sorted by name.
fn mirror_named(registry: &Registry, domain: &Domain, name: &str) -> Option<MirrorIndex> {
    let start = domain.mirrors.start;
    let run = registry.mirrors.get(start as usize..domain.mirrors.end as usize)?;
    let at = run.binary_search_by(|m| (*m.name).cmp(name)).ok()?;
    // Within a range of u32.
    Some(MirrorIndex(start + at as u32))
}

/// `Some(true)` for `_service._proto`, `Some(false)` for `_proto` alone, which exists above it.
fn service(prefix: &str) -> Option<bool> {
    let proto = |p: &str| matches!(p, "_tcp" | "_udp");
    match prefix.split_once('.') {
        None => proto(prefix).then_some(false),
        Some((service, p)) => (proto(p) && service.len() > 1 && service.starts_with('_')).then_some(true),
    }
}

/// Whether another zone of ours begins at a name or anything stands below it.
fn has_descendants(registry: &Registry, config: &Prepared, zone: &Zone<'_>, node: &Node<'_, '_>) -> bool {
    let below = |n: &str| name::strictly_below(n, node.name);
    if node
        .owner
        .is_some_and(|d| d.records.iter().any(|r| below(&r.name)) || mirrors_below(registry, d, node.name))
    {
        return true;
    }
    config.nameservers.iter().any(|(n, _)| below(n) && name::below(n, zone.apex).is_some())
        || config.zones.iter().any(|z| z == node.name || below(z))
        || registry.domain_by_name.contains_key(node.name)
        || registry.any_domain_below(node.name)
}

/// Whether a mirror with dots in its name stands below.
fn mirrors_below(registry: &Registry, domain: &Domain, name: &str) -> bool {
    let Some(prefix) = name::below(name, &domain.name) else { return false };
    let range = domain.mirrors.start as usize..domain.mirrors.end as usize;
    registry.mirrors.get(range).is_some_and(|run| run.iter().any(|m| name::strictly_below(&m.name, prefix)))
}
