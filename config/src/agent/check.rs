//! Checks: from the flat keys of the file to the core's kinds, refusing keys of another kind.

use super::spec::{CheckKeys, Kind};
use super::{ServiceCheck, ServiceProbe, kinds};
use crate::error::Fault;
use crate::value::{Plain, set};
use nearmost_core::check::{CheckKind, CheckSpec, HttpVersion, foreign_key};
use nearmost_core::registry::MirrorAddress;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Who makes a check, which decides its default pace and what it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checker {
    /// The agent, beside the service.
    Agent,
    /// A broker, from outside.
    Broker,
}

/// A check by the agent: of `[[services.checks]]` or `[services.ready]`, at `path` in the file.
pub(super) fn by_agent(path: &str, keys: CheckKeys, name: &str, port: u16) -> Result<ServiceCheck, Fault> {
    let name = keys.name.as_ref().map_or_else(|| name.to_owned(), |n| n.0.clone());
    let address = keys.address.as_ref().map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), |a| a.0);
    if address.port() == 0 {
        return Err(Fault::value(
            format!("{path}.address"),
            format!("{:?}", address.to_string()),
            "a port other than 0",
        ));
    }
    match spec(path, keys, Checker::Agent)? {
        Some(spec) => Ok(ServiceCheck { name, address, spec }),
        None => {
            Err(Fault::value(format!("{path}.kind"), "\"none\"", <Kind as crate::value::TextKind>::EXPECTED))
        }
    }
}

/// The check of a service whose entry says nothing of checks: without one, a service that died under a
/// living agent would be reported healthy. Made where users connect, or on loopback when the address
/// is not declared.
pub(super) fn by_default(address: &MirrorAddress, port: u16) -> ServiceCheck {
    let spec = default_spec(Checker::Agent);
    ServiceCheck { name: Kind::Tcp.as_str().to_owned(), address: own_address(address, port), spec }
}

/// Where the agent finds the service: the first declared address, else on loopback.
pub(super) fn own_address(address: &MirrorAddress, port: u16) -> SocketAddr {
    let ip = match address {
        MirrorAddress::Declared { v4: Some(v4), .. } => IpAddr::V4(*v4),
        MirrorAddress::Declared { v6: Some(v6), .. } => IpAddr::V6(*v6),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    SocketAddr::new(ip, port)
}

/// The probe by brokers: `[services.probe]`, at `path` in the file.
pub(super) fn by_broker(path: &str, keys: CheckKeys) -> Result<ServiceProbe, Fault> {
    for (key, given) in [("name", keys.name.is_some()), ("address", keys.address.is_some())] {
        if given {
            let message = "is not for probes from outside, which use the service's own address and port";
            return Err(Fault::rule(format!("{path}.{key}"), message));
        }
    }
    Ok(spec(path, keys, Checker::Broker)?.map_or(ServiceProbe::None, ServiceProbe::Check))
}

/// Kind tcp at the default pace.
fn default_spec(checker: Checker) -> CheckSpec {
    let interval = match checker {
        Checker::Agent => Duration::from_secs(1),
        Checker::Broker => Duration::from_secs(2),
    };
    CheckSpec { kind: CheckKind::Tcp, interval, timeout: Duration::from_secs(1), rise: 1, fall: 2 }
}

/// `None` for kind `none`.
fn spec(path: &str, keys: CheckKeys, checker: Checker) -> Result<Option<CheckSpec>, Fault> {
    let kind = keys.kind.0;
    only_keys_of(path, kind, &keys)?;
    let mut spec = default_spec(checker);
    set(&mut spec.interval, keys.interval_ms);
    set(&mut spec.timeout, keys.timeout_ms);
    set(&mut spec.rise, keys.rise);
    set(&mut spec.fall, keys.fall);
    spec.kind = match kind {
        Kind::None => return Ok(None),
        Kind::Tcp => kinds::tcp(path, keys)?,
        Kind::Tls => kinds::tls(path, keys)?,
        Kind::Http => kinds::http(HttpVersion::Http1, false, keys),
        Kind::Https => kinds::http(HttpVersion::Http1, true, keys),
        Kind::H2 => kinds::http(HttpVersion::Http2, true, keys),
        Kind::H2c => kinds::http(HttpVersion::Http2, false, keys),
        Kind::Udp => CheckKind::Udp {
            send: keys.send.map(Plain::plain).unwrap_or_default(),
            expect: keys.expect.map(Plain::plain).unwrap_or_default(),
        },
        Kind::Dns => kinds::dns(path, keys)?,
        Kind::Quic => kinds::quic(path, keys)?,
        Kind::Command if checker == Checker::Broker => {
            return Err(Fault::value(
                format!("{path}.kind"),
                "\"command\"",
                "\"none\", \"tcp\", \"tls\", \"http\", \"https\", \"h2\", \"h2c\", \"udp\", \"dns\" or \"quic\"; \
                 brokers run no commands",
            ));
        }
        Kind::Command => kinds::command(path, keys)?,
    };
    Ok(Some(spec))
}

/// A key that another kind of check has would be silently without effect.
fn only_keys_of(path: &str, kind: Kind, keys: &CheckKeys) -> Result<(), Fault> {
    let given = [
        ("path", keys.path.is_some()),
        ("host", keys.host.is_some()),
        ("status", keys.status.is_some()),
        ("body_contains", keys.body_contains.is_some()),
        ("verify", keys.verify.is_some()),
        ("min_days_to_expiry", keys.min_days_to_expiry.is_some()),
        ("alpn", keys.alpn.is_some()),
        ("send", keys.send.is_some()),
        ("expect", keys.expect.is_some()),
        ("steps", keys.steps.is_some()),
        ("query", keys.query.is_some()),
        ("query_type", keys.query_type.is_some()),
        ("rcode", keys.rcode.is_some()),
        ("answer", keys.answer.is_some()),
        ("argv", keys.argv.is_some()),
        ("max_output_bytes", keys.max_output_bytes.is_some()),
    ];
    match foreign_key(kind.as_str(), &given) {
        Some((key, message)) => Err(Fault::rule(format!("{path}.{key}"), message)),
        None => Ok(()),
    }
}
