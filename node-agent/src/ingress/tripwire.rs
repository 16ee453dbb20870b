//! Connections whose end says that this mirror is to be left.
//!
//! A client holds a TCP connection on which nobody says anything. The agent closes all of them when a
//! service of its fails; the system does when the agent's process ends, however that comes. A drain closes
//! none: clients are told of it by words, and what is under way over them goes on.
//!
//! What its end means to clients is written in [`nearmost_core::session`]. Where there is no room for one, a
//! byte is said before it is closed: that end means nothing.
//!
//! A client whose network lets no UDP through says something at once: the same port takes
//! [tunnels](nearmost_wire::tunnel).

use super::Shared;
use super::gate::{Entry, Gate};
use super::metrics;
use nearmost_wire::tunnel::TLS_HANDSHAKE;
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Clients that are gone without a word are looked for this often.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Says that there is no tripwire.
const NO_ROOM: [u8; 1] = [0];
/// Within this time whoever came for a tunnel says something. Short enough for clients to see that there is no
/// tripwire, and not one that closed.
const FIRST: Duration = Duration::from_millis(100);
/// After a connection that could not be accepted, as without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts and holds connections until dropped. While not `well`, none is held but tunnels.
pub(super) async fn hold(
    listener: TcpListener,
    gate: Arc<Gate>,
    well: watch::Receiver<bool>,
    inside: Inside,
    shared: Shared,
) {
    let mut held = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = held.join_next() => continue,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::debug!(error = %e, "a tripwire connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match gate.enter(remote.ip(), true, shared.clock.now()) {
            Entry::Admitted(permit) => {
                let (well, inside, shared) = (well.clone(), inside.clone(), shared.clone());
                held.spawn(async move {
                    let counted = metrics::held(&shared.metrics.tripwires);
                    let tunnel = until_over(&stream, well).await;
                    drop(counted);
                    if tunnel {
                        let _counted = metrics::held(&shared.metrics.tunnels);
                        inside.serve(stream, &shared).await;
                    }
                    drop(permit);
                });
            }
            Entry::Prove | Entry::Refused(_) => {
                shared.metrics.refused("tripwire_limit");
                // A new connection has room for it.
                let _ = stream.try_write(&NO_ROOM);
            }
        }
    }
}

/// Until this side has to close, or the other did; whoever says something has another use for it. Whether
/// that is a tunnel.
async fn until_over(stream: &TcpStream, mut well: watch::Receiver<bool>) -> bool {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    // Without it a client that vanished only takes up its place for longer.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    let mut word = [0];
    // While no tripwire is held, who came for a tunnel may say so.
    let patience = if *well.borrow() { Duration::ZERO } else { FIRST };
    let gone = async {
        tokio::time::sleep(patience).await;
        let _ = well.wait_for(|well| !well).await;
    };
    tokio::select! {
        biased;
        said = stream.peek(&mut word) => matches!(said, Ok(1)) && word[0] == TLS_HANDSHAKE,
        () = gone => false,
    }
}

/// What tunnels lead into.
#[derive(Clone)]
pub(super) struct Inside {
    pub tls: Arc<rustls::ServerConfig>,
    /// Where QUIC listens.
    pub endpoint: SocketAddr,
}

impl Inside {
    async fn serve(self, stream: TcpStream, shared: &Shared) {
        if let Err(e) = shared.tunnels.serve(stream, self.tls, self.endpoint).await {
            tracing::debug!(error = %e, "a tunnel ended");
        }
    }
}
