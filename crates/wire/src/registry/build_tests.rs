//! What becomes a registry and what is left out, by name.

use super::bodies::*;
use super::build::*;
use super::probe::{ProbeBody, ProbeKind};
use nearmost_core::geo::PlaceSource;
use nearmost_core::registry::{ForcedTo, HealthMode, MirrorAddress};
use proptest::prelude::*;
use serde_json::{Value, json};

type Owned = (EntryKind, String, String, String);

fn entry(kind: EntryKind, scope: &str, id: &str, body: Value) -> Owned {
    (kind, scope.into(), id.into(), body.to_string())
}

fn domain(name: &str) -> Owned {
    entry(EntryKind::Domain, name, "", json!({}))
}

fn mirror(domain: &str, name: &str, body: Value) -> Owned {
    entry(EntryKind::Mirror, domain, name, body)
}

fn built(entries: &[Owned]) -> Built {
    let view =
        entries.iter().map(|(kind, scope, id, body)| Entry { kind: *kind, scope, id, body: body.as_bytes() });
    build(7, view, &BuildDefaults::default())
}

fn only_problem(entries: &[Owned]) -> String {
    let problems = built(entries).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn a_whole_registry_is_built() {
    let node_id = crate::identity::KeyPair::from_seed(crate::identity::Role::Node, &[3; 32]).id().to_string();
    let built = built(&[
        mirror(
            "b.example",
            "z",
            json!({ "addresses": ["192.0.2.1", "2001:db8::1"], "health": "probe", "port": 80 }),
        ),
        mirror("a.example", "m", json!({ "node": "n1" })),
        mirror("b.example", "a", json!({ "hostname": "Host.Example.", "health": "manual_up" })),
        domain("b.example"),
        domain("a.example"),
        entry(
            EntryKind::Node,
            "",
            "n1",
            json!({ "id": node_id, "domains": ["a.example"], "place": { "latitude": 1.0, "longitude": 2.0, "country": "sg" } }),
        ),
        entry(EntryKind::Drain, "", "n1", json!({})),
        entry(EntryKind::Force, "b.example", "z", json!({ "to": "down", "until_unix_ms": 99 })),
    ]);
    assert_eq!(built.problems, []);
    let registry = &built.registry;
    assert_eq!(registry.version, 7);
    let names: Vec<&str> = registry.mirrors.iter().map(|m| &*m.name).collect();
    assert_eq!(names, ["m", "a", "z"]);
    let b = registry.find_domain("B.example.").expect("any case, with a dot");
    assert_eq!(registry.domain(b).mirrors, 1..3);
    let m = &registry.mirrors[0];
    assert!(m.orders.drained, "its node is drained");
    assert_eq!(m.address, MirrorAddress::Observed);
    assert_eq!(m.place_source, PlaceSource::Given);
    assert_eq!(m.place.country.map(|c| c.to_string()), Some("SG".into()));
    let z = &registry.mirrors[2];
    assert_eq!(z.health, HealthMode::Probe);
    assert!(z.orders.force.is_some_and(|f| f.to == ForcedTo::Down && f.until.0 == 99));
    assert!(matches!(&registry.mirrors[1].address, MirrorAddress::Hostname(h) if &**h == "host.example"));
}

#[test]
fn what_makes_no_sense_is_left_out_and_named() {
    let d = domain("a.example");
    let with = |body: Value| only_problem(&[d.clone(), mirror("a.example", "m", body)]);
    for (body, says) in [
        (json!({ "addresses": ["192.0.2.1", "192.0.2.2"], "health": "probe" }), "second address"),
        (json!({ "addresses": ["192.0.2.1"] }), "needs a node"),
        (json!({ "addresses": ["0.0.0.0"], "health": "probe" }), "0.0.0.0"),
        (json!({ "health": "probe" }), "needs addresses"),
        (json!({ "addresses": ["192.0.2.1"], "hostname": "h.example", "health": "probe" }), "not both"),
        (json!({ "addresses": ["192.0.2.1"], "health": "probe", "port": 0 }), "port = 0"),
        (
            json!({ "addresses": ["192.0.2.1"], "health": "probe", "probe": { "kind": "none" } }),
            "needs a probe",
        ),
        (
            json!({ "addresses": ["192.0.2.1"], "health": "probe", "probe": { "kind": "http", "path": "/", "fall": 0 } }),
            "rise and fall",
        ),
        (json!({ "addresses": ["192.0.2.1"], "node": "gone" }), "unknown node \"gone\""),
        (json!({ "addresses": ["nonsense"] }), "body"),
        (json!({ "addresses": ["192.0.2.1"], "health": "probe", "url": "ftp://x" }), "http://"),
        (json!({ "addresses": ["192.0.2.1"], "health": "probe", "url": "http://u@x.example" }), "user name"),
        (json!({ "addresses": ["192.0.2.1"], "health": "probe", "weight": 0 }), "drain"),
        (json!({ "addresses": ["192.0.2.1"], "health": "probe", "place": { "country": "QQ" } }), "QQ"),
        (
            json!({ "addresses": ["192.0.2.1"], "health": "probe", "place": { "latitude": 91.0, "longitude": 0.0 } }),
            "91",
        ),
    ] {
        let problem = with(body.clone());
        assert!(problem.contains(says) && problem.contains("a.example/m"), "{body}: {problem}");
    }
    assert!(
        only_problem(&[mirror("gone.example", "m", json!({}))]).contains("unknown domain \"gone.example\"")
    );
    assert!(only_problem(&[entry(EntryKind::Domain, "A.example", "", json!({}))]).contains("a.example"));
    assert!(only_problem(&[entry(EntryKind::Domain, "a b", "", json!({}))]).contains("' '"));
    assert!(
        only_problem(&[entry(EntryKind::Domain, "a.example", "", json!({ "answers": 9 }))])
            .contains("answers = 9")
    );
}

#[test]
fn names_mean_one_thing() {
    let m = |d: &str, name: &str| mirror(d, name, json!({ "addresses": ["192.0.2.1"], "health": "probe" }));
    let with_record = |kind: &str, value: &str| {
        let records = json!({ "records": [{ "name": "lon", "type": kind, "value": value }] });
        entry(EntryKind::Domain, "a.test", "", records)
    };
    let problem = only_problem(&[domain("a.test"), domain("lon.a.test"), m("a.test", "lon")]);
    assert!(
        problem.contains("a.test/lon") && problem.contains("lon.a.test is that of a domain"),
        "{problem}"
    );
    for (kind, value) in
        [("A", "192.0.2.9"), ("AAAA", "2001:db8::9"), ("CNAME", "x.test"), ("NS", "ns.x.test")]
    {
        let problem = only_problem(&[with_record(kind, value), m("a.test", "lon")]);
        assert!(problem.contains("a.test/lon") && problem.contains(&format!(" {kind} ")), "{problem}");
        assert_eq!(built(&[with_record(kind, value), m("a.test", "nyc")]).problems, []);
    }
    assert_eq!(built(&[with_record("TXT", "hello"), m("a.test", "lon")]).problems, []);
    assert_eq!(built(&[domain("a.test"), m("a.test", "ns1")]).problems, []);
}

#[test]
fn a_redirect_host_is_one_domains() {
    let with_hosts =
        |name: &str, hosts: &[&str]| entry(EntryKind::Domain, name, "", json!({ "redirect_hosts": hosts }));
    let built = built(&[
        with_hosts("b.test", &["go.test", "b.test", "own.test"]),
        with_hosts("a.test", &["Go.test", "b.test"]),
    ]);
    let problems: Vec<String> = built.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("domain a.test") && problems[0].contains("b.test is a domain itself"));
    assert!(problems[1].contains("domain b.test") && problems[1].contains("go.test is domain a.test's"));
    let hosts =
        |at: usize| built.registry.domains[at].redirect_hosts.iter().map(|h| &**h).collect::<Vec<_>>();
    assert_eq!((hosts(0), hosts(1)), (vec!["go.test"], vec!["b.test", "own.test"]));
}

#[test]
fn the_registry_is_indexed() {
    let delegates = json!({ "records": [{ "name": "sub", "type": "NS", "value": "ns.x.test" }] });
    let registry = built(&[entry(EntryKind::Domain, "b.a.test", "", delegates)]).registry;
    assert!(registry.any_domain_below("a.test") && !registry.any_domain_below("b.a.test"));
    let domain = registry.find_domain("b.a.test").expect("built");
    assert_eq!(registry.cuts(domain).iter().map(|c| &**c).collect::<Vec<_>>(), ["sub.b.a.test"]);
}

#[test]
fn a_place_may_be_a_country_alone() {
    let of = |place: Value| {
        let body = json!({ "addresses": ["192.0.2.1"], "health": "probe", "place": place });
        let mirror = built(&[domain("a.test"), mirror("a.test", "m", body)]).registry.mirrors.remove(0);
        (mirror.place.country.map(|c| c.to_string()), mirror.place.position.is_some(), mirror.place_source)
    };
    assert_eq!(of(json!({ "country": "sg" })), (Some("SG".into()), false, PlaceSource::Given));
    assert_eq!(of(json!({ "latitude": 1.0, "longitude": 2.0 })), (None, true, PlaceSource::Given));
    assert_eq!(of(json!({})), (None, false, PlaceSource::Unknown));
}

#[test]
fn two_nodes_cannot_share_a_key() {
    let id = crate::identity::KeyPair::from_seed(crate::identity::Role::Node, &[3; 32]).id();
    let node = |name: &str| entry(EntryKind::Node, "", name, json!({ "id": id.to_string() }));
    let built = built(&[node("a"), node("b")]);
    assert_eq!(built.problems.len(), 1);
    assert_eq!(built.registry.nodes.len(), 1);
    let kept = built.registry.node_by_id[&id.node_id()];
    assert_eq!(&*built.registry.nodes[kept.0 as usize].name, "a");
}

#[test]
fn bodies_round_trip() {
    let body = MirrorBody {
        node: Some("n".into()),
        place: Some(PlaceBody {
            latitude: Some(1.5),
            longitude: Some(-2.0),
            country: Some(*b"GB"),
            asn: Some(7),
        }),
        probe: Box::new(ProbeBody {
            kind: ProbeKind::Https,
            status: Some((200, 204)),
            ..ProbeBody::default()
        }),
        ..MirrorBody::default()
    };
    let json = serde_json::to_string(&body).expect("encodes");
    assert_eq!(serde_json::from_str::<MirrorBody>(&json).expect("decodes"), body);
}

proptest! {
    /// Whatever arrives, every domain's mirrors are its own run, and every index is in range.
    #[test]
    fn any_entries_build_a_consistent_registry(
        domains in proptest::collection::btree_set("[a-c]\\.x", 0..4),
        mirrors in proptest::collection::btree_set(("[a-d]\\.x", "[a-c]"), 0..12),
        shuffle in any::<u64>(),
    ) {
        let mut entries: Vec<Owned> = domains.iter().map(|d| domain(d)).collect();
        entries.extend(mirrors.iter().map(|(d, m)| mirror(d, m, json!({ "addresses": ["192.0.2.1"], "health": "probe" }))));
        let turn = shuffle as usize % entries.len().max(1);
        entries.rotate_left(turn);
        let Built { registry, problems, .. } = built(&entries);
        let known = mirrors.iter().filter(|(d, _)| domains.contains(d)).count();
        prop_assert_eq!(registry.mirrors.len(), known);
        prop_assert_eq!(problems.len(), mirrors.len() - known);
        for (i, d) in registry.domains.iter().enumerate() {
            for m in d.mirrors.clone() {
                prop_assert_eq!(registry.mirrors[m as usize].domain.0 as usize, i);
            }
        }
        prop_assert_eq!(registry.domains.iter().map(|d| d.mirrors.len()).sum::<usize>(), known);
    }

    #[test]
    fn arbitrary_bodies_never_panic(kind in 0usize..EntryKind::ALL.len(), scope: String, id: String, body: Vec<u8>) {
        let entry = Entry { kind: EntryKind::ALL[kind], scope: &scope, id: &id, body: &body };
        let _ = build(1, [entry], &BuildDefaults::default());
    }
}

#[test]
fn a_domain_has_no_more_mirrors_than_rankings_can_number() {
    let body = r#"{"addresses":["192.0.2.1"],"health":"manual_up"}"#;
    let names: Vec<String> = (0..=nearmost_core::registry::MAX_MIRRORS).map(|i| format!("m{i:05}")).collect();
    let mirrors = names.iter().map(|name| Entry {
        kind: EntryKind::Mirror,
        scope: "a.example",
        id: name,
        body: body.as_bytes(),
    });
    let domain = Entry { kind: EntryKind::Domain, scope: "a.example", id: "", body: b"{}" };
    let built = build(1, mirrors.chain([domain]), &BuildDefaults::default());
    assert_eq!(built.registry.mirrors.len(), 65_535);
    let problems: Vec<String> = built.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, ["mirror a.example/m65535: a domain has at most 65535 mirrors"]);
}
