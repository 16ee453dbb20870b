//! Telling the service manager that the broker serves, as long as it does.
//!
//! ```text
//! every third of the watchdog's time:
//!   driver ── "alive?" ──> answered        the one task that decides turns
//!   each DNS address ── query ──> reply    its threads receive, answer and send
//!   both? WATCHDOG=1                       else silence, and the manager restarts the broker
//! ```
//! Nothing here is a timer that says yes by itself: what is asked is what users depend on. A reply that gets
//! lost is asked for again.

use crate::driver::{DriverHandle, DriverInput};
use nearmost_core::registry::Registry;
use nearmost_service::notify::Notifier;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long the driver may take to answer; it turns within milliseconds.
const DRIVER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a reply of DNS may take.
const DNS_PATIENCE: Duration = Duration::from_secs(1);
/// How often a query is repeated.
const TRIES: u16 = 3;
/// Pause before a broker that does not answer yet is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often the status is told where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// What is asked, and who is told.
pub struct Liveness {
    /// Is told.
    pub notifier: Notifier,
    /// Is asked.
    pub driver: DriverHandle,
    /// Where DNS is served over UDP.
    pub dns: Vec<SocketAddr>,
    /// For the status.
    pub registry: watch::Receiver<Arc<Registry>>,
}

/// What does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Silent {
    /// The driver.
    #[error("the driver does not answer")]
    Driver,
    /// A DNS socket.
    #[error("DNS at {0} does not answer")]
    Dns(SocketAddr),
}

impl Liveness {
    /// Says that the broker is ready once it answers, and that it lives as long as it does; until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        if !self.notifier.is_on() {
            return cancel.cancelled().await;
        }
        let _ = cancel.run_until_cancelled(self.tell()).await;
    }

    async fn tell(&self) {
        while self.check().await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
        self.notifier.ready(&self.status());
        loop {
            tokio::time::sleep(self.notifier.watchdog_every().unwrap_or(STATUS_EVERY)).await;
            match self.check().await {
                Ok(()) => {
                    self.notifier.status(&self.status());
                    self.notifier.alive();
                }
                Err(error) => {
                    tracing::error!(%error, "not told to the service manager as alive");
                    self.notifier.status(&error.to_string());
                }
            }
        }
    }

    /// For people, in `systemctl status`.
    fn status(&self) -> String {
        let registry = self.registry.borrow();
        format!("answering for {} domains with {} mirrors", registry.domains.len(), registry.mirrors.len())
    }

    /// Whether everything answers.
    async fn check(&self) -> Result<(), Silent> {
        let (alive, said) = oneshot::channel();
        let asked = async {
            self.driver.send(DriverInput::Alive(alive)).await;
            said.await
        };
        match tokio::time::timeout(DRIVER_PATIENCE, asked).await {
            Ok(Ok(())) => {}
            _ => return Err(Silent::Driver),
        }
        let mut unasked = None;
        let mut answered = false;
        for at in &self.dns {
            match ask(*at).await {
                Asked::Answered => answered = true,
                Asked::Silent => return Err(Silent::Dns(*at)),
                Asked::NoWay => unasked = Some(*at),
            }
        }
        match unasked {
            Some(at) if !answered => Err(Silent::Dns(at)),
            _ => Ok(()),
        }
    }
}

/// What came of asking a DNS socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It replied.
    Answered,
    /// It did not.
    Silent,
    /// The machine has no way there: a family that is turned off, say, which is no fault of the broker.
    NoWay,
}

/// Asks a DNS socket of this machine for anything at all; every reply counts. Each try comes from a port of
/// its own, and so sooner or later to each of the threads that share the address.
async fn ask(at: SocketAddr) -> Asked {
    let to = match at.ip() {
        ip if !ip.is_unspecified() => at,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, at.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, at.port()).into(),
    };
    for id in 0..TRIES {
        match tokio::time::timeout(DNS_PATIENCE, exchange(to, id)).await {
            Ok(Ok(true)) => return Asked::Answered,
            // Refused by the machine: nobody listens there any more.
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, %to, "a DNS address cannot be asked from this machine");
                return Asked::NoWay;
            }
            Ok(Ok(false)) | Err(_) => {}
        }
    }
    Asked::Silent
}

/// Sends a query and takes what comes back; whether it is a reply to it.
async fn exchange(to: SocketAddr, id: u16) -> io::Result<bool> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    // One question: the root's SOA, which is refused.
    let [high, low] = id.to_be_bytes();
    let query = [high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    socket.send(&query).await?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).await?;
    // The identifier is ours, and it is a reply.
    Ok(length >= 12 && reply[..2] == query[..2] && reply[2] & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver;
    use std::os::unix::net::UnixDatagram;
    use tokio::sync::mpsc;

    /// Replies to whatever comes until it is dropped.
    async fn dns() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let serve = async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                query[2] |= 0x80;
                socket.send_to(&query[..length], from).await.unwrap();
            }
        };
        (at, tokio::spawn(serve))
    }

    /// A driver that answers as long as it is told to.
    fn driver(mut inputs: mpsc::Receiver<DriverInput>, hangs: watch::Receiver<bool>) {
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(input) = inputs.recv().await {
                match input {
                    DriverInput::Alive(reply) if !*hangs.borrow() => drop(reply.send(())),
                    other => kept.push(other),
                }
            }
        });
    }

    async fn next(manager: &tokio::net::UnixDatagram) -> String {
        let mut text = [0; 512];
        let length = manager.recv(&mut text).await.unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_broker_whose_driver_hangs_says_no_longer_that_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
        let notifier = Notifier::new(path.to_str(), Some("60000".into()), None).unwrap();
        let (handle, inputs) = driver::channel();
        let (hang, hangs) = watch::channel(false);
        driver(inputs, hangs);
        let (at, _dns) = dns().await;
        let (_registry, registry) = watch::channel(Arc::new(Registry::default()));
        let liveness = Liveness { notifier, driver: handle, dns: vec![at], registry };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(liveness.run(cancel.clone()));
        assert!(next(&manager).await.starts_with("READY=1\nSTATUS=answering for 0 domains"));
        assert!(next(&manager).await.starts_with("STATUS="));
        assert_eq!(next(&manager).await, "WATCHDOG=1");
        hang.send_replace(true);
        // What was on its way comes; then it is said who does not answer, and never that it lives.
        let said = async {
            loop {
                let said = next(&manager).await;
                if said.contains("driver") {
                    return said;
                }
            }
        };
        assert_eq!(said.await, "STATUS=the driver does not answer");
        hang.send_replace(false);
        loop {
            match next(&manager).await.as_str() {
                "WATCHDOG=1" => break,
                status => assert!(status.starts_with("STATUS="), "{status}"),
            }
        }
        cancel.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn dns_that_is_silent_is_found() {
        let (at, serving) = dns().await;
        assert_eq!(ask(at).await, Asked::Answered);
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(ask(silent.local_addr().unwrap()).await, Asked::Silent);
        assert_eq!(ask(at).await, Asked::Silent, "nobody listens any more");
        // An address for documentation: no way leads there, or nobody answers.
        assert_ne!(ask("[2001:db8::1]:53".parse().unwrap()).await, Asked::Answered);
    }
}
