//! A small HTTP service to stand behind an agent.

use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::task::JoinHandle;

/// A service that answers `/` with its name and can be told to fail.
pub struct Service {
    /// Where it listens.
    pub addr: SocketAddr,
    status: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Service {
    /// Serves on an address; port 0 takes any.
    pub async fn start(addr: &str, name: &'static str) -> Service {
        let listener = tokio::net::TcpListener::bind(addr).await.expect("bind the test service");
        let addr = listener.local_addr().expect("bound");
        let status = Arc::new(AtomicU16::new(200));
        let answer = status.clone();
        let handler = move || {
            let status = answer.load(Ordering::Relaxed);
            async move { (axum::http::StatusCode::from_u16(status).expect("a status"), name) }
        };
        let router = Router::new().route("/", get(handler.clone())).fallback(get(handler));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Service { addr, status, task }
    }

    /// Answers every request with this status from now on.
    pub fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
