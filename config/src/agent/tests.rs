use super::*;
use crate::AGENT_TOML;
use crate::testing::{assert_annotated, assert_shows_every_key, pairs, uncommented};
use nearmost_core::check::{
    CheckKind, DnsCheck, HandshakeCheck, HttpCheck, HttpVersion, RecordType, ResponseCode, TalkCheck,
    TalkStep, TlsTerms,
};
use nearmost_core::geo::{CountryCode, Position};
use proptest::prelude::*;

fn read(text: &str) -> Result<AgentConfig, ConfigError> {
    AgentConfig::from_layers(&Layers::of_text(Path::new("node-agent.toml"), text, [], &[])?)
}

fn refused(text: &str) -> String {
    match read(text) {
        Ok(config) => panic!("{text:?} was taken: {config:?}"),
        Err(error) => error.to_string(),
    }
}

/// A file with one service and more keys in it.
fn service(more: &str) -> String {
    format!("[node]\nname = \"lon\"\n[[services]]\ndomain = \"play.example.com\"\nport = 8080\n{more}\n")
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(read(AGENT_TOML).unwrap(), AgentConfig::default());
    assert_eq!(AgentConfig::load(None, [], &[]).unwrap(), AgentConfig::default());
}

#[test]
fn the_shipped_file_explains_every_key() {
    // Of the keys of a process only one can be shown; the comment names all.
    assert_shows_every_key::<spec::AgentSpec>(
        AGENT_TOML,
        &["services.ready", "services.probe", "services.process"],
    );
    assert_annotated(AGENT_TOML);
}

#[test]
fn settings_that_are_off_are_right_when_turned_on() {
    let config = read(&uncommented(AGENT_TOML)).unwrap();
    let place = config.node.place.unwrap();
    assert_eq!(place.position, Position::from_degrees(51.51, -0.13));
    assert_eq!(place.country, CountryCode::new("GB"));
    assert_eq!(config.brokers[0].addresses, ["broker.example.com:7841"]);
    let [play, files] = &config.services[..] else { panic!("{:?}", config.services) };
    let kinds: Vec<_> = play.checks.iter().map(|c| (c.name.as_str(), &c.spec.kind)).collect();
    let http = HttpCheck {
        version: HttpVersion::Http1,
        tls: Some(TlsTerms { verify: true, min_days_to_expiry: Some(7) }),
        path: "/healthz".into(),
        host: Some("play.example.com".into()),
        status: (200, 299),
        body_contains: Some("ok".into()),
    };
    assert_eq!(kinds[0], ("accepts", &CheckKind::Tcp));
    assert_eq!(kinds[1], ("web", &CheckKind::Http(http)));
    let (send, expect) = (b"\xff\xff\xff\xffT".to_vec(), b"players".to_vec());
    assert_eq!(kinds[2], ("game", &CheckKind::Udp { send, expect }));
    assert!(
        matches!(kinds[3], ("mail", CheckKind::Talk(talk)) if talk.tls.is_none() && talk.steps.len() == 3)
    );
    assert!(matches!(kinds[4], ("mqtt", CheckKind::Tls(tls)) if tls.alpn == ["mqtt"]));
    assert!(matches!(kinds[5], ("http3", CheckKind::Quic(quic)) if quic.alpn == ["h3"]));
    assert!(
        matches!(kinds[6], ("names", CheckKind::Dns(dns)) if dns.answer.as_deref() == Some("192.0.2.10"))
    );
    let argv = vec!["/usr/bin/pg_isready".to_owned(), "-q".to_owned()];
    assert_eq!(kinds[7], ("database", &CheckKind::Command { argv, max_output: 1 << 20 }));
    assert_eq!(play.ready.as_ref().unwrap().address, "127.0.0.1:8080".parse().unwrap());
    assert!(matches!(&play.probe, ServiceProbe::Check(spec) if spec.kind == CheckKind::Tcp));
    assert_eq!(play.local.process, Some(ProcessSource::SystemdUnit("nginx.service".into())));
    let (udp, tcp) = ("127.0.0.1:27015".parse().ok(), "127.0.0.1:443".parse().ok());
    assert_eq!(play.local.ingress, ServiceIngress { udp, tcp, proxy_protocol: true });
    assert_eq!(files.local.ingress, ServiceIngress { udp: None, tcp, proxy_protocol: false });
    assert_eq!(files.address, MirrorAddress::Hostname("lon.example.net".into()));
}

#[test]
fn a_process_is_found_in_exactly_one_way() {
    let process = |keys: &str| {
        read(&service(&format!("process = {{ {keys} }}"))).unwrap().services.remove(0).local.process
    };
    assert_eq!(process("pid_file = \"/run/x.pid\""), Some(ProcessSource::PidFile("/run/x.pid".into())));
    assert_eq!(process("exe = \"/usr/sbin/x\""), Some(ProcessSource::Exe("/usr/sbin/x".into())));
    assert_eq!(read(&service("")).unwrap().services[0].local.process, None);
    for (keys, part) in [
        ("", "services[0].process: give exactly one of pid_file, systemd_unit and exe"),
        ("pid_file = \"/a\", exe = \"/b\"", "give exactly one of"),
        (
            "pid_file = \"run/x.pid\"",
            "services[0].process.pid_file: found \"run/x.pid\", expected a path from the root",
        ),
        ("systemd_unit = \"../x.service\"", "expected a unit's name"),
        ("systemd_unit = \"nginx\"", "expected a unit's name"),
        ("pidfile = \"/run/x.pid\"", "pidfile"),
    ] {
        let error = refused(&service(&format!("process = {{ {keys} }}")));
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn the_ingress_is_off_and_bounded() {
    let config = read("[ingress]\nenabled = true\nlisten = [\"192.0.2.1:1\"]\nmax_flows = 7").unwrap();
    let ingress = config.node.ingress;
    assert!(ingress.enabled && !AgentConfig::default().node.ingress.enabled);
    assert_eq!((ingress.listen, ingress.max_flows), (vec!["192.0.2.1:1".parse().unwrap()], 7));
    for (text, message) in [
        ("enabled = true\nlisten = []", "ingress.listen: must hold at least one address while enabled"),
        ("max_flow = 1", "ingress.max_flow: unknown key; did you mean ingress.max_flows?"),
        (
            "max_session_flows = 0",
            "ingress.max_session_flows: found 0, expected a whole number from 1 to 65536",
        ),
    ] {
        let error = refused(&format!("[ingress]\n{text}"));
        assert!(error.contains(message), "{message:?} is not in {error:?}");
    }
}

#[test]
fn flows_go_to_the_services_own_address_unless_said() {
    let ingress = |more: &str| read(&service(more)).unwrap().services.remove(0).local.ingress;
    let at = |text: &str| text.parse().ok();
    assert_eq!((ingress("").tcp, ingress("").udp), (at("127.0.0.1:8080"), None));
    assert_eq!(ingress("addresses = [\"2001:db8::1\"]").tcp, at("[2001:db8::1]:8080"));
    let udp = ingress("ingress = { udp = \"127.0.0.1:9\", tcp = \"\" }");
    assert_eq!(udp, ServiceIngress { udp: at("127.0.0.1:9"), tcp: None, proxy_protocol: false });
    assert!(ingress("ingress = { proxy_protocol = true }").proxy_protocol);
    for (keys, part) in [
        (
            "tcp = \"\", proxy_protocol = true",
            "services[0].ingress.proxy_protocol: is for tcp, which is \"\"",
        ),
        ("udp = \"127.0.0.1:0\"", "services[0].ingress.udp: found \"127.0.0.1:0\""),
        ("tcp = \"0.0.0.0:80\"", "services[0].ingress.tcp: found \"0.0.0.0:80\""),
        ("proxy = true", "services[0].ingress.proxy: unknown key"),
    ] {
        let error = refused(&service(&format!("ingress = {{ {keys} }}")));
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn services_get_their_defaults() {
    let config =
        read(&service("[[services.checks]]\nkind = \"http\"\n[services.probe]\nkind = \"tcp\"")).unwrap();
    let service = &config.services[0];
    assert_eq!((service.mirror.as_str(), service.share.weight, service.share.capacity), ("lon", 100, 0));
    assert_eq!(service.address, MirrorAddress::Observed);
    let check = &service.checks[0];
    assert_eq!((check.name.as_str(), check.address), ("http", "127.0.0.1:8080".parse().unwrap()));
    assert_eq!((check.spec.interval, check.spec.timeout), (Duration::from_secs(1), Duration::from_secs(1)));
    assert_eq!((check.spec.rise, check.spec.fall), (1, 2));
    match &check.spec.kind {
        CheckKind::Http(http) => {
            assert_eq!(
                (http.path.as_str(), http.status, http.tls, http.version),
                ("/", (200, 399), None, HttpVersion::Http1)
            );
        }
        other => panic!("{other:?}"),
    }
    match &service.probe {
        ServiceProbe::Check(spec) => assert_eq!(spec.interval, Duration::from_secs(2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_without_checks_is_checked_by_tcp_unless_the_list_is_empty() {
    let checks = |more: &str| read(&service(more)).unwrap().services.remove(0).checks;
    for (more, address) in [
        ("", "127.0.0.1:8080"),
        ("hostname = \"lon.example.net\"", "127.0.0.1:8080"),
        ("addresses = [\"2001:db8::1\"]", "[2001:db8::1]:8080"),
        ("addresses = [\"2001:db8::1\", \"192.0.2.1\"]", "192.0.2.1:8080"),
    ] {
        let [check] = &checks(more)[..] else { panic!("{more:?}: not one check") };
        assert_eq!((check.name.as_str(), &check.spec.kind), ("tcp", &CheckKind::Tcp), "{more}");
        assert_eq!(check.address, address.parse().unwrap(), "{more}");
    }
    // The same as a check that only says its kind.
    assert_eq!(checks(""), checks("checks = [{ kind = \"tcp\" }]"));
    assert_eq!(checks("checks = []"), []);
    assert_eq!(checks("[services.ready]\nkind = \"http\"").len(), 1);
}

#[test]
fn an_absent_version_means_1() {
    assert_eq!(read("").unwrap(), read("version = 1").unwrap());
}

#[test]
fn what_a_service_may_say() {
    let addresses = |text: &str| read(&service(text)).unwrap().services[0].address.clone();
    let (v4, v6) = (Some("192.0.2.1".parse().unwrap()), Some("2001:db8::1".parse().unwrap()));
    assert_eq!(addresses("addresses = [\"2001:db8::1\", \"192.0.2.1\"]"), MirrorAddress::Declared { v4, v6 });
    assert_eq!(addresses("addresses = [\"192.0.2.1\"]"), MirrorAddress::Declared { v4, v6: None });
    assert_eq!(
        addresses("hostname = \"Lon.example.net.\""),
        MirrorAddress::Hostname("lon.example.net".into())
    );
    let config = read(&service("probe = { kind = \"none\" }\nmirror = \"lon-2\"")).unwrap();
    assert_eq!(
        (&config.services[0].probe, config.services[0].mirror.as_str()),
        (&ServiceProbe::None, "lon-2")
    );
    assert_eq!(read("[metrics]\nlisten = \"\"").unwrap().metrics, None);
    let one = read(&service("[[services.checks]]\nkind = \"http\"\nstatus = 204")).unwrap();
    assert!(matches!(&one.services[0].checks[0].spec.kind, CheckKind::Http(h) if h.status == (204, 204)));
}

#[test]
fn every_kind_has_its_keys() {
    let kind = |keys: &str| {
        let text = service(&format!("[[services.checks]]\n{keys}\n[services.probe]\n{keys}"));
        let service = read(&text).unwrap_or_else(|e| panic!("{keys}: {e}")).services.remove(0);
        let ServiceProbe::Check(probe) = &service.probe else { panic!("{:?}", service.probe) };
        // Brokers probe by the same keys.
        assert_eq!(probe.kind, service.checks[0].spec.kind);
        probe.kind.clone()
    };
    let handshake = HandshakeCheck {
        host: Some("a.example".into()),
        alpn: vec!["x".into()],
        terms: TlsTerms { verify: false, min_days_to_expiry: Some(3) },
    };
    let keys = "host = \"a.example\"\nalpn = [\"x\"]\nverify = false\nmin_days_to_expiry = 3";
    assert_eq!(kind(&format!("kind = \"tls\"\n{keys}")), CheckKind::Tls(handshake.clone()));
    assert_eq!(kind(&format!("kind = \"quic\"\n{keys}")), CheckKind::Quic(handshake.clone()));
    let h3 = HandshakeCheck { alpn: vec!["h3".into()], ..HandshakeCheck::default() };
    assert_eq!(kind("kind = \"quic\""), CheckKind::Quic(h3));
    let step = |send: &[u8], expect: &[u8]| TalkStep { send: send.into(), expect: expect.into() };
    let talk = |tls, steps| CheckKind::Talk(TalkCheck { tls, steps });
    let redis = kind("kind = \"tcp\"\nsend = \"PING\\r\\n\"\nexpect = \"+PONG\"");
    assert_eq!(redis, talk(None, vec![step(b"PING\r\n", b"+PONG")]));
    let two = "steps = [{ expect = \"220\" }, { send = \"hex:00 ff\" }]";
    let steps = vec![step(b"", b"220"), step(&[0, 255], b"")];
    assert_eq!(kind(&format!("kind = \"tls\"\n{keys}\n{two}")), talk(Some(handshake), steps));
    for (name, version, tls) in [
        ("http", HttpVersion::Http1, false),
        ("https", HttpVersion::Http1, true),
        ("h2", HttpVersion::Http2, true),
        ("h2c", HttpVersion::Http2, false),
    ] {
        let kind = kind(&format!("kind = {name:?}\npath = \"/x\""));
        let CheckKind::Http(http) = kind else { panic!("{kind:?}") };
        assert_eq!((http.version, http.tls.is_some(), http.path.as_str()), (version, tls, "/x"), "{name}");
    }
    let dns = DnsCheck {
        name: "a.example".into(),
        record_type: RecordType(65),
        rcode: ResponseCode(3),
        answer: Some("alpn".into()),
    };
    let keys = "query = \"A.example.\"\nquery_type = \"https\"\nrcode = \"nxdomain\"\nanswer = \"alpn\"";
    assert_eq!(kind(&format!("kind = \"dns\"\n{keys}")), CheckKind::Dns(dns));
}

#[test]
fn wrong_checks_are_explained() {
    let kinds = "expected \"tcp\", \"tls\", \"http\", \"https\", \"h2\", \"h2c\", \"udp\", \"dns\", \"quic\" or \
                 \"command\"";
    let status = "expected the lowest and the highest good status, such as [200, 399]";
    let only = |kinds: &str, kind: &str| {
        format!("only checks of kind {kinds} have this key, and this one is {kind}")
    };
    let argv = "must name a program, then its arguments, such as [\"/usr/bin/pg_isready\", \"-q\"]";
    let cases: &[(&str, String)] = &[
        ("kind = \"ping\"", format!("kind: found \"ping\", {kinds}")),
        ("kind = \"none\"", format!("kind: found \"none\", {kinds}")),
        ("name = \"x\"", "kind: missing".into()),
        ("kind = \"tcp\"\npath = \"/\"", format!("path: {}", only("http or https or h2 or h2c", "tcp"))),
        ("kind = \"http\"\nverify = false", format!("verify: {}", only("https or h2 or tls or quic", "http"))),
        ("kind = \"http\"\nargv = [\"x\"]", format!("argv: {}", only("command", "http"))),
        ("kind = \"https\"\nalpn = [\"x\"]", format!("alpn: {}", only("tls or quic", "https"))),
        ("kind = \"quic\"\nsteps = []", format!("steps: {}", only("tcp or tls", "quic"))),
        ("kind = \"h2c\"\nverify = true", format!("verify: {}", only("https or h2 or tls or quic", "h2c"))),
        ("kind = \"udp\"\nrcode = \"NOERROR\"", format!("rcode: {}", only("dns", "udp"))),
        ("kind = \"tcp\"\nmax_output_bytes = 1", format!("max_output_bytes: {}", only("command", "tcp"))),
        ("kind = \"quic\"\nalpn = []", "alpn: must name a protocol: QUIC does not do without".into()),
        (
            "kind = \"tls\"\nalpn = [\"\"]",
            "alpn[0]: found \"\", expected a protocol's name of 1 to 255 bytes such as h2".into(),
        ),
        ("kind = \"dns\"", "query: must give the name to ask for".into()),
        (
            "kind = \"dns\"\nquery = \"a.example\"\nquery_type = \"B\"",
            "query_type: found \"B\", expected a record type such as A, AAAA, TXT or TYPE65".into(),
        ),
        (
            "kind = \"dns\"\nquery = \"a.example\"\nrcode = \"OK\"",
            "rcode: found \"OK\", expected \"NOERROR\", \"FORMERR\", \"SERVFAIL\", \"NXDOMAIN\", \"NOTIMP\" or \"REFUSED\""
                .into(),
        ),
        ("kind = \"tcp\"\nsteps = []", "steps: expected 1 to 16 steps, found 0".into()),
        ("kind = \"tls\"\nsteps = [{}]", "steps: step 1 neither sends nor expects anything".into()),
        (
            "kind = \"tcp\"\nsteps = [{ send = \"a\" }]\nexpect = \"b\"",
            "steps: give either steps, or send and expect beside them".into(),
        ),
        (
            "kind = \"tcp\"\nsteps = [{ sent = \"a\" }]",
            "steps[0].sent: unknown key; did you mean services[0].checks[0].steps[0].send?".into(),
        ),
        ("kind = \"command\"", format!("argv: {argv}")),
        ("kind = \"command\"\nargv = [\"\"]", format!("argv: {argv}")),
        (
            "kind = \"tcp\"\naddress = \"127.0.0.1:0\"",
            "address: found \"127.0.0.1:0\", expected a port other than 0".into(),
        ),
        ("kind = \"http\"\nstatus = [399, 200]", format!("status: found [399, 200], {status}")),
        ("kind = \"http\"\nstatus = [200]", format!("status: found a list of 1, {status}")),
        ("kind = \"http\"\nstatus = \"ok\"", format!("status: found string \"ok\", {status}")),
        (
            "kind = \"http\"\nstatus = [200, 1000]",
            "status[1]: found 1000, expected a whole number from 100 to 599".into(),
        ),
        (
            "kind = \"udp\"\nsend = \"hex:0\"",
            "send: found \"hex:0\", expected text, or hex: and pairs of hexadecimal digits".into(),
        ),
        ("kind = \"tcp\"\nfall = 0", "fall: found 0, expected a whole number from 1 to 255".into()),
        (
            "kind = \"tcp\"\ninterval = 5",
            "interval: unknown key; did you mean services[0].checks[0].interval_ms?".into(),
        ),
    ];
    for (keys, message) in cases {
        let text = service(&format!("[[services.checks]]\n{keys}"));
        assert_eq!(refused(&text), format!("node-agent.toml: services[0].checks[0].{message}"));
    }
    let twice = service("checks = [{ kind = \"tcp\" }, { kind = \"tcp\" }]");
    assert_eq!(
        refused(&twice),
        "node-agent.toml: services[0].checks[1].name: there is already a check \"tcp\""
    );
}

#[test]
fn wrong_services_are_explained() {
    let cases: &[(&str, &str)] = &[
        (
            "probe = { kind = \"command\", argv = [\"x\"] }",
            "[0].probe.kind: found \"command\", expected \"none\", \"tcp\", \"tls\", \"http\", \"https\", \"h2\", \
             \"h2c\", \"udp\", \"dns\" or \"quic\"; brokers run no commands",
        ),
        (
            "probe = { kind = \"tcp\", address = \"127.0.0.1:1\" }",
            "[0].probe.address: is not for probes from outside, which use the service's own address and port",
        ),
        (
            "addresses = [\"192.0.2.1\", \"192.0.2.2\"]",
            "[0].addresses[1]: 192.0.2.2 is a second IPv4 address; make it a second service with its own mirror",
        ),
        ("addresses = [\"0.0.0.0\"]", "[0].addresses[0]: found \"0.0.0.0\", expected an address of one host"),
        (
            "addresses = [\"192.0.2.1:80\"]",
            "[0].addresses[0]: found \"192.0.2.1:80\", expected an address such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            "hostname = \"a.example\"\naddresses = [\"192.0.2.1\"]",
            "[0].hostname: give either hostname or addresses; a host name's addresses are looked up",
        ),
        (
            "hostname = \"192.0.2.1\"",
            "[0].hostname: found \"192.0.2.1\", expected a host name such as ns1.example.com",
        ),
        (
            "[[services]]\ndomain = \"play.example.com.\"\nport = 1",
            "[1].mirror: there is already a mirror \"lon\" of play.example.com",
        ),
        ("[[services]]\ndomain = \"a.example\"", "[1].port: missing"),
        ("[[services]]\nport = 1", "[1].domain: missing"),
        (
            "[[services]]\ndomain = \"a\"\nport = 70000",
            "[1].port: found 70000, expected a whole number from 1 to 65535",
        ),
        ("weight = 0", "[0].weight: found 0, expected a whole number from 1 to 1000000"),
        (
            "url = \"lon.example.com\"",
            "[0].url: found \"lon.example.com\", expected a URL such as https://lon.example.com/",
        ),
    ];
    for (more, message) in cases {
        assert_eq!(refused(&service(more)), format!("node-agent.toml: services{message}"));
    }
}

#[test]
fn wrong_nodes_and_brokers_are_explained() {
    let id = format!("nb1{}", "a".repeat(52));
    let short = &id[..54];
    let cases: &[(String, String)] = &[
        ("[node.place]\nlongitude = 1".into(), "node.place.longitude: needs latitude beside it".into()),
        (
            "[node.place]\ncountry = \"England\"".into(),
            "node.place.country: found \"England\", expected a country's two letters such as GB (ISO 3166-1)".into(),
        ),
        (
            format!("[[brokers]]\nid = \"{id}\"\naddresses = []"),
            "brokers[0].addresses: must hold at least one host:port".into(),
        ),
        (format!("[[brokers]]\nid = \"{id}\""), "brokers[0].addresses: missing".into()),
        (
            format!("[[brokers]]\nid = \"{short}\"\naddresses = []"),
            format!(
                "brokers[0].id: found \"{short}\", expected a broker's id: nb1 and 52 letters a-z and digits 2-7"
            ),
        ),
        (
            format!("brokers = [{{id = \"{id}\", addresses = [\"a:1\"]}}, {{id = \"{id}\", addresses = [\"b:1\"]}}]"),
            format!("brokers[1].id: \"{id}\" is there already"),
        ),
        (
            "[reconnect]\nmin_ms = 60000".into(),
            "reconnect.min_ms: min_ms (60000) is above max_ms (30000)".into(),
        ),
        (
            "[metrics]\nlisten = \"9754\"".into(),
            "metrics.listen: found \"9754\", expected an address and port such as 127.0.0.1:9754, or \"\" for none"
                .into(),
        ),
        (
            "[node]\nmax_sessions = 0".into(),
            "node.max_sessions: found 0, expected a whole number from 1 to 64".into(),
        ),
        (
            "[paths]\nipv4_prefix = 25".into(),
            "paths.ipv4_prefix: found 25, expected a whole number from 8 to 24".into(),
        ),
        (
            "[paths]\nipv6_prefix = 64".into(),
            "paths.ipv6_prefix: found 64, expected a whole number from 16 to 48".into(),
        ),
        (
            "[paths]\nmeasures_per_second = 101".into(),
            "paths.measures_per_second: found 101, expected a whole number from 0 to 100".into(),
        ),
        (
            "[reports]\ninterval_ms = 0".into(),
            "reports.interval_ms: found 0, expected a whole number from 1 to 86400000".into(),
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text), format!("node-agent.toml: {message}"));
    }
}

#[test]
fn what_is_told_of_round_trips_is_a_choice() {
    let text = "[paths]\nconnections = false\ninterval_ms = 500\nipv4_prefix = 16\nipv6_prefix = 32\n\
                max_networks = 10\nmeasures_per_second = 0";
    let expected = PathsConfig {
        connections: false,
        interval: Duration::from_millis(500),
        networks: Coarseness { v4: 16, v6: 32 },
        max_networks: 10,
        measures_per_second: 0,
    };
    assert_eq!(read(text).unwrap().paths, expected);
}

#[test]
fn the_environment_and_flags_reach_the_agent() {
    let env =
        pairs(&[("NEARMOST__NODE__NAME", "syd"), ("NEARMOST__SERVICES", "[{domain=a.example, port=80}]")]);
    let config = AgentConfig::load(None, env, &pairs(&[("metrics.listen", "")])).unwrap();
    assert_eq!((config.services[0].mirror.as_str(), config.metrics), ("syd", None));
    let error = AgentConfig::load(None, pairs(&[("NEARMOST__NODE__NAMES", "x")]), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NEARMOST__NODE__NAMES: node.names: unknown key; did you mean node.name (NEARMOST__NODE__NAME)?"
    );
}

#[test]
fn joining_keeps_the_annotations() {
    let joined = JoinedAgent {
        name: "lon".into(),
        data_dir: "/srv/agent".into(),
        brokers: vec![JoinedBroker {
            id: format!("nb1{}", "b".repeat(51) + "q"),
            addresses: vec!["192.0.2.1:7841".into(), "[2001:db8::1]:7841".into()],
        }],
        services: vec![JoinedService { domain: "game.example.com".into(), mirror: String::new(), port: 443 }],
    };
    let text = render_agent_config(&joined);
    for line in AGENT_TOML.lines().filter(|line| line.starts_with('#')) {
        assert!(text.lines().any(|l| l == line), "{line} is lost");
    }
    assert!(text.contains("\n[[services]]\ndomain = \"game.example.com\"\nmirror = \"\"\nport = 443\n"));
    let checked = "port = 443\n\n# Is 127.0.0.1:443 open? A check of kind http says more; see below.\n\
        [[services.checks]]\nkind = \"tcp\"\n";
    assert!(text.contains(checked), "{text}");
    // The examples stay right where they are, for who turns them on.
    let config = read(&uncommented(&text)).unwrap();
    assert_eq!((config.brokers.len(), config.services.len()), (2, 3));
}

proptest! {
    #[test]
    fn a_joined_configuration_reads_back(
        name in "[^\\p{Cc}]{1,30}", dir in "[^\\p{Cc}]{1,30}", hosts in prop::collection::vec("[a-z]{1,9}:[1-9][0-9]{0,3}", 1..4),
        services in prop::collection::btree_map("[a-z]{1,9}\\.example", ("[^\\p{Cc}]{0,20}", 1u16..), 0..4),
    ) {
        let id = format!("nb1{}q", "b".repeat(51));
        let joined = JoinedAgent {
            name: name.clone(),
            data_dir: dir.clone().into(),
            brokers: vec![JoinedBroker { id: id.clone(), addresses: hosts.clone() }],
            services: services.iter().map(|(domain, (mirror, port))| {
                JoinedService { domain: domain.clone(), mirror: mirror.clone(), port: *port }
            }).collect(),
        };
        let config = read(&render_agent_config(&joined)).unwrap();
        prop_assert_eq!(&config.node.name, &name);
        prop_assert_eq!(&config.data_dir, Path::new(&dir));
        prop_assert_eq!(&config.brokers, &[Broker { id, addresses: hosts }]);
        prop_assert_eq!(config.services.len(), services.len());
        for (read, (domain, (mirror, port))) in config.services.iter().zip(&services) {
            let mirror = if mirror.is_empty() { &name } else { mirror };
            prop_assert_eq!((&read.domain, &read.mirror, read.port), (domain, mirror, *port));
            prop_assert_eq!(&read.checks, &[check::by_default(&MirrorAddress::Observed, *port)]);
        }
        // All else is the default.
        let rest = AgentConfig { brokers: vec![], services: vec![], ..config };
        let node = NodeConfig { name, ..NodeConfig::default() };
        prop_assert_eq!(rest, AgentConfig { node, data_dir: dir.into(), ..AgentConfig::default() });
    }

    #[test]
    fn nothing_panics_on_any_text(text in "\\PC{0,80}", value in "[\\[\\]{}=,\"a-z0-9.: -]{0,40}") {
        let _ = read(&text);
        let _ = AgentConfig::load(None, pairs(&[("NEARMOST__SERVICES", &value)]), &[]);
    }
}
