//! What the registry should hold for a node, from what its agent declares: a pure plan.
//!
//! A mirror that a person registered, or removed, is the person's; the agent's word makes and
//! changes only mirrors that this broker itself recorded for the same node.

use crate::registrar::index::DeclaredIndex;
use nearmost_core::registry::{Node, Registry};
use nearmost_replica::{Body, Kind, PublicKey, RecordKey, SignedRecord};
use nearmost_wire::agent::ServiceDecl;
use nearmost_wire::name;
use nearmost_wire::registry::{
    BuildDefaults, Entry, EntryKind, HealthBody, MirrorBody, NodeBody, PlaceBody, build, entry_of,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// Most services that one agent may declare.
pub const MAX_SERVICES: usize = 256;

/// What the plan is made against.
pub struct View<'a> {
    /// Standing records.
    pub records: &'a BTreeMap<RecordKey, SignedRecord>,
    /// Which of them agents declared.
    pub declared: &'a DeclaredIndex,
    /// This broker's key.
    pub broker: PublicKey,
    /// Built from them.
    pub registry: &'a Registry,
}

/// Records to write, and sentences about what was left out.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Key and JSON body; no body removes.
    pub changes: Vec<(RecordKey, Option<Vec<u8>>)>,
    /// For the node's operator.
    pub warnings: Vec<String>,
}

/// The body of a live record of this build's version.
pub fn live_body<T: DeserializeOwned>(
    records: &BTreeMap<RecordKey, SignedRecord>,
    key: &RecordKey,
) -> Option<T> {
    match &records.get(key)?.record().body {
        Body::Live { bytes, .. } => serde_json::from_slice(bytes).ok(),
        Body::Tombstone => None,
    }
}

/// Plans the changes for one node.
pub fn plan(
    view: &View<'_>,
    node: &Node,
    services: &[ServiceDecl],
    place: Option<PlaceBody>,
    defaults: &BuildDefaults,
) -> Plan {
    let mut plan = Plan::default();
    let mut declared = BTreeSet::new();
    if services.len() > MAX_SERVICES {
        plan.warnings
            .push(format!("{} services declared; only the first {MAX_SERVICES} are taken", services.len()));
    }
    for service in services.iter().take(MAX_SERVICES) {
        match mirror(view, node, service, defaults, &mut plan.warnings) {
            Ok(change) => {
                if !declared.insert(change.0.clone()) {
                    plan.warnings.push(format!(
                        "{}/{} is declared twice; the first counts",
                        change.0.scope, change.0.id
                    ));
                } else if let (key, Some(body)) = change {
                    plan.changes.push((key, Some(body)));
                }
            }
            Err((key, warning)) => {
                declared.extend(key);
                plan.warnings.push(format!("{}/{}: {warning}", service.domain, service.mirror));
            }
        }
    }
    let stale = view.declared.of(&node.name).filter(|key| !declared.contains(*key));
    plan.changes.extend(stale.map(|key| (key.clone(), None)));
    plan.changes.extend(place_of_node(view, &node.name, place));
    plan
}

type Planned = (RecordKey, Option<Vec<u8>>);

/// The key, and the new body where one is due. An error with a key keeps what stands there.
fn mirror(
    view: &View<'_>,
    node: &Node,
    service: &ServiceDecl,
    defaults: &BuildDefaults,
    warnings: &mut Vec<String>,
) -> Result<Planned, (Option<RecordKey>, String)> {
    let domain = name::domain(&service.domain).map_err(|e| (None, e.to_string()))?;
    let mirror = name::short(&service.mirror).map_err(|e| (None, e.to_string()))?;
    let key = RecordKey { kind: Kind::MIRROR, scope: domain.clone(), id: mirror };
    if !node.domains.iter().any(|d| **d == *domain) {
        return Err((None, "the node was not invited to mirror this domain".into()));
    }
    if view.registry.find_domain(&domain).is_none() {
        return Err((None, "the domain is not registered".into()));
    }
    let full = format!("{}.{domain}", key.id);
    if view.registry.find_domain(&full).is_some() {
        return Err((Some(key), format!("{full} is a domain of its own; give the mirror another name")));
    }
    let body = MirrorBody {
        node: Some(node.name.to_string()),
        addresses: service.addresses.clone(),
        hostname: service.hostname.clone(),
        port: service.port,
        weight: service.weight,
        health: HealthBody::Agent,
        probe: Box::new(service.probe.clone()),
        url: service.url.clone(),
        ingress: service.ingress,
        place: None,
        made_by: None,
    };
    match view.records.get(&key).map(SignedRecord::record) {
        Some(r) if r.author != view.broker && r.is_tombstone() => {
            return Err((
                None,
                "the mirror was removed by a person; add it there again if it should serve".into(),
            ));
        }
        // A person registered it: that stands.
        Some(r) if r.author != view.broker => {
            let standing: Option<MirrorBody> = live_body(view.records, &key);
            warnings.extend(standing.and_then(|s| overruled(&key, &s, &body)));
            return Ok((key, None));
        }
        Some(r) if !r.is_tombstone() => {
            let standing: Option<MirrorBody> = live_body(view.records, &key);
            let other = standing.as_ref().and_then(|b| b.node.clone()).filter(|n| **n != *node.name);
            if let Some(other) = other {
                return Err((None, format!("the name is taken by node {other}")));
            }
            if standing.as_ref() == Some(&body) {
                return Ok((key, None));
            }
        }
        _ => {}
    }
    let json = encode(&body).map_err(|e| (Some(key.clone()), e))?;
    match problem(view, &node.name, &key, &json, defaults) {
        Some(problem) => Err((Some(key), problem)),
        None => Ok((key, Some(json))),
    }
}

/// A sentence that names what a person registered otherwise than the agent declares.
fn overruled(key: &RecordKey, standing: &MirrorBody, declared: &MirrorBody) -> Option<String> {
    let differs = [
        ("node", standing.node != declared.node),
        ("addresses", standing.addresses != declared.addresses),
        ("hostname", standing.hostname != declared.hostname),
        ("port", standing.port != declared.port),
        ("weight", standing.weight != declared.weight),
        ("health", standing.health != declared.health),
        ("probe", standing.probe != declared.probe),
        ("url", standing.url != declared.url),
        ("ingress", standing.ingress != declared.ingress),
    ];
    let fields: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(f, _)| f).collect();
    (!fields.is_empty()).then(|| {
        let fields = fields.join(", ");
        format!("{}/{}: a person registered it, and that stands; it differs in {fields}", key.scope, key.id)
    })
}

/// What is wrong with a mirror by itself, so that one bad service does not hold up the others. Built
/// with nothing around it but its domain and its node, however large the registry is.
fn problem(
    view: &View<'_>,
    node: &str,
    key: &RecordKey,
    json: &[u8],
    defaults: &BuildDefaults,
) -> Option<String> {
    let domain = RecordKey { kind: Kind::DOMAIN, scope: key.scope.clone(), id: String::new() };
    let node = RecordKey { kind: Kind::NODE, scope: String::new(), id: node.into() };
    let around = [domain, node].into_iter().filter_map(|key| view.records.get(&key));
    let around = around.filter_map(|r| entry_of(r.record()));
    let own = Entry { kind: EntryKind::Mirror, scope: &key.scope, id: &key.id, body: json };
    let built = build(0, around.chain([own]), defaults);
    built.problems.into_iter().find(|p| p.kind == EntryKind::Mirror.noun()).map(|p| p.problem)
}

/// The node's record with the place that its agent declares, when this broker keeps that record.
fn place_of_node(view: &View<'_>, node: &str, place: Option<PlaceBody>) -> Option<Planned> {
    let key = RecordKey { kind: Kind::NODE, scope: String::new(), id: node.into() };
    let own = view.records.get(&key).is_some_and(|r| r.record().author == view.broker);
    let mut body: NodeBody = live_body(view.records, &key)?;
    if !own || body.place == place {
        return None;
    }
    body.place = place;
    encode(&body).ok().map(|json| (key, Some(json)))
}

fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_replica::{Hlc, Record, SigningKey};
    use nearmost_wire::identity::{KeyPair, Role};
    use nearmost_wire::registry::{BODY_VERSION, DomainBody, ProbeBody};

    /// Records by key, signed by the broker (seed 1) or a person (seed 2).
    #[derive(Default)]
    struct World {
        records: BTreeMap<RecordKey, SignedRecord>,
        seq: u64,
    }

    const BROKER: u8 = 1;
    const PERSON: u8 = 2;

    impl World {
        fn with_nodes() -> World {
            let mut world = World::default();
            world.put(PERSON, Kind::DOMAIN, "a.example", "", Some(encode(&DomainBody::default()).unwrap()));
            for (name, seed) in [("one", 11), ("two", 12)] {
                let id = KeyPair::from_seed(Role::Node, &[seed; 32]).id().to_string();
                let body =
                    NodeBody { id: Some(id), domains: vec!["a.example".into()], ..NodeBody::default() };
                world.put(BROKER, Kind::NODE, "", name, Some(encode(&body).unwrap()));
            }
            world
        }

        fn put(&mut self, author: u8, kind: Kind, scope: &str, id: &str, body: Option<Vec<u8>>) {
            let key = SigningKey::from_seed(&[author; 32]);
            self.seq += 1;
            let record = Record {
                kind,
                scope: scope.into(),
                id: id.into(),
                body: body.map_or(Body::Tombstone, |bytes| Body::Live { version: BODY_VERSION, bytes }),
                hlc: Hlc { millis: self.seq, counter: 0 },
                author: key.public(),
                author_epoch: 0,
                author_seq: self.seq,
                grants: Vec::new(),
            };
            let signed = SignedRecord::sign(record, &key).unwrap();
            self.records.insert(signed.record().key(), signed);
        }

        fn plan(&self, node: &str, services: &[ServiceDecl], place: Option<PlaceBody>) -> Plan {
            let defaults = BuildDefaults::default();
            let built = build(1, self.records.values().filter_map(|r| entry_of(r.record())), &defaults);
            let broker = SigningKey::from_seed(&[BROKER; 32]).public();
            let declared = &DeclaredIndex::new(broker, &self.records);
            let node = built.registry.nodes.iter().find(|n| *n.name == *node).unwrap();
            plan(
                &View { records: &self.records, declared, broker, registry: &built.registry },
                node,
                services,
                place,
                &defaults,
            )
        }

        /// Plans and takes the changes over, as the registrar does.
        fn declare(&mut self, node: &str, services: &[ServiceDecl]) -> Plan {
            let plan = self.plan(node, services, None);
            for (key, body) in plan.changes.clone() {
                self.put(BROKER, key.kind, &key.scope, &key.id, body);
            }
            plan
        }
    }

    fn service(mirror: &str) -> ServiceDecl {
        ServiceDecl {
            domain: "a.example".into(),
            mirror: mirror.into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            hostname: None,
            port: 443,
            weight: 100,
            probe: ProbeBody::default(),
            url: None,
            ingress: None,
        }
    }

    #[test]
    fn a_declared_service_becomes_a_mirror_once_and_goes_when_it_is_gone() {
        let mut world = World::with_nodes();
        assert_eq!(world.declare("one", &[service("m")]).changes.len(), 1);
        assert_eq!(world.declare("one", &[service("m")]), Plan::default());
        let moved = ServiceDecl { port: 8443, ..service("m") };
        assert_eq!(world.declare("one", std::slice::from_ref(&moved)).changes.len(), 1);
        let gone = world.declare("one", &[]);
        assert!(matches!(gone.changes.as_slice(), [(key, None)] if key.id == "m"));
        assert_eq!(world.declare("one", &[service("m")]).changes.len(), 1, "it may come back");
    }

    #[test]
    fn what_a_person_said_stands() {
        let mut world = World::with_nodes();
        let body = MirrorBody { node: Some("one".into()), port: 80, ..MirrorBody::default() };
        world.put(PERSON, Kind::MIRROR, "a.example", "m", Some(encode(&body).unwrap()));
        let plan = world.declare("one", &[service("m")]);
        assert!(plan.changes.is_empty());
        let [warning] = plan.warnings.as_slice() else { panic!("{plan:?}") };
        assert!(warning.ends_with("it differs in addresses, port"), "{warning}");
        assert_eq!(world.declare("one", &[]), Plan::default(), "nor is it removed");
        let same = MirrorBody { addresses: service("m").addresses, port: 443, ..body };
        world.put(PERSON, Kind::MIRROR, "a.example", "m", Some(encode(&same).unwrap()));
        assert_eq!(world.declare("one", &[service("m")]), Plan::default(), "nothing to warn of");
        world.put(PERSON, Kind::MIRROR, "a.example", "m", None);
        let plan = world.declare("one", &[service("m")]);
        assert!(plan.changes.is_empty() && plan.warnings[0].contains("removed by a person"), "{plan:?}");
    }

    #[test]
    fn the_index_follows_every_change() {
        let mut world = World::with_nodes();
        let broker = SigningKey::from_seed(&[BROKER; 32]).public();
        let mut index = DeclaredIndex::new(broker, &world.records);
        let key = |id: &str| RecordKey { kind: Kind::MIRROR, scope: "a.example".into(), id: id.into() };
        let of = |node: &str| {
            let body = MirrorBody { node: Some(node.into()), ..MirrorBody::default() };
            Some(encode(&body).unwrap())
        };
        let changes = [
            (BROKER, "m", of("one")),
            (BROKER, "n", of("two")),
            (BROKER, "m", of("two")),
            (PERSON, "n", of("two")),
            (PERSON, "o", of("one")),
            (BROKER, "m", None),
        ];
        for (author, id, body) in changes {
            world.put(author, Kind::MIRROR, "a.example", id, body);
            index.update(&world.records, &key(id));
            assert_eq!(index, DeclaredIndex::new(broker, &world.records), "after {id}");
        }
        world.declare("one", &[service("p")]);
        index.update(&world.records, &key("p"));
        assert_eq!(index.of("one").collect::<Vec<_>>(), [&key("p")]);
        assert_eq!(index.of("two").count(), 0);
    }

    #[test]
    fn nobody_takes_anothers_name_or_domain() {
        let mut world = World::with_nodes();
        world.declare("one", &[service("m")]);
        let plan = world.declare("two", &[service("m")]);
        assert!(plan.changes.is_empty() && plan.warnings[0].contains("node one"), "{plan:?}");
        let other = ServiceDecl { domain: "b.example".into(), ..service("m") };
        assert!(world.plan("two", &[other], None).warnings[0].contains("not invited"));
    }

    #[test]
    fn one_bad_service_does_not_hold_up_the_others_nor_lose_what_stands() {
        let mut world = World::with_nodes();
        world.declare("one", &[service("m"), service("n")]);
        let bad = ServiceDecl { port: 0, ..service("m") };
        let plan = world.declare("one", &[bad, service("n"), service("o")]);
        assert!(plan.warnings[0].contains("port = 0"), "{plan:?}");
        assert!(matches!(plan.changes.as_slice(), [(key, Some(_))] if key.id == "o"), "{plan:?}");
        let twice = world.plan("one", &[service("n"), service("n"), service("m"), service("o")], None);
        assert!(twice.changes.is_empty() && twice.warnings[0].contains("twice"), "{twice:?}");
        let nonsense = ServiceDecl { mirror: "a.b\0".into(), ..service("m") };
        assert_eq!(world.plan("two", &[nonsense], None).warnings.len(), 1);
    }

    #[test]
    fn a_mirror_that_would_be_a_domain_does_not_hold_up_the_others() {
        let mut world = World::with_nodes();
        world.put(PERSON, Kind::DOMAIN, "www.a.example", "", Some(encode(&DomainBody::default()).unwrap()));
        let plan = world.plan("one", &[service("www"), service("m")], None);
        assert!(plan.warnings[0].contains("www.a.example"), "{plan:?}");
        assert!(matches!(plan.changes.as_slice(), [(key, Some(_))] if key.id == "m"), "{plan:?}");
    }

    #[test]
    fn the_agents_place_is_taken_only_into_the_brokers_own_record() {
        let mut world = World::with_nodes();
        let place = Some(PlaceBody { latitude: Some(1.0), longitude: Some(2.0), ..PlaceBody::default() });
        assert_eq!(world.plan("one", &[], place).changes.len(), 1);
        world.put(
            PERSON,
            Kind::NODE,
            "",
            "one",
            Some(encode(&NodeBody { domains: vec![], ..NodeBody::default() }).unwrap()),
        );
        assert_eq!(world.plan("one", &[], place).changes.len(), 0);
    }
}
