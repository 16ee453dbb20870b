//! Connections: Unix socket, TCP, TLS.

use crate::endpoint::Endpoint;
use crate::error::ClientError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection of one of the three kinds.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Stream, ClientError> {
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path)
            .await
            .map(Stream::Unix)
            .map_err(|source| ClientError::Socket { path: path.clone(), source }),
        Endpoint::Http { host, port } => tcp(endpoint, host, *port).await.map(Stream::Tcp),
        Endpoint::Https { host, port, ca_file } => {
            let config = tls_config(ca_file.as_deref())?;
            let stream = tcp(endpoint, host, *port).await?;
            tls(endpoint, host, config, stream).await
        }
    }
}

async fn tcp(endpoint: &Endpoint, host: &str, port: u16) -> Result<TcpStream, ClientError> {
    let connect_error = |source| ClientError::Connect { at: endpoint.to_string(), source };
    let stream = TcpStream::connect((host, port)).await.map_err(connect_error)?;
    stream.set_nodelay(true).map_err(connect_error)?;
    Ok(stream)
}

async fn tls(
    endpoint: &Endpoint,
    host: &str,
    config: ClientConfig,
    stream: TcpStream,
) -> Result<Stream, ClientError> {
    let tls_error = |source| ClientError::Tls { at: endpoint.to_string(), source };
    let name = ServerName::try_from(host.to_owned()).map_err(|e| tls_error(std::io::Error::other(e)))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| tls_error(friendly(e)))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// The one refusal that whoever made a certificate by hand meets first, in words that say what to do.
fn friendly(error: std::io::Error) -> std::io::Error {
    match error.to_string().contains("CaUsedAsEndEntity") {
        true => std::io::Error::other(
            "the broker's certificate is that of a certificate authority (CA:TRUE), which cannot stand for a \
             server; make one with basicConstraints=CA:FALSE, or one that this authority signs",
        ),
        false => error,
    }
}

/// Trusts the public authorities and those of `ca_file`.
fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let error = |detail: String| ClientError::CaFile { path: path.into(), detail };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| error(e.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|e| error(e.to_string()))?;
            roots.add(certificate).map_err(|e| error(e.to_string()))?;
        }
        if roots.len() == before {
            return Err(error("holds no certificate in PEM form".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ClientError::Tls { at: "this machine".into(), source: std::io::Error::other(e) })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
