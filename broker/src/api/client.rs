//! For whom a request is answered.
//!
//! The other end of the connection, unless that is trusted to speak for others: then the nearest
//! hop of `Forwarded` (RFC 7239) or `X-Forwarded-For` that is not itself trusted, or whoever the
//! query names with `client=`.

use super::auth::{Caller, Peer};
use super::error::Problem;
use http::{HeaderMap, StatusCode};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most hops that are looked at.
const MAX_HOPS: usize = 32;

/// The client that a request comes from: headers count only when the peer is trusted.
pub(super) fn source(peer: &Peer, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |addr: IpAddr| trusted.iter().any(|net| net.contains(&addr));
    let (mut client, trusted_peer) = match peer {
        Peer::Unix { .. } => (IpAddr::V4(Ipv4Addr::LOCALHOST), true),
        Peer::Tcp { addr, .. } => (addr.ip().to_canonical(), is_trusted(addr.ip().to_canonical())),
    };
    if !trusted_peer {
        return client;
    }
    for hop in hops(headers) {
        // A hop that is no address ends what can be believed.
        let Some(addr) = hop else { break };
        client = addr;
        if !is_trusted(addr) {
            break;
        }
    }
    client
}

/// The client to answer for: `asked` (the query's `client=`) where it is honoured.
///
/// # Errors
/// 403 when a client is named by someone who is not trusted to.
pub(super) fn on_behalf_of(
    asked: Option<IpAddr>,
    caller: &Caller,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Result<IpAddr, Problem> {
    let Some(asked) = asked else { return Ok(source(&caller.peer, headers, trusted)) };
    let allowed = match &caller.peer {
        Peer::Unix { .. } => true,
        Peer::Tcp { addr, .. } => {
            let addr = addr.ip().to_canonical();
            caller.actor.is_some() || trusted.iter().any(|net| net.contains(&addr))
        }
    };
    match allowed {
        true => Ok(asked.to_canonical()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "client_not_trusted",
            "client= is honoured only from addresses in http.trusted_sources, over the admin socket, or with credentials",
        )),
    }
}

/// Hops of the forwarding headers, nearest first; `None` for one that is no address. `Forwarded`
/// stands before `X-Forwarded-For` when both are there.
pub(super) fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let forwarded = elements(headers, "forwarded");
    let hops: Vec<Option<IpAddr>> = match forwarded.is_empty() {
        false => forwarded.into_iter().map(forwarded_for).collect(),
        true => elements(headers, "x-forwarded-for").into_iter().map(address).collect(),
    };
    hops.into_iter()
}

/// Comma-separated elements of all lines of a header, last first.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = headers.get_all(name).iter().map(|v| v.to_str().unwrap_or("")).collect();
    lines.into_iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim).take(MAX_HOPS).collect()
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let of = |pair: &'_ str| {
        let (name, value) = pair.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| address(value.trim().trim_matches('"')))
    };
    element.split(';').find_map(of)?
}

/// An address with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let addr: Option<IpAddr> = text.parse().ok().or_else(bracketed);
    addr.or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip())).map(|a| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ListenerKind;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn tcp(addr: &str) -> Peer {
        Peer::Tcp { kind: ListenerKind::Public, addr: SocketAddr::new(addr.parse().unwrap(), 4000) }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn seen(peer: &str, lines: &[(&'static str, &str)]) -> String {
        source(&tcp(peer), &headers(lines), &trusted()).to_string()
    }

    #[test]
    fn only_a_trusted_peer_speaks_for_others() {
        assert_eq!(seen("192.0.2.9", &[("x-forwarded-for", "198.51.100.1")]), "192.0.2.9");
        assert_eq!(seen("10.1.1.1", &[("x-forwarded-for", "198.51.100.1")]), "198.51.100.1");
        assert_eq!(seen("::ffff:10.1.1.1", &[("x-forwarded-for", "::ffff:198.51.100.1")]), "198.51.100.1");
    }

    #[test]
    fn the_nearest_untrusted_hop_is_the_client() {
        // The client itself wrote the first entry; only what trusted hops appended counts.
        assert_eq!(
            seen("10.1.1.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.1, 10.2.2.2")]),
            "198.51.100.1"
        );
        assert_eq!(
            seen("10.1.1.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.1")]),
            "198.51.100.1"
        );
        assert_eq!(seen("10.1.1.1", &[("x-forwarded-for", "10.3.3.3, 10.2.2.2")]), "10.3.3.3");
        assert_eq!(seen("10.1.1.1", &[("x-forwarded-for", "198.51.100.1, junk, 10.2.2.2")]), "10.2.2.2");
        assert_eq!(seen("10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn forwarded_is_understood_and_stands_before_the_older_header() {
        let line = "for=\"[2001:db8::7]:1234\";proto=https, For=10.0.0.4;by=10.0.0.5";
        assert_eq!(seen("10.1.1.1", &[("forwarded", line), ("x-forwarded-for", "1.1.1.1")]), "2001:db8::7");
        assert_eq!(seen("10.1.1.1", &[("forwarded", "for=198.51.100.2:99")]), "198.51.100.2");
        assert_eq!(seen("10.1.1.1", &[("forwarded", "for=_hidden")]), "10.1.1.1");
    }

    #[test]
    fn naming_a_client_needs_trust() {
        let asked = Some("::ffff:198.51.100.1".parse().unwrap());
        let caller = |peer| Caller { peer, actor: None };
        let ask = |peer| on_behalf_of(asked, &caller(peer), &HeaderMap::new(), &trusted());
        assert_eq!(ask(tcp("10.0.0.1")).unwrap().to_string(), "198.51.100.1");
        assert_eq!(ask(Peer::Unix { uid: 0 }).unwrap().to_string(), "198.51.100.1");
        let refused = ask(tcp("192.0.2.1")).unwrap_err();
        assert_eq!((refused.status, refused.code), (StatusCode::FORBIDDEN, "client_not_trusted"));
        let known = Caller { peer: tcp("192.0.2.1"), actor: Some(crate::admin::Actor::Token("ci".into())) };
        assert!(on_behalf_of(asked, &known, &HeaderMap::new(), &trusted()).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_never_move_an_untrusted_peer(xff in "[ -~]{0,80}", fwd in "[ -~]{0,80}") {
            let lines = [("x-forwarded-for", xff.as_str()), ("forwarded", fwd.as_str())];
            prop_assert_eq!(seen("192.0.2.9", &lines), "192.0.2.9");
            seen("10.0.0.1", &lines);
        }
    }
}
