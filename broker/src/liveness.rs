//! Telling the service manager that the broker serves, as long as it does.
//!
//! ```text
//! before READY=1, once:              each DNS address ── query ──> reply      it answers
//! every third of the watchdog's time:
//!   driver ── "alive?" ──> answered       the one task that decides turns
//!   each UDP worker's last turn           is not long ago
//!   both? WATCHDOG=1                      else again after a second; at last the manager restarts the broker
//! ```
//! Nothing here is a timer that says yes by itself: what is asked is what users depend on. A broker that is
//! flooded lives: its workers turn, where a query of its own would get lost among the others. Whatever
//! keeps the machine from asking itself (an address that it does not have now, no more files) is no fault of
//! what is asked.

use crate::dns::Beats;
use crate::driver::{DriverHandle, DriverInput};
use nearmost_core::registry::Registry;
use nearmost_service::notify::Notifier;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the driver may take to answer, at least and at most; it turns within milliseconds.
const DRIVER_PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How long a reply of DNS may take.
const DNS_PATIENCE: Duration = Duration::from_secs(1);
/// Pause before a broker that does not answer yet is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// So often it is asked until it is said why it is not ready.
const PATIENT: u32 = 25;
/// Pause before what failed is looked at again.
const REPEAT: Duration = Duration::from_secs(1);
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
    /// Those who serve it.
    pub workers: Beats,
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
    /// A thread that answers DNS.
    #[error("worker {number} of DNS over UDP at {place} hangs")]
    Worker {
        /// Where: an address, or an interface.
        place: String,
        /// Which of those there, from 0.
        number: usize,
    },
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
        self.until_it_answers().await;
        self.notifier.ready(&self.status());
        let every = self.notifier.watchdog_every().unwrap_or(STATUS_EVERY);
        tokio::time::sleep(every).await;
        loop {
            match self.check().await {
                Ok(()) => {
                    self.notifier.status(&self.status());
                    self.notifier.alive();
                    tokio::time::sleep(every).await;
                }
                Err(error) => {
                    tracing::error!(%error, "not told to the service manager as alive");
                    self.notifier.status(&error.to_string());
                    tokio::time::sleep(REPEAT).await;
                }
            }
        }
    }

    /// Waits until the driver and the workers turn and each DNS address has answered once.
    async fn until_it_answers(&self) {
        let mut silent = self.dns.clone();
        let mut tries = 0_u32;
        loop {
            silent = ask_all(silent).await;
            let found = match silent.first() {
                Some(at) => Err(Silent::Dns(*at)),
                None => self.check().await,
            };
            let Err(error) = found else { return };
            tries = tries.saturating_add(1);
            if tries.is_multiple_of(PATIENT) {
                tracing::warn!(%error, "not ready yet");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// For people, in `systemctl status`.
    fn status(&self) -> String {
        let registry = self.registry.borrow();
        format!("answering for {} domains with {} mirrors", registry.domains.len(), registry.mirrors.len())
    }

    /// Whether everything turns.
    async fn check(&self) -> Result<(), Silent> {
        if let Some(hangs) = self.workers.hanging() {
            return Err(Silent::Worker { place: hangs.place().into(), number: hangs.number() });
        }
        let (alive, said) = oneshot::channel();
        let asked = async {
            self.driver.send(DriverInput::Alive(alive)).await;
            said.await
        };
        let (least, most) = DRIVER_PATIENCE;
        let patience = self.notifier.watchdog_every().unwrap_or(most).clamp(least, most);
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Silent::Driver),
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
    /// The machine cannot ask: it does not have the address now, say, which is no fault of the broker.
    NoWay,
}

/// Asks all of these at once; those that are silent.
async fn ask_all(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut asking = JoinSet::new();
    for at in addresses {
        asking.spawn(async move { (at, ask(at).await) });
    }
    let asked = asking.join_all().await;
    asked.into_iter().filter(|(_, came)| *came == Asked::Silent).map(|(at, _)| at).collect()
}

/// Asks a DNS socket of this machine for anything at all; every reply counts.
async fn ask(at: SocketAddr) -> Asked {
    let mut to = at;
    match at {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    match tokio::time::timeout(DNS_PATIENCE, exchange(to)).await {
        Ok(Ok(true)) => Asked::Answered,
        // Nobody listens there.
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Asked::Silent,
        Ok(Err(error)) => {
            tracing::debug!(%error, %to, "a DNS address cannot be asked from this machine");
            Asked::NoWay
        }
        Ok(Ok(false)) | Err(_) => Asked::Silent,
    }
}

/// Sends a query and takes what comes back; whether it is a reply to it. It comes from the address that it
/// goes to: one that this machine does not have now is an error, and not asked at another machine.
async fn exchange(to: SocketAddr) -> io::Result<bool> {
    let mut from = to;
    from.set_port(0);
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    // One question: the root's SOA, which is refused.
    let query = [0x6e, 0x6d, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    socket.send(&query).await?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).await?;
    // The identifier is ours, and it is a reply.
    Ok(length >= 12 && reply[..2] == query[..2] && reply[2] & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Beat;
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
        let worker = Beat::new(at, 0);
        worker.stamp();
        let workers = Beats::default();
        workers.add(worker);
        let liveness = Liveness { notifier, driver: handle, dns: vec![at], workers, registry };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(liveness.run(cancel.clone()));
        assert!(next(&manager).await.starts_with("READY=1\nSTATUS=answering for 0 domains"));
        assert!(next(&manager).await.starts_with("STATUS="));
        assert_eq!(next(&manager).await, "READY=1", "once more");
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
        // It lives again, until its worker, which is stamped no more here, is found to hang.
        let mut lived = false;
        loop {
            let said = next(&manager).await;
            lived |= said == "WATCHDOG=1";
            if said.contains("hangs") {
                assert_eq!(said, format!("STATUS=worker 0 of DNS over UDP at {at} hangs"));
                break;
            }
        }
        assert!(lived);
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
        // An address for documentation: this machine does not have it.
        assert_eq!(ask("192.0.2.1:53".parse().unwrap()).await, Asked::NoWay);
        assert_eq!(ask_all(vec![at, "192.0.2.1:53".parse().unwrap()]).await, [at]);
    }
}
