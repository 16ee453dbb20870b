//! Sharing policies and corrected places: what is built of them, and what is refused.

use super::bodies::{DomainBody, OverrideBody};
use super::build::*;
use super::overrides::MAX_OVERRIDES;
use super::sharing::*;
use nearmost_core::geo::{CountryCode, Place, Position};
use nearmost_core::registry::{Policy, RuleEffect, Strategy, Who};
use proptest::prelude::{Just, Strategy as Generator, any, prop, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};

fn of_domain(body: &Value) -> Built {
    let body = body.to_string();
    let entry = Entry { kind: EntryKind::Domain, scope: "a.test", id: "", body: body.as_bytes() };
    build(1, [entry], &BuildDefaults::default())
}

fn policy(body: Value) -> Policy {
    let mut built = of_domain(&body);
    assert_eq!(built.problems, [], "{body}");
    built.registry.domains.remove(0).policy
}

fn refused(body: Value) -> String {
    let problems = of_domain(&body).problems;
    assert_eq!(problems.len(), 1, "{body}: {problems:?}");
    problems[0].to_string()
}

fn of_overrides(entries: &[(&str, Value)]) -> Built {
    let entries: Vec<(&str, String)> = entries.iter().map(|(id, body)| (*id, body.to_string())).collect();
    let views = entries.iter().map(|(id, body)| Entry {
        kind: EntryKind::Override,
        scope: "",
        id,
        body: body.as_bytes(),
    });
    build(1, views, &BuildDefaults::default())
}

fn gb() -> Option<CountryCode> {
    CountryCode::new("GB")
}

#[test]
fn a_body_without_the_fields_has_the_usual_policy_and_stays_as_it_was() {
    let old = json!({ "answers": 3 });
    let usual = Policy::default();
    let found = policy(old.clone());
    assert_eq!((found.strategy, found.rules, found.explore), (usual.strategy, usual.rules, usual.explore));
    let body: DomainBody = serde_json::from_value(old).expect("reads");
    assert_eq!(body.sharing, SharingBody::default());
    let written = serde_json::to_string(&body).expect("writes");
    for absent in ["strategy", "order", "explore_percent", "rules", "sharing"] {
        assert!(!written.contains(absent), "{absent} in {written}");
    }
}

#[test]
fn every_strategy_is_built() {
    for (text, strategy) in
        [("nearest", Strategy::Nearest), ("balanced", Strategy::Balanced), ("weighted", Strategy::Weighted)]
    {
        assert_eq!(policy(json!({ "strategy": text })).strategy, strategy);
    }
    let found = policy(json!({ "strategy": "failover", "order": ["LON", "nyc"], "explore_percent": 20 }));
    assert_eq!(found.strategy, Strategy::Failover(vec!["lon".into(), "nyc".into()]));
    assert_eq!(found.explore, 0.2);
    assert_eq!(policy(json!({ "explore_percent": 0.5 })).explore, 0.005);
}

#[test]
fn rules_are_built() {
    let found = policy(json!({ "rules": [
        { "effect": "pin", "country": "cn", "mirrors": ["sha", "HKG"] },
        { "effect": "exclude", "asn": 64496, "mirrors": ["lon"] },
        { "effect": "exclude", "asn": 64496, "mirrors": ["nyc"] },
        { "effect": "pin", "prefix": "::ffff:192.0.2.0/120", "mirrors": ["lon"] },
    ] }));
    let who: Vec<Who> = found.rules.iter().map(|r| r.who).collect();
    let mapped = Who::Prefix("192.0.2.0/24".parse().expect("a prefix"));
    let china = Who::Country(CountryCode::new("CN").expect("letters"));
    assert_eq!(who, [china, Who::Asn(64496), Who::Asn(64496), mapped]);
    assert_eq!(found.rules[0].mirrors, ["sha".into(), "hkg".into()]);
    let effects: Vec<RuleEffect> = found.rules.iter().map(|r| r.effect).collect();
    assert_eq!(effects, [RuleEffect::Pin, RuleEffect::Exclude, RuleEffect::Exclude, RuleEffect::Pin]);
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_by_name() {
    for (body, says) in [
        (
            json!({ "strategy": "failover" }),
            "domain a.test: strategy = \"failover\" needs order, the names of mirrors from first to last",
        ),
        (
            json!({ "order": ["lon"] }),
            "domain a.test: order stands only beside strategy = \"failover\", and strategy is \"balanced\"; clear one of them",
        ),
        (json!({ "strategy": "failover", "order": ["lon", "Lon"] }), "order: \"lon\" is there twice"),
        (json!({ "strategy": "failover", "order": ["l.on"] }), "order: \"l.on\": character '.'"),
        (json!({ "strategy": "magic" }), "unknown variant `magic`, expected one of `nearest`, `balanced`"),
        (json!({ "explore_percent": 21 }), "explore_percent = 21: expected 0 to 20"),
        (json!({ "explore_percent": -0.5 }), "explore_percent = -0.5: expected 0 to 20"),
    ] {
        let problem = refused(body.clone());
        assert!(problem.contains(says), "{body}: {problem}\nexpected: {says}");
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_by_number_and_text() {
    for (rule, says) in [
        (json!({ "mirrors": ["lon"] }), "says of nobody; give one of country, asn and prefix"),
        (
            json!({ "country": "GB", "asn": 1, "mirrors": ["lon"] }),
            "rule 2 (exclude country=GB asn=1): says of several; give one of country, asn and prefix",
        ),
        (
            json!({ "country": "QQ", "mirrors": ["lon"] }),
            "domain a.test: rule 2 (exclude country=QQ): \"QQ\" is no country; expected its two letters",
        ),
        (json!({ "country": "GBR", "mirrors": ["lon"] }), "found country \"GBR\", expected two letters"),
        (
            json!({ "asn": 0, "mirrors": ["lon"] }),
            "rule 2 (exclude asn=0): asn = 0: expected 1 to 4294967295",
        ),
        (
            json!({ "prefix": "192.0.2.7/24", "mirrors": ["lon"] }),
            "prefix: found \"192.0.2.7/24\", expected no bits beyond the prefix length, as in 192.0.2.0/24",
        ),
        (
            json!({ "prefix": "here", "mirrors": ["lon"] }),
            "prefix: found \"here\", expected a prefix such as",
        ),
        (
            json!({ "country": "GB" }),
            "rule 2 (exclude country=GB): mirrors: expected the name of at least one",
        ),
        (json!({ "country": "GB", "mirrors": ["a b"] }), "mirrors: \"a b\": character ' ' is not allowed"),
        (json!({ "country": "GB", "mirrors": ["a", "A"] }), "mirrors: \"a\" is there twice"),
        (json!({ "country": "GB", "mirrors": ["a"], "when": "always" }), "unknown field `when`"),
    ] {
        let mut second = json!({ "effect": "exclude" });
        second.as_object_mut().expect("a map").extend(rule.as_object().expect("a map").clone());
        let good = json!({ "effect": "pin", "country": "FR", "mirrors": ["par"] });
        let problem = refused(json!({ "rules": [good, second] }));
        assert!(problem.contains(says), "{rule}: {problem}\nexpected: {says}");
    }
}

#[test]
fn two_pins_of_the_same_clients_are_refused_however_they_are_written() {
    let pin =
        |who: &str, value: Value, mirror: &str| json!({ "effect": "pin", who: value, "mirrors": [mirror] });
    let mapped = pin("prefix", json!("::ffff:192.0.2.0/120"), "b");
    for (first, second) in [
        (pin("country", json!("cn"), "a"), pin("country", json!("CN"), "b")),
        (pin("asn", json!(7), "a"), pin("asn", json!(7), "b")),
        (pin("prefix", json!("192.0.2.0/24"), "a"), mapped),
    ] {
        let problem = refused(json!({ "rules": [first, second] }));
        assert!(
            problem.contains("rule 2 (pin ") && problem.contains("rule 1 pins the same clients"),
            "{problem}"
        );
    }
    let nested = [pin("prefix", json!("10.0.0.0/8"), "a"), pin("prefix", json!("10.0.0.0/9"), "b")];
    assert_eq!(policy(json!({ "rules": nested })).rules.len(), 2);
}

#[test]
fn a_domain_has_so_many_rules_and_no_more() {
    let rule = |asn: usize| json!({ "effect": "pin", "asn": asn, "mirrors": ["a"] });
    let rules = |n: usize| json!({ "rules": (1..=n).map(rule).collect::<Vec<_>>() });
    assert_eq!(policy(rules(MAX_RULES)).rules.len(), 256);
    assert!(refused(rules(MAX_RULES + 1)).contains("rules: there are 257, expected at most 256"));
}

#[test]
fn overrides_are_built_in_the_order_of_their_prefixes() {
    let built = of_overrides(&[
        ("2001:db8::/32", json!({ "asn": 64496 })),
        ("10.0.0.0/9", json!({ "country": "gb" })),
        ("10.0.0.0/8", json!({ "latitude": 51.5, "longitude": -0.1, "country": "GB", "made_by": "np1" })),
        ("9.0.0.0/8", json!({ "country": "FR", "of_a_newer_writer": 1 })),
    ]);
    assert_eq!(built.problems, []);
    let prefixes: Vec<String> = built.registry.overrides.iter().map(|(p, _)| p.to_string()).collect();
    assert_eq!(prefixes, ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/9", "2001:db8::/32"]);
    let london = Position::from_degrees(51.5, -0.1);
    assert_eq!(built.registry.overrides[1].1, Place { position: london, country: gb(), asn: None });
    let alone = Place { position: None, country: gb(), asn: None };
    assert_eq!(built.registry.overrides[2].1, alone, "a country without a position");
    assert_eq!(built.registry.overrides[3].1.asn, Some(64496));
}

#[test]
fn an_override_that_makes_no_sense_is_left_out_and_named() {
    for (id, body, says) in [
        (
            "10.0.0.0/8",
            json!({}),
            "override 10.0.0.0/8: says no place; give latitude and longitude, country or asn",
        ),
        ("10.0.0.0/8", json!({ "latitude": 1.0 }), "latitude and longitude go together"),
        (
            "10.0.0.0/8",
            json!({ "latitude": 91.0, "longitude": 0.0 }),
            "place 91, 0: expected latitude -90..90",
        ),
        ("10.0.0.0/8", json!({ "country": "QQ" }), "\"QQ\" is no country"),
        ("10.0.0.0/8", json!({ "asn": 0 }), "asn = 0: expected 1 to 4294967295"),
        (
            "10.0.0.1/8",
            json!({ "asn": 1 }),
            "override 10.0.0.1/8: found \"10.0.0.1/8\", expected no bits beyond the prefix length, as in 10.0.0.0/8",
        ),
        ("::ffff:10.0.0.0/104", json!({ "asn": 1 }), "the prefix must be written \"10.0.0.0/8\""),
        ("2001:DB8::/32", json!({ "asn": 1 }), "the prefix must be written \"2001:db8::/32\""),
        ("everywhere", json!({ "asn": 1 }), "expected a prefix such as"),
    ] {
        let built = of_overrides(&[(id, body.clone()), ("192.0.2.0/24", json!({ "asn": 1 }))]);
        assert_eq!(built.registry.overrides.len(), 1, "{id} {body}");
        let problem = built.problems[0].to_string();
        assert!(built.problems.len() == 1 && problem.contains(says), "{id} {body}: {problem}");
    }
    let scoped = Entry { kind: EntryKind::Override, scope: "a.test", id: "10.0.0.0/8", body: b"{\"asn\":1}" };
    let problems = build(1, [scoped], &BuildDefaults::default()).problems;
    assert!(problems[0].to_string().contains("scope \"a.test\": expected none"), "{problems:?}");
}

#[test]
fn of_too_many_overrides_the_last_are_left_out() {
    let ids: Vec<String> =
        (0..MAX_OVERRIDES as u32 + 30).map(|i| format!("{}/32", std::net::Ipv4Addr::from(i << 4))).collect();
    let entry = |id| Entry { kind: EntryKind::Override, scope: "", id, body: b"{\"asn\":1}" };
    let built = build(1, ids.iter().map(|id| entry(id)), &BuildDefaults::default());
    assert_eq!(built.registry.overrides.len(), MAX_OVERRIDES);
    assert_eq!(built.problems.len(), 30);
    assert_eq!(
        built.problems[0].to_string(),
        "override 0.24.106.0/32: a registry holds at most 100000 overrides, and this one is beyond them"
    );
    let listed = Problem::list(&built.problems);
    assert!(listed.ends_with("; and 10 more"), "{listed}");
    // Who removes some adds no problem.
    let fewer = build(1, ids[5..].iter().map(|id| entry(id)), &BuildDefaults::default());
    assert!(fewer.problems.iter().all(|p| built.problems.contains(p)) && fewer.problems.len() == 25);
}

fn mirrors() -> impl Generator<Value = Vec<String>> {
    prop::collection::btree_set("[a-z][a-z0-9]{0,5}", 1..4).prop_map(|names| names.into_iter().collect())
}

fn rule() -> impl Generator<Value = RuleBody> {
    let who = prop_oneof![
        prop::sample::select(vec![*b"GB", *b"CN"]).prop_map(|c| (Some(c), None, None)),
        (1u32..).prop_map(|asn| (None, Some(asn), None)),
        any::<u16>().prop_map(|n| (None, None, Some(format!("10.{}.{}.0/24", n >> 8, n & 255)))),
    ];
    (prop::sample::select(RuleEffectBody::ALL.to_vec()), who, mirrors()).prop_map(
        |(effect, (country, asn, prefix), mirrors)| RuleBody { effect, country, asn, prefix, mirrors },
    )
}

fn sharing_body() -> impl Generator<Value = SharingBody> {
    let strategy = prop_oneof![
        Just((StrategyBody::Nearest, Vec::new())),
        Just((StrategyBody::Balanced, Vec::new())),
        Just((StrategyBody::Weighted, Vec::new())),
        mirrors().prop_map(|order| (StrategyBody::Failover, order)),
    ];
    (strategy, 0.0..=20.0f32, prop::collection::vec(rule(), 0..6)).prop_map(
        |((strategy, order), explore_percent, rules)| SharingBody {
            strategy,
            order,
            explore_percent,
            rules,
            ..SharingBody::default()
        },
    )
}

proptest! {
    /// Among a domain's fields they come back as they were, and the plain form says the same.
    #[test]
    fn bodies_round_trip(body in sharing_body(), latitude in prop::option::of(-9000..=9000i32)) {
        let domain = DomainBody { sharing: body.clone(), ..DomainBody::default() };
        let json = serde_json::to_string(&domain).expect("writes");
        prop_assert_eq!(serde_json::from_str::<DomainBody>(&json).expect("reads"), domain);
        if let Ok(plain) = sharing(&body) {
            prop_assert_eq!(plain.rules.len(), body.rules.len());
            for (plain, body) in plain.rules.iter().zip(&body.rules) {
                let names: Vec<&str> = plain.mirrors.iter().map(|m| &**m).collect();
                prop_assert_eq!(names, body.mirrors.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
        let latitude = latitude.map(|hundredths| f64::from(hundredths) / 100.0);
        let place = OverrideBody { latitude, longitude: latitude, ..OverrideBody::default() };
        let json = serde_json::to_string(&place).expect("writes");
        prop_assert_eq!(serde_json::from_str::<OverrideBody>(&json).expect("reads"), place);
    }
}
