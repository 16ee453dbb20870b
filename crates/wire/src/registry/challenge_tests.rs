use super::super::{BuildDefaults, DomainBody, Entry, EntryKind, RecordBody, build};
use super::*;
use nearmost_replica::{Hlc, PublicKey};
use proptest::prelude::*;

const VALUE: &str = "gfj9Xq-Rg85nM_abcdefghijklmnopqrstuvwxyz012";

/// Two domains, one below the other; the first has an alias, a part that is delegated, and a text.
fn built() -> Built {
    let record = |name: &str, kind: &str, value: &str| RecordBody {
        name: name.into(),
        kind: kind.into(),
        ttl_s: 60,
        value: value.into(),
    };
    let records = vec![
        record("_acme-challenge.alias", "CNAME", "x.example.net"),
        record("cut", "NS", "ns.example.net"),
        record("_acme-challenge.text", "TXT", "by hand"),
    ];
    let body = serde_json::to_vec(&DomainBody { records, ..DomainBody::default() }).unwrap();
    let plain = serde_json::to_vec(&DomainBody::default()).unwrap();
    let entry = |scope, body| Entry { kind: EntryKind::Domain, scope, id: "", body };
    let entries = [entry("a.test", body.as_slice()), entry("in.a.test", plain.as_slice())];
    build(1, entries, &BuildDefaults::default())
}

fn record(scope: &str, id: &str, until_unix_ms: u64) -> Record {
    let bytes = serde_json::to_vec(&ChallengeBody { until_unix_ms }).unwrap();
    Record {
        kind: Kind::CHALLENGE,
        scope: scope.into(),
        id: id.into(),
        body: Body::Live { version: BODY_VERSION, bytes },
        hlc: Hlc { millis: 1, counter: 0 },
        author: PublicKey([1; 32]),
        author_epoch: 0,
        author_seq: 0,
        grants: Vec::new(),
    }
}

fn texts(built: &Built, domain: &str) -> Vec<String> {
    let domain = built.registry.find_domain(domain).unwrap();
    let records = &built.registry.domain(domain).records;
    let text = |r: &StaticRecord| match &r.data {
        StaticData::Txt(strings) => Some(format!("{} {}", r.name, strings.concat())),
        _ => None,
    };
    records.iter().filter_map(text).collect()
}

#[test]
fn a_certificates_name_finds_its_domain_and_owner() {
    let built = built();
    for (name, domain, below) in [
        ("a.test", "a.test", "_acme-challenge"),
        ("*.A.test.", "a.test", "_acme-challenge"),
        ("www.a.test", "a.test", "_acme-challenge.www"),
        ("_acme-challenge.www.a.test.", "a.test", "_acme-challenge.www"),
        ("in.a.test", "in.a.test", "_acme-challenge"),
        ("x.in.a.test", "in.a.test", "_acme-challenge.x"),
    ] {
        let placed = Challenge::place(&built.registry, name, VALUE, 5).unwrap();
        assert_eq!((placed.domain.as_str(), placed.below.as_str()), (domain, below), "{name}");
        let key = placed.key();
        assert_eq!((key.scope.as_str(), &key.id), (domain, &format!("{below}/{VALUE}")));
        assert_eq!(Challenge::of_record(&record(domain, &key.id, 5)), Some(Ok(placed)));
    }
}

#[test]
fn what_nobody_would_see_is_refused() {
    let mut built = built();
    let place = |built: &Built, name: &str, value: &str| {
        Challenge::place(&built.registry, name, value, 5).unwrap_err()
    };
    let owner = |name: &str| format!("_acme-challenge.{name}");
    assert_eq!(place(&built, "b.test", VALUE), ChallengeError::NoDomain(owner("b.test")));
    assert_eq!(place(&built, "alias.a.test", VALUE), ChallengeError::Alias(owner("alias.a.test")));
    for name in ["cut.a.test", "x.cut.a.test"] {
        let cut = "cut.a.test".to_owned();
        assert_eq!(place(&built, name, VALUE), ChallengeError::Delegated { owner: owner(name), cut });
    }
    for value in ["", "a b", "a=", "ü", &"x".repeat(129)] {
        assert_eq!(place(&built, "a.test", value), ChallengeError::Value, "{value}");
    }
    assert!(matches!(place(&built, "a..test", VALUE), ChallengeError::Name(_)));
    assert!(matches!(place(&built, &"a.".repeat(126), VALUE), ChallengeError::Name(_)));
    // One of them is people's own.
    let many: Vec<Record> =
        (1..MAX_CHALLENGES).map(|i| record("a.test", &format!("_acme-challenge/{i}"), 9)).collect();
    built.add_challenges(&many, 0);
    assert_eq!(place(&built, "a.test", VALUE), ChallengeError::Full("a.test".into()));
    assert!(Challenge::place(&built.registry, "a.test", "1", 5).is_ok(), "it may be renewed");
}

#[test]
fn challenges_stand_beside_static_records_until_they_end() {
    let records = [
        record("a.test", "_acme-challenge/one", 30),
        record("a.test", "_acme-challenge/two", 20),
        record("a.test", "_acme-challenge.text/x", 40),
        record("in.a.test", "_acme-challenge/one", 10),
        record("gone.test", "_acme-challenge/one", 90),
        record("a.test", "_acme-challenge.alias/x", 90),
        record("a.test", "_acme-challenge.cut/x", 90),
        record("a.test", "www/x", 90),
        record("a.test", "_acme-challenge.WWW/x", 90),
        record("a.test", "_acme-challenge", 90),
    ];
    let mut now = built();
    assert_eq!(now.add_challenges(&records, 9), Some(10));
    assert_eq!(
        texts(&now, "a.test"),
        [
            "_acme-challenge.text.a.test by hand",
            "_acme-challenge.a.test one",
            "_acme-challenge.a.test two",
            "_acme-challenge.text.a.test x"
        ]
    );
    assert_eq!(texts(&now, "in.a.test"), ["_acme-challenge.in.a.test one"]);
    let problems: Vec<&str> = now.problems.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        problems,
        [
            "a.test/_acme-challenge",
            "a.test/_acme-challenge.WWW/x",
            "a.test/_acme-challenge.alias/x",
            "a.test/_acme-challenge.cut/x",
            "a.test/www/x",
            "gone.test/_acme-challenge/one"
        ]
    );
    let mut later = built();
    assert_eq!(later.add_challenges(&records, 20), Some(30));
    assert_eq!(texts(&later, "in.a.test"), Vec::<String>::new());
    assert_eq!(texts(&later, "a.test").len(), 3);
    assert_eq!(built().add_challenges(&records[..4], 40), None);
}

#[test]
fn of_too_many_the_last_are_left_out() {
    let records: Vec<Record> =
        (0..=MAX_CHALLENGES).map(|i| record("in.a.test", &format!("_acme-challenge/{i:03}"), 9)).collect();
    let mut built = built();
    built.add_challenges(&records, 0);
    assert_eq!(texts(&built, "in.a.test").len(), MAX_CHALLENGES);
    assert_eq!(built.problems.len(), 1);
    assert!(built.problems[0].to_string().contains("in.a.test/_acme-challenge/100"));
}

proptest! {
    /// No record of any peer makes building panic, or a name that is none.
    #[test]
    fn any_record_is_taken_or_left_out(scope in "[a.]{0,6}|a\\.test", id in "\\PC{0,12}|_acme-challenge[./a-c]{0,8}") {
        let mut built = built();
        built.add_challenges([&record(&scope, &id, 9)], 0);
        let domain = built.registry.find_domain("a.test").unwrap();
        for record in &built.registry.domain(domain).records {
            prop_assert!(name::domain(&record.name).is_ok());
        }
    }
}
