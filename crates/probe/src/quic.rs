//! QUIC checks: a handshake of version 1 that completes.
//!
//! A packet that answers is not enough: a service that negotiates another version, refuses, resets, or
//! knows none of the protocols has failed, and the reason says which. Refusals by ICMP are not seen, so
//! a closed port costs the whole timeout.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::prober::Prober;
use crate::{any_address, reason, tls, tls_check};
use nearmost_core::check::HandshakeCheck;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use rustls_pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::Arc;

/// Codes of the transport that carry a TLS alert in their last byte (RFC 9001 section 4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// Carries out the check.
pub async fn run(
    prober: &Prober,
    deadline: &Deadline,
    target: SocketAddr,
    check: &HandshakeCheck,
) -> Result<(), Failure> {
    let name = tls::server_name(target, check.host.as_deref())?;
    let tls = prober.tls(check.terms.verify, tls_check::offered(&check.alpn)?);
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|e| Failure::silence(format!("QUIC cannot be set up: {e}")))?;
    let config = ClientConfig::new(Arc::new(crypto));
    // A socket of its own, so that checks share no state; it closes when the farewell was sent.
    let endpoint = Endpoint::client(any_address(target))
        .map_err(|e| Failure::silence(format!("a socket cannot be opened: {}", reason::io(&e))))?;
    let expected = format!("expected a QUIC handshake with {target}");
    let connecting = endpoint
        .connect_with(config, target, &name.to_str())
        .map_err(|e| Failure::silence(format!("{expected}, found: {e}")))?;
    let connection = match deadline.bound(&expected, connecting).await? {
        Ok(connection) => connection,
        Err(e) => {
            let reason = format!("{expected}, found: {}", describe(&e));
            return Err(if is_answer(&e) { Failure::answer(reason) } else { Failure::silence(reason) });
        }
    };
    let identity = connection.peer_identity().and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
    let verdict = tls::check_expiry(identity.as_ref().map(|chain| chain.as_slice()), check.terms);
    connection.close(0u32.into(), b"");
    verdict
}

/// Whether the other side said something, rather than nothing for too long or this side ending it.
fn is_answer(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset => true,
        ConnectionError::TimedOut | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => false,
    }
}

/// What went wrong; alerts of TLS by their names.
fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::VersionMismatch => "version negotiation without version 1".into(),
        ConnectionError::ConnectionClosed(close) if CRYPTO_ERRORS.contains(&close.error_code.into()) => {
            let code = u64::from(close.error_code) & 0xff;
            let alert = rustls::AlertDescription::from(u8::try_from(code).unwrap_or(u8::MAX));
            format!("the alert {alert:?} of the service's TLS")
        }
        // Our own TLS refused; its reason says why.
        ConnectionError::TransportError(e) if !e.reason.is_empty() => tls::dated(&e.reason),
        other => other.to_string(),
    }
}
