//! Tests of [`super`].

use super::*;
use crate::registry::world::{NOW, World};
use proptest::prelude::*;

fn key(kind: &str, id: &str) -> AppKey {
    AppKey::new("a.example", kind.parse().unwrap(), id).unwrap()
}

#[test]
fn kinds_are_read_and_shown() {
    for (text, whole) in
        [("0", 0x1000), ("5", 0x1005), ("removal-wins:5", 0x3005), ("restrictive:4095", 0x9fff)]
    {
        let kind: AppKind = text.parse().unwrap();
        assert_eq!((kind.whole_number(), kind.to_string()), (whole, text.to_owned()));
        assert_eq!(AppKind::of_number(whole), Some(kind));
    }
    assert_eq!("last-writer:5".parse::<AppKind>().unwrap().whole_number(), 0x1005);
    for text in ["", "4096", "-1", "x", "drain:5", "removal-wins:", "0x5"] {
        let said = text.parse::<AppKind>().unwrap_err().to_string();
        assert!(said.contains(&format!("{text:?} is no kind")), "{said}");
    }
    for number in [Kind::DOMAIN.0, Kind::DRAIN.0, 0x5005, 0xd005] {
        assert_eq!(AppKind::of_number(number), None, "{number:#x}");
    }
}

#[test]
fn the_largest_body_fits_and_one_byte_more_is_refused_with_the_number() {
    let mut world = World::new();
    let ada = world.ada.clone();
    for (kind, until) in [("1", None), ("restrictive:1", Some(NOW + 1000))] {
        let key = key(kind, "x");
        let room = key.room().unwrap();
        let plan = put(&world.held(), &key, &vec![7; room], until).unwrap();
        world.carry_out(&plan, &ada, None);
        assert_eq!(world.records.last().unwrap().bytes().len(), MAX_RECORD_BYTES);
        let refused = put(&world.held(), &key, &vec![7; room + 1], until).unwrap_err().to_string();
        assert!(refused.contains(&format!("has {} bytes; the largest that fits has {room}", room + 1)));
    }
    let long = put(&world.held(), &key("1", &"x".repeat(256)), b"", None).unwrap_err().to_string();
    assert!(long.contains("id has 256 bytes, at most 255"), "{long}");
    assert!(AppKey::new("a.example", AppKind::default(), "").is_err());
}

#[test]
fn records_are_put_changed_and_removed() {
    let mut world = World::new();
    let ada = world.ada.clone();
    let plan = put(&world.held(), &key("1", "x"), b"one", None).unwrap();
    assert_eq!(plan.to_string(), "+ record a.example/x of kind 1  bytes: 3\n");
    world.carry_out(&plan, &ada, None);
    assert!(put(&world.held(), &key("1", "x"), b"one", None).unwrap().is_empty());
    let other = put(&world.held(), &key("1", "x"), b"two", None).unwrap();
    assert_eq!(other.to_string(), "~ record a.example/x of kind 1  says something else\n");
    let wrong = remove(&world.held(), &key("restrictive:2", "x")).unwrap_err().to_string();
    assert!(wrong.ends_with("of kind restrictive:2; there is one of kind 1"), "{wrong}");
    let plan = remove(&world.held(), &key("1", "x")).unwrap();
    world.carry_out(&plan, &ada, None);
    assert!(remove(&world.held(), &key("1", "x")).is_err());
}

#[test]
fn only_what_restricts_has_an_end() {
    let world = World::new();
    let refused = put(&world.held(), &key("1", "x"), b"", Some(NOW)).unwrap_err().to_string();
    assert!(refused.contains("records of last-writer kinds have no end"), "{refused}");
    let over = put(&world.held(), &key("restrictive:1", "x"), b"", Some(NOW)).unwrap();
    assert!(over.warnings[0].contains("has ended already"));
    let ever = put(&world.held(), &key("restrictive:1", "x"), b"abc", None).unwrap();
    assert_eq!(ever.to_string(), "+ record a.example/x of kind restrictive:1  bytes: 3, until: for ever\n");
}

#[test]
fn what_the_api_tells_is_read() {
    let view = |kind, body: Option<&str>| AppRecordView {
        domain: "a.example".into(),
        kind,
        id: "x".into(),
        body: body.map(Into::into),
        author: "np1".into(),
        hlc_millis: 1,
        hlc_counter: 0,
    };
    let read = |kind, body| AppRecord::of(&view(kind, body));
    let plain = AppRecord { kind: "5".into(), body: Some(b"abc".to_vec()), until_unix_ms: None };
    assert_eq!(read(0x1005, Some("YWJj")), Ok(plain));
    let ends = AppRecord { kind: "restrictive:5".into(), body: Some(b"a".to_vec()), until_unix_ms: Some(7) };
    assert_eq!(read(0x9005, Some("AAAAAAAAAAdh")), Ok(ends));
    assert_eq!(
        read(0x9005, None).unwrap(),
        AppRecord { kind: "restrictive:5".into(), body: None, until_unix_ms: None }
    );
    assert_eq!(read(1, Some("YQ==")).unwrap().kind, "0x0001");
    assert!(read(0x1005, Some("*")).is_err());
}

proptest! {
    #[test]
    fn kinds_come_back_from_their_text(number in 0u16..4096, rule in 0usize..3) {
        let kind = AppKind::new(AppRule::ALL[rule], number).unwrap();
        prop_assert_eq!(kind.to_string().parse::<AppKind>(), Ok(kind));
        prop_assert_eq!(AppKind::of_number(kind.whole_number()), Some(kind));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,24}") {
        let _ = text.parse::<AppKind>();
    }
}
