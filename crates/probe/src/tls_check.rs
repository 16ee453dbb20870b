//! TLS checks: a handshake over TCP, the protocol that it chose, the certificate's expiry.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::prober::Prober;
use crate::{connect as tcp, reason, tls};
use nearmost_core::check::{HandshakeCheck, TlsTerms};
use rustls::client::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Carries out the check; the stream is that of a service which passed.
pub async fn run(
    prober: &Prober,
    deadline: &Deadline,
    target: SocketAddr,
    check: &HandshakeCheck,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = prober.tls(check.terms.verify, offered(&check.alpn)?);
    let stream = connect(deadline, target, config, check.host.as_deref(), check.terms).await?;
    if !check.alpn.is_empty() {
        chosen(stream.get_ref().1.alpn_protocol(), &check.alpn)?;
    }
    Ok(stream)
}

/// Connects, shakes hands and looks at the certificate's expiry.
pub async fn connect(
    deadline: &Deadline,
    target: SocketAddr,
    config: Arc<ClientConfig>,
    host: Option<&str>,
    terms: TlsTerms,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = tls::server_name(target, host)?;
    let stream = tcp(deadline, target).await?;
    let expected = "expected a TLS handshake";
    let stream = match deadline.bound(expected, TlsConnector::from(config).connect(name, stream)).await? {
        Ok(stream) => stream,
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            return Err(Failure::answer(format!("{expected}, found: {}", tls::dated(&e.to_string()))));
        }
        Err(e) => return Err(Failure::io(expected, &e)),
    };
    tls::check_expiry(stream.get_ref().1.peer_certificates(), terms)?;
    Ok(stream)
}

/// Protocols as TLS has them: names of 1 to 255 bytes.
pub fn offered(alpn: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
    match alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
        Some(wrong) => Err(Failure::silence(format!(
            "expected protocols of 1 to 255 bytes, found {}",
            reason::quote(wrong.as_bytes(), 60)
        ))),
        None => Ok(alpn.iter().map(|name| name.as_bytes().to_vec()).collect()),
    }
}

/// Fails unless the service chose one of the protocols: some ignore what is offered.
pub fn chosen(found: Option<&[u8]>, alpn: &[impl AsRef<str>]) -> Result<(), Failure> {
    let expected = || {
        let names: Vec<&str> = alpn.iter().map(AsRef::as_ref).collect();
        format!("expected protocol {} (ALPN)", reason::quote(names.join(" or ").as_bytes(), 60))
    };
    match found {
        Some(found) if alpn.iter().any(|name| name.as_ref().as_bytes() == found) => Ok(()),
        Some(found) => Err(Failure::answer(format!("{}, found {}", expected(), reason::quote(found, 60)))),
        None => Err(Failure::answer(format!("{}, found none", expected()))),
    }
}
