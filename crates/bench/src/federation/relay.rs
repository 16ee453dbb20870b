//! A line between two brokers: UDP through this process, with every datagram late by the same time.
//!
//! Datagrams keep their order. What waits is bounded; what finds no room is lost, and counted.

use anyhow::{Context, Result};
use nearmost_client::clock::mono_now;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Datagrams under way each way: what QUIC may have under way at once, and more.
const UNDER_WAY: usize = 1 << 15;
/// Longest datagram.
const LONGEST: usize = 2048;
/// Addresses that may call through a relay.
const MAX_CALLERS: usize = 64;
/// What the kernel keeps for this process while it does other things.
const KERNEL_BUFFER: usize = 16 << 20;

/// Leads to one broker for as long as it lives.
pub struct Relay {
    /// Where to call.
    pub address: SocketAddr,
    /// Datagrams that found no room.
    pub lost: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

struct Datagram {
    due: Instant,
    by: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Box<[u8]>,
}

#[derive(Clone)]
struct Line {
    queue: mpsc::Sender<Datagram>,
    lost: Arc<AtomicU64>,
    each_way: Duration,
}

impl Relay {
    /// Begins to relay to a broker and back.
    pub fn start(to: SocketAddr, each_way: Duration) -> Result<Relay> {
        let front = Arc::new(socket()?);
        let address = front.local_addr()?;
        let lost = Arc::new(AtomicU64::new(0));
        let lost_too = lost.clone();
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            let mut line = || {
                let (queue, waiting) = mpsc::channel(UNDER_WAY);
                tasks.spawn(carry(waiting));
                Line { queue, lost: lost_too.clone(), each_way }
            };
            let (there, back) = (line(), line());
            relay(front, to, (there, back), tasks).await;
        });
        Ok(Relay { address, lost, task })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn socket() -> Result<UdpSocket> {
    let socket = StdSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a relay's socket")?;
    socket.set_nonblocking(true)?;
    // More than the kernel gives by itself where this runs as root; otherwise a burst may lose something.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER)?;
    }
    Ok(UdpSocket::from_std(socket)?)
}

impl Line {
    fn put(&self, by: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        let datagram = Datagram { due: mono_now() + self.each_way, by: by.clone(), to, bytes: bytes.into() };
        if self.queue.try_send(datagram).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn relay(front: Arc<UdpSocket>, to: SocketAddr, (there, back): (Line, Line), mut tasks: JoinSet<()>) {
    let mut callers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = [0; LONGEST];
    loop {
        // Errors tell of datagrams that nobody took, as while a broker is down.
        let Ok((length, from)) = front.recv_from(&mut buffer).await else { continue };
        let known = callers.get(&from).cloned();
        let by = match known {
            Some(by) => by,
            None if callers.len() < MAX_CALLERS => {
                let Ok(socket) = socket() else { continue };
                let socket = Arc::new(socket);
                callers.insert(from, socket.clone());
                tasks.spawn(answers(socket.clone(), front.clone(), from, back.clone()));
                socket
            }
            None => continue,
        };
        there.put(&by, to, &buffer[..length]);
    }
}

async fn answers(socket: Arc<UdpSocket>, front: Arc<UdpSocket>, caller: SocketAddr, back: Line) {
    let mut buffer = [0; LONGEST];
    loop {
        if let Ok((length, _)) = socket.recv_from(&mut buffer).await {
            back.put(&front, caller, &buffer[..length]);
        }
    }
}

async fn carry(mut waiting: mpsc::Receiver<Datagram>) {
    while let Some(datagram) = waiting.recv().await {
        if datagram.due > mono_now() {
            tokio::time::sleep_until(datagram.due.into()).await;
        }
        // Nobody may be there just now.
        let _ = datagram.by.send_to(&datagram.bytes, datagram.to).await;
    }
}
