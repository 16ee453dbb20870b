//! Where a plain HTTP user is sent: pure functions from the snapshot to URLs.

use nearmost_core::check::CheckKind;
use nearmost_core::geo::CountryCode;
use nearmost_core::health::Family;
use nearmost_core::live::LiveMirror;
use nearmost_core::ranking::{self, Basis, Choice};
use nearmost_core::registry::{DomainIndex, Mirror, MirrorAddress, MirrorIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use std::net::IpAddr;

/// Most mirrors named in one redirect.
const MAX_TARGETS: usize = 8;

/// One place to send a user to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Scheme, authority and path, without the final slash.
    pub(super) base: String,
    /// Where it is.
    pub(super) country: Option<CountryCode>,
    /// The mirror; `None` for a fallback address.
    pub(super) mirror: Option<MirrorIndex>,
}

/// The family of an address.
pub(super) fn family_of(addr: IpAddr) -> Family {
    match addr.is_ipv4() {
        true => Family::V4,
        false => Family::V6,
    }
}

/// Where to send a client, best first: whom DNS answers, in its order, then the other eligible mirrors by
/// rank, those that the client can surely reach (by name, or in its own family) before others; without
/// any, what the domain's all-down policy answers. What rules keep from it never, and nothing where
/// there is nothing.
pub(super) fn targets(snapshot: &Snapshot, domain: DomainIndex, client: IpAddr) -> Vec<Target> {
    let (registry, live) = (&snapshot.registry, &snapshot.live);
    let Some(view) = snapshot.map.view(domain, client) else { return Vec::new() };
    let own = family_of(client);
    let choices = [own, Family::ALL[1 - own.index()]]
        .map(|family| ranking::choose(registry, live, domain, &view, family));
    let target = |at: MirrorIndex| {
        let mirror = registry.mirror(at);
        let base = base_url(mirror, live.mirror(at), own)?;
        Some(Target { base, country: mirror.place.country, mirror: Some(at) })
    };
    if choices.iter().all(|c| c.basis != Basis::Eligible) {
        return all_down(registry, domain, &choices, target);
    }
    let reachable = |at: MirrorIndex| {
        let (mirror, live) = (registry.mirror(at), live.mirror(at));
        live.eligible(own) || (has_name(mirror) && live.eligible_any())
    };
    let [first, second] = &choices;
    let lead = if first.mirrors.is_empty() { second } else { first };
    let answered = |at: MirrorIndex| lead.mirrors.iter().position(|c| c.mirror == at);
    let mut ranked = ranking::rank(registry, domain, &view);
    ranked.retain(|c| !c.excluded && live.mirror(c.mirror).eligible_any());
    if ranked.iter().any(|c| reachable(c.mirror)) {
        ranked.retain(|c| reachable(c.mirror));
    }
    ranked.sort_by_key(|c| answered(c.mirror).unwrap_or(usize::MAX));
    ranked.iter().filter_map(|c| target(c.mirror)).take(MAX_TARGETS).collect()
}

/// The answers of the client's own family, then of the other.
fn all_down(
    registry: &Registry,
    domain: DomainIndex,
    choices: &[Choice; 2],
    target: impl Fn(MirrorIndex) -> Option<Target>,
) -> Vec<Target> {
    for choice in choices {
        if !choice.mirrors.is_empty() {
            return choice.mirrors.iter().filter_map(|c| target(c.mirror)).collect();
        }
        // A fallback address stands in for the mirrors: it serves at their port.
        let port = registry.mirrors_of(domain).next().map(|(_, m)| (scheme(m), m.port));
        let (scheme, port) = port.unwrap_or(("http", 80));
        let fallback = |addr: &IpAddr| Target {
            base: origin(scheme, &literal(*addr), port),
            country: None,
            mirror: None,
        };
        if !choice.addrs.is_empty() {
            return choice.addrs.iter().map(fallback).collect();
        }
    }
    Vec::new()
}

/// The base URL of a mirror without the final slash: its own, else from its host name or address
/// (an eligible one, of the preferred family if possible) and port. `None` while no address is known.
pub(super) fn base_url(mirror: &Mirror, live: &LiveMirror, prefer: Family) -> Option<String> {
    if let Some(url) = &mirror.url {
        return given_url(url);
    }
    let host = match &mirror.address {
        MirrorAddress::Hostname(name) => name.to_string(),
        MirrorAddress::Declared { .. } | MirrorAddress::Observed => {
            let families = [prefer, Family::ALL[1 - prefer.index()]];
            let eligible = families.into_iter().find(|f| live.eligible(*f));
            let known = || families.into_iter().find(|f| live.addr(*f).is_some());
            literal(live.addr(eligible.or_else(known)?)?)
        }
    };
    Some(origin(scheme(mirror), &host, mirror.port))
}

fn has_name(mirror: &Mirror) -> bool {
    mirror.url.is_some() || matches!(mirror.address, MirrorAddress::Hostname(_))
}

/// A registered URL, of which only scheme, authority and path are used.
fn given_url(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    Some(format!("{scheme}://{authority}{}", escape(uri.path().trim_end_matches('/'))))
}

fn scheme(mirror: &Mirror) -> &'static str {
    let tls =
        mirror.probe.as_ref().is_some_and(|p| matches!(&p.kind, CheckKind::Http(http) if http.tls.is_some()));
    match tls || mirror.port == 443 {
        true => "https",
        false => "http",
    }
}

fn origin(scheme: &str, host: &str, port: u16) -> String {
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    }
}

fn literal(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Path and query as they may stand in `Location` and inside `<…>` of `Link`: every byte that
/// RFC 3986 does not allow there is percent-encoded, what is encoded already stays.
pub(super) fn escape(path_and_query: &str) -> String {
    let mut out = String::with_capacity(path_and_query.len());
    for byte in path_and_query.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b'/' | b'?' | b'%' | b':' | b'@' | b'!' | b'$' | b'&' | b'\''
            | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;
    use nearmost_core::health::State;
    use nearmost_core::registry::AllDown;
    use proptest::prelude::*;

    const LONDONER: &str = "198.51.100.1";
    const NEW_YORKER: &str = "203.0.113.1";

    fn bases(fixture: &Fixture, client: &str) -> Vec<String> {
        targets(&fixture.snapshot(), DomainIndex(0), client.parse().unwrap())
            .into_iter()
            .map(|t| t.base)
            .collect()
    }

    #[test]
    fn the_nearest_eligible_mirror_comes_first() {
        let mut fixture = Fixture::five_mirrors();
        assert_eq!(bases(&fixture, LONDONER)[..2], ["http://192.0.2.1:8080", "http://192.0.2.2:8080"]);
        assert_eq!(bases(&fixture, NEW_YORKER)[0], "http://192.0.2.2:8080");
        fixture.set_state("lon", State::Down);
        assert_eq!(bases(&fixture, LONDONER)[0], "http://192.0.2.2:8080");
        assert_eq!(bases(&fixture, LONDONER).len(), 4);
    }

    #[test]
    fn users_of_unknown_place_share_out_as_dns_does() {
        let mut fixture = Fixture::five_mirrors();
        fixture.policy(|p| p.answers = 1);
        let mut firsts = std::collections::BTreeSet::new();
        for down in [None, Some("lon"), Some("syd")] {
            for mirror in ["lon", "nyc", "sao", "sin", "syd"] {
                let state = if down == Some(mirror) { State::Down } else { State::Up };
                fixture.set_state(mirror, state);
            }
            let snapshot = fixture.snapshot();
            for network in 0..64 {
                let client = IpAddr::from([10, 0, network, 9]);
                let view = snapshot.map.view(DomainIndex(0), client).unwrap();
                let (registry, live) = (&snapshot.registry, &snapshot.live);
                let dns = ranking::choose(registry, live, DomainIndex(0), &view, Family::V4);
                let first = targets(&snapshot, DomainIndex(0), client).remove(0).base;
                assert_eq!(first, format!("http://{}:8080", dns.addrs[0]), "{client}, {down:?} down");
                firsts.insert(first);
            }
        }
        assert_eq!(firsts.len(), 5);
    }

    #[test]
    fn urls_follow_name_scheme_and_port() {
        let mut fixture = Fixture::five_mirrors();
        fixture.mirror("lon", |m| m.port = 443);
        fixture.mirror("nyc", |m| m.url = Some("https://nyc.example/base/?q#f".into()));
        fixture.mirror("sao", |m| m.address = MirrorAddress::Hostname("sao.example".into()));
        let all = bases(&fixture, LONDONER);
        assert_eq!(all[0], "https://192.0.2.1");
        assert_eq!(all[1], "https://nyc.example/base");
        assert!(all.contains(&"http://sao.example:8080".into()), "{all:?}");
        fixture.mirror("lon", |m| m.url = Some("javascript:alert(1)".into()));
        assert_eq!(bases(&fixture, LONDONER)[0], "https://nyc.example/base");
    }

    #[test]
    fn when_all_are_down_the_policy_decides() {
        let mut fixture = Fixture::five_mirrors();
        for mirror in ["lon", "nyc", "sao", "sin", "syd"] {
            fixture.set_state(mirror, State::Down);
        }
        fixture.policy(|p| p.failover.all_down = AllDown::NoAnswer);
        assert!(bases(&fixture, LONDONER).is_empty());
        fixture.policy(|p| p.failover.all_down = AllDown::All);
        assert_eq!(bases(&fixture, LONDONER)[0], "http://192.0.2.1:8080");
        fixture.policy(|p| p.failover.all_down = AllDown::Fallback(vec!["2001:db8::9".parse().unwrap()]));
        assert_eq!(bases(&fixture, LONDONER), ["http://[2001:db8::9]:8080"]);
    }

    proptest! {
        #[test]
        fn what_is_escaped_cannot_leave_its_header_or_brackets(text: String) {
            let out = escape(&text);
            let safe = |b: u8| b.is_ascii_graphic() && !b"<>\"\\^`{|}#[]".contains(&b);
            prop_assert!(out.bytes().all(safe));
            prop_assert_eq!(escape(&out), out);
        }
    }
}
