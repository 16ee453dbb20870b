//! UDP past the sockets: interfaces whose queues hand queries over before the network stack sees them
//! (AF_XDP; `nearmost-xdp` says how). What is answered, limited, counted and written down is what the
//! workers of sockets would: they share [`udp::Answering`].
//!
//! ```text
//!                ┌──── a worker ended, or it is down: detach, wait, attach anew ────┐
//!                ▼                                                                  │
//!  start ─► attach ─ yes ─► a thread a queue serves; all is looked at every few s ──┘
//!                └─ no ─► warned of once; tried again while it may pass (no such interface, another has it)
//! ```
//!
//! Sockets serve beside it all the time. They get what the program lets pass, and everything while no program is
//! attached: so nothing here ends the server, and only a start that asks for it (`required`) is refused.

mod metrics;
mod worker;

pub use metrics::XdpMetrics;

use super::udp::{self, Beat, Beats};
use super::{DnsError, Handler};
use nearmost_dns::limiter::{LimitConfig, Limiter};
use nearmost_xdp::program::MOST_ADDRESSES;
use nearmost_xdp::{Attachment, Mode, Queue, Settings, Waker, XdpError, own_addresses, vlans_on};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::Worker;

/// How often it is looked at whether the interface is up and the program on it, and which addresses it has.
const LOOK: Duration = Duration::from_secs(5);
/// Pause before an interface that went away is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Which interfaces, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdpSettings {
    /// Names of interfaces; none is off.
    pub interfaces: Vec<String>,
    /// Where the program runs.
    pub mode: Mode,
    /// Do not start without it.
    pub required: bool,
    /// Frames that may wait in each queue, each way; a power of two.
    pub ring: u32,
}

/// What is served by an interface: the program, and its queues.
type Attached = (Attachment, Vec<Queue>);

/// One interface.
pub(super) struct Interface {
    of: Of,
    attached: Option<Attached>,
    /// Whether it is tried again.
    passes: bool,
    /// What was said last of why it is not attached.
    said: String,
}

/// What an interface is to serve.
#[derive(Clone)]
struct Of {
    name: String,
    settings: Settings,
    /// Where sockets are bound.
    listen: Vec<SocketAddr>,
}

/// What every worker of an interface gets.
pub(super) struct Shared {
    pub(super) handler: Handler,
    pub(super) limits: LimitConfig,
    pub(super) beats: Beats,
}

impl Interface {
    /// Attaches to all of them.
    ///
    /// # Errors
    /// When one cannot be had and all are required.
    pub(super) fn open(
        settings: &XdpSettings,
        listen: &[SocketAddr],
        metrics: &XdpMetrics,
    ) -> Result<Vec<Interface>, DnsError> {
        let how = Settings { mode: settings.mode, ring: settings.ring };
        let open = |name: &String| {
            metrics.active(name, false);
            let of = Of { name: name.clone(), settings: how, listen: listen.to_vec() };
            let mut interface = Interface { of, attached: None, passes: false, said: String::new() };
            let attached = interface.of.attach();
            match interface.take(attached) {
                Err(error) if settings.required => Err(DnsError::Xdp(error)),
                Ok(()) | Err(_) => Ok(interface),
            }
        };
        settings.interfaces.iter().map(open).collect()
    }

    /// Keeps what came of attaching, and says it, if it is news.
    fn take(&mut self, attached: Result<Attached, XdpError>) -> Result<(), XdpError> {
        let error = match attached {
            Ok((attachment, queues)) => {
                let (mode, count) = (attachment.mode().as_str(), queues.len());
                let copy = if queues.iter().all(Queue::zero_copy) { "zero-copy" } else { "copying" };
                let interface = &self.of.name;
                tracing::info!(%interface, mode, frames = copy, queues = count, "DNS over UDP by AF_XDP");
                self.attached = Some((attachment, queues));
                self.said.clear();
                return Ok(());
            }
            Err(error) => error,
        };
        self.passes |= error.passes();
        let text = error.to_string();
        if text != self.said {
            tracing::warn!(interface = %self.of.name, %error, "no AF_XDP here: DNS over UDP goes on by sockets alone");
            self.said = text;
        }
        Err(error)
    }

    /// Serves until told to stop.
    pub(super) async fn run(mut self, shared: Arc<Shared>, stop: CancellationToken) {
        loop {
            if let Some(attached) = self.attached.take() {
                self.of.serve(attached, &shared, &stop).await;
                // It was had once, so it may be had again.
                self.passes = true;
            }
            if !self.passes {
                return stop.cancelled().await;
            }
            if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                return;
            }
            // The kernel takes its time: it waits for all cores to leave the old program.
            let attach = tokio::task::spawn_blocking(move || {
                let attached = self.of.attach();
                // Its error was said.
                let _ = self.take(attached);
                self
            });
            match attach.await {
                Ok(back) => self = back,
                Err(error) => {
                    tracing::error!(%error, "AF_XDP: attaching died; sockets serve");
                    return stop.cancelled().await;
                }
            }
        }
    }
}

impl Of {
    /// Attaches, and has what is for the addresses diverted.
    fn attach(&self) -> Result<Attached, XdpError> {
        let (mut attachment, queues) = Attachment::attach(&self.name, self.settings)?;
        attachment.serve(&self.diverted()?)?;
        Ok((attachment, queues))
    }

    /// Serves by what is attached, until told to stop, until a queue ends or the interface is down.
    async fn serve(&self, (mut attachment, queues): Attached, shared: &Shared, stop: &CancellationToken) {
        let metrics = &shared.handler.metrics.xdp;
        // No child of `stop`: workers serve for as long as the program gives them queries.
        let over = CancellationToken::new();
        // Nobody may wait for the end.
        let _over = over.clone().drop_guard();
        let count = queues.len();
        let (mut threads, wakers) = self.start(queues, shared, &over);
        metrics.active(&self.name, threads.len() == count);
        let (mut look, mut said) = (tokio::time::interval(LOOK), String::new());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ended = threads.join_next() => {
                    if let Some(Err(error)) = ended {
                        tracing::error!(%error, interface = %self.name, "a worker of AF_XDP died");
                    }
                    break;
                }
                _ = look.tick() => {
                    if !attachment.stands() {
                        break;
                    }
                    let found = self.look(&mut attachment).join("; ");
                    if found != said && !found.is_empty() {
                        tracing::warn!(interface = %self.name, "AF_XDP: {found}");
                    }
                    said = found;
                }
            }
        }
        // From here on the kernel delivers to sockets. It takes its time, as with attaching; and what comes of this
        // cannot be helped.
        let _ = tokio::task::spawn_blocking(move || drop(attachment)).await;
        if !stop.is_cancelled() {
            tracing::warn!(interface = %self.name, "AF_XDP ended: DNS over UDP goes on by sockets alone");
        }
        metrics.active(&self.name, false);
        over.cancel();
        wakers.iter().for_each(Waker::wake);
        while threads.join_next().await.is_some() {}
    }

    /// Starts a thread for each queue, and says of which there is none. The kernel has the queues of those.
    fn start(
        &self,
        queues: Vec<Queue>,
        shared: &Shared,
        over: &CancellationToken,
    ) -> (JoinSet<()>, Vec<Waker>) {
        let (mut threads, mut wakers) = (JoinSet::new(), Vec::new());
        for queue in queues {
            wakers.push(queue.waker());
            let started = self.worker(queue, shared).and_then(|worker| {
                let over = over.clone();
                udp::thread("dns-xdp", move || worker.serve(&over))
            });
            match started {
                Ok(thread) => drop(threads.spawn(thread)),
                Err(error) => {
                    tracing::error!(%error, interface = %self.name, "AF_XDP: a queue without a worker")
                }
            }
        }
        (threads, wakers)
    }

    /// Has what is for the addresses that there are now diverted; what there is to be warned of.
    fn look(&self, attachment: &mut Attachment) -> Vec<String> {
        let mut found = Vec::new();
        match self.diverted().and_then(|addresses| attachment.serve(&addresses)) {
            Ok(0) => {}
            Ok(left) => found
                .push(format!("{left} addresses are left to sockets: there is room for {MOST_ADDRESSES}")),
            Err(error) => found.push(error.to_string()),
        }
        let vlans = vlans_on(&self.name);
        if !vlans.is_empty() {
            let vlans = vlans.join(", ");
            found.push(format!(
                "of queries to addresses of VLANs on it ({vlans}) sockets take care; its own addresses must not be \
                 asked by way of these"
            ));
        }
        found
    }

    /// What is diverted: the interface's own addresses in place of a wildcard, so that what is passed on to others or
    /// is for VLANs on it is left alone.
    fn diverted(&self) -> Result<BTreeSet<SocketAddr>, XdpError> {
        let addresses = |name: &str| {
            own_addresses(name).map_err(|source| XdpError::Refused {
                interface: name.to_owned(),
                what: "its addresses",
                source,
            })
        };
        let own = addresses(&self.name)?;
        let mut tagged = Vec::new();
        for vlan in vlans_on(&self.name) {
            tagged.extend(addresses(&vlan)?);
        }
        Ok(expanded(&self.listen, &own, &tagged))
    }

    fn worker(&self, queue: Queue, shared: &Shared) -> Result<Worker, DnsError> {
        let limiter = Limiter::new(shared.limits.clone(), [rand::random(), rand::random()])?;
        let beat = Beat::new(format_args!("{} (AF_XDP)", self.name), queue.number() as usize);
        let entered = shared.beats.enter(beat.clone());
        Ok(Worker::new(queue, udp::Answering::new(shared.handler.clone(), limiter), (beat, entered)))
    }
}

/// Where sockets are bound, with an interface's `own` addresses in place of wildcards, without what is `tagged`: frames
/// to addresses of VLANs look like others where the card took the tag out, and would be answered without one.
fn expanded(listen: &[SocketAddr], own: &[IpAddr], tagged: &[IpAddr]) -> BTreeSet<SocketAddr> {
    let one = |at: &SocketAddr| {
        let (wildcard, v4, port) = (at.ip().is_unspecified(), at.is_ipv4(), at.port());
        // Nobody can be answered at addresses of loopback.
        let own = own.iter().filter(move |ip| wildcard && ip.is_ipv4() == v4 && !ip.is_loopback());
        let itself = (!wildcard).then_some(at.ip());
        own.copied().chain(itself).map(move |ip| SocketAddr::new(ip, port)).collect::<Vec<_>>()
    };
    listen.iter().flat_map(one).filter(|at| !tagged.contains(&at.ip())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    fn at(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn a_wildcard_is_the_interface_s_own_addresses_of_its_family() {
        let own = ["192.0.2.1", "127.0.0.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let found = expanded(&at(&["0.0.0.0:53", "[::]:5353", "198.51.100.1:53"]), &own, &[]);
        let wanted = at(&["192.0.2.1:53", "[2001:db8::1]:5353", "198.51.100.1:53"]);
        assert_eq!(found, wanted.into_iter().collect());
        let found = expanded(&at(&["192.0.2.9:53"]), &own, &[]);
        assert_eq!(found, at(&["192.0.2.9:53"]).into_iter().collect());
    }

    #[test]
    fn what_is_for_vlans_on_the_interface_is_left_to_sockets() {
        let [own, tagged] = ["192.0.2.1", "192.0.2.129"].map(|ip| ip.parse().unwrap());
        let found = expanded(&at(&["0.0.0.0:53", "192.0.2.129:5353"]), &[own], &[tagged]);
        assert_eq!(found, at(&["192.0.2.1:53"]).into_iter().collect());
    }

    #[test]
    fn an_interface_that_is_not_there_is_waited_for_or_refused() {
        let metrics = XdpMetrics::register(&Registry::new()).unwrap();
        let interfaces = vec!["nothere0".to_owned()];
        let settings = XdpSettings { interfaces, ring: 64, ..XdpSettings::default() };
        let found = Interface::open(&settings, &at(&["127.0.0.1:53"]), &metrics).unwrap();
        assert!(found[0].passes && found[0].attached.is_none());
        assert_eq!(metrics.is_active("nothere0"), 0);
        let settings = XdpSettings { required: true, ..settings };
        let refused = Interface::open(&settings, &at(&["127.0.0.1:53"]), &metrics).err().unwrap();
        assert_eq!(refused.to_string(), "dns.xdp: no interface nothere0");
    }
}
