//! HTTP and HTTPS checks: one request on a connection of its own; HTTP/2's way with it is in
//! [`crate::h2_check`].
//!
//! Redirects are not followed: a redirect is an answer like any other, and its status is judged.
//! The body is read only when text is looked for, and only as far as that text or
//! [`MAX_BODY_BYTES`]; response headers are bounded by [`MAX_HEAD_BYTES`].

use crate::connect;
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::prober::Prober;
use crate::{h2_check, reason, tls_check};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nearmost_core::check::{HttpCheck, HttpVersion};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};

/// How much of a body is searched.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How much the status line and the headers may take.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Names the sender in the service's access log.
const USER_AGENT: &str = concat!("nearmost-check/", env!("CARGO_PKG_VERSION"));

/// What is sent: never a body.
pub type Question = Request<Empty<Bytes>>;

/// Carries out the check.
pub async fn run(
    prober: &Prober,
    deadline: &Deadline,
    target: SocketAddr,
    check: &HttpCheck,
) -> Result<(), Failure> {
    let request = request(target, check).map_err(Failure::silence)?;
    let Some(terms) = check.tls else {
        let tcp = connect(deadline, target).await?;
        return exchange(tcp, request, deadline, check).await;
    };
    let alpn: &[u8] = match check.version {
        HttpVersion::Http1 => b"http/1.1",
        HttpVersion::Http2 => b"h2",
    };
    let config = prober.tls(terms.verify, vec![alpn.to_vec()]);
    let stream = tls_check::connect(deadline, target, config, check.host.as_deref(), terms).await?;
    if check.version == HttpVersion::Http2 {
        tls_check::chosen(stream.get_ref().1.alpn_protocol(), &["h2"])?;
    }
    exchange(stream, request, deadline, check).await
}

/// Sends the request and judges the response.
async fn exchange<S>(
    stream: S,
    request: Question,
    deadline: &Deadline,
    check: &HttpCheck,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let expected = "expected an HTTP response";
    match check.version {
        HttpVersion::Http1 => deadline.bound(expected, http1(stream, request, deadline, check)).await?,
        HttpVersion::Http2 => {
            deadline.bound(expected, h2_check::exchange(stream, request, deadline, check)).await?
        }
    }
}

/// The request that the check asks for.
fn request(target: SocketAddr, check: &HttpCheck) -> Result<Question, String> {
    let wrong_path =
        |e: &dyn Error| format!("expected a path, found {}: {e}", reason::quote(check.path.as_bytes(), 60));
    let uri: Uri = check.path.parse().map_err(|e| wrong_path(&e))?;
    let host = match &check.host {
        Some(host) => host.clone(),
        None => authority(target, check.tls.is_some()),
    };
    let wrong_host = || format!("expected a host name, found {}", reason::quote(host.as_bytes(), 60));
    let request = Request::builder()
        .method(Method::GET)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity");
    let request = match check.version {
        HttpVersion::Http1 => {
            let host = HeaderValue::from_str(&host).map_err(|_| wrong_host())?;
            let request = request.version(Version::HTTP_11).uri(uri).header(header::HOST, host);
            request.header(header::CONNECTION, "close")
        }
        HttpVersion::Http2 => {
            // Scheme and authority are part of the request (RFC 9113 section 8.3.1).
            let mut parts = uri.into_parts();
            parts.scheme =
                Some(if check.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
            parts.authority = Some(host.parse().map_err(|_| wrong_host())?);
            request.version(Version::HTTP_2).uri(Uri::from_parts(parts).map_err(|e| wrong_path(&e))?)
        }
    };
    request.body(Empty::new()).map_err(|e| format!("the request cannot be made: {e}"))
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

/// The exchange by HTTP/1.1.
async fn http1<S>(stream: S, request: Question, deadline: &Deadline, check: &HttpCheck) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|e| broken(&e))?;
    let talk = async move {
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        judge(response, deadline, check).await
    };
    drive(talk, connection).await
}

/// Drives the connection for as long as the talk lasts, so that dropping this future closes it.
pub async fn drive(
    talk: impl Future<Output = Result<(), Failure>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<(), Failure> {
    tokio::pin!(talk);
    tokio::select! {
        biased;
        verdict = &mut talk => return verdict,
        // Its error, if any, also reaches the request or the body.
        _ = connection => {}
    }
    talk.await
}

/// Whether the response is what the check wants.
pub async fn judge(
    response: Response<Incoming>,
    deadline: &Deadline,
    check: &HttpCheck,
) -> Result<(), Failure> {
    let (low, high) = check.status;
    let status = response.status().as_u16();
    if !(low..=high).contains(&status) {
        let range = if low == high { low.to_string() } else { format!("{low} to {high}") };
        return Err(Failure::answer(format!("expected status {range}, found {status}")));
    }
    match &check.body_contains {
        None => Ok(()),
        Some(text) => {
            let expected = format!("expected {} in the body", reason::quote(text.as_bytes(), 60));
            deadline.bound(&expected, find(response.into_body(), text.as_bytes(), &expected)).await?
        }
    }
}

/// Reads a body until `needle` is found.
async fn find(mut body: Incoming, needle: &[u8], expected: &str) -> Result<(), Failure> {
    let mut seen: Vec<u8> = Vec::new();
    while seen.len() < MAX_BODY_BYTES {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|e| failure(&e, format!("{expected}, found: {}", describe(&e))))?;
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
    let found = format!("{} bytes: {}", seen.len(), reason::quote(&seen, 60));
    Err(Failure::answer(format!("{expected}, found {found}")))
}

/// An exchange that ended with an error.
pub fn broken(error: &hyper::Error) -> Failure {
    failure(error, describe(error))
}

/// What is wrong with what came is an answer; what the connection broke of may be none.
fn failure(error: &hyper::Error, reason: String) -> Failure {
    let cause = std::iter::successors(error.source(), |cause| (*cause).source());
    let io = cause.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).last();
    match io {
        Some(io) => Failure::caused(reason, io),
        None => Failure::answer(reason),
    }
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
    use nearmost_core::check::TlsTerms;

    fn check(host: Option<&str>) -> HttpCheck {
        HttpCheck {
            version: HttpVersion::Http1,
            tls: Some(TlsTerms::default()),
            path: "/".into(),
            host: host.map(str::to_string),
            status: (200, 299),
            body_contains: None,
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
    fn a_path_or_host_that_cannot_be_sent_is_named() {
        let target: SocketAddr = "192.0.2.1:80".parse().expect("address");
        let mut bad = check(None);
        bad.path = "/a b".into();
        assert!(request(target, &bad).expect_err("refused").contains("\"/a b\""));
        for version in [HttpVersion::Http1, HttpVersion::Http2] {
            let wrong = HttpCheck { version, ..check(Some("a\nb")) };
            let error = request(target, &wrong).expect_err("refused");
            assert!(error.starts_with("expected a host name"), "{error}");
        }
    }

    #[test]
    fn http2_has_its_host_in_the_request_itself() {
        let target: SocketAddr = "192.0.2.1:443".parse().expect("address");
        let two = HttpCheck { version: HttpVersion::Http2, path: "/a?b=c".into(), ..check(None) };
        let made = request(target, &two).expect("a request");
        assert_eq!(made.uri().to_string(), "https://192.0.2.1/a?b=c");
        assert!(
            !made.headers().contains_key(header::HOST) && !made.headers().contains_key(header::CONNECTION)
        );
    }
}
