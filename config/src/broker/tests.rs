use super::*;
use crate::testing::{assert_annotated, assert_shows_every_key, pairs, uncommented};
use crate::{BROKER_TOML, Origin};
use nearmost_core::geo::{CountryCode, Position};
use proptest::prelude::*;

/// Names and values, as in an environment.
type Given<'a> = &'a [(&'a str, &'a str)];

pub(super) fn read(text: &str, env: Given<'_>, flags: Given<'_>) -> Result<BrokerConfig, ConfigError> {
    let layers = Layers::of_text(Path::new("broker.toml"), text, pairs(env), &pairs(flags))?;
    BrokerConfig::from_layers(&layers)
}

pub(super) fn refused(text: &str, env: Given<'_>, flags: Given<'_>) -> String {
    match read(text, env, flags) {
        Ok(config) => panic!("{text:?} with {env:?} and {flags:?} was taken: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(read(BROKER_TOML, &[], &[]).unwrap(), BrokerConfig::default());
    assert_eq!(BrokerConfig::load(None, [], &[]).unwrap(), BrokerConfig::default());
    assert_eq!(read("", &[], &[]).unwrap(), BrokerConfig::default());
}

#[test]
fn the_shipped_file_explains_every_key() {
    assert_shows_every_key::<spec::BrokerSpec>(BROKER_TOML, &[]);
    assert_annotated(BROKER_TOML);
}

#[test]
fn settings_that_are_off_are_right_when_turned_on() {
    let config = read(&uncommented(BROKER_TOML), &[], &[]).unwrap();
    assert_eq!(config.http.tls.unwrap().key, Path::new("/etc/nearmost/tls/key.pem"));
    assert_eq!(config.http.tokens[0].sha256[..2], [0x9f, 0x86]);
    assert_eq!(config.http.tokens[0].scope, Scope::Admin);
    assert_eq!(config.http.persons[0].name, "ada");
    assert_eq!(config.dns.tls.files.unwrap().cert, Path::new("/etc/nearmost/tls/cert.pem"));
    assert_eq!(config.dns.log.json, Some(JsonTarget::File("/var/log/nearmost/queries.json".into())));
    assert_eq!(config.dns.log.dnstap.as_deref(), Some(Path::new("/run/nearmost/dnstap.sock")));
    assert_eq!(config.admin.socket, Path::new("/run/nearmost/admin.sock"));
    assert_eq!(config.peers.known[0].domains, ["bob.example.org", "*.bob.example.org"]);
    let place = config.geo.overrides[0].place;
    assert_eq!(place.position, Position::from_degrees(51.51, -0.13));
    assert_eq!((place.country, place.asn), (CountryCode::new("GB"), Some(64496)));
}

#[test]
fn later_layers_win() {
    let file = "[dns]\nworkers = 1\necs = false\nlisten = [\"127.0.0.1:5300\"]\n[dns.tcp]\nmax_queries = 5\n";
    let env = [
        ("NEARMOST__DNS__WORKERS", "2"),
        ("NEARMOST__DNS__MAX_UDP_PAYLOAD", "1400"),
        ("NEARMOST_LOG", "debug"),
    ];
    let config = read(file, &env, &[("dns.max_udp_payload", "512")]).unwrap();
    assert_eq!(config.dns.udp.workers, 2);
    assert_eq!(config.dns.edns.max_udp_payload, 512);
    assert!(!config.dns.edns.ecs);
    assert_eq!(config.dns.tcp.max_queries, 5);
    assert_eq!(config.dns.tcp.max_per_source, 20);
    assert_eq!(config.http, HttpConfig::default());
}

#[test]
fn lists_and_tables_come_from_environment_and_flags() {
    let sha = "ab".repeat(32);
    let tokens = format!("[{{name=ci, sha256=\"{sha}\"}}]");
    let env = [
        ("NEARMOST__HTTP__TOKENS", tokens.as_str()),
        ("NEARMOST__DNS__LISTEN", "[\"[::1]:0\", 127.0.0.1:0]"),
    ];
    let overrides =
        "[{prefix=\"192.0.2.0/24\", latitude=-33.87, longitude=151}, {prefix=\"2001:db8::/32\", asn=64500}]";
    let config = read("", &env, &[("geo.overrides", overrides), ("dns.zones", "[Example.com.]")]).unwrap();
    assert_eq!(
        config.http.tokens,
        [HttpToken { name: "ci".into(), sha256: [0xab; 32], scope: Scope::Admin }]
    );
    assert_eq!(config.dns.listen, ["[::1]:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()]);
    assert_eq!(config.geo.overrides[0].place.position, Position::from_degrees(-33.87, 151.0));
    assert_eq!(config.geo.overrides[1].place.asn, Some(64500));
    assert_eq!(config.dns.zone.zones, ["example.com"]);
}

#[test]
fn what_follows_from_other_settings() {
    let config = read("data_dir = \"/srv/n\"", &[], &[]).unwrap();
    assert_eq!(config.admin.socket, Path::new("/srv/n/admin.sock"));
    assert!(config.agents.advertise.is_empty());
    let config =
        read("[agents]\nlisten = [\"192.0.2.1:7841\", \"[::]:7841\", \"127.0.0.1:0\"]", &[], &[]).unwrap();
    assert_eq!(config.agents.advertise, ["192.0.2.1:7841"]);
    let config = read("[probe]\ninterval_ms = 300\nrise = 2", &[], &[]).unwrap();
    let check = config.mirrors.probe.check(CheckKind::Tcp);
    assert_eq!((check.interval, check.rise, check.fall), (Duration::from_millis(300), 2, 2));
}

#[test]
fn wrong_keys_are_named_with_the_nearest_right_one() {
    let cases: &[(&str, &str)] = &[
        ("[dns]\nlisen = []", "broker.toml: dns.lisen: unknown key; did you mean dns.listen?"),
        ("[dsn]\n", "broker.toml: dsn: unknown key; did you mean dns?"),
        ("workers = 2", "broker.toml: workers: unknown key; did you mean dns.workers?"),
        (
            "[dns]\nmax-udp-payload = 2",
            "broker.toml: dns.max-udp-payload: unknown key; did you mean dns.max_udp_payload?",
        ),
        (
            "[dns.tcp]\nidle_timeout = 5",
            "broker.toml: dns.tcp.idle_timeout: unknown key; did you mean dns.tcp.idle_timeout_ms?",
        ),
        ("[health]\ncolour = 5", "broker.toml: health.colour: unknown key"),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.0/8\"\nlattitude = 1",
            "broker.toml: geo.overrides[0].lattitude: unknown key; did you mean geo.overrides[0].latitude?",
        ),
        ("[\"a\\nb\"]", "broker.toml: \"a\\nb\": unknown key"),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text, &[], &[]), *message);
    }
}

#[test]
fn wrong_values_are_shown_with_what_was_expected() {
    let cases: &[(&str, &str)] = &[
        ("[dns]\nworkers = \"many\"", "dns.workers: found string \"many\", expected a whole number"),
        ("[dns]\nworkers = -1", "dns.workers: found -1, expected a whole number"),
        ("[dns]\nworkers = 1.5", "dns.workers: found number 1.5, expected a whole number"),
        ("[dns]\necs = 1", "dns.ecs: found number 1, expected true or false"),
        (
            "[dns]\nmax_udp_payload = 100000",
            "dns.max_udp_payload: found 100000, expected a whole number from 512 to 1452",
        ),
        ("[dns]\nlisten = \"0.0.0.0:53\"", "dns.listen: found string \"0.0.0.0:53\", expected a list"),
        (
            "[dns]\nlisten = [\"0.0.0.0:53\", \"localhost\"]",
            "dns.listen[1]: found \"localhost\", expected an address and port such as 192.0.2.1:53 or [2001:db8::1]:53",
        ),
        (
            "[dns]\nzones = [\"b\\u00fccher.example\"]",
            "dns.zones[0]: found \"bücher.example\", expected a domain name such as play.example.com \
             (labels of 1 to 63 letters, digits, - and _; other scripts as xn--)",
        ),
        (
            "[dns]\nzones = [\"a\\u0000b\"]",
            "dns.zones[0]: found \"a\\0b\", expected a domain name such as play.example.com \
             (labels of 1 to 63 letters, digits, - and _; other scripts as xn--)",
        ),
        ("dns = 5", "dns: found number 5, expected a table"),
        ("dns = 1979-05-27", "dns: found date 1979-05-27, expected a value; no key is a date"),
        ("data_dir = \"\"", "data_dir: found \"\", expected a path"),
        ("[log]\nformat = \"xml\"", "log.format: found \"xml\", expected \"text\" or \"json\""),
        (
            "[log]\nlevel = 3",
            "log.level: found number 3, expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ),
        ("[probe]\nrise = 0", "probe.rise: found 0, expected a whole number from 1 to 255"),
        (
            "[probe]\ninterval_ms = 0",
            "probe.interval_ms: found 0, expected a whole number from 1 to 86400000",
        ),
        (
            "[learning]\npair_rate_per_node = 601",
            "learning.pair_rate_per_node: found 601, expected a whole number from 0 to 600",
        ),
        ("[agents]\nmax_sessions = 0", "agents.max_sessions: found 0, expected a whole number of at least 1"),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.0/33\"\nasn = 1",
            "geo.overrides[0].prefix: found \"10.0.0.0/33\", expected a prefix such as 192.0.2.0/24",
        ),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.1/8\"\nasn = 1",
            "geo.overrides[0].prefix: found \"10.0.0.1/8\", expected no bits beyond the prefix length, as in 10.0.0.0/8",
        ),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.0/8\"\nlatitude = 91\nlongitude = 0",
            "geo.overrides[0].latitude: found 91, expected a number of degrees from -90 to 90",
        ),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.0/8\"\nlatitude = 1\nlongitude = nan",
            "geo.overrides[0].longitude: found NaN, expected a number of degrees from -180 to 180",
        ),
        ("[[geo.overrides]]\nasn = 1", "geo.overrides[0].prefix: missing"),
        (
            "[[http.tokens]]\nname = \"a\"\nsha256 = \"secret\"",
            "http.tokens[0].sha256: found \"secret\", expected a SHA-256 hash: 64 hexadecimal digits",
        ),
        (
            "[[http.persons]]\nname = \"a\"\nid = \"nb1a\"",
            "http.persons[0].id: found \"nb1a\", expected a person's id: np1 and 52 letters a-z and digits 2-7",
        ),
        (
            "[agents]\nadvertise = [\"[::]:7841\"]",
            "agents.advertise[0]: found \"[::]:7841\", expected a host and port such as broker.example.com:7841 \
             or [2001:db8::1]:7841",
        ),
        ("version = 2\nnew_key = true", "version: found 2, expected 1, the only version this program reads"),
        ("version = 1.5", "version: found 1.5, expected 1, the only version this program reads"),
        ("version = \"1\"", "version: found string \"1\", expected a whole number from 1 to 1"),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text, &[], &[]), format!("broker.toml: {message}"));
    }
    let long = refused(&format!("[dns]\nhostmaster = \"{}\"", "é".repeat(300)), &[], &[]);
    assert!(long.contains("\" and more, expected") && long.len() < 400, "{long}");
}

#[test]
fn rules_between_keys() {
    let cases: &[(&str, &str)] = &[
        (
            "[http]\nlisten = [\"127.0.0.1:80\", \"0.0.0.0:8053\"]",
            "http.listen[1]: 0.0.0.0:8053 is beyond loopback, which needs http.tls_cert and http.tls_key, \
             and a token in http.tokens or a person in http.persons",
        ),
        (
            "[http]\nlisten = [\"192.0.2.1:443\"]\ntls_cert = \"c\"\ntls_key = \"k\"",
            "http.listen[0]: 192.0.2.1:443 is beyond loopback, which needs a token in http.tokens \
             or a person in http.persons",
        ),
        ("[dns]\nlisten = []", "dns.listen: must hold at least one address, such as 0.0.0.0:53"),
        (
            "[agents]\nbeacon_listen = []",
            "agents.beacon_listen: must hold at least one address, such as [::]:7842",
        ),
        (
            "[agents]\nbeacon_listen = [\"192.0.2.1:1\", \"[::]:1\", \"192.0.2.3:2\"]",
            "agents.beacon_listen: 192.0.2.1:1 and 192.0.2.3:2 are not of one given port, but agents are told only one",
        ),
        (
            "[agents]\nbeacon_listen = [\"127.0.0.1:0\", \"127.0.0.2:0\"]",
            "agents.beacon_listen: 127.0.0.1:0 and 127.0.0.2:0 are not of one given port, but agents are told only one",
        ),
        (
            "[health]\nbeacon_period_ms = 49",
            "health.beacon_period_ms: found 49, expected a whole number from 50 to 86400000",
        ),
        ("[dns.tls]\ncert = \"c\"", "dns.tls.cert: needs dns.tls.key beside it"),
        ("[dns.tls]\nkey = \"k\"", "dns.tls.key: needs dns.tls.cert beside it"),
        (
            "[dns.tls]\ndoq_listen = [\"[::]:853\"]",
            "dns.tls.doq_listen: needs dns.tls.cert and dns.tls.key beside it",
        ),
        (
            "[dns.tls]\ncert = \"c\"\nkey = \"k\"\ndot_listen = [\"127.0.0.1:8053\"]\n[http]\nlisten = [\"127.0.0.1:8053\"]",
            "http.listen[0]: 127.0.0.1:8053 over TCP is already taken by dns.tls.dot_listen[0]",
        ),
        ("[dns.log]\nsample = 0.1", "dns.log.sample: needs dns.log.json or dns.log.dnstap beside it"),
        ("[dns.log]\nsample = 1.5", "dns.log.sample: found 1.5, expected a share from 0 to 1"),
        ("[dns.log]\nsample = 2", "dns.log.sample: found 2, expected a share from 0 to 1"),
        (
            "[dns.log]\nclient = \"some\"",
            "dns.log.client: found \"some\", expected \"full\", \"network\" or \"none\"",
        ),
        ("[http]\ntls_cert = \"c\"", "http.tls_cert: needs http.tls_key beside it"),
        ("[http]\ntls_key = \"k\"", "http.tls_key: needs http.tls_cert beside it"),
        (
            "[agents]\nbeacon_listen = [\"[::]:7841\"]",
            "agents.beacon_listen[0]: [::]:7841 over UDP is already taken by agents.listen[0]",
        ),
        (
            "[clients]\nlisten = [\"[::]:7842\"]",
            "clients.listen[0]: [::]:7842 over UDP is already taken by agents.beacon_listen[0]",
        ),
        (
            "[http]\nredirect_listen = [\"127.0.0.1:8053\"]",
            "http.redirect_listen[0]: 127.0.0.1:8053 over TCP is already taken by http.listen[0]",
        ),
        (
            "[dns]\nlisten = [\"[::1]:53\", \"[::1]:53\"]",
            "dns.listen[1]: [::1]:53 over UDP is already taken by dns.listen[0]",
        ),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.0/8\"",
            "geo.overrides[0]: says no place; give latitude and longitude, country or asn",
        ),
        (
            "[[geo.overrides]]\nprefix = \"10.0.0.0/8\"\nlatitude = 5",
            "geo.overrides[0].latitude: needs longitude beside it",
        ),
        (
            "geo.overrides = [{prefix = \"10.0.0.0/8\", asn = 1}, {prefix = \"10.0.0.0/8\", asn = 2}]",
            "geo.overrides[1].prefix: \"10.0.0.0/8\" is there already",
        ),
        (
            "[resolver]\nmax_refresh_ms = 10",
            "resolver.max_refresh_ms: min_refresh_ms (5000) is above max_refresh_ms (10)",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text, &[], &[]), format!("broker.toml: {message}"));
    }
}

#[test]
fn encrypted_dns_and_the_query_log_are_off_until_they_are_asked_for() {
    let off = BrokerConfig::default().dns;
    assert_eq!((off.tls.files_in_use(), off.log.sample), (None, 0.0));
    let files = "[dns.tls]\ncert = \"c\"\nkey = \"k\"\n";
    assert_eq!(read(files, &[], &[]).unwrap().dns.tls.files_in_use(), None, "nobody listens");
    let listening = format!("{files}dot_listen = [\"127.0.0.1:853\"]\ndoq_listen = [\"127.0.0.1:853\"]");
    let tls = read(&listening, &[], &[]).unwrap().dns.tls;
    assert_eq!(tls.files_in_use().unwrap().key, Path::new("k"));
    assert_eq!((tls.dot_listen.len(), tls.doq_listen.len()), (1, 1));
    let log = |text: &str| read(&format!("[dns.log]\n{text}"), &[], &[]).unwrap().dns.log;
    let all = log("sample = 1\njson = \"stderr\"\nclient = \"none\"");
    assert_eq!((all.sample, all.json, all.client), (1.0, Some(JsonTarget::Stderr), ClientDetail::None));
    assert_eq!(log("sample = 0.01\ndnstap = \"/s\"").sample, 0.01);
}

#[test]
fn what_is_allowed_by_the_same_rules() {
    let sha = "00".repeat(32);
    let open = format!(
        "http = {{ listen = [\"0.0.0.0:443\"], tls_cert = \"c\", tls_key = \"k\", tokens = [{{ name = \"a\", sha256 = \"{sha}\" }}] }}"
    );
    assert!(read(&open, &[], &[]).unwrap().http.tls.is_some());
    for text in [
        "[http]\nlisten = [\"[::1]:80\", \"[::ffff:127.0.0.1]:81\", \"127.9.9.9:82\"]",
        "[agents]\nlisten = [\"127.0.0.1:0\"]\nbeacon_listen = [\"127.0.0.1:0\"]",
        "[http]\nlisten = [\"127.0.0.1:7841\"]\n[agents]\nlisten = [\"127.0.0.1:7841\"]",
        "[http]\nlisten = []",
        "[agents]\nbeacon_listen = [\"192.0.2.1:1\", \"[::1]:1\"]",
        "[health]\nbeacon_period_ms = 50",
    ] {
        assert!(read(text, &[], &[]).is_ok(), "{text}");
    }
}

#[test]
fn errors_name_the_layer_that_is_wrong() {
    let cases: &[(Given<'_>, Given<'_>, &str)] = &[
        (
            &[("NEARMOST__DNS__WORKERS", "many")],
            &[],
            "NEARMOST__DNS__WORKERS: dns.workers: found string \"many\", expected a whole number",
        ),
        (
            &[("NEARMOST__DNS_WORKERS", "4")],
            &[],
            "NEARMOST__DNS_WORKERS: dns_workers: unknown key; did you mean dns.workers (NEARMOST__DNS__WORKERS)?",
        ),
        (&[("NEARMOST__DNS", "4")], &[], "NEARMOST__DNS: dns: found number 4, expected a table"),
        (
            &[("NEARMOST__DNS____WORKERS", "4")],
            &[],
            "NEARMOST__DNS____WORKERS: dns.\"\".workers: unknown key",
        ),
        (&[("NEARMOST__", "4")], &[], "NEARMOST__: \"\": unknown key"),
        (
            &[("NEARMOST__DATA_DIR", "42")],
            &[],
            "NEARMOST__DATA_DIR: data_dir: found number 42, expected a path \
             (text that looks like a number or truth value needs double quotes)",
        ),
        (&[], &[("dns.workers", "x")], "--set: dns.workers: found string \"x\", expected a whole number"),
        (&[], &[("dns.worker", "1")], "--set: dns.worker: unknown key; did you mean dns.workers?"),
        (
            &[],
            &[("version", "3")],
            "--set: version: found 3, expected 1, the only version this program reads",
        ),
        (
            &[("NEARMOST__HTTP__LISTEN", "[\"0.0.0.0:1\"]")],
            &[("dns.workers", "1")],
            "NEARMOST__HTTP__LISTEN: http.listen[0]: 0.0.0.0:1 is beyond loopback, which needs http.tls_cert and \
             http.tls_key, and a token in http.tokens or a person in http.persons",
        ),
    ];
    for (env, flags, message) in cases {
        assert_eq!(refused("[http]\nrequest_burst = 3", env, flags), *message);
    }
    // What is wrong in a lower layer is told even where a higher one overrules it.
    let message = refused("[dns]\nworkers = \"many\"", &[("NEARMOST__DNS__WORKERS", "2")], &[]);
    assert!(message.starts_with("broker.toml: dns.workers:"), "{message}");
    let message = refused("dns = 5", &[("NEARMOST__DNS__WORKERS", "2")], &[]);
    assert!(message.starts_with("broker.toml: dns:"), "{message}");
}

#[test]
fn files_that_are_not_toml_or_not_there() {
    match read("[dns]\nworkers = 1\n  listen = [\n", &[], &[]).unwrap_err() {
        ConfigError::Syntax { file, line, message, .. } => {
            assert_eq!((file.as_path(), line), (Path::new("broker.toml"), 3), "{message}");
        }
        other => panic!("{other}"),
    }
    let message = refused("[dns]\nworkers = = 1\n", &[], &[]);
    assert!(message.starts_with("broker.toml:2:"), "{message}");
    let message = refused("[dns]\necs = true\necs = true\n", &[], &[]);
    assert_eq!(message, "broker.toml:3:1: duplicate key");
    let message =
        BrokerConfig::load(Some(Path::new("/nowhere/broker.toml")), [], &[]).unwrap_err().to_string();
    assert!(message.starts_with("/nowhere/broker.toml: cannot be read: "), "{message}");
}

#[test]
fn a_file_on_disk_is_read_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.toml");
    std::fs::write(&path, "[dns]\nworkers = 7\n").unwrap();
    let config = BrokerConfig::load(Some(&path), pairs(&[("NEARMOST__LOG__LEVEL", "warn")]), &[]).unwrap();
    assert_eq!((config.dns.udp.workers, config.observing.log.level), (7, crate::LogLevel::Warn));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = BrokerConfig::load(Some(&path), [], &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    std::fs::write(&path, "x = 1").unwrap();
    match BrokerConfig::load(Some(&path), [], &[]).unwrap_err() {
        ConfigError::UnknownKey { origin, key, .. } => {
            assert_eq!((origin, key.as_str()), (Origin::File(path), "x"))
        }
        other => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn nothing_panics_on_any_text(text in "\\PC{0,80}", key in "[a-z_.]{0,20}", value in "[\\[\\]{}=,\"a-z0-9.: -]{0,30}") {
        let _ = read(&text, &[], &[]);
        let _ = read("", &[("NEARMOST__DNS__LISTEN", &value)], &[(&key, &value)]);
    }

    #[test]
    fn a_mistyped_key_is_refused_and_found(at in 0usize..60, letter in "[a-z]") {
        let keys: Vec<String> = crate::keys::keys_of::<spec::DnsSpec>()
            .iter().filter(|k| k.len() == 1 && k[0].len() > 4).map(|k| k[0].to_owned()).collect();
        let key = &keys[at % keys.len()];
        let mut wrong = key.clone();
        wrong.insert_str(at % key.len(), &letter);
        let message = refused(&format!("[dns]\n{wrong} = 1"), &[], &[]);
        prop_assert_eq!(message, format!("broker.toml: dns.{wrong}: unknown key; did you mean dns.{key}?"));
    }
}
