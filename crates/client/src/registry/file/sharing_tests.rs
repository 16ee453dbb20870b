//! Tests of [`super`]: sharing policies and corrected places.

use super::*;
use nearmost_wire::registry::*;

const GOOD: &str = r#"
version = 1

[[domain]]
name = "play.example.com"
strategy = "failover"
order = ["LON", "nyc"]
explore_percent = 0.5

[[domain.rules]]
effect = "pin"
country = "cn"
mirrors = ["Sha", "hkg"]

[[domain.rules]]
effect = "exclude"
prefix = "::ffff:192.0.2.0/120"
mirrors = ["lon"]

[[override]]
prefix = "2001:DB8::/32"
latitude = 51
longitude = -0.1

[[override]]
prefix = "198.51.100.0/24"
country = "gb"
asn = 64496
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
fn policies_and_overrides_are_read() {
    let file = RegistryFile::parse_complete("reg.toml", GOOD).unwrap();
    let get = |key: EntryKey| file.entries[&key].content.clone();
    let Content::Domain(domain) = get(EntryKey::domain("play.example.com").unwrap()) else { panic!() };
    assert_eq!(
        domain.sharing,
        SharingBody {
            strategy: StrategyBody::Failover,
            order: vec!["lon".into(), "nyc".into()],
            explore_percent: 0.5,
            tie_band_ms: 3.0,
            tie_band_percent: 5.0,
            rules: vec![
                RuleBody {
                    effect: RuleEffectBody::Pin,
                    country: Some(*b"CN"),
                    asn: None,
                    prefix: None,
                    mirrors: vec!["sha".into(), "hkg".into()],
                },
                RuleBody {
                    effect: RuleEffectBody::Exclude,
                    country: None,
                    asn: None,
                    prefix: Some("192.0.2.0/24".into()),
                    mirrors: vec!["lon".into()],
                },
            ],
        }
    );
    let place = |prefix: &str| match get(EntryKey::place_override(prefix).unwrap()) {
        Content::Override(body) => body.place(),
        _ => panic!(),
    };
    let london = PlaceBody { latitude: Some(51.0), longitude: Some(-0.1), ..PlaceBody::default() };
    assert_eq!(place("2001:db8::/32"), london);
    let british = PlaceBody { country: Some(*b"GB"), asn: Some(64496), ..PlaceBody::default() };
    assert_eq!(place("198.51.100.0/24"), british);
}

#[test]
fn each_mistake_names_file_line_entry_and_what_was_expected() {
    for (old, new, says) in [
        (
            "strategy = \"failover\"",
            "strategy = \"closest\"",
            "reg.toml:6:12: domain play.example.com: strategy: found \"closest\", expected one of \"nearest\", \"balanced\", \"weighted\", \"failover\"",
        ),
        (
            "strategy = \"failover\"",
            "stratgy = \"failover\"",
            "unknown key \"stratgy\"; did you mean \"strategy\"?",
        ),
        (
            "strategy = \"failover\"",
            "strategy = \"nearest\"",
            "domain play.example.com: order stands only beside strategy = \"failover\"",
        ),
        ("order = [\"LON\", \"nyc\"]", "", "strategy = \"failover\" needs order"),
        ("\"nyc\"]", "\"n yc\"]", "reg.toml:7:17: domain play.example.com: order: \"n yc\": character ' '"),
        ("\"nyc\"]", "\"Lon\"]", "order: \"lon\" is there twice"),
        ("explore_percent = 0.5", "explore_percent = 21", "explore_percent = 21: expected 0 to 20"),
        (
            "explore_percent = 0.5",
            "explore_percent = \"x\"",
            "explore_percent: found \"x\", expected a number",
        ),
        (
            "effect = \"pin\"",
            "effect = \"pn\"",
            "rules.effect: found \"pn\", expected one of \"pin\", \"exclude\"",
        ),
        ("effect = \"pin\"", "", "reg.toml:10:1: domain play.example.com: rules.effect is missing"),
        ("country = \"cn\"", "county = \"cn\"", "unknown key \"rules.county\"; did you mean \"country\"?"),
        ("country = \"cn\"", "country = \"chn\"", "rules.country: found \"chn\", expected two letters"),
        ("country = \"cn\"", "country = \"qq\"", "rule 1 (pin country=QQ): \"QQ\" is no country"),
        ("country = \"cn\"", "asn = 0", "rules.asn: found 0, expected a whole number from 1 to 4294967295"),
        ("country = \"cn\"", "", "rule 1 (pin): says of nobody; give one of country, asn and prefix"),
        ("country = \"cn\"", "country = \"cn\"\nasn = 7", "rule 1 (pin country=CN asn=7): says of several"),
        (
            "prefix = \"::ffff:192.0.2.0/120\"",
            "prefix = \"192.0.2.7/24\"",
            "reg.toml:17:10: domain play.example.com: rules.prefix: found \"192.0.2.7/24\", expected no bits beyond the prefix length, as in 192.0.2.0/24",
        ),
        (
            "mirrors = [\"lon\"]",
            "",
            "rule 2 (exclude prefix=192.0.2.0/24): mirrors: expected the name of at least",
        ),
        (
            "effect = \"exclude\"\nprefix = \"::ffff:192.0.2.0/120\"",
            "effect = \"pin\"\ncountry = \"CN\"",
            "rule 2 (pin country=CN): rule 1 pins the same clients",
        ),
        ("[[override]]", "[[overide]]", "unknown key \"overide\"; did you mean \"override\"?"),
        (
            "prefix = \"2001:DB8::/32\"",
            "prefix = \"2001:db8::1/32\"",
            "reg.toml:21:10: override number 1: prefix: found \"2001:db8::1/32\", expected no bits beyond the prefix length, as in 2001:db8::/32",
        ),
        ("prefix = \"2001:DB8::/32\"", "", "override number 1: prefix is missing"),
        (
            "prefix = \"2001:DB8::/32\"",
            "prefix = \"::ffff:198.51.100.0/120\"",
            "override 198.51.100.0/24: given twice; the first is at line 20",
        ),
        (
            "latitude = 51",
            "lattitude = 51",
            "override 2001:db8::/32: unknown key \"lattitude\"; did you mean \"latitude\"?",
        ),
        (
            "latitude = 51",
            "",
            "reg.toml:20:1: override 2001:db8::/32: place: latitude and longitude go together",
        ),
        (
            "latitude = 51",
            "latitude = 95",
            "override 2001:db8::/32: place 95, -0.1: expected latitude -90..90",
        ),
        (
            "latitude = 51\nlongitude = -0.1",
            "",
            "override 2001:db8::/32: says no place; give latitude and longitude",
        ),
        ("country = \"gb\"", "country = \"qq\"", "override 198.51.100.0/24: place: \"QQ\" is no country"),
        ("asn = 64496", "asn = \"AS64496\"", "asn: found \"AS64496\", expected a whole number"),
    ] {
        let found = errors(&with(old, new));
        assert!(found.contains(says), "{new}: {found}\nexpected: {says}");
        assert!(found.starts_with("reg.toml:"), "{found}");
    }
}

#[test]
fn an_export_writes_them_as_people_do() {
    let file = RegistryFile::parse_complete("reg.toml", GOOD).unwrap();
    let text = export(file.entries.iter().map(|(k, e)| (k, &e.content)));
    let written = r#"version = 1

[[domain]]
name = "play.example.com"
explore_percent = 0.5
strategy = "failover"
order = ["lon", "nyc"]
[[domain.rules]]
effect = "pin"
country = "CN"
mirrors = ["sha", "hkg"]
[[domain.rules]]
effect = "exclude"
prefix = "192.0.2.0/24"
mirrors = ["lon"]

[[override]]
prefix = "198.51.100.0/24"
country = "GB"
asn = 64496

[[override]]
prefix = "2001:db8::/32"
latitude = 51.0
longitude = -0.1
"#;
    assert_eq!(text, written);
}
