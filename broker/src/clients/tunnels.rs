//! TCP beside the endpoints, for clients whose network lets no UDP through.

use super::ClientSettings;
use crate::quic::EndpointError;
use crate::quic::gate::{Entry, Gate};
use crate::telemetry::ClientMetrics;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::tls;
use nearmost_wire::tunnel::{ALPN_TUNNEL, Tunnels};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After a connection that could not be accepted, as without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Bound listeners, one beside each endpoint, and where the clients of tunnels really are.
pub(super) struct TunnelServer {
    listeners: Vec<(TcpListener, SocketAddr)>,
    tls: Arc<rustls::ServerConfig>,
    pub(super) tunnels: Tunnels,
}

impl TunnelServer {
    /// Binds TCP at the address of each endpoint.
    pub(super) fn bind(endpoints: &[SocketAddr], key: &KeyPair) -> Result<TunnelServer, EndpointError> {
        let tls = Arc::new(tls::stream_server_config(key, ALPN_TUNNEL)?);
        let bind = |address: &SocketAddr| {
            let listener = TcpListener::bind(address)
                .and_then(|l| l.set_nonblocking(true).map(|()| l))
                .map_err(|source| EndpointError::Bind {
                    what: "clients' tunnels (TCP)",
                    address: *address,
                    source,
                })?;
            Ok((listener, *address))
        };
        let listeners = endpoints.iter().map(bind).collect::<Result<_, EndpointError>>()?;
        Ok(TunnelServer { listeners, tls, tunnels: Tunnels::default() })
    }

    /// Serves until cancelled.
    pub(super) fn spawn(
        self,
        settings: &ClientSettings,
        metrics: &ClientMetrics,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) {
        let gate = Arc::new(Gate::new(settings.max_connections, settings.max_per_network));
        for (listener, endpoint) in self.listeners {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "tunnels of clients are not served");
                    continue;
                }
            };
            let tunnels = Served {
                tls: self.tls.clone(),
                tunnels: self.tunnels.clone(),
                gate: gate.clone(),
                metrics: metrics.clone(),
                endpoint,
            };
            let accept = tunnels.accept(listener, tasks.clone(), cancel.clone());
            tasks.spawn(cancel.clone().run_until_cancelled_owned(accept));
        }
    }
}

struct Served {
    tls: Arc<rustls::ServerConfig>,
    tunnels: Tunnels,
    gate: Arc<Gate>,
    metrics: ClientMetrics,
    endpoint: SocketAddr,
}

impl Served {
    async fn accept(self, listener: tokio::net::TcpListener, tasks: TaskTracker, cancel: CancellationToken) {
        loop {
            let (stream, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a tunnel could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Entry::Admitted(permit) = self.gate.enter(remote.ip(), true) else {
                self.metrics.handshakes_refused.with_label_values(&["tunnel_limit"]).inc();
                continue;
            };
            let (tunnels, tls, endpoint) = (self.tunnels.clone(), self.tls.clone(), self.endpoint);
            let open = self.metrics.tunnels.clone();
            let serve = async move {
                open.inc();
                if let Err(error) = tunnels.serve(stream, tls, endpoint).await {
                    tracing::debug!(%remote, %error, "a tunnel ended");
                }
                open.dec();
                drop(permit);
            };
            tasks.spawn(cancel.clone().run_until_cancelled_owned(serve));
        }
    }
}
