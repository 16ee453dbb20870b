//! Programs that know nothing of sessions, carried over one.

mod bodies;
mod connections;
mod http;
mod ledger;
mod site;
mod tcp;
mod udp;

use super::mirror::Mirror;
use super::world::{builder, settled, soon};
use nearmost_client::session::{Mode, Session};
use nearmost_client::sidecar::{Count, Counters, Notice, Notices, notices};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A sidecar that runs.
pub struct Running {
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    pub notices: mpsc::Receiver<Notice>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// Runs what `serve` makes of counters, a place for notices, and the moment to stop.
    pub fn run<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(Arc<Counters>, Notices, Stop) -> F,
    ) -> Running {
        let counters = Arc::<Counters>::default();
        let (to, notices) = notices();
        let (stop, stopped) = oneshot::channel();
        let stopped: Stop = Box::pin(async move { drop(stopped.await) });
        let task = tokio::spawn(serve(counters.clone(), to, stopped));
        Running { address, counters, notices, stop, task }
    }

    pub async fn stop(self) {
        self.stop.send(()).expect("it runs");
        soon(self.task).await.expect("no panic");
    }

    /// Waits until something was counted so often.
    pub async fn counted(&self, what: Count, times: u64) {
        let reached = async {
            while self.counters.get(what) < times {
                tokio::task::yield_now().await;
            }
        };
        soon(reached).await;
    }
}

pub type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A session for streams, and the places of its primary and standby.
pub async fn streams(mirrors: &[Mirror]) -> (Session, usize, usize) {
    let session = builder(mirrors).mode(Mode::Stream).connect().await.unwrap();
    let (primary, standby) = settled(&session, mirrors).await;
    (session, primary, standby)
}
