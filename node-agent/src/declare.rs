//! What the agent declares of its services, from its configuration.

use nearmost_config::{AgentConfig, Service, ServiceProbe};
use nearmost_core::check::CheckSpec;
use nearmost_core::geo::Place;
use nearmost_core::registry::MirrorAddress;
use nearmost_wire::agent::{Hello, ServiceDecl};
use nearmost_wire::registry::{PlaceBody, ProbeBody, ProbeKind};
use std::net::IpAddr;
use std::time::Duration;

/// What cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclareError {
    /// A command, which brokers do not run.
    #[error("service {domain}: brokers do not run commands as outside probes")]
    Command {
        /// The service's domain.
        domain: String,
    },
}

/// How a session begins; `boot` is when the agent started, in Unix milliseconds, and `ingress` the port
/// at which it takes clients in, if it does.
///
/// # Errors
/// An outside probe that brokers cannot make.
pub fn hello(config: &AgentConfig, boot: u64, ingress: Option<u16>) -> Result<Hello, DeclareError> {
    let declared = |s: &Service| Ok(ServiceDecl { ingress: ingress.filter(|_| takes_in(s)), ..service(s)? });
    let services = config.services.iter().map(declared).collect::<Result<_, _>>()?;
    let version = env!("CARGO_PKG_VERSION").to_string();
    Ok(Hello { version, boot, services, place: config.node.place.as_ref().map(place) })
}

/// Whether there is anywhere to hand a client's flows to.
fn takes_in(service: &Service) -> bool {
    service.local.ingress.udp.is_some() || service.local.ingress.tcp.is_some()
}

fn place(place: &Place) -> PlaceBody {
    let country = place.country.and_then(|c| <[u8; 2]>::try_from(c.as_str().as_bytes()).ok());
    let degrees = place.position.map(|p| p.degrees());
    PlaceBody {
        latitude: degrees.map(|(latitude, _)| latitude),
        longitude: degrees.map(|(_, longitude)| longitude),
        country,
        asn: place.asn,
    }
}

fn service(service: &Service) -> Result<ServiceDecl, DeclareError> {
    let (addresses, hostname) = match &service.address {
        MirrorAddress::Declared { v4, v6 } => {
            let v4 = v4.map(IpAddr::V4);
            (v4.into_iter().chain(v6.map(IpAddr::V6)).collect(), None)
        }
        MirrorAddress::Hostname(name) => (Vec::new(), Some(name.to_string())),
        MirrorAddress::Observed => (Vec::new(), None),
    };
    Ok(ServiceDecl {
        domain: service.domain.clone(),
        mirror: service.mirror.clone(),
        addresses,
        hostname,
        port: service.port,
        weight: service.share.weight,
        probe: probe(service)?,
        url: service.url.clone(),
        ingress: None,
    })
}

fn probe(service: &Service) -> Result<ProbeBody, DeclareError> {
    match &service.probe {
        ServiceProbe::Default => Ok(ProbeBody::default()),
        ServiceProbe::None => Ok(ProbeBody { kind: ProbeKind::None, ..ProbeBody::default() }),
        ServiceProbe::Check(spec) => check(&service.domain, spec),
    }
}

fn check(domain: &str, spec: &CheckSpec) -> Result<ProbeBody, DeclareError> {
    let ms = |d: Duration| Some(u32::try_from(d.as_millis()).unwrap_or(u32::MAX));
    let body = ProbeBody::of(&spec.kind).ok_or_else(|| DeclareError::Command { domain: domain.into() })?;
    Ok(ProbeBody {
        interval_ms: ms(spec.interval),
        timeout_ms: ms(spec.timeout),
        rise: Some(spec.rise),
        fall: Some(spec.fall),
        ..body
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_config::Share;
    use nearmost_core::check::{
        CheckKind, DnsCheck, HandshakeCheck, HttpCheck, HttpVersion, RecordType, ResponseCode, TalkCheck,
        TalkStep, TlsTerms,
    };
    use nearmost_wire::registry::{BuildDefaults, Entry, EntryKind, MirrorBody, build};

    fn spec(kind: CheckKind) -> CheckSpec {
        CheckSpec {
            kind,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 2,
        }
    }

    fn mirror(address: MirrorAddress, probe: ServiceProbe) -> Service {
        Service {
            domain: "play.example".into(),
            mirror: "lon".into(),
            address,
            port: 443,
            share: Share { weight: 100, capacity: 5 },
            url: None,
            checks: Vec::new(),
            ready: None,
            probe,
            local: Default::default(),
        }
    }

    #[test]
    fn addresses_are_declared_as_they_are_configured() {
        let v4 = "192.0.2.1".parse().expect("address");
        let v6 = "2001:db8::1".parse().expect("address");
        let declared = MirrorAddress::Declared { v4: Some(v4), v6: Some(v6) };
        let decl = service(&mirror(declared, ServiceProbe::Default)).expect("declared");
        assert_eq!(decl.addresses, [IpAddr::V4(v4), IpAddr::V6(v6)]);
        assert_eq!((decl.hostname, decl.probe), (None, ProbeBody::default()));
        let named = mirror(MirrorAddress::Hostname("lon.example.net".into()), ServiceProbe::None);
        let decl = service(&named).expect("declared");
        assert_eq!((decl.addresses, decl.hostname.as_deref()), (vec![], Some("lon.example.net")));
        assert_eq!(decl.probe.kind, ProbeKind::None);
    }

    #[test]
    fn probes_keep_every_setting() {
        let http = HttpCheck {
            version: HttpVersion::Http1,
            tls: Some(TlsTerms { verify: false, min_days_to_expiry: Some(7) }),
            path: "/healthz".into(),
            host: Some("play.example".into()),
            status: (200, 204),
            body_contains: Some("ok".into()),
        };
        let body = check("play.example", &spec(CheckKind::Http(http))).expect("declared");
        let expected = ProbeBody {
            kind: ProbeKind::Https,
            interval_ms: Some(2000),
            timeout_ms: Some(1000),
            rise: Some(1),
            fall: Some(2),
            path: Some("/healthz".into()),
            host: Some("play.example".into()),
            status: Some((200, 204)),
            body_contains: Some("ok".into()),
            verify: Some(false),
            min_days_to_expiry: Some(7),
            ..ProbeBody::default()
        };
        assert_eq!(body, expected);
    }

    /// What a broker makes of the declaration of a check.
    fn at_the_broker(kind: CheckKind) -> CheckKind {
        let node = Entry { kind: EntryKind::Node, scope: "", id: "n", body: b"{}" };
        let domain = Entry { kind: EntryKind::Domain, scope: "play.example", id: "", body: b"{}" };
        let probe = Box::new(check("play.example", &spec(kind)).expect("declared"));
        let addresses = vec![IpAddr::from([192, 0, 2, 1])];
        let mirror = MirrorBody { node: Some("n".into()), addresses, probe, ..MirrorBody::default() };
        let mirror = serde_json::to_vec(&mirror).expect("JSON");
        let mirror = Entry { kind: EntryKind::Mirror, scope: "play.example", id: "lon", body: &mirror };
        let built = build(1, [node, domain, mirror], &BuildDefaults::default());
        assert_eq!(built.problems, []);
        built.registry.mirrors[0].probe.clone().expect("a probe").kind
    }

    #[test]
    fn brokers_probe_as_the_agent_was_told() {
        let host = Some("a.example".to_owned());
        let terms = TlsTerms { verify: false, min_days_to_expiry: Some(3) };
        let handshake = HandshakeCheck { host: host.clone(), alpn: vec!["x".into()], terms };
        let step = |send: &[u8], expect: &[u8]| TalkStep { send: send.into(), expect: expect.into() };
        let steps = vec![step(b"", b"220"), step(&[0, 0xff], b""), step(b"hex:0", b"\r\n")];
        let dns = DnsCheck {
            name: "a.example".into(),
            record_type: RecordType(257),
            rcode: ResponseCode(3),
            answer: Some("x".into()),
        };
        let http = |version, tls| HttpCheck {
            version,
            tls,
            path: "/".into(),
            host: host.clone(),
            status: (200, 204),
            body_contains: None,
        };
        for kind in [
            CheckKind::Tcp,
            CheckKind::Tls(handshake.clone()),
            CheckKind::Quic(handshake.clone()),
            CheckKind::Http(http(HttpVersion::Http1, None)),
            CheckKind::Http(http(HttpVersion::Http2, None)),
            CheckKind::Http(http(HttpVersion::Http2, Some(terms))),
            CheckKind::Talk(TalkCheck { tls: None, steps: steps.clone() }),
            CheckKind::Talk(TalkCheck { tls: Some(handshake), steps }),
            CheckKind::Udp { send: vec![0xff], expect: b"pong".to_vec() },
            CheckKind::Dns(dns),
        ] {
            assert_eq!(at_the_broker(kind.clone()), kind);
        }
    }

    #[test]
    fn what_brokers_cannot_probe_is_refused_by_name() {
        let command = CheckKind::Command { argv: vec!["true".into()], max_output: 0 };
        let error = check("play.example", &spec(command)).expect_err("refused").to_string();
        assert!(error.contains("play.example"), "{error}");
    }
}
