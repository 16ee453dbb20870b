//! What is changed in a message on its way (RFC 9110 §7.6, RFC 9112 §3.2), and what is refused.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

/// Fields of one connection, besides those that `Connection` names (RFC 9110 §7.6.1).
const OF_A_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A request that is answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub status: StatusCode,
    pub why: &'static str,
}

impl Refused {
    fn bad(why: &'static str) -> Refused {
        Refused { status: StatusCode::BAD_REQUEST, why }
    }
}

/// A request as the service gets it.
#[derive(Debug)]
pub(super) struct Outbound {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    /// To what the program wants to change the connection.
    pub upgrade: Option<HeaderValue>,
}

/// Makes a program's request one for the service.
///
/// # Errors
/// What is refused is no HTTP, or asks for what is not done here.
pub(super) fn outbound(parts: Parts, domain: &str) -> Result<Outbound, Refused> {
    let Parts { method, uri, version, mut headers, .. } = parts;
    check(&method, version, &headers)?;
    forwards(&method, &mut headers)?;
    let upgrade = upgrade(version, &headers);
    let host = host(&uri, &headers, domain)?;
    strip(&mut headers);
    headers.remove(EXPECT);
    headers.insert(HOST, host);
    if version == Version::HTTP_2 {
        join_cookies(&mut headers);
    }
    headers.append(VIA, via(version));
    if let Some(protocol) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    Ok(Outbound { method, target: target(&uri), headers, upgrade })
}

/// Makes the service's answer one for the program. `upgrades` is whether it says which protocols the service
/// would change to (RFC 9110 §7.8).
pub(super) fn inbound(headers: &mut HeaderMap, upgrades: bool) {
    let protocol = headers.get(UPGRADE).cloned().filter(|_| upgrades);
    strip(headers);
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<(), Refused> {
    if *method == Method::CONNECT {
        let why = "CONNECT: this is no way to other servers";
        return Err(Refused { status: StatusCode::NOT_IMPLEMENTED, why });
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(Refused::bad("a request has one Host (RFC 9112 §3.2)"));
    }
    if !is_framed(headers) {
        let why = "only chunked may be a transfer coding (RFC 9112 §6.1)";
        return Err(Refused { status: StatusCode::NOT_IMPLEMENTED, why });
    }
    let mut expects = headers.get_all(EXPECT).iter();
    match expects.all(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(()),
        false => Err(Refused {
            status: StatusCode::EXPECTATION_FAILED,
            why: "only 100-continue may be expected (RFC 9110 §10.1.1)",
        }),
    }
}

/// Whether a message has no transfer coding but `chunked`, once: what is taken off here must be known here.
pub(super) fn is_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// Says how a body ends whose length is not known. Without it, that of a GET would be left out.
pub(super) fn chunk(headers: &mut HeaderMap) {
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Counts `Max-Forwards` down (RFC 9110 §7.6.2).
fn forwards(method: &Method, headers: &mut HeaderMap) -> Result<(), Refused> {
    if *method != Method::OPTIONS && *method != Method::TRACE {
        return Ok(());
    }
    let Some(value) = headers.get(MAX_FORWARDS) else { return Ok(()) };
    let left = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    match left {
        Some(0) if *method == Method::OPTIONS => Err(Refused {
            status: StatusCode::OK,
            why: "a nearmost sidecar, which passes all methods on but CONNECT",
        }),
        Some(0) => {
            Err(Refused { status: StatusCode::NOT_IMPLEMENTED, why: "TRACE ends here and is not answered" })
        }
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
        None => Err(Refused::bad("Max-Forwards is no number (RFC 9110 §7.6.2)")),
    }
}

fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    // From any other version it means nothing (RFC 9110 §7.8).
    if version != Version::HTTP_11 || !named(headers).any(|name| name.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let asked = headers.get(UPGRADE)?.to_str().ok()?;
    // RFC 9113 §3.1: no longer in use. A tunnel of it would carry requests past all that is said here.
    let known = asked.split(',').map(str::trim).filter(|protocol| !protocol.eq_ignore_ascii_case("h2c"));
    let known = known.collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&known).ok().filter(|known| !known.is_empty())
}

/// The authority that was asked for: of the target, else of `Host`, else the domain. Names and passwords in a
/// target are not for the service (RFC 9110 §4.2.4).
fn host(uri: &Uri, headers: &HeaderMap, domain: &str) -> Result<HeaderValue, Refused> {
    let bad = |_| Refused::bad("the target's authority is no Host");
    match (uri.authority(), headers.get(HOST)) {
        (Some(_), _) if uri.scheme().is_none() => {
            Err(Refused::bad("only CONNECT has a target of an authority alone (RFC 9112 §3.2.3)"))
        }
        (Some(authority), _) => {
            let whole = authority.as_str();
            let place = whole.rsplit_once('@').map_or(whole, |(_, place)| place);
            HeaderValue::from_str(place).map_err(bad)
        }
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => HeaderValue::from_str(domain).map_err(bad),
    }
}

/// In origin form, or `*`.
fn target(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

/// The fields that `Connection` names.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        named(headers).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    if headers.contains_key(TRANSFER_ENCODING) {
        // It says nothing beside the other (RFC 9112 §6.3).
        headers.remove(CONTENT_LENGTH);
    }
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
}

/// Cookies that h2 sends apart are one field in HTTP/1.1 (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let apart: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if apart.len() < 2 {
        return;
    }
    // Joined from valid values with what is valid in one.
    if let Ok(one) = HeaderValue::from_bytes(&apart.join(&b"; "[..])) {
        headers.insert(COOKIE, one);
    }
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 nearmost",
        Version::HTTP_10 => "1.0 nearmost",
        _ => "1.1 nearmost",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
        let builder = Request::builder().method(method).uri(uri).version(version);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    fn one(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Outbound, Refused> {
        outbound(parts(method, uri, Version::HTTP_11, headers), "play.example")
    }

    #[test]
    fn what_belongs_to_a_connection_ends_with_it() {
        let sent = one(
            "GET",
            "/a?b",
            &[
                ("host", "play.example"),
                ("connection", "keep-alive, x-mine"),
                ("connection", "close"),
                ("x-mine", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "trailers"),
                ("via", "1.0 other"),
                ("x-yours", "2"),
                ("upgrade", "h2c"),
            ],
        )
        .unwrap();
        let mut names: Vec<&str> = sent.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "via", "x-yours"]);
        let vias: Vec<_> = sent.headers.get_all(VIA).iter().collect();
        assert_eq!(vias, ["1.0 other", "1.1 nearmost"]);
        assert_eq!((sent.target.to_string().as_str(), sent.upgrade), ("/a?b", None));
    }

    #[test]
    fn host_is_kept_or_follows_the_target() {
        let host = |uri: &str, version, headers: &[(&str, &str)]| {
            let sent = outbound(parts("GET", uri, version, headers), "play.example").unwrap();
            (sent.headers[HOST].to_str().unwrap().to_owned(), sent.target.to_string())
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        let of = |host: &str, target: &str| (host.to_owned(), target.to_owned());
        assert_eq!(host("/", h1, &[("host", "localhost:7000")]), of("localhost:7000", "/"));
        assert_eq!(host("http://a.example/x", h1, &[("host", "b.example")]), of("a.example", "/x"));
        assert_eq!(host("http://a.example:80/x?y", h2, &[]), of("a.example:80", "/x?y"));
        assert_eq!(host("/", Version::HTTP_10, &[]), of("play.example", "/"));
        assert_eq!(host("*", h1, &[("host", "a")]).1, "*");
        let secret = host("http://me:word@a.example:80/x", h1, &[("host", "b")]);
        assert_eq!(secret, of("a.example:80", "/x"));
        let alone = outbound(parts("GET", "a.example:80", h1, &[("host", "b")]), "play.example");
        assert_eq!(alone.unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_is_no_http_is_refused() {
        let host = ("host", "a");
        let refused = |method: &str, headers: &[(&str, &str)]| {
            one(method, "/", headers).map(|_| ()).unwrap_err().status.as_u16()
        };
        assert_eq!(refused("CONNECT", &[host]), 501);
        assert_eq!(refused("GET", &[]), 400);
        assert_eq!(refused("GET", &[host, ("host", "b")]), 400);
        assert_eq!(refused("POST", &[host, ("transfer-encoding", "gzip, chunked")]), 501);
        assert_eq!(
            refused("POST", &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            501
        );
        assert!(one("POST", "/", &[host, ("transfer-encoding", "Chunked")]).is_ok());
        assert_eq!(refused("POST", &[host, ("expect", "the best")]), 417);
        assert_eq!(refused("OPTIONS", &[host, ("max-forwards", "0")]), 200);
        assert_eq!(refused("TRACE", &[host, ("max-forwards", "0")]), 501);
        assert_eq!(refused("TRACE", &[host, ("max-forwards", "many")]), 400);
    }

    #[test]
    fn expectations_are_met_here_and_forwards_counted() {
        let sent = one("POST", "/", &[("host", "a"), ("expect", "100-Continue")]).unwrap();
        assert!(!sent.headers.contains_key(EXPECT));
        let sent = one("OPTIONS", "/", &[("host", "a"), ("max-forwards", "2")]).unwrap();
        assert_eq!(sent.headers[MAX_FORWARDS], "1");
        let sent = one("GET", "/", &[("host", "a"), ("max-forwards", "0")]).unwrap();
        assert_eq!(sent.headers[MAX_FORWARDS], "0");
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_fields() {
        let asks = [("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")];
        let sent = one("GET", "/", &asks).unwrap();
        assert_eq!(sent.upgrade.as_ref().unwrap(), "websocket");
        assert_eq!(
            (&sent.headers[CONNECTION], &sent.headers[UPGRADE]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"),)
        );
        assert!(one("GET", "/", &asks[..2]).unwrap().upgrade.is_none());
        let h2c = [("host", "a"), ("connection", "upgrade, http2-settings"), ("upgrade", "h2c")];
        assert!(one("GET", "/", &h2c).unwrap().upgrade.is_none());
        assert!(outbound(parts("GET", "/", Version::HTTP_2, &asks), "a").unwrap().upgrade.is_none());
    }

    #[test]
    fn cookies_of_h2_become_one() {
        let apart = [("cookie", "a=1"), ("cookie", "b=2")];
        let sent = outbound(parts("GET", "http://a/", Version::HTTP_2, &apart), "a").unwrap();
        let cookies: Vec<_> = sent.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
}
