//! A program's connection, what is under way on it, and what it becomes.

use super::local::Local;
use super::tunnel::Tunnel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A program's connection. Clones are the same one.
#[derive(Clone)]
pub(super) struct Program {
    pub local: Local,
    tunnel: Arc<Mutex<Option<Tunnel>>>,
    /// Requests whose answer has not ended.
    under_way: Arc<watch::Sender<usize>>,
}

impl Program {
    pub fn new(local: Local) -> Program {
        Program { local, tunnel: Arc::default(), under_way: Arc::new(watch::Sender::new(0)) }
    }

    /// What the connection became, once HTTP is over.
    pub fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It becomes a tunnel, once HTTP is over.
    pub fn becomes(&self, tunnel: Tunnel) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// A request is under way until this is dropped.
    pub fn request(&self) -> UnderWay {
        self.under_way.send_modify(|n| *n += 1);
        UnderWay(self.under_way.clone())
    }

    /// Until nothing was under way for so long.
    pub async fn idle(&self, time: Duration) {
        let mut under_way = self.under_way.subscribe();
        loop {
            // Its sender lives as long as this.
            let _ = under_way.wait_for(|n| *n == 0).await;
            if tokio::time::timeout(time, under_way.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request whose answer has not ended.
pub(super) struct UnderWay(Arc<watch::Sender<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}
