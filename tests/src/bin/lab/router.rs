//! The router's process: packet sockets around [`nearmost_lab::fabric::Fabric`]. Orders come on standard
//! input, a line each; it ends with that.

use crate::clock::now;
use crate::raw::{LINK_HEADER, PacketSocket, link_header};
use anyhow::{Context, Result};
use nearmost_lab::fabric::Fabric;
use nearmost_lab::order::{Done, Order};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

/// Longer than any packet of the lab's links.
const FRAME: usize = 65_536;
/// Frames read of one host before others have their turn.
const TURN: usize = 64;

/// How a router begins.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Start {
    /// All hosts.
    pub hosts: Vec<u8>,
    /// One way, between each two, in milliseconds.
    pub delay_ms: f64,
    /// Of all its chance.
    pub seed: u64,
}

struct Router {
    fabric: Fabric,
    hosts: Vec<(u8, PacketSocket)>,
    /// Of orders, what was read of the next line.
    begun: Vec<u8>,
}

/// Passes packets on until standard input ends.
pub fn run(start: &str) -> Result<()> {
    let Start { hosts, delay_ms, seed } = serde_json::from_str(start).context("how to start")?;
    let fabric = Fabric::new(&hosts, Duration::from_secs_f64(delay_ms / 1e3), seed);
    let open = |host: u8| {
        let name = format!("r{host}");
        let probe = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        let index = rustix::net::netdevice::name_to_index(&probe, &name)?;
        anyhow::Ok((host, PacketSocket::open(index).with_context(|| format!("a packet socket on {name}"))?))
    };
    let hosts = hosts.into_iter().map(open).collect::<Result<_>>()?;
    let mut router = Router { fabric, hosts, begun: Vec::new() };
    println!("ready");
    while router.turn()? {}
    Ok(())
}

impl Router {
    /// Waits for something, and does it. False at the end.
    fn turn(&mut self) -> Result<bool> {
        let orders = std::io::stdin();
        let ready: Vec<bool> = {
            let mut waits: Vec<_> =
                self.hosts.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)).collect();
            waits.push(PollFd::from_borrowed_fd(orders.as_fd(), PollFlags::IN));
            let wait = self.fabric.next_due().map(|due| timespec(due.saturating_sub(now())));
            match poll(&mut waits, wait.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(true),
                Err(e) => return Err(e).context("poll"),
            }
            waits.iter().map(|w| !w.revents().is_empty()).collect()
        };
        self.send_due()?;
        let mut frame = vec![0; FRAME];
        for at in (0..self.hosts.len()).filter(|at| ready[*at]) {
            self.read(at, &mut frame)?;
        }
        self.send_due()?;
        if ready[self.hosts.len()] { self.orders() } else { Ok(true) }
    }

    fn read(&mut self, at: usize, frame: &mut [u8]) -> Result<()> {
        let (host, socket) = &self.hosts[at];
        for _ in 0..TURN {
            let Some((bytes, age)) = socket.receive(frame).context("receive")? else { break };
            // As if it had been read when it came, so that a busy machine delays nothing twice.
            let came = now().saturating_sub(age);
            self.fabric.arrive(*host, frame.get(LINK_HEADER..bytes).unwrap_or_default(), came);
        }
        Ok(())
    }

    fn send_due(&mut self) -> Result<()> {
        while let Some((to, packet)) = self.fabric.due(now()) {
            let Some((_, socket)) = self.hosts.iter().find(|(host, _)| *host == to) else { continue };
            let frame = [&link_header(to)[..], &packet].concat();
            socket.send(&frame).with_context(|| format!("send {} bytes to host {to}", frame.len()))?;
        }
        Ok(())
    }

    fn orders(&mut self) -> Result<bool> {
        let mut bytes = [0; 4096];
        // Not through the buffer of the standard library, of which poll knows nothing.
        let read = rustix::io::read(std::io::stdin(), &mut bytes).context("read orders")?;
        self.begun.extend_from_slice(&bytes[..read]);
        while let Some(end) = self.begun.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            let done = self.order(&line);
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(&done)?)?;
            out.flush()?;
        }
        Ok(read > 0)
    }

    fn order(&mut self, line: &[u8]) -> Done {
        let order = serde_json::from_slice::<Order>(line).map_err(|e| e.to_string());
        let (report, error) = match order.and_then(|order| self.fabric.order(order)) {
            Ok(report) => (report, None),
            Err(error) => (None, Some(error)),
        };
        Done { at_ns: now().as_nanos() as u64, report, error }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
}
