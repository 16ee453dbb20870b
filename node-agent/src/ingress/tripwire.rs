//! Connections whose end says that this mirror is to be left.
//!
//! A client holds a TCP connection on which nobody says anything. The agent closes all of them when it
//! stops or a service of its fails; the system does when the agent's process ends, however that comes. A
//! drain closes none until it is over: clients are told of it, and leave in order.

use super::Shared;
use super::gate::{Entry, Gate};
use super::metrics;
use socket2::{SockRef, TcpKeepalive};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Clients that are gone without a word are looked for this often.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// After a connection that could not be accepted, as without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts and holds connections until dropped. While not `well`, none is held.
pub(super) async fn hold(
    listener: TcpListener,
    gate: Arc<Gate>,
    well: watch::Receiver<bool>,
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
        if !*well.borrow() {
            continue;
        }
        match gate.enter(remote.ip(), true, shared.clock.now()) {
            Entry::Admitted(permit) => {
                let (well, tripwires) = (well.clone(), shared.metrics.tripwires.clone());
                held.spawn(async move {
                    let _counted = metrics::held(&tripwires);
                    until_over(stream, well).await;
                    drop(permit);
                });
            }
            Entry::Prove | Entry::Refused(_) => shared.metrics.refused("tripwire_limit"),
        }
    }
}

/// Until this side has to close, or the other did; whoever says something has another use for it.
async fn until_over(stream: TcpStream, mut well: watch::Receiver<bool>) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    // Without it a client that vanished only takes up its place for longer.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let mut word = [0];
    tokio::select! {
        _ = well.wait_for(|well| !well) => {}
        _ = stream.peek(&mut word) => {}
    }
}
