//! Follows mirrors that are given by host name: resolves each again when its records expire and
//! tells the driver when an address changes.
//!
//! A failed lookup keeps the last address: a resolver that is away must not take mirrors down.

use crate::driver::{DriverHandle, DriverInput};
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use nearmost_core::health::Family;
use nearmost_core::registry::{MirrorAddress, Registry};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

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

fn resolver(settings: &HostnameSettings) -> Result<TokioResolver, HostnameError> {
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

/// Follows every host name of the registry until cancelled.
pub async fn follow(
    settings: HostnameSettings,
    mut registry: watch::Receiver<Arc<Registry>>,
    driver: DriverHandle,
    cancel: CancellationToken,
) -> Result<(), HostnameError> {
    // Set up only when the first host name appears: a machine without resolv.conf must still run.
    let mut shared: Option<Arc<TokioResolver>> = None;
    let mut tasks = JoinSet::new();
    let mut followed: BTreeMap<Followed, AbortHandle> = BTreeMap::new();
    loop {
        let wanted = host_names(&registry.borrow_and_update());
        followed.retain(|key, task| {
            let keep = wanted.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for key in wanted {
            if followed.contains_key(&key) {
                continue;
            }
            let resolver = match &shared {
                Some(r) => r.clone(),
                None => shared.insert(Arc::new(resolver(&settings)?)).clone(),
            };
            let (settings, driver, (domain, mirror, host)) = (settings.clone(), driver.clone(), key.clone());
            let task = tasks
                .spawn(async move { follow_one(resolver, settings, driver, domain, mirror, host).await });
            followed.insert(key, task);
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            changed = registry.changed() => if changed.is_err() { return Ok(()) },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// Domain, mirror and host name.
type Followed = (Arc<str>, Arc<str>, Arc<str>);

/// Domain, mirror and host name of every mirror given by host name.
fn host_names(registry: &Registry) -> Vec<Followed> {
    let host = |m: &nearmost_core::registry::Mirror| match &m.address {
        MirrorAddress::Hostname(host) => {
            Some((registry.domain(m.domain).name.clone(), m.name.clone(), host.clone()))
        }
        _ => None,
    };
    registry.mirrors.iter().filter_map(host).collect()
}

async fn follow_one(
    resolver: Arc<TokioResolver>,
    settings: HostnameSettings,
    driver: DriverHandle,
    domain: Arc<str>,
    mirror: Arc<str>,
    host: Arc<str>,
) {
    let fqdn = format!("{host}.");
    let mut last = [None, None];
    loop {
        let mut next = settings.max_refresh;
        for family in Family::ALL {
            let (found, ttl) = match lookup(&resolver, &fqdn, family).await {
                Ok(answer) => answer,
                Err(e) => {
                    tracing::warn!(%host, family = family.as_str(), error = %e, "cannot resolve; the last address stays");
                    next = next.min(settings.min_refresh.max(Duration::from_secs(5)));
                    continue;
                }
            };
            next = next.min(ttl);
            if found != last[family.index()] {
                last[family.index()] = found;
                let (domain, mirror) = (domain.clone(), mirror.clone());
                driver.send(DriverInput::Address { domain, mirror, family, addr: found }).await;
            }
        }
        tokio::time::sleep(next.clamp(settings.min_refresh, settings.max_refresh)).await;
    }
}

/// The lowest address of one family (stable when a name has several) and how long it is good;
/// no records of the family is an answer too.
async fn lookup(
    resolver: &TokioResolver,
    fqdn: &str,
    family: Family,
) -> Result<(Option<IpAddr>, Duration), String> {
    let answer = match family {
        Family::V4 => resolver.ipv4_lookup(fqdn).await,
        Family::V6 => resolver.ipv6_lookup(fqdn).await,
    };
    match answer {
        Ok(lookup) => {
            let ttl = lookup.valid_until().saturating_duration_since(crate::clock::mono_now());
            let addrs = lookup.answers().iter().filter_map(|r| r.data.ip_addr());
            Ok((addrs.min(), ttl))
        }
        Err(e) if e.is_no_records_found() => Ok((None, Duration::from_secs(30))),
        Err(e) => Err(e.to_string()),
    }
}
