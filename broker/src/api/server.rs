//! Accept loops and connections.
//!
//! Each connection is a task: TLS handshake with a limit of time, then HTTP/1.1 or HTTP/2 as agreed
//! by ALPN (HTTP/1.1 without TLS). Connections over TCP share one bound, of which one source can
//! have a quarter; the admin socket has its own, so that people get in when users fill the rest.

use super::auth::{ListenerKind, Peer};
use super::listen::{ApiError, Listeners, TcpBound, UnixBound, bind_tcp, bind_unix};
use super::settings::{ActiveSettings, ApiSettings};
use super::tls::Certificates;
use super::{ApiState, router_with};
use crate::telemetry::{ApiMetrics, HttpCertificateMetrics};
use crate::tls_files::{self, TlsError};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use nearmost_config::HttpConfig;
use nearmost_wire::identity::IdError;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Longest a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest a request's head may take, and a connection may be silent between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pings of an HTTP/2 connection, and the wait for the answer.
const PING: Duration = Duration::from_secs(20);
/// Requests in hand get this long when the broker stops.
const GRACE: Duration = Duration::from_secs(5);
/// Connections to the admin socket.
const MAX_ADMIN: usize = 64;
/// Pause after accepting failed: for want of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound API.
pub struct ApiServer {
    tcp: Vec<TcpBound>,
    unix: Option<UnixBound>,
    certificates: Option<Arc<Certificates>>,
    state: ApiState,
    settings: ActiveSettings,
    max_connections: usize,
}

/// Steers a running API.
#[derive(Clone)]
pub struct ApiControl {
    certificates: Option<Arc<Certificates>>,
    settings: ActiveSettings,
}

/// What of a reload failed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A person's id in the configuration; nothing was changed.
    #[error("configuration: http.persons: {0}")]
    Person(#[from] IdError),
    /// The certificate; the old one stays in use, everything else is in force.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ApiControl {
    /// Puts tokens, persons, trusted sources and the limit of `config` in force, and loads the TLS
    /// certificate again. A token that is withdrawn is so even where the certificate is wrong.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn reload(&self, config: &HttpConfig) -> Result<(), ReloadError> {
        self.settings.replace(ApiSettings::try_from(config)?);
        Ok(self.certificates.as_ref().map_or(Ok(()), |c| c.reload())?)
    }
}

impl ApiServer {
    /// Binds every socket and loads the certificate.
    ///
    /// # Errors
    /// Names the address, file or socket that cannot be had, and who asked for it.
    pub async fn bind(listeners: &Listeners, state: ApiState) -> Result<ApiServer, ApiError> {
        let certificates = listeners.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
        if let Some(certificates) = certificates.clone() {
            HttpCertificateMetrics::register(&state.registry, move || certificates.expires())?;
        }
        let tcp = bind_tcp(listeners)?;
        let unix = match &listeners.socket {
            Some(path) => Some(bind_unix(path).await?),
            None => None,
        };
        let settings = ActiveSettings::new(state.settings.clone());
        let max_connections = listeners.max_connections;
        Ok(ApiServer { tcp, unix, certificates, state, settings, max_connections })
    }

    /// Where the API listens, in the order asked for.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter(|l| l.kind != ListenerKind::Redirect).map(|l| l.addr).collect()
    }

    /// Where redirects are given, in the order asked for.
    pub fn redirect_addrs(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter(|l| l.kind == ListenerKind::Redirect).map(|l| l.addr).collect()
    }

    /// For signals.
    pub fn control(&self) -> ApiControl {
        ApiControl { certificates: self.certificates.clone(), settings: self.settings.clone() }
    }

    /// Serves until cancelled; then streams end, and requests in hand are finished.
    pub async fn run(self, cancel: CancellationToken) {
        let server = Arc::new(Server {
            metrics: self.state.metrics.clone(),
            router: router_with(self.state, self.settings, cancel.clone()),
            certificates: self.certificates.clone(),
            places: Places::new(self.max_connections),
            admin: Arc::new(Semaphore::new(MAX_ADMIN)),
            connections: TaskTracker::new(),
            cancel: cancel.clone(),
            abort: CancellationToken::new(),
        });
        let loops = TaskTracker::new();
        for listener in self.tcp {
            loops.spawn(server.clone().accept_tcp(listener));
        }
        if let Some(unix) = self.unix {
            loops.spawn(server.clone().accept_unix(unix));
        }
        if let Some(certificates) = self.certificates {
            loops.spawn(watch_certificates(certificates, cancel));
        }
        loops.close();
        loops.wait().await;
        server.connections.close();
        if tokio::time::timeout(GRACE, server.connections.wait()).await.is_err() {
            tracing::warn!("HTTP requests that took too long were broken off");
            server.abort.cancel();
            server.connections.wait().await;
        }
    }
}

async fn watch_certificates(certificates: Arc<Certificates>, cancel: CancellationToken) {
    let mut look = tokio::time::interval(tls_files::LOOK);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = look.tick() => {}
        }
        match certificates.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => tracing::info!("TLS certificate changed, and reloaded"),
            Err(error) => {
                tracing::error!(%error, "TLS certificate changed, but cannot be used; the old one stays")
            }
        }
    }
}

/// What connections share.
struct Server {
    router: Router,
    metrics: ApiMetrics,
    certificates: Option<Arc<Certificates>>,
    places: Arc<Places>,
    admin: Arc<Semaphore>,
    connections: TaskTracker,
    cancel: CancellationToken,
    /// Ends connections that do not end by themselves.
    abort: CancellationToken,
}

impl Server {
    async fn accept_tcp(self: Arc<Self>, bound: TcpBound) {
        while let Some(accepted) = self.next(bound.listener.accept()).await {
            let Some((stream, addr)) = self.accepted(accepted).await else { continue };
            let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
            let Some(place) = self.places.take(addr.ip()) else {
                self.metrics.refused.with_label_values(&["limit"]).inc();
                continue;
            };
            // Small answers leave at once; a socket that cannot do that still works.
            let _ = stream.set_nodelay(true);
            let tls = self.certificates.as_ref().filter(|_| bound.tls).map(|c| c.config());
            let peer = Peer::Tcp { kind: bound.kind, addr };
            self.connections.spawn(self.clone().serve_tcp(stream, tls, peer, place));
        }
    }

    async fn accept_unix(self: Arc<Self>, bound: UnixBound) {
        while let Some(accepted) = self.next(bound.listener.accept()).await {
            let Some((stream, _)) = self.accepted(accepted).await else { continue };
            let Ok(uid) = stream.peer_cred().map(|c| c.uid()) else { continue };
            let Ok(permit) = self.admin.clone().try_acquire_owned() else {
                self.metrics.refused.with_label_values(&["limit"]).inc();
                continue;
            };
            let server = self.clone();
            self.connections.spawn(async move {
                server.serve(stream, Peer::Unix { uid }, false).await;
                drop(permit);
            });
        }
    }

    /// What comes next, `None` once the broker stops.
    async fn next<T>(&self, accept: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.cancel.cancelled() => None,
            accepted = accept => Some(accepted),
        }
    }

    /// An error of accepting concerns a connection that broke off, or passes when others end.
    async fn accepted<T>(&self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                self.next(tokio::time::sleep(ACCEPT_PAUSE)).await;
                None
            }
        }
    }

    async fn serve_tcp(
        self: Arc<Self>,
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        peer: Peer,
        place: Place,
    ) {
        let Some(config) = tls else {
            self.serve(stream, peer, false).await;
            return drop(place);
        };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream));
        let failed = match self.next(handshake).await {
            None => return,
            Some(Ok(Ok(stream))) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.serve(stream, peer, http2).await;
                return drop(place);
            }
            Some(Ok(Err(_))) => "handshake",
            Some(Err(_)) => "handshake_timeout",
        };
        self.metrics.refused.with_label_values(&[failed]).inc();
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        http2: bool,
    ) {
        let service = hyper::service::service_fn(|request: http::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            self.router.clone().oneshot(request)
        });
        let builder = builder(http2);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        self.metrics.connections.inc();
        // How a connection ends is the other side's business: there is nothing to tell anyone.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = self.cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = connection => {}
                    () = self.abort.cancelled() => {}
                }
            }
        }
        self.metrics.connections.dec();
    }
}

fn builder(http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    // One or the other, so that nothing waits for bytes that tell them apart.
    match http2 {
        true => builder.http2_only(),
        false => builder.http1_only(),
    }
}

/// Places for connections over TCP.
struct Places {
    all: Arc<Semaphore>,
    most_per_source: usize,
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, given back when dropped.
struct Place {
    places: Arc<Places>,
    source: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    fn new(max: usize) -> Arc<Places> {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Places {
            all: Arc::new(Semaphore::new(max)),
            most_per_source: (max / 4).max(1),
            by_source: Mutex::new(HashMap::new()),
        })
    }

    /// `None` when all are taken, or this source has its part. This machine has no part: proxies
    /// and people share its address.
    fn take(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let source = (!source.is_loopback()).then_some(source);
        if let Some(source) = source {
            let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
            let has = by_source.entry(source).or_insert(0);
            if *has >= self.most_per_source {
                return None;
            }
            *has += 1;
        }
        Some(Place { places: self.clone(), source, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut by_source = self.places.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(has) = by_source.get_mut(&source) {
            *has -= 1;
            if *has == 0 {
                by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_can_have_a_quarter_and_gives_it_back() {
        let places = Places::new(8);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let held = [places.take(a).unwrap(), places.take(a).unwrap()];
        assert!(places.take(a).is_none());
        assert!(places.take(b).is_some());
        drop(held);
        assert!(places.take(a).is_some());
        assert!(places.by_source.lock().unwrap().is_empty());
        let local = (0..8).map(|_| places.take(IpAddr::from([127, 0, 0, 1])).unwrap()).collect::<Vec<_>>();
        assert!(places.take(b).is_none());
        drop(local);
    }
}
