//! Small services to stand behind an agent: a web page, and a game over UDP.

use axum::Router;
use axum::routing::get;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::UdpSocket;
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

/// A game's server: it answers each packet with who it is and what it heard. Its port.
pub async fn game(ip: IpAddr, name: &'static str) -> u16 {
    let socket = UdpSocket::bind((ip, 0)).await.expect("bind");
    let port = socket.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut heard = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut heard).await {
            let said = [name.as_bytes(), b" ", &heard[..n]].concat();
            let _ = socket.send_to(&said, from).await;
        }
    });
    port
}
