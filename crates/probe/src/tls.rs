//! What TLS is set up with: with verification, without it, and the expiry of certificates.

use crate::failure::Failure;
use crate::prober::ProberError;
use crate::{clock, reason};
use nearmost_core::check::TlsTerms;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

const SECONDS_A_DAY: i64 = 86_400;

/// Settings that verify chain and name against the public trust anchors and `extra`.
pub fn verifying(
    provider: &Arc<CryptoProvider>,
    extra: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, ProberError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (index, root) in extra.into_iter().enumerate() {
        roots.add(root).map_err(|source| ProberError::Root { index, source })?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(finish(builder))
}

/// Settings that accept any certificate; the handshake's signature must still be right.
pub fn unverifying(provider: &Arc<CryptoProvider>) -> Result<ClientConfig, ProberError> {
    let verifier = AnyCertificate(Arc::clone(provider));
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(finish(builder))
}

fn finish(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    let mut config = builder.with_no_client_auth();
    // A resumed session would not show the certificate that the service has now.
    config.resumption = Resumption::disabled();
    config
}

/// The name asked for in TLS and looked for in the certificate: `host` without a port, else the address.
pub fn server_name(target: SocketAddr, host: Option<&str>) -> Result<ServerName<'static>, Failure> {
    let Some(host) = host else {
        return Ok(ServerName::IpAddress(target.ip().into()));
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, _)) => ip,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    ServerName::try_from(name.to_string()).map_err(|_| {
        let shown = reason::quote(name.as_bytes(), 60);
        Failure::silence(format!("expected a host name for TLS, found {shown}"))
    })
}

/// Fails when the server's certificate expires earlier than the terms allow.
pub fn check_expiry(chain: Option<&[CertificateDer<'_>]>, terms: TlsTerms) -> Result<(), Failure> {
    let Some(min_days) = terms.min_days_to_expiry else { return Ok(()) };
    let expected = format!("expected a certificate good for {min_days} days");
    let Some(leaf) = chain.and_then(<[_]>::first) else {
        return Err(Failure::answer(format!("{expected}, found no certificate")));
    };
    let Ok((_, cert)) = X509Certificate::from_der(leaf) else {
        return Err(Failure::answer(format!("{expected}, found one that cannot be parsed")));
    };
    let now = clock::unix_seconds();
    let left = cert.validity().not_after.timestamp().saturating_sub(now);
    let days = left.saturating_abs() / SECONDS_A_DAY;
    let found = match left {
        ..0 => format!("expired {days} days ago"),
        _ if left < i64::from(min_days) * SECONDS_A_DAY => format!("expires in {days} days"),
        _ => return Ok(()),
    };
    Err(Failure::answer(format!("{expected}, found one that {found}{}", here(now))))
}

/// What TLS says of a certificate; of one that is not valid at this time also which time that is, since
/// this machine's clock may be what is wrong.
pub fn dated(error: &str) -> String {
    let dates = error
        .split_once("verification time ")
        .and_then(|(what, dates)| dates.split_once("but certificate is ").map(|(_, valid)| (what, valid)));
    match dates {
        Some((what, valid)) => format!("{what}{valid}{}", here(clock::unix_seconds())),
        None => error.to_string(),
    }
}

fn here(now: i64) -> String {
    ASN1Time::from_timestamp(now).map_or_else(|_| String::new(), |now| format!("; it is {now} here"))
}

/// For checks with verification off: whoever answers is taken as the service.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(server_name(target, host).expect("a name").to_str(), expected);
        }
        assert!(server_name(target, Some("not a name")).is_err());
    }
}
