//! A TCP port: each connection of a program is a stream to the service, at the mirror that is the primary when
//! it comes.
//!
//! ```text
//!  accepted ──▶ open a stream ──▶ bytes both ways ──▶ both ends said: ended
//!      │              │                  │
//!      ▼              ▼                  ▼
//!  too many:    no way in time:     mirror, service or program broke it:
//!  reset        reset               reset
//! ```
//!
//! **Kept.** Bytes and their order, half-close both ways, and the difference between an end and a break: a
//! program reads the end of the data only where the service ended it. Whatever else happens it sees a reset,
//! when its mirror dies at the moment at which the session leaves that mirror. No connection is carried on by
//! another server.
//!
//! **Tried again.** Only the opening of the stream, for at most 8 s, since nothing was sent
//! to the service before it stands. The program's bytes wait in its socket meanwhile.
//!
//! **Can be lost.** What was written and not answered by the service: the local system acknowledges bytes
//! that only this machine has. That is so with every proxy; an answer of the service is the only proof.
//!
//! **Bounds.** One buffer each way a connection, [`Settings::most_connections`] of them.

use super::count::{Count, Counters};
use super::notice::{Notice, Notices};
use super::{open, relay};
use crate::session::Session;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// After a failed accept, as when there are no file descriptors left.
const REST: Duration = Duration::from_millis(100);

/// What a port takes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at one time; one more is reset at once.
    pub most_connections: usize,
    /// How long what is under way may go on once the port is to stop.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { most_connections: 1024, grace: Duration::from_secs(5) }
    }
}

/// Serves until `stop`, then lets connections end for the grace and resets what is left.
pub async fn serve(
    listener: TcpListener,
    session: Session,
    settings: Settings,
    counters: Arc<Counters>,
    notices: Notices,
    stop: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    let port = Port { listener, settings, counters: counters.clone(), notices: notices.clone() };
    let serve = |local| connection(local, session.clone(), counters.clone(), notices.clone());
    port.accept(&mut connections, serve, stop).await;
    port.finish(connections).await;
}

async fn connection(local: TcpStream, session: Session, counters: Arc<Counters>, notices: Notices) {
    // What a program writes at once should leave at once. Without it, it only leaves later.
    let _ = local.set_nodelay(true);
    let stream = match open::stream(&session).await {
        Ok(stream) => stream,
        Err(error) => {
            counters.add(Count::Unreached);
            notices.tell(Notice::Unreached { why: error.to_string() });
            // Drops the connection as broken where the system lets it, else as ended without a byte.
            let _ = relay::break_when_dropped(&local, true);
            return;
        }
    };
    counters.add(match relay::relay(&local, stream).await {
        Ok(()) => Count::Ended,
        Err(_) => Count::Broken,
    });
}

/// A listening port with a bounded number of connections.
pub(super) struct Port {
    pub listener: TcpListener,
    pub settings: Settings,
    pub counters: Arc<Counters>,
    pub notices: Notices,
}

impl Port {
    /// Takes connections in until `stop`, each into a task of its own.
    pub async fn accept<F: Future<Output = ()> + Send + 'static>(
        &self,
        connections: &mut JoinSet<()>,
        serve: impl Fn(TcpStream) -> F,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((local, peer)) => self.take(local, peer, connections, &serve),
                    Err(e) => {
                        self.notices.tell(Notice::Accept { why: e.to_string() });
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
    }

    fn take<F: Future<Output = ()> + Send + 'static>(
        &self,
        local: TcpStream,
        peer: SocketAddr,
        connections: &mut JoinSet<()>,
        serve: impl Fn(TcpStream) -> F,
    ) {
        let most = self.settings.most_connections;
        if connections.len() < most {
            self.counters.add(Count::Connections);
            connections.spawn(serve(local));
            return;
        }
        self.counters.add(Count::ConnectionsRefused);
        self.notices.tell(Notice::TooMany { peer, most });
        let _ = relay::break_when_dropped(&local, true);
    }

    /// Lets connections end for the grace. No new ones wait for it.
    pub async fn finish(self, mut connections: JoinSet<()>) {
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.settings.grace, all).await;
        connections.shutdown().await;
    }
}
