//! Word to systemd, or whoever else listens at `NOTIFY_SOCKET` (sd_notify(3)).
//!
//! One datagram a message: lines of `NAME=VALUE`. Without a socket everything here does nothing. Messages are
//! sent at once and never waited for; one that cannot be sent is lost, as the manager would then act as if
//! the service hung, which is what it is for.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// Longest status that is told, in characters.
const MAX_STATUS: usize = 200;

/// Tells the manager; clones share one socket.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    to: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
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
        let unbound = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let to = (unbound().map_err(named)?, address.map_err(named)?);
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

    /// It serves from now on; also after a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// It reads its configuration again; [`ready`](Notifier::ready) ends that.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// How it is, for people.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", line(status)));
    }

    /// It is alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = to.0.send_to_addr(message.as_bytes(), &to.1) {
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
        told.ready("2 zones\nEVIL=1");
        assert_eq!(next(&socket), "READY=1\nSTATUS=2 zones EVIL=1");
        told.reloading();
        let said = next(&socket);
        let us = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(us.parse::<u64>().unwrap() > 0);
        told.alive();
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
