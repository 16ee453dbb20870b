//! DNS over TLS and over QUIC beside the plain transports: one certificate, sockets of their own, the same
//! answers.

use super::certificate::Certificate;
use super::doq::{self, QuicAcceptor, QuicLimits};
use super::gate::Gate;
use super::metrics::CertificateMetrics;
use super::tcp::Acceptor;
use super::tls::TlsDoor;
use super::{DnsError, Handler, TcpLimits, bind};
use crate::quic::endpoint;
use crate::tls_files;
use nearmost_config::TlsFiles;
use nearmost_wire::identity::KeyPair;
use quinn::crypto::rustls::QuicServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Where and within which limits encrypted DNS is served.
#[derive(Clone, Debug)]
pub struct EncryptedSettings {
    /// Certificate and key.
    pub files: TlsFiles,
    /// Addresses of DNS over TLS; may be empty.
    pub dot: Vec<SocketAddr>,
    /// Addresses of DNS over QUIC; may be empty.
    pub doq: Vec<SocketAddr>,
    /// Limits of connections, each transport's own.
    pub limits: TcpLimits,
    /// A handshake not done after this long is dropped.
    pub handshake_timeout: Duration,
    /// Queries that one QUIC connection may have under way.
    pub max_streams: u32,
}

/// Bound sockets, ready to serve.
pub struct EncryptedServer {
    certificate: Arc<Certificate>,
    dot: Dot,
    doq: Doq,
}

struct Dot {
    listeners: Vec<(SocketAddr, TcpListener)>,
    limits: TcpLimits,
    door: TlsDoor,
}

struct Doq {
    endpoints: Vec<(SocketAddr, quinn::Endpoint)>,
    limits: QuicLimits,
}

impl EncryptedServer {
    /// Loads the certificate and binds all addresses. Must be called inside a tokio runtime. What must
    /// outlive the process at a QUIC endpoint follows from `key`.
    ///
    /// # Errors
    /// [`DnsError::Tls`] names the file, [`DnsError::Bind`] the address.
    pub fn bind(
        settings: EncryptedSettings,
        key: &KeyPair,
        metrics: CertificateMetrics,
    ) -> Result<EncryptedServer, DnsError> {
        let certificate = Certificate::load(&settings.files, metrics)?;
        let limits = QuicLimits {
            connections: settings.limits,
            handshake_timeout: settings.handshake_timeout,
            max_streams: settings.max_streams,
        };
        let dot = Dot {
            listeners: settings.dot.iter().map(|a| listener(*a)).collect::<Result<_, _>>()?,
            limits: settings.limits,
            door: TlsDoor {
                acceptor: TlsAcceptor::from(Arc::new(certificate.dot()?)),
                handshake_timeout: settings.handshake_timeout,
            },
        };
        let crypto = QuicServerConfig::try_from(certificate.doq()?).map_err(|_| {
            // The provider is ours and has QUIC's first cipher suite.
            tls_files::unusable(&settings.files, rustls::Error::General("no cipher suite for QUIC".into()))
        })?;
        let config = doq::server_config(crypto, &limits);
        let endpoint = |address: &SocketAddr| endpoint(*address, key, &config);
        let endpoints = settings.doq.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(EncryptedServer { certificate, dot, doq: Doq { endpoints, limits } })
    }

    /// The certificate, which can be told to look at its files.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.certificate)
    }

    /// Where DNS over TLS is served, in the order of the settings, with the ports that were taken.
    pub fn dot_addrs(&self) -> Vec<SocketAddr> {
        self.dot.listeners.iter().map(|(address, _)| *address).collect()
    }

    /// Where DNS over QUIC is served, likewise.
    pub fn doq_addrs(&self) -> Vec<SocketAddr> {
        self.doq.endpoints.iter().map(|(address, _)| *address).collect()
    }

    /// Serves until cancelled, in tasks of this set.
    pub(super) fn spawn(self, handler: &Handler, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
        let gate = Arc::new(Gate::new(self.dot.limits.into()));
        for (_, listener) in self.dot.listeners {
            let acceptor = Acceptor {
                listener,
                gate: Arc::clone(&gate),
                limits: self.dot.limits,
                handler: handler.clone(),
                tls: Some(self.dot.door.clone()),
            };
            tasks.spawn(acceptor.serve(stop.clone()));
        }
        let gate = Arc::new(Gate::new(self.doq.limits.connections.into()));
        for (_, endpoint) in self.doq.endpoints {
            let acceptor = QuicAcceptor {
                endpoint,
                gate: Arc::clone(&gate),
                limits: self.doq.limits,
                handler: handler.clone(),
            };
            tasks.spawn(acceptor.serve(stop.clone()));
        }
        tasks.spawn(self.certificate.watch(stop.clone()));
    }
}

fn listener(asked: SocketAddr) -> Result<(SocketAddr, TcpListener), DnsError> {
    let named = |source| bind::bind_error(asked, "DNS over TLS", source);
    let listener = bind::tcp(asked).map_err(named)?;
    Ok((listener.local_addr().map_err(named)?, listener))
}

fn endpoint(
    asked: SocketAddr,
    key: &KeyPair,
    config: &quinn::ServerConfig,
) -> Result<(SocketAddr, quinn::Endpoint), DnsError> {
    let named = |source| bind::bind_error(asked, "DNS over QUIC", source);
    let endpoint = bind::quic(asked).and_then(|socket| endpoint::over(socket, key, config)).map_err(named)?;
    Ok((endpoint.local_addr().map_err(named)?, endpoint))
}
