//! HTTP and HTTPS checks: one HTTP/1.1 request on a connection of its own.
//!
//! Redirects are not followed: a redirect is an answer like any other, and its status is judged.
//! The body is read only when text is looked for, and only as far as that text or
//! [`MAX_BODY_BYTES`]; response headers are bounded by [`MAX_HEAD_BYTES`].

use crate::deadline::Deadline;
use crate::prober::Prober;
use crate::reason;
use crate::{connect, tls};
use http::{HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nearmost_core::check::HttpCheck;
use rustls_pki_types::ServerName;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// How much of a body is searched.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How much the status line and the headers may take.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Names the sender in the service's access log.
const USER_AGENT: &str = concat!("nearmost-check/", env!("CARGO_PKG_VERSION"));

/// Carries out the check.
pub async fn run(
    prober: &Prober,
    deadline: &Deadline,
    target: SocketAddr,
    check: &HttpCheck,
) -> Result<(), String> {
    let request = request(target, check)?;
    let tcp = connect(deadline, target).await?;
    if !check.tls {
        return deadline.bound("expected an HTTP response", exchange(tcp, request, deadline, check)).await?;
    }
    let name = server_name(target, check)?;
    let handshake = TlsConnector::from(prober.tls(check.verify)).connect(name, tcp);
    let expected = "expected a TLS handshake";
    let stream = match deadline.bound(expected, handshake).await? {
        Ok(stream) => stream,
        Err(e) => return Err(format!("{expected}, found: {}", reason::io(&e))),
    };
    if let Some(days) = check.min_days_to_expiry {
        tls::check_expiry(stream.get_ref().1.peer_certificates(), days)?;
    }
    deadline.bound("expected an HTTP response", exchange(stream, request, deadline, check)).await?
}

/// The request that the check asks for.
fn request(target: SocketAddr, check: &HttpCheck) -> Result<Request<Empty<Bytes>>, String> {
    let uri: Uri = check
        .path
        .parse()
        .map_err(|e| format!("expected a path, found {}: {e}", reason::quote(check.path.as_bytes(), 60)))?;
    let host = match &check.host {
        Some(host) => host.clone(),
        None => authority(target, check.tls),
    };
    let host = HeaderValue::from_str(&host)
        .map_err(|_| format!("expected a host name, found {}", reason::quote(host.as_bytes(), 60)))?;
    Request::builder()
        .method(Method::GET)
        .uri(uri)
        .version(Version::HTTP_11)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|e| format!("the request cannot be made: {e}"))
}

/// The `Host` of an address: without the scheme's default port (RFC 9110 section 7.2).
fn authority(target: SocketAddr, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    match target.ip() {
        IpAddr::V6(ip) if target.port() == default_port => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[{ip}]:{}", target.port()),
        IpAddr::V4(ip) if target.port() == default_port => ip.to_string(),
        IpAddr::V4(_) => target.to_string(),
    }
}

/// The name asked for in TLS and looked for in the certificate: the host without a port.
fn server_name(target: SocketAddr, check: &HttpCheck) -> Result<ServerName<'static>, String> {
    let Some(host) = &check.host else {
        return Ok(ServerName::IpAddress(target.ip().into()));
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, _)) => ip,
        None => host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name),
    };
    ServerName::try_from(name.to_string())
        .map_err(|_| format!("expected a host name for TLS, found {}", reason::quote(name.as_bytes(), 60)))
}

/// Sends the request and judges the response. The connection is driven here, so that dropping
/// this future closes it.
async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    deadline: &Deadline,
    check: &HttpCheck,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|e| describe(&e))?;
    let talk = async move {
        let response = sender.send_request(request).await.map_err(|e| describe(&e))?;
        let (low, high) = check.status;
        let status = response.status().as_u16();
        if !(low..=high).contains(&status) {
            let range = if low == high { low.to_string() } else { format!("{low} to {high}") };
            return Err(format!("expected status {range}, found {status}"));
        }
        match &check.body_contains {
            None => Ok(()),
            Some(text) => {
                let expected = format!("expected {} in the body", reason::quote(text.as_bytes(), 60));
                deadline.bound(&expected, find(response.into_body(), text.as_bytes(), &expected)).await?
            }
        }
    };
    tokio::pin!(talk);
    tokio::select! {
        biased;
        verdict = &mut talk => return verdict,
        // Its error, if any, also reaches the request or the body.
        _ = connection => {}
    }
    talk.await
}

/// Reads a body until `needle` is found.
async fn find(mut body: Incoming, needle: &[u8], expected: &str) -> Result<(), String> {
    let mut seen: Vec<u8> = Vec::new();
    while seen.len() < MAX_BODY_BYTES {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|e| format!("{expected}, found: {}", describe(&e)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // Only what is new is searched, and as much before it as a split needle needs.
        let from = seen.len().saturating_sub(needle.len().saturating_sub(1));
        let room = MAX_BODY_BYTES - seen.len();
        seen.extend_from_slice(&data[..data.len().min(room)]);
        if reason::contains(&seen[from..], needle) {
            return Ok(());
        }
    }
    if reason::contains(&seen, needle) {
        return Ok(());
    }
    Err(format!("{expected}, found {} bytes: {}", seen.len(), reason::quote(&seen, 60)))
}

/// An error with its causes.
fn describe(error: &hyper::Error) -> String {
    let mut text = format!("HTTP failed: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>) -> HttpCheck {
        HttpCheck {
            tls: true,
            path: "/".into(),
            host: host.map(str::to_string),
            status: (200, 299),
            body_contains: None,
            verify: true,
            min_days_to_expiry: None,
        }
    }

    #[test]
    fn the_host_of_an_address_omits_default_ports() {
        let cases = [
            ("192.0.2.1:80", false, "192.0.2.1"),
            ("192.0.2.1:443", true, "192.0.2.1"),
            ("192.0.2.1:443", false, "192.0.2.1:443"),
            ("[2001:db8::1]:443", true, "[2001:db8::1]"),
            ("[2001:db8::1]:8443", true, "[2001:db8::1]:8443"),
        ];
        for (target, tls, expected) in cases {
            assert_eq!(authority(target.parse().expect("address"), tls), expected);
        }
    }

    #[test]
    fn the_tls_name_is_the_host_without_its_port() {
        let target: SocketAddr = "192.0.2.1:443".parse().expect("address");
        let cases = [
            (None, "192.0.2.1"),
            (Some("a.example"), "a.example"),
            (Some("a.example:8443"), "a.example"),
            (Some("[2001:db8::1]:8443"), "2001:db8::1"),
        ];
        for (host, expected) in cases {
            let name = server_name(target, &check(host)).expect("a name");
            assert_eq!(name.to_str(), expected);
        }
        assert!(server_name(target, &check(Some("not a name"))).is_err());
    }

    #[test]
    fn a_path_or_host_that_cannot_be_sent_is_named() {
        let target: SocketAddr = "192.0.2.1:80".parse().expect("address");
        let mut bad = check(None);
        bad.path = "/a b".into();
        assert!(request(target, &bad).expect_err("refused").contains("\"/a b\""));
        let error = request(target, &check(Some("a\nb"))).expect_err("refused");
        assert!(error.starts_with("expected a host name"), "{error}");
    }
}
