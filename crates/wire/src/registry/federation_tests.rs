//! Tests of [`super::federation`].

use super::federation::*;
use crate::identity::{KeyPair, Role};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn bodies_are_written_as_people_read_them() {
    let peer = PeerBody { name: "bob".into(), domains: vec!["*.b.example".into()], ..PeerBody::default() };
    let written = serde_json::to_value(&peer).unwrap();
    assert_eq!(written, json!({ "name": "bob", "admin": false, "domains": ["*.b.example"] }));
    assert_eq!(serde_json::from_value::<PeerBody>(written).unwrap(), peer);

    let grant = GrantBody { role: GrantRole::Writer, kinds: vec![0x1001], from_unix_ms: 5, until_unix_ms: 0 };
    let written = serde_json::to_value(&grant).unwrap();
    assert_eq!(
        written,
        json!({ "role": "writer", "kinds": [0x1001], "from_unix_ms": 5, "until_unix_ms": 0 })
    );
    assert_eq!(serde_json::from_value::<GrantBody>(written).unwrap(), grant);

    let endpoint = EndpointBody { peers: vec!["b.example:7000".into()], ..EndpointBody::default() };
    let written = serde_json::to_value(&endpoint).unwrap();
    assert_eq!(written, json!({ "peers": ["b.example:7000"], "agents": [], "clients": [], "http": [] }));
    assert_eq!(serde_json::from_value::<EndpointBody>(written).unwrap(), endpoint);
    assert_eq!(serde_json::to_value(ClaimBody {}).unwrap(), json!({}));
}

#[test]
fn what_a_newer_writer_adds_is_passed_over_and_what_is_absent_has_a_default() {
    let peer: PeerBody = serde_json::from_value(json!({ "name": "bob", "colour": "red" })).unwrap();
    assert_eq!(peer, PeerBody { name: "bob".into(), ..PeerBody::default() });
    let grant: GrantBody = serde_json::from_value(json!({ "role": "auditor", "colour": "red" })).unwrap();
    assert_eq!((grant.role, grant.until_unix_ms), (GrantRole::Auditor, 0));
    assert!(serde_json::from_value::<GrantBody>(json!({ "role": "emperor" })).is_err());
    assert!(serde_json::from_value::<GrantBody>(json!({})).is_err(), "nothing is granted by default");
    let _: ClaimBody = serde_json::from_value(json!({ "note": "mine" })).unwrap();
    for role in GrantRole::ALL {
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
}

#[test]
fn a_roll_needs_the_new_keys_word_for_this_domain_and_this_old_key() {
    let new = KeyPair::from_seed(Role::Person, &[2; 32]);
    let roll = RollBody::sign("a.example", &[1; 32], &new);
    assert_eq!(roll.verify("a.example", &[1; 32]), Ok(new.id().key));
    let other = KeyPair::from_seed(Role::Person, &[3; 32]).id().to_string();
    for (roll, domain, old) in [
        (roll.clone(), "b.example", [1; 32]),
        (roll.clone(), "a.example", [9; 32]),
        (RollBody { to: other, ..roll.clone() }, "a.example", [1; 32]),
        (RollBody { proof: String::new(), ..roll.clone() }, "a.example", [1; 32]),
    ] {
        assert!(matches!(roll.verify(domain, &old), Err(RollError::Proof { .. })));
    }
    let broker = KeyPair::from_seed(Role::Broker, &[2; 32]).id().to_string();
    let to_broker = RollBody { to: broker, ..roll };
    assert!(matches!(to_broker.verify("a.example", &[1; 32]), Err(RollError::Id { .. })));
}

#[test]
fn rights_that_make_no_sense_say_why() {
    let peer = |name: &str, domains: &[&str]| {
        let domains = domains.iter().map(|d| (*d).to_owned()).collect();
        PeerBody { name: name.into(), domains, ..PeerBody::default() }.check().map_err(|e| e.to_string())
    };
    assert_eq!(peer("bob", &["a.example", "*.b.example", "*"]), Ok(()));
    for (name, pattern, wrong) in [
        ("", "*", "name: a name is empty"),
        ("b.c", "*", "name: "),
        ("bob", "", "domains: \"\""),
        ("bob", "a.*.example", "domains: \"a.*.example\": expected a.example"),
        ("bob", "*a.example", "domains: \"*a.example\""),
    ] {
        let said = peer(name, &[pattern]).unwrap_err();
        assert!(said.starts_with(wrong), "{said}");
    }
    let grant = |role, kinds: &[u16], from_unix_ms, until_unix_ms| {
        GrantBody { role, kinds: kinds.to_vec(), from_unix_ms, until_unix_ms }.check()
    };
    assert_eq!(grant(GrantRole::Writer, &[0x1001], 5, 0), Ok(()));
    assert_eq!(grant(GrantRole::Admin, &[], 5, 6), Ok(()));
    assert_eq!(grant(GrantRole::Writer, &[], 0, 0), Err(RightsError::NoKinds));
    assert_eq!(grant(GrantRole::Writer, &[0x1001, 1], 0, 0), Err(RightsError::Kind(1)));
    assert_eq!(grant(GrantRole::Admin, &[0x1001], 0, 0), Err(RightsError::NotAWriter("admin")));
    let dates = RightsError::Dates { from_unix_ms: 6, until_unix_ms: 6 };
    assert_eq!(grant(GrantRole::Operator, &[], 6, 6), Err(dates));
}

#[test]
fn a_ban_that_is_no_ban_says_why() {
    assert_eq!(
        BanBody::decode(&[1; 7]).unwrap_err().to_string(),
        "a ban begins with an expiry of 8 bytes, 7 bytes are there"
    );
    assert!(matches!(BanBody::decode(&[1; 9]), Err(BanError::Json(_))));
}

proptest! {
    #[test]
    fn a_ban_round_trips_and_merges_by_its_expiry(until_unix_ms: u64, reason: String) {
        let ban = BanBody { until_unix_ms, reason };
        let bytes = ban.encode();
        prop_assert_eq!(nearmost_replica::merge::expiry_unix_ms(&bytes), until_unix_ms);
        prop_assert_eq!(BanBody::decode(&bytes).unwrap(), ban);
    }

    #[test]
    fn arbitrary_bytes_are_a_ban_or_an_error(bytes: Vec<u8>) {
        let _ = BanBody::decode(&bytes);
    }
}
