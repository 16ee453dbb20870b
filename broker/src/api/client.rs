//! For whom a request is answered.
//!
//! The other end of the connection, unless that is trusted to speak for others: then the nearest
//! hop of `X-Forwarded-For` or `Forwarded` (RFC 7239) that is not itself trusted, or whoever a trusted
//! source names in the query with `client=`.

use super::auth::{Caller, Peer};
use super::error::Problem;
use http::{HeaderMap, StatusCode};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most hops that are looked at.
const MAX_HOPS: usize = 32;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The client.
    pub(crate) addr: IpAddr,
    /// Whether it, and every hop between, is trusted to speak for others.
    pub(crate) trusted: bool,
}

/// The client that a request comes from: headers count only when the peer is trusted. A client can
/// write the header that its proxy does not: `Forwarded` counts only without `X-Forwarded-For`, and
/// where they differ, whichever names someone who is not trusted.
pub(crate) fn source(peer: &Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Source {
    let is_trusted = |addr: IpAddr| trusted.iter().any(|net| net.contains(&addr));
    let (addr, trusted_peer) = match peer {
        Peer::Unix { .. } => (IpAddr::V4(Ipv4Addr::LOCALHOST), true),
        Peer::Tcp { addr, .. } => (addr.ip().to_canonical(), is_trusted(addr.ip().to_canonical())),
    };
    let peer = Source { addr, trusted: trusted_peer };
    if !trusted_peer {
        return peer;
    }
    let [older, newer] = hops(headers).map(|h| (!h.is_empty()).then(|| nearest(peer, &h, is_trusted)));
    match (older, newer) {
        (Some(older), Some(newer)) if older.trusted && !newer.trusted => newer,
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => peer,
    }
}

/// The nearest hop that is not trusted, else the farthest.
fn nearest(peer: Source, hops: &[Option<IpAddr>], is_trusted: impl Fn(IpAddr) -> bool) -> Source {
    let mut client = peer;
    for hop in hops {
        match hop {
            Some(addr) => client = Source { addr: *addr, trusted: is_trusted(*addr) },
            // A hop that is no address ends what can be believed.
            None => client.trusted = false,
        }
        if !client.trusted {
            break;
        }
    }
    client
}

/// Whether all that the headers say is that the request stays on this machine.
pub(crate) fn stays_here(headers: &HeaderMap) -> bool {
    let local = |hop: &Option<IpAddr>| hop.is_some_and(|addr| addr.is_loopback());
    let [older, newer] = hops(headers);
    let agree = older.is_empty() || newer.is_empty() || older == newer;
    agree && older.iter().chain(&newer).all(local)
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
    let source = source(&caller.peer, headers, trusted);
    let Some(asked) = asked else { return Ok(source.addr) };
    let known = caller.actor.is_some() || matches!(caller.peer, Peer::Unix { .. });
    // Not the peer: behind a trusted proxy sits everyone.
    match known || source.trusted {
        true => Ok(asked.to_canonical()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "client_not_trusted",
            "client= is honoured only from addresses in http.trusted_sources, over the admin socket, or with credentials",
        )),
    }
}

/// Hops of `X-Forwarded-For` and of `Forwarded`, nearest first; `None` for one that is no address.
fn hops(headers: &HeaderMap) -> [Vec<Option<IpAddr>>; 2] {
    [
        elements(headers, "x-forwarded-for").into_iter().map(address).collect(),
        elements(headers, "forwarded").into_iter().map(forwarded_for).collect(),
    ]
}

/// Comma-separated elements of all lines of a header, last first; an empty one, which is no address,
/// stands for all that are too many.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = headers.get_all(name).iter().map(|v| v.to_str().unwrap_or("")).collect();
    let all = lines.into_iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim);
    let mut some: Vec<&str> = all.take(MAX_HOPS + 1).collect();
    if let Some(last) = some.get_mut(MAX_HOPS) {
        *last = "";
    }
    some
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
        source(&tcp(peer), &headers(lines), &trusted()).addr.to_string()
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
    fn forwarded_is_understood_where_the_older_header_is_absent() {
        let line = "for=\"[2001:db8::7]:1234\";proto=https, For=10.0.0.4;by=10.0.0.5";
        assert_eq!(seen("10.1.1.1", &[("forwarded", line)]), "2001:db8::7");
        assert_eq!(seen("10.1.1.1", &[("forwarded", "for=198.51.100.2:99")]), "198.51.100.2");
        assert_eq!(seen("10.1.1.1", &[("forwarded", "for=_hidden")]), "10.1.1.1");
    }

    #[test]
    fn a_second_header_hides_nobody() {
        for other in ["for=10.9.9.9", "for=127.0.0.1", "for=1.1.1.1"] {
            let lines = [("forwarded", other), ("x-forwarded-for", "198.51.100.1")];
            assert_eq!(seen("10.1.1.1", &lines), "198.51.100.1", "{other}");
        }
        let lines = [("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "10.9.9.9")];
        assert_eq!(seen("10.1.1.1", &lines), "198.51.100.1");
    }

    #[test]
    fn only_what_both_headers_say_is_local_stays_here() {
        for (lines, here) in [
            (vec![], true),
            (vec![("x-forwarded-for", "127.0.0.1")], true),
            (vec![("forwarded", "for=127.0.0.1")], true),
            (vec![("forwarded", "for=127.0.0.1"), ("x-forwarded-for", "127.0.0.1")], true),
            (vec![("forwarded", "for=127.0.0.1"), ("x-forwarded-for", "203.0.113.5")], false),
            (vec![("forwarded", "for=203.0.113.5"), ("x-forwarded-for", "127.0.0.1")], false),
            (vec![("forwarded", "for=127.0.0.2"), ("x-forwarded-for", "127.0.0.1")], false),
            (vec![("forwarded", "proto=https")], false),
            (vec![("x-forwarded-for", "unknown")], false),
        ] {
            assert_eq!(stays_here(&headers(&lines)), here, "{lines:?}");
        }
        let many = vec!["127.0.0.1"; MAX_HOPS + 1].join(",");
        assert!(!stays_here(&headers(&[("x-forwarded-for", &many)])));
    }

    #[test]
    fn naming_a_client_needs_trust() {
        let asked = Some("::ffff:198.51.100.1".parse().unwrap());
        let caller = |peer: Peer| {
            let (kind, source) = (peer.kind(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            Caller { peer, kind, source, actor: None }
        };
        let ask = |peer| on_behalf_of(asked, &caller(peer), &HeaderMap::new(), &trusted());
        assert_eq!(ask(tcp("10.0.0.1")).unwrap().to_string(), "198.51.100.1");
        assert_eq!(ask(Peer::Unix { uid: 0 }).unwrap().to_string(), "198.51.100.1");
        for line in
            [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=_hidden"), ("forwarded", "for=192.0.2.7")]
        {
            let proxied = headers(&[line]);
            let said = on_behalf_of(asked, &caller(tcp("10.0.0.1")), &proxied, &trusted()).unwrap_err();
            assert_eq!(said.code, "client_not_trusted", "behind a trusted proxy sits everyone: {line:?}");
        }
        let inner = headers(&[("x-forwarded-for", "10.3.3.3")]);
        assert!(on_behalf_of(asked, &caller(tcp("10.0.0.1")), &inner, &trusted()).is_ok());
        let refused = ask(tcp("192.0.2.1")).unwrap_err();
        assert_eq!((refused.status, refused.code), (StatusCode::FORBIDDEN, "client_not_trusted"));
        let actor = Some(crate::admin::Actor::Token("ci".into()));
        let known = Caller { actor, ..caller(tcp("192.0.2.1")) };
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
