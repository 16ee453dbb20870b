//! TLS 1.3 with raw public keys (RFC 7250) for QUIC, and who the other side is.
//!
//! A connection proves possession of an Ed25519 key on both sides; no certificate, no authority.
//! The client pins the broker's key. The server accepts any node's key at the handshake and
//! authorises afterwards by [`peer_key`], because a resumed session skips the verifier: that is
//! also why early data and resumption are off here. A user's client is anonymous to brokers: it makes a key
//! for the one connection, since both sides speak of raw keys only, and nothing is concluded from it. To
//! mirrors it is who holds its key.

use crate::identity::{Id, KeyError, KeyPair};
use ::ring::{hkdf, hmac};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;

/// Application protocol of agents.
pub const ALPN_AGENT: &[u8] = b"nearmost-agent/1";
/// Application protocol of clients.
pub const ALPN_CLIENT: &[u8] = b"nearmost-client/1";
/// Application protocol between clients and mirrors.
pub const ALPN_MIRROR: &[u8] = b"nearmost-mirror/1";
/// The name clients send; keys are what counts.
pub const SERVER_NAME: &str = "nearmost";

/// DER of an Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key does not encode.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The library refused the configuration.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The configuration does not suit QUIC.
    #[error("TLS configuration has no cipher suite for QUIC")]
    NoInitialCipherSuite,
}

/// The SubjectPublicKeyInfo of a key.
pub fn spki(key: &[u8; 32]) -> Vec<u8> {
    [&SPKI_PREFIX[..], key].concat()
}

/// The Ed25519 key of a SubjectPublicKeyInfo; `None` for other algorithms.
pub fn key_of_spki(der: &[u8]) -> Option<[u8; 32]> {
    der.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// The key that the other side of an established connection proved to hold.
pub fn peer_key(connection: &quinn::Connection) -> Option<[u8; 32]> {
    let identity = connection.peer_identity()?;
    let certs = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    key_of_spki(certs.first()?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certified(key: &KeyPair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let der = PrivatePkcs8KeyDer::from(key.pkcs8_der()?.to_vec());
    let signer = provider.key_provider.load_private_key(der.into())?;
    let cert = CertificateDer::from(spki(&key.id().key));
    Ok(Arc::new(CertifiedKey::new(vec![cert], signer)))
}

/// For an endpoint that connects with `key` to the holder of `server`'s key only.
pub fn client_config(
    key: &KeyPair,
    server: Id,
    alpn: &[u8],
) -> Result<quinn::crypto::rustls::QuicClientConfig, TlsError> {
    stream_client_config(key, server, alpn)?.try_into().map_err(|_| TlsError::NoInitialCipherSuite)
}

/// The same for TLS over a stream.
pub fn stream_client_config(
    key: &KeyPair,
    server: Id,
    alpn: &[u8],
) -> Result<rustls::ClientConfig, TlsError> {
    let provider = provider();
    let own = certified(key, &provider)?;
    let verifier = PinnedServer { key: server.key, algorithms: provider.signature_verification_algorithms };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(own)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// For an endpoint that accepts any key and authorises by [`peer_key`].
pub fn server_config(
    key: &KeyPair,
    alpn: &[u8],
) -> Result<quinn::crypto::rustls::QuicServerConfig, TlsError> {
    stream_server_config(key, alpn)?.try_into().map_err(|_| TlsError::NoInitialCipherSuite)
}

/// The same for TLS over a stream.
pub fn stream_server_config(key: &KeyPair, alpn: &[u8]) -> Result<rustls::ServerConfig, TlsError> {
    let provider = provider();
    let own = certified(key, &provider)?;
    let verifier = AnyKey { algorithms: provider.signature_verification_algorithms };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(own)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Secrets of a listening endpoint that outlive its process.
///
/// A peer whose broker was killed learns of it from the stateless reset (RFC 9000 §10.3) that the
/// next process sends for a connection that it does not know. The peer believes it only if the
/// process derives the same tokens, so all of this comes from the long-lived key: HKDF-SHA-256
/// (RFC 5869) of its seed, a label, and the address listened on. The address is in it because
/// endpoints that share a reset key could be made to reset each other's live connections
/// (RFC 9000 §10.3.2).
pub struct EndpointSecrets {
    /// Makes stateless reset tokens.
    pub reset: hmac::Key,
    /// Seals tokens of address validation.
    pub token: hkdf::Prk,
    /// Tells connection ids of this endpoint from others.
    pub connection_ids: u64,
}

impl EndpointSecrets {
    /// Of the endpoint of `key`'s holder that listens on `local`.
    pub fn derive(key: &KeyPair, local: SocketAddr) -> EndpointSecrets {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"nearmost quic v1").extract(&*key.seed());
        let local = local.to_string();
        let expand = |label: &[u8]| {
            let info = [label, local.as_bytes()];
            let mut out = [0u8; 32];
            // One block of 32 bytes is below every limit of HKDF, so neither step can fail.
            if let Ok(okm) = root.expand(&info, hkdf::HKDF_SHA256) {
                let _ = okm.fill(&mut out);
            }
            out
        };
        let [a, b, c, d, e, f, g, h, ..] = expand(b"connection ids");
        EndpointSecrets {
            reset: hmac::Key::new(hmac::HMAC_SHA256, &expand(b"stateless reset")),
            token: hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &expand(b"address validation")),
            connection_ids: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        }
    }
}

fn not_tls13() -> rustls::Error {
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered)
}

fn verify_raw(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

#[derive(Debug)]
struct PinnedServer {
    key: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

/// What a client's error says when the server holds another key; agents look for it to tell
/// people "wrong broker key" instead of a TLS alert.
pub const WRONG_KEY: &str = "the other side holds another key than the pinned one";

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match key_of_spki(end_entity) {
            Some(key) if key == self.key => Ok(ServerCertVerified::assertion()),
            _ => Err(rustls::Error::General(WRONG_KEY.into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_raw(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match key_of_spki(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(rustls::Error::General("not an Ed25519 raw public key".into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_raw(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use std::net::Ipv4Addr;

    fn server(key: &KeyPair) -> quinn::Endpoint {
        let config = quinn::ServerConfig::with_crypto(Arc::new(server_config(key, ALPN_AGENT).unwrap()));
        quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    async fn connect(
        to: &quinn::Endpoint,
        key: &KeyPair,
        pinned: Id,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let config = quinn::ClientConfig::new(Arc::new(client_config(key, pinned, ALPN_AGENT).unwrap()));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.connect_with(config, to.local_addr().unwrap(), SERVER_NAME).unwrap().await
    }

    #[test]
    fn an_endpoints_secrets_are_its_own_and_come_back() {
        let key = |seed| KeyPair::from_seed(Role::Broker, &[seed; 32]);
        let shown = |seed, local: &str| {
            let secrets = EndpointSecrets::derive(&key(seed), local.parse().unwrap());
            (hmac::sign(&secrets.reset, b"id").as_ref().to_vec(), secrets.connection_ids)
        };
        let own = shown(1, "127.0.0.1:1");
        assert_eq!(own, shown(1, "127.0.0.1:1"), "the next process makes the same");
        for other in [shown(2, "127.0.0.1:1"), shown(1, "127.0.0.1:2"), shown(1, "[::1]:1")] {
            assert!(own.0 != other.0 && own.1 != other.1);
        }
    }

    #[tokio::test]
    async fn both_sides_learn_the_others_key() {
        let (broker, node) =
            (KeyPair::from_seed(Role::Broker, &[1; 32]), KeyPair::from_seed(Role::Node, &[2; 32]));
        let endpoint = server(&broker);
        let accept = async { endpoint.accept().await.unwrap().await.unwrap() };
        let (accepted, connected) = tokio::join!(accept, connect(&endpoint, &node, broker.id()));
        assert_eq!(peer_key(&accepted), Some(node.id().key));
        assert_eq!(peer_key(&connected.unwrap()), Some(broker.id().key));
    }

    #[tokio::test]
    async fn a_server_with_another_key_is_refused_by_name() {
        let (broker, other) =
            (KeyPair::from_seed(Role::Broker, &[1; 32]), KeyPair::from_seed(Role::Broker, &[3; 32]));
        let node = KeyPair::from_seed(Role::Node, &[2; 32]);
        let endpoint = server(&other);
        let accept = async { endpoint.accept().await.unwrap().await };
        let (accepted, connected) = tokio::join!(accept, connect(&endpoint, &node, broker.id()));
        assert!(accepted.is_err());
        assert!(connected.unwrap_err().to_string().contains(WRONG_KEY));
    }
}
