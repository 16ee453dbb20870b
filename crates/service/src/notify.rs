//! Word to systemd, or whoever else listens at `NOTIFY_SOCKET` (sd_notify(3)).
//!
//! One datagram a message: lines of `NAME=VALUE`. Without a socket everything here does nothing. What the
//! manager must not miss (ready, reloading, stopping) is waited for a little where it is busy; that the
//! service lives, and how it is, is sent at once or not at all: it is said again soon.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest status that is told, in characters.
const MAX_STATUS: usize = 200;
/// How long a busy manager is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tells the manager; clones share one socket.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    to: Option<Arc<Manager>>,
    watchdog: Option<Duration>,
}

/// Who is told.
#[derive(Debug)]
struct Manager {
    address: SocketAddr,
    /// Waits a little.
    patient: UnixDatagram,
    /// Never waits.
    prompt: UnixDatagram,
    /// Whether it was told that the service is ready.
    ready: AtomicBool,
    /// Whether that was said once more.
    repeated: AtomicBool,
}

/// Why the manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
#[error("NOTIFY_SOCKET={path}: {source}")]
pub struct NotifyError {
    path: String,
    source: std::io::Error,
}

impl Notifier {
    /// From the environment of the process.
    ///
    /// # Errors
    /// A socket that is named and is none.
    pub fn from_env() -> Result<Notifier, NotifyError> {
        let text = |name: &str| std::env::var(name).ok();
        Notifier::new(text("NOTIFY_SOCKET").as_deref(), text("WATCHDOG_USEC"), text("WATCHDOG_PID"))
    }

    /// From the values of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. A watchdog that is meant for
    /// another process is none.
    ///
    /// # Errors
    /// A socket that is named and is none.
    pub fn new(
        socket: Option<&str>,
        watchdog_us: Option<String>,
        watchdog_pid: Option<String>,
    ) -> Result<Notifier, NotifyError> {
        let Some(path) = socket.filter(|path| !path.is_empty()) else { return Ok(Notifier::default()) };
        let named = |source| NotifyError { path: path.into(), source };
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(path),
        };
        let sockets = || {
            let (patient, prompt) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
            patient.set_write_timeout(Some(PATIENCE))?;
            prompt.set_nonblocking(true)?;
            Ok((patient, prompt))
        };
        let (patient, prompt) = sockets().map_err(named)?;
        let address = address.map_err(named)?;
        let to = Manager {
            address,
            patient,
            prompt,
            ready: AtomicBool::new(false),
            repeated: AtomicBool::new(false),
        };
        let own = watchdog_pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = watchdog_us.and_then(|us| us.parse().ok()).filter(|us| own && *us > 0);
        Ok(Notifier { to: Some(Arc::new(to)), watchdog: watchdog.map(Duration::from_micros) })
    }

    /// Whether anybody listens.
    pub fn is_on(&self) -> bool {
        self.to.is_some()
    }

    /// How often to say that it is alive: a third of the time after which the manager acts. `None` where it
    /// does not.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 3)
    }

    /// It serves from now on.
    pub fn ready(&self, status: &str) {
        if let Some(to) = &self.to {
            to.ready.store(true, Ordering::Relaxed);
        }
        self.insist(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// It reads its configuration again; [`reloaded`](Notifier::reloaded) ends that. Nothing is said of it
    /// before the service is ready.
    pub fn reloading(&self) {
        if !self.was_ready() {
            return;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.insist(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// It has read its configuration again. Nothing is said of it before the service is ready.
    pub fn reloaded(&self, status: &str) {
        if self.was_ready() {
            self.ready(status);
        }
    }

    fn was_ready(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to.ready.load(Ordering::Relaxed))
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.insist("STOPPING=1\nSTATUS=stopping");
    }

    /// How it is, for people.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", line(status)));
    }

    /// It is alive. With the first time goes once more that it is ready, should that have been lost.
    pub fn alive(&self) {
        if self.was_ready() && self.to.as_ref().is_some_and(|to| !to.repeated.swap(true, Ordering::Relaxed)) {
            self.insist("READY=1");
        }
        self.send("WATCHDOG=1");
    }

    fn insist(&self, message: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = to.patient.send_to_addr(message.as_bytes(), &to.address) {
            tracing::warn!(%error, message, "the service manager could not be told");
        }
    }

    fn send(&self, message: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = to.prompt.send_to_addr(message.as_bytes(), &to.address) {
            tracing::debug!(%error, "the service manager could not be told");
        }
    }
}

fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STATUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (tempfile::TempDir, UnixDatagram, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (dir, socket, path.to_str().unwrap().into())
    }

    fn next(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_is_told_in_its_own_words() {
        let (_dir, socket, path) = manager();
        let told = Notifier::new(Some(&path), Some("30000000".into()), None).unwrap();
        assert_eq!((told.is_on(), told.watchdog_every()), (true, Some(Duration::from_secs(10))));
        // Not ready yet: there is nothing that it reloads.
        told.reloading();
        told.reloaded("");
        told.ready("2 zones\nEVIL=1");
        assert_eq!(next(&socket), "READY=1\nSTATUS=2 zones EVIL=1");
        told.reloading();
        let said = next(&socket);
        let us = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(us.parse::<u64>().unwrap() > 0);
        told.reloaded("reloaded");
        assert_eq!(next(&socket), "READY=1\nSTATUS=reloaded");
        for said in ["READY=1", "WATCHDOG=1"] {
            told.alive();
            assert_eq!(next(&socket), said);
        }
        assert_eq!(next(&socket), "WATCHDOG=1");
        told.stopping();
        assert!(next(&socket).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("nearmost-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::new(Some(&format!("@{name}")), None, None).unwrap().alive();
        assert_eq!(next(&socket), "WATCHDOG=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_listens_and_a_watchdog_of_another_is_none() {
        let nobody = Notifier::new(None, Some("1000".into()), None).unwrap();
        assert_eq!((nobody.is_on(), nobody.watchdog_every()), (false, None));
        nobody.ready("");
        let (_dir, _socket, path) = manager();
        let watched = |pid: u32| {
            Notifier::new(Some(&path), Some("3000".into()), Some(pid.to_string())).unwrap().watchdog_every()
        };
        assert_eq!(watched(std::process::id()), Some(Duration::from_millis(1)));
        assert_eq!(watched(1), None);
        let long = format!("/{}", "x".repeat(300));
        assert!(Notifier::new(Some(&long), None, None).unwrap_err().to_string().contains("NOTIFY_SOCKET"));
    }
}
