//! Tests of [`super`].

use super::*;
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::registry::*;
use proptest::prelude::*;

const GOOD: &str = r#"
version = 1

[[domain]]
name = "Play.Example.com."
answers = 3
tie_band_ms = 2.5
ttl_max_s = 30
failback = "manual"
all_down = { fallback = ["203.0.113.9"] }
records = [{ type = "TXT", value = "hello" }]

[[node]]
name = "LON1"
domains = ["play.example.com"]
place = { latitude = 51, longitude = -0.1, country = "gb" }

[[mirror]]
domain = "play.example.com"
name = "lon"
node = "lon1"
addresses = ["203.0.113.1", "2001:db8::1"]

[[mirror]]
domain = "play.example.com"
name = "nyc"
addresses = ["198.51.100.1"]
port = 8443
health = "manual"
state = "down"
probe = { kind = "https", path = "/health", status = [200, 204], verify = false }
"#;

fn errors(text: &str) -> String {
    match RegistryFile::parse_complete("reg.toml", text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(e) => e.to_string(),
    }
}

/// GOOD with one piece replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

#[test]
fn a_good_file_is_read() {
    let file = RegistryFile::parse_complete("reg.toml", GOOD).unwrap();
    assert_eq!(file.entries.len(), 4);
    let get = |key: EntryKey| file.entries[&key].content.clone();
    let Content::Domain(domain) = get(EntryKey::domain("play.example.com").unwrap()) else { panic!() };
    assert_eq!((domain.answers, domain.sharing.tie_band_ms, domain.ttl_s), (3, 2.5, 20));
    let failover = FailoverBody { ttl_min_s: None, ttl_max_s: Some(30), failback: FailbackBody::Manual };
    assert_eq!(domain.failover, failover);
    assert_eq!(domain.records[0].name, "@");
    assert_eq!(domain.records[0].ttl_s, 3600);
    let Content::Node(node) = get(EntryKey::node("lon1").unwrap()) else { panic!() };
    assert_eq!(node.place.unwrap().country, Some(*b"GB"));
    let Content::Mirror(mirror) = get(EntryKey::mirror("play.example.com/nyc").unwrap()) else { panic!() };
    assert_eq!((mirror.port, mirror.health), (8443, HealthBody::ManualDown));
    assert_eq!(mirror.probe.status, Some((200, 204)));
    assert_eq!(
        file.entries[&EntryKey::mirror("play.example.com/nyc").unwrap()].at,
        Position { line: 24, column: 1 }
    );
}

#[test]
fn each_mistake_names_file_line_entry_and_what_was_expected() {
    for (old, new, says) in [
        ("version = 1", "version = 2", "reg.toml:2:11: version: found 2, this program reads 1"),
        ("version = 1", "", "reg.toml:1:1: version is missing"),
        (
            "addresses = [\"198.51.100.1\"]",
            "addresses = [\"300.1.1.1\"]",
            "reg.toml:27:14: mirror play.example.com/nyc: addresses: \"300.1.1.1\" is not an IP address",
        ),
        ("port = 8443", "port = 70000", "port: found 70000, expected a whole number from 1 to 65535"),
        ("port = 8443", "port = \"x\"", "port: found \"x\", expected a whole number"),
        (
            "port = 8443",
            "prot = 8443",
            "reg.toml:28:1: mirror play.example.com/nyc: unknown key \"prot\"; did you mean \"port\"?",
        ),
        ("path = \"/health\"", "pth = \"/\"", "unknown key \"probe.pth\"; did you mean \"path\"?"),
        ("[[mirror]]", "[[miror]]", "unknown key \"miror\"; did you mean \"mirror\"?"),
        (
            "name = \"nyc\"",
            "name = \"LON\"",
            "reg.toml:24:1: mirror play.example.com/lon: given twice; the first is at line 18",
        ),
        (
            "domain = \"play.example.com\"\nname = \"nyc\"",
            "domain = \"ply.example.com\"\nname = \"nyc\"",
            "mirror ply.example.com/nyc: unknown domain \"ply.example.com\": this file does not have it; did you mean \"play.example.com\"?",
        ),
        ("node = \"lon1\"", "node = \"par1\"", "mirror play.example.com/lon: unknown node \"par1\""),
        (
            "domains = [\"play.example.com\"]",
            "domains = [\"x.example\"]",
            "node lon1: unknown domain \"x.example\"",
        ),
        (
            "name = \"Play.Example.com.\"",
            "name = \"pl\\u0000ay.example.com\"",
            "reg.toml:5:8: domain number 1: name: \"pl\\0ay.example.com\": character '\\0' is not allowed",
        ),
        ("name = \"Play.Example.com.\"", "name = \"pl ay\"", "character ' ' is not allowed"),
        ("state = \"down\"", "", "mirror play.example.com/nyc: health = \"manual\" needs state"),
        ("state = \"down\"", "state = \"off\"", "state: found \"off\", expected one of \"up\", \"down\""),
        ("health = \"manual\"", "health = \"probe\"", "state: stands only beside health = \"manual\""),
        ("health = \"manual\"", "health = \"magic\"", "expected one of \"agent\", \"probe\", \"manual\""),
        ("status = [200, 204]", "status = [200]", "two whole numbers"),
        ("kind = \"https\"", "kind = \"ping\"", "found \"ping\", expected one of \"tcp\", \"tls\""),
        (
            "status = [200, 204]",
            "steps = [{ sent = \"x\" }]",
            "unknown key \"probe.steps.sent\"; did you mean \"send\"?",
        ),
        ("status = [200, 204]", "steps = \"x\"", "found \"x\", expected [[probe.steps]] entries"),
        (
            "kind = \"https\"",
            "kind = \"http\"",
            "probe verify: only checks of kind https or h2 or tls or quic",
        ),
        (
            "status = [200, 204]",
            "status = [400, 204]",
            "mirror play.example.com/nyc: probe status (400, 204)",
        ),
        ("verify = false", "verify = 0", "probe.verify: found 0, expected true or false"),
        ("country = \"gb\"", "country = \"GBR\"", "place.country: found \"GBR\", expected two letters"),
        ("latitude = 51", "latitude = 95", "node lon1: place 95, -0.1: expected latitude -90..90"),
        ("latitude = 51", "latitude = nan", "place.latitude: found nan, expected a number"),
        (
            "all_down = { fallback = [\"203.0.113.9\"] }",
            "all_down = \"panic\"",
            "all_down: found \"panic\", expected \"last_known\"",
        ),
        ("type = \"TXT\"", "type = \"A\"", "record @ A \"hello\": \"hello\" is not an IPv4 address"),
        ("answers = 3", "answers = 0", "answers: found 0, expected a whole number from 1 to 8"),
        ("answers = 3", "ttl_min_s = 0", "ttl_min_s: found 0, expected a whole number from 1 to 86400"),
        (
            "answers = 3",
            "ttl_min_s = 30",
            "domain play.example.com: ttl_min_s = 30: expected at most ttl_s, which is 20",
        ),
        (
            "ttl_max_s = 30",
            "ttl_max_s = 10",
            "domain play.example.com: ttl_max_s = 10: expected at least ttl_s, which is 20",
        ),
        ("answers = 3", "ttl_mim_s = 3", "unknown key \"ttl_mim_s\"; did you mean \"ttl_min_s\"?"),
        (
            "failback = \"manual\"",
            "failback = \"never\"",
            "failback: found \"never\", expected one of \"auto\", \"manual\"",
        ),
        ("answers = 3", "answers = 3\nanswers = 3", "not TOML: duplicate key"),
        ("answers = 3", "answers = ", "not TOML"),
        ("name = \"lon\"", "", "mirror number 1: name is missing"),
        ("node = \"lon1\"", "", "health = \"agent\" needs a node"),
    ] {
        let found = errors(&with(old, new));
        assert!(found.contains(says), "{new}: {found}\nexpected: {says}");
        assert!(found.starts_with("reg.toml:"), "{found}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_in_order() {
    let text = with("port = 8443", "prot = 1").replace("answers = 3", "answers = 99");
    let found = errors(&text);
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 2, "{found}");
    assert!(lines[0].contains("answers") && lines[1].contains("prot"), "{found}");
}

#[test]
fn columns_count_characters() {
    assert_eq!(super::error::Lines::of("äö\nxäy").position("äö\nxä".len()), Position { line: 2, column: 3 });
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"
}

fn place() -> impl Strategy<Value = Option<PlaceBody>> {
    let position = prop::option::of((-90.0..90.0f64, -180.0..180.0f64));
    let country = prop::option::of(prop::sample::select(vec![*b"GB", *b"US", *b"SG"]));
    prop::option::of((position, country, prop::option::of(1..u32::MAX)).prop_map(|(p, country, asn)| {
        PlaceBody { latitude: p.map(|p| p.0), longitude: p.map(|p| p.1), country, asn }
    }))
}

fn address() -> impl Strategy<Value = Vec<std::net::IpAddr>> {
    prop::option::of((1u8..200, any::<u8>()))
        .prop_flat_map(|v4| (Just(v4), prop::option::of(1u16..9999)))
        .prop_map(|(v4, v6)| {
            let v4 = v4.map(|(a, b)| std::net::IpAddr::from([a, b, 1, 1]));
            let v6 = v6.map(|a| std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, a]));
            v4.into_iter().chain(v6).collect()
        })
}

fn rule() -> impl Strategy<Value = RuleBody> {
    let effect = prop::sample::select(RuleEffectBody::ALL.to_vec());
    let who = prop_oneof![
        prop::sample::select(vec![*b"GB", *b"US"]).prop_map(|country| (Some(country), None, None)),
        (1..u32::MAX).prop_map(|asn| (None, Some(asn), None)),
        any::<u8>().prop_map(|n| (None, None, Some(format!("10.{n}.0.0/16")))),
        (1u8..).prop_map(|n| (None, None, Some(format!("2001:db8:{n:x}::/48")))),
    ];
    let mirrors = prop::collection::btree_set(label(), 1..3);
    (effect, who, mirrors).prop_map(|(effect, (country, asn, prefix), mirrors)| RuleBody {
        effect,
        country,
        asn,
        prefix,
        mirrors: mirrors.into_iter().collect(),
    })
}

fn sharing() -> impl Strategy<Value = SharingBody> {
    let strategy = prop::sample::select(StrategyBody::ALL.to_vec());
    let order = prop::collection::btree_set(label(), 1..4);
    let rules = prop::collection::vec(rule(), 0..4);
    let numbers = (0.0..1000.0f32, 0.0..100.0f32, 0.0..=20.0f32);
    (strategy, order, numbers, rules).prop_map(|(strategy, order, numbers, rules)| {
        let (tie_band_ms, tie_band_percent, explore_percent) = numbers;
        let mut pinned = std::collections::BTreeSet::new();
        let once = |r: &RuleBody| r.effect == RuleEffectBody::Exclude || pinned.insert(r.head());
        let order = if strategy == StrategyBody::Failover { order } else { Default::default() };
        SharingBody {
            tie_band_ms,
            tie_band_percent,
            strategy,
            order: order.into_iter().collect(),
            explore_percent,
            rules: rules.into_iter().filter(once).collect(),
        }
    })
}

fn overrides() -> impl Strategy<Value = BTreeMap<EntryKey, Content>> {
    let prefix = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
            let net = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from(bits & net))
        }),
        (any::<u16>(), 33u8..=48)
            .prop_map(|(n, length)| format!("2001:db8:{:x}::/{length}", n & !0 << (48 - length))),
    ];
    let given = place().prop_filter_map("a place", |p| p.filter(|p| *p != PlaceBody::default()));
    prop::collection::btree_map(prefix, given, 0..4).prop_map(|all| {
        let each = all.into_iter().map(|(prefix, place)| {
            (EntryKey::place_override(&prefix).unwrap(), Content::Override(OverrideBody::from(place)))
        });
        each.collect()
    })
}

/// TTL and what bounds it.
fn ttls() -> impl Strategy<Value = (u32, FailoverBody)> {
    let failback = prop::sample::select(FailbackBody::ALL.to_vec());
    (1u32..=86_400).prop_flat_map(move |ttl_s| {
        let bounds = (prop::option::of(1..=ttl_s), prop::option::of(ttl_s..=86_400), failback.clone());
        bounds.prop_map(move |(ttl_min_s, ttl_max_s, failback)| {
            (ttl_s, FailoverBody { ttl_min_s, ttl_max_s, failback })
        })
    })
}

fn domain() -> impl Strategy<Value = DomainBody> {
    let all_down = prop_oneof![
        Just(AllDownBody::LastKnown),
        Just(AllDownBody::All),
        Just(AllDownBody::NoAnswer),
        Just(AllDownBody::Fallback(vec![[192, 0, 2, 1].into()])),
    ];
    let texts = prop::collection::vec("[ -~é\t]{0,20}", 0..3);
    let limits = (1u8..=8, ttls(), 1u32..86_400);
    (limits, all_down, texts, prop::collection::vec(label(), 0..2), sharing()).prop_map(
        |((answers, (ttl_s, failover), negative_ttl_s), all_down, texts, hosts, sharing)| DomainBody {
            answers,
            ttl_s,
            negative_ttl_s,
            all_down,
            failover,
            alpn: hosts.clone(),
            sharing,
            records: texts
                .iter()
                .enumerate()
                // No record is there twice.
                .map(|(i, t)| RecordBody {
                    name: "@".into(),
                    kind: "TXT".into(),
                    ttl_s,
                    value: format!("{:?}", format!("{i}{t}")),
                })
                .filter(|r| !r.value.contains("\\u") && !r.value.contains("\\'"))
                .collect(),
            redirect_hosts: hosts,
            owner: None,
            delegations: Vec::new(),
            made_by: None,
        },
    )
}

fn probe() -> impl Strategy<Value = ProbeBody> {
    let kind =
        prop::sample::select(ProbeKind::ALL.to_vec()).prop_filter("a probe", |k| *k != ProbeKind::None);
    let text = || prop::option::of("\\PC{0,12}");
    let counts = (
        prop::option::of(100u32..),
        prop::option::of(10u32..),
        prop::option::of(1u8..),
        prop::option::of(1u8..),
    );
    let http = (
        prop::option::of("/[a-z]{0,5}"),
        prop::option::of((100u16..300, 300u16..599)),
        prop::option::of(any::<bool>()),
    );
    let some = || prop::option::of("[ -~é\r\n]{1,12}");
    let step = ("\\PC{1,12}", some()).prop_map(|(send, expect)| StepBody { send: Some(send), expect });
    let talk = (prop::option::of(prop::collection::vec(step, 1..4)), some(), some());
    let select = |values: &[&str]| {
        prop::option::of(prop::sample::select(values.iter().map(ToString::to_string).collect::<Vec<_>>()))
    };
    let dns = (
        prop::option::of(label()),
        select(&["A", "TYPE65", "txt"]),
        select(&["NXDOMAIN", "refused"]),
        some(),
    );
    let tls = (prop::option::of(any::<u32>()), prop::option::of(prop::collection::vec("\\PC{1,12}", 1..3)));
    let texts = (text(), text());
    (kind, counts, http, texts, talk, dns, tls).prop_map(|(kind, counts, http, texts, talk, dns, tls)| {
        let mut body = ProbeBody {
            kind,
            interval_ms: counts.0,
            timeout_ms: counts.1,
            rise: counts.2,
            fall: counts.3,
            path: http.0,
            status: http.1,
            verify: http.2,
            host: texts.0,
            body_contains: texts.1,
            min_days_to_expiry: tls.0,
            alpn: tls.1,
            send: talk.1,
            expect: talk.2,
            steps: talk.0,
            query: dns.0,
            query_type: dns.1,
            rcode: dns.2,
            answer: dns.3,
        };
        if body.steps.is_some() && kind != ProbeKind::Udp {
            (body.send, body.expect) = (None, None);
        }
        body.change_kind(kind);
        body
    })
}

fn entries() -> impl Strategy<Value = BTreeMap<EntryKey, Content>> {
    let health = prop::sample::select(vec![
        HealthBody::Agent,
        HealthBody::Probe,
        HealthBody::ManualUp,
        HealthBody::ManualDown,
    ]);
    let mirror = (address(), 1u16.., 1u32.., health, probe(), place(), any::<bool>());
    let nodes = prop::collection::btree_map(label(), (place(), any::<bool>(), any::<bool>()), 1..3);
    let mirrors = prop::collection::btree_map(label(), mirror, 0..4);
    (domain(), nodes, mirrors, 1u8..200, "\\PC{0,9}", overrides()).prop_map(
        |(domain, nodes, mirrors, seed, name, overrides)| {
            let mut all = overrides;
            let key = |role, seed: u8| KeyPair::from_seed(role, &[seed; 32]).id();
            all.insert(EntryKey::domain("play.example.com").unwrap(), Content::Domain(domain));
            all.insert(EntryKey::person(&key(Role::Person, seed)), Content::Person(PersonBody { name }));
            for (i, (name, (place, joined, revoked))) in nodes.iter().enumerate() {
                let id = joined.then(|| key(Role::Node, i as u8).to_string());
                let body = NodeBody {
                    id,
                    domains: vec!["play.example.com".into()],
                    revoked: *revoked,
                    place: *place,
                    made_by: None,
                };
                all.insert(EntryKey::node(name).unwrap(), Content::Node(body));
            }
            let node = nodes.keys().next().cloned();
            for (name, (addresses, port, weight, health, probe, place, named)) in mirrors {
                let hostname = (named && addresses.is_empty()).then(|| "host.example.com".to_string());
                let url = named.then(|| "https://a.example/x%22".to_string());
                let body = MirrorBody {
                    node: node.clone(),
                    addresses,
                    hostname,
                    port,
                    weight,
                    health,
                    probe: Box::new(probe),
                    url,
                    place,
                    ingress: None,
                    made_by: None,
                };
                all.insert(
                    EntryKey::mirror(&format!("play.example.com/{name}")).unwrap(),
                    Content::Mirror(body),
                );
            }
            all
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What is exported reads back as the same entries, also after their way through JSON.
    #[test]
    fn export_reads_back(entries in entries()) {
        let stored: BTreeMap<EntryKey, Content> = entries
            .iter()
            .map(|(k, c)| (k.clone(), Content::parse(k.kind, &c.to_json().unwrap()).unwrap()))
            .collect();
        prop_assert_eq!(&stored, &entries);
        let text = export(&stored);
        let file = match RegistryFile::parse_complete("reg.toml", &text) {
            Ok(file) => file,
            Err(e) => return Err(TestCaseError::fail(format!("{e}\n{text}"))),
        };
        let read: BTreeMap<EntryKey, Content> = file.entries.into_iter().map(|(k, e)| (k, e.content)).collect();
        prop_assert_eq!(&read, &entries, "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(version = 1\n)?(\\[\\[(domain|mirror|node|override|domain.rules)\\]\\]\n((name|domain|port|place|probe|all_down|prefix|order|rules|effect|asn) = (\"[a-zé./]{0,9}\"|[0-9]{1,9}|\\{\\}|\\[\\])\n){0,4}){0,3}\\PC{0,5}") {
        if let Err(e) = RegistryFile::parse_complete("x", &text) {
            prop_assert!(!e.0.is_empty());
        }
    }
}
