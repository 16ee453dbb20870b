//! Follows mirrors that are given by host name: resolves each again when its records expire and
//! tells the driver its addresses.
//!
//! ```text
//!  registry ──▶ follow ── one task a mirror ──▶ follow_one ── lookup ──▶ driver
//!                 ▲                                │
//!                 └────── a task that ended ◀──────┘
//! ```
//!
//! A failed lookup keeps the last address: a resolver that is away must not take mirrors down. What
//! is known is told again at every refresh and every change of the registry, with the host name it
//! belongs to: the driver takes it only while the mirror is given by that name, and a change back
//! and forth leaves no mirror without an address.

use crate::backoff::Backoff;
use crate::clock::mono_now;
use crate::driver::{DriverHandle, DriverInput};
use crate::telemetry::ResolverMetrics;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use nearmost_core::health::Family;
use nearmost_core::registry::{MirrorAddress, Registry};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pauses after a resolver could not be set up, or a task has ended.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// A name that has no records is asked again after this long.
const NO_RECORDS: Duration = Duration::from_secs(30);
/// Shortest time until a failed lookup is repeated.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How host names are followed.
#[derive(Clone, Debug)]
pub struct HostnameSettings {
    /// Resolvers to ask; the system's when empty.
    pub servers: Vec<SocketAddr>,
    /// Shortest time between two look-ups of a name, whatever its TTL.
    pub min_refresh: Duration,
    /// Longest.
    pub max_refresh: Duration,
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("resolver for mirrors given by host name: {0}")]
pub struct HostnameError(String);

/// An address, or none in that family, and how long that is good.
type Answer = Result<(Option<IpAddr>, Duration), String>;
/// Looks up a host name in a family.
type Lookup = Arc<dyn Fn(Arc<str>, Family) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;
/// Domain, mirror and host name.
type Followed = (Arc<str>, Arc<str>, Arc<str>);

/// What following works with.
pub struct HostnameParts {
    /// How names are followed.
    pub settings: HostnameSettings,
    /// Which names there are.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// Addresses go here.
    pub driver: DriverHandle,
    /// Counters.
    pub metrics: ResolverMetrics,
}

/// Follows every host name of the registry until cancelled.
pub async fn follow(parts: HostnameParts, cancel: CancellationToken) {
    let settings = parts.settings.clone();
    let metrics = parts.metrics.clone();
    let setup = move || {
        let resolver = Arc::new(resolver(&settings)?);
        let metrics = metrics.clone();
        let lookup: Lookup = Arc::new(move |host, family| {
            let (resolver, metrics) = (resolver.clone(), metrics.clone());
            Box::pin(async move {
                let answer = lookup(&resolver, &format!("{host}."), family).await;
                metrics.looked_up(answer.as_ref().map(|(addr, _)| addr.is_some()).ok());
                answer
            })
        });
        Ok(lookup)
    };
    let registry = parts.registry.clone();
    let follower = Follower {
        parts,
        setup,
        lookup: None,
        tasks: JoinSet::new(),
        followed: BTreeMap::new(),
        backoff: RETRY,
        hold: None,
    };
    follower.run(registry, cancel).await;
}

/// The state of [`follow`].
struct Follower<S> {
    parts: HostnameParts,
    /// Sets up a resolver.
    setup: S,
    /// Set up only when the first host name appears: a machine without resolv.conf must still run.
    lookup: Option<Lookup>,
    tasks: JoinSet<()>,
    followed: BTreeMap<Followed, Following>,
    /// Begins anew once a resolver was set up, and when a task fails that had worked.
    backoff: Backoff,
    /// Until when nothing new is begun, after something failed.
    hold: Option<Instant>,
}

/// The task of one name.
struct Following {
    task: AbortHandle,
    /// Set by the task once it was through with a look-up and told the driver.
    worked: Arc<AtomicBool>,
}

impl<S: FnMut() -> Result<Lookup, HostnameError>> Follower<S> {
    async fn run(mut self, mut registry: watch::Receiver<Arc<Registry>>, cancel: CancellationToken) {
        loop {
            let wanted = host_names(&registry.borrow_and_update());
            self.keep(&wanted);
            if self.hold.is_none() {
                self.begin(wanted);
            }
            let hold = self.hold;
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = registry.changed() => if changed.is_err() { return },
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                () = until(hold), if hold.is_some() => self.hold = None,
            }
        }
    }

    /// Ends the tasks of names that are gone.
    fn keep(&mut self, wanted: &BTreeSet<Followed>) {
        self.followed.retain(|key, following| {
            let keep = wanted.contains(key);
            if !keep {
                following.task.abort();
            }
            keep
        });
    }

    /// Begins to follow what is not followed yet.
    fn begin(&mut self, wanted: BTreeSet<Followed>) {
        for key in wanted {
            if self.followed.contains_key(&key) {
                continue;
            }
            let lookup = match &self.lookup {
                Some(lookup) => lookup.clone(),
                None => match (self.setup)() {
                    Ok(lookup) => {
                        self.backoff.reset();
                        self.lookup.insert(lookup).clone()
                    }
                    Err(error) => {
                        tracing::error!(%error, "mirrors given by host name have no address yet; trying again");
                        self.hold_on();
                        return;
                    }
                },
            };
            let worked = Arc::new(AtomicBool::new(false));
            let name = Name {
                key: key.clone(),
                lookup,
                settings: self.parts.settings.clone(),
                driver: self.parts.driver.clone(),
                known: [None, None],
                worked: worked.clone(),
            };
            let task = self.tasks.spawn(name.follow(self.parts.registry.clone()));
            self.followed.insert(key, Following { task, worked });
        }
    }

    /// Those of names that are gone were ended on purpose; any other is begun again.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(key) = self.followed.iter().find(|(_, f)| f.task.id() == id).map(|(key, _)| key.clone())
        else {
            return;
        };
        if self.followed.remove(&key).is_some_and(|f| f.worked.load(Ordering::Relaxed)) {
            self.backoff.reset();
        }
        let error = ended.err().map(|e| e.to_string()).unwrap_or_default();
        tracing::error!(host = %key.2, error, "a host name was not followed any more; beginning again");
        self.hold_on();
    }

    fn hold_on(&mut self) {
        self.hold = Some(Instant::from_std(mono_now()) + self.backoff.pause());
    }
}

async fn until(hold: Option<Instant>) {
    match hold {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Domain, mirror and host name of every mirror given by host name.
fn host_names(registry: &Registry) -> BTreeSet<Followed> {
    let host = |m: &nearmost_core::registry::Mirror| match &m.address {
        MirrorAddress::Hostname(host) => {
            Some((registry.domain(m.domain).name.clone(), m.name.clone(), host.clone()))
        }
        _ => None,
    };
    registry.mirrors.iter().filter_map(host).collect()
}

/// One name that is followed.
struct Name {
    key: Followed,
    lookup: Lookup,
    settings: HostnameSettings,
    driver: DriverHandle,
    /// What was found last in each family; `None` before the first answer.
    known: [Option<Option<IpAddr>>; 2],
    /// [`Following::worked`].
    worked: Arc<AtomicBool>,
}

impl Name {
    async fn follow(mut self, mut registry: watch::Receiver<Arc<Registry>>) {
        loop {
            let refresh = tokio::time::sleep(self.refresh().await);
            tokio::pin!(refresh);
            loop {
                tokio::select! {
                    () = &mut refresh => break,
                    changed = registry.changed() => match changed {
                        Ok(()) => self.tell().await,
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// Looks up and tells; when to look up again.
    async fn refresh(&mut self) -> Duration {
        let (least, most) =
            (self.settings.min_refresh, self.settings.max_refresh.max(self.settings.min_refresh));
        let mut next = most;
        for family in Family::ALL {
            match (self.lookup)(self.key.2.clone(), family).await {
                Ok((found, ttl)) => {
                    next = next.min(ttl);
                    self.known[family.index()] = Some(found);
                }
                Err(error) => {
                    let host = &self.key.2;
                    tracing::warn!(%host, family = family.as_str(), error, "cannot resolve; the last address stays");
                    next = next.min(AFTER_FAILURE);
                }
            }
        }
        self.tell().await;
        self.worked.store(true, Ordering::Relaxed);
        next.clamp(least, most)
    }

    /// Tells the driver what is known.
    async fn tell(&self) {
        for family in Family::ALL {
            let Some(addr) = self.known[family.index()] else { continue };
            let (domain, mirror, host) = self.key.clone();
            self.driver.send(DriverInput::Address { domain, mirror, host, family, addr }).await;
        }
    }
}

/// A resolver as the settings say.
pub(crate) fn resolver(settings: &HostnameSettings) -> Result<TokioResolver, HostnameError> {
    let fail = |e: hickory_resolver::net::NetError| HostnameError(e.to_string());
    let builder = if settings.servers.is_empty() {
        Resolver::builder_tokio().map_err(fail)?
    } else {
        let server = |addr: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(addr.ip());
            server.connections.iter_mut().for_each(|c| c.port = addr.port());
            server
        };
        let servers = settings.servers.iter().map(server).collect();
        Resolver::builder_with_config(
            ResolverConfig::from_name_servers(servers),
            TokioRuntimeProvider::default(),
        )
    };
    builder.build().map_err(fail)
}

/// The lowest address of one family (stable when a name has several) and how long it is good;
/// no records of the family is an answer too.
async fn lookup(resolver: &TokioResolver, fqdn: &str, family: Family) -> Answer {
    let answer = match family {
        Family::V4 => resolver.ipv4_lookup(fqdn).await,
        Family::V6 => resolver.ipv6_lookup(fqdn).await,
    };
    match answer {
        Ok(lookup) => {
            let ttl = lookup.valid_until().saturating_duration_since(mono_now());
            let addrs = lookup.answers().iter().filter_map(|r| r.data.ip_addr());
            Ok((addrs.min(), ttl))
        }
        Err(e) if e.is_no_records_found() => Ok((None, NO_RECORDS)),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;
    use crate::driver;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::mpsc;

    fn registry(host: &str) -> Arc<Registry> {
        let mut fixture = Fixture::five_mirrors();
        fixture.mirror("lon", |m| m.address = MirrorAddress::Hostname(host.into()));
        fixture.snapshot().registry.clone()
    }

    struct Running {
        registry: watch::Sender<Arc<Registry>>,
        inputs: mpsc::Receiver<DriverInput>,
        _stop: tokio_util::sync::DropGuard,
    }

    fn run(setup: impl FnMut() -> Result<Lookup, HostnameError> + Send + 'static) -> Running {
        let (follower, registry, inputs) = follower(setup);
        let cancel = CancellationToken::new();
        tokio::spawn(follower.run(registry.subscribe(), cancel.clone()));
        Running { registry, inputs, _stop: cancel.drop_guard() }
    }

    fn follower<S>(setup: S) -> (Follower<S>, watch::Sender<Arc<Registry>>, mpsc::Receiver<DriverInput>) {
        let (registry, changes) = watch::channel(registry("a.example"));
        let (driver, inputs) = driver::channel();
        let hour = Duration::from_secs(3600);
        let settings = HostnameSettings { servers: vec![], min_refresh: hour, max_refresh: hour };
        let metrics = ResolverMetrics::register(&prometheus::Registry::new()).unwrap();
        let parts = HostnameParts { settings, registry: changes, driver, metrics };
        let follower = Follower {
            parts,
            setup,
            lookup: None,
            tasks: JoinSet::new(),
            followed: BTreeMap::new(),
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(2)),
            hold: None,
        };
        (follower, registry, inputs)
    }

    #[tokio::test]
    async fn pauses_begin_anew_after_a_success_and_only_then() {
        let lookup = counting(2);
        let (mut follower, registry, mut inputs) = follower(move || Ok(lookup.clone()));
        let ms = Duration::from_millis;
        follower.backoff = Backoff::new(ms(1), ms(1000));
        assert_eq!([0; 3].map(|_| follower.backoff.pause().as_millis()), [1, 2, 4]);
        let wanted = host_names(&registry.borrow());
        // The resolver's set-up is a success; a task that dies before it has told anything is none.
        for next in [2, 4] {
            follower.begin(wanted.clone());
            let ended = follower.tasks.join_next_with_id().await.unwrap();
            assert!(ended.is_err());
            follower.ended(ended);
            let mut backoff = follower.backoff;
            assert_eq!(backoff.pause(), ms(next));
        }
        // One that dies after it had worked is the first failure again.
        follower.begin(wanted);
        for _ in Family::ALL {
            inputs.recv().await.unwrap();
        }
        let following = follower.followed.values().next().unwrap();
        while !following.worked.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        following.task.abort();
        let ended = follower.tasks.join_next_with_id().await.unwrap();
        follower.ended(ended);
        assert_eq!(follower.backoff.pause(), ms(2));
    }

    /// Answers 192.0.2.`n` in IPv4, `n` the number of the call, and nothing in IPv6; the first
    /// `panics` calls panic.
    fn counting(panics: usize) -> Lookup {
        let calls = AtomicUsize::new(0);
        Arc::new(move |_, family| {
            let n = calls.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                assert!(n >= panics, "for the test");
                let addr = (family == Family::V4).then(|| IpAddr::from([192, 0, 2, n as u8]));
                Ok((addr, Duration::from_secs(3600)))
            })
        })
    }

    async fn next(running: &mut Running) -> (String, Family, Option<IpAddr>) {
        match running.inputs.recv().await {
            Some(DriverInput::Address { host, family, addr, .. }) => (host.to_string(), family, addr),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_resolver_that_cannot_be_set_up_is_tried_again() {
        let mut left = 3;
        let mut running = run(move || {
            left -= 1;
            if left > 0 { Err(HostnameError("no resolv.conf".into())) } else { Ok(counting(0)) }
        });
        let (host, family, addr) = next(&mut running).await;
        assert_eq!((host.as_str(), family), ("a.example", Family::V4));
        assert_eq!(addr, Some([192, 0, 2, 0].into()));
        assert_eq!(next(&mut running).await, ("a.example".into(), Family::V6, None));
    }

    #[tokio::test]
    async fn a_task_that_dies_is_begun_again() {
        let lookup = counting(2);
        let mut running = run(move || Ok(lookup.clone()));
        assert_eq!(next(&mut running).await, ("a.example".into(), Family::V4, Some([192, 0, 2, 2].into())));
    }

    #[tokio::test]
    async fn what_is_known_is_told_again_when_the_registry_changes() {
        let lookup = counting(0);
        let mut running = run(move || Ok(lookup.clone()));
        let first = [next(&mut running).await, next(&mut running).await];
        running.registry.send_replace(registry("a.example"));
        let again = [next(&mut running).await, next(&mut running).await];
        assert_eq!(first, again);
        running.registry.send_replace(registry("b.example"));
        loop {
            // The old name's task may tell once more before it ends.
            if next(&mut running).await.0 == "b.example" {
                break;
            }
        }
    }
}
