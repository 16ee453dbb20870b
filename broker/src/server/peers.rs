//! Making the part of the broker that talks with other brokers.

use super::{BrokerError, ClientServer};
use crate::peers::{PeerServer, PeerSettings};
use crate::settings;
use nearmost_config::{BrokerConfig, PeersConfig};
use nearmost_replica::backoff::Backoff;
use nearmost_replica::federation::FederationConfig;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::registry::{EndpointBody, PeerBody};
use std::net::SocketAddr;

/// Binds the peers' port, unless there are to be no peers.
pub(super) fn bind(config: &BrokerConfig, key: &KeyPair) -> Result<Option<PeerServer>, BrokerError> {
    if !config.peers.enabled {
        return Ok(None);
    }
    let PeersConfig { queue, pace, .. } = &config.peers;
    let federation = FederationConfig {
        backoff: Backoff { first: pace.retry_first, most: pace.retry_most },
        queue_life: queue.life,
        queue_items: queue.items,
        compare_every: pace.compare_every,
        announce_every: pace.announce_every,
        serve_bytes_per_s: pace.serve_bytes_per_s,
        ..FederationConfig::default()
    };
    let settings = PeerSettings {
        listen: config.peers.listen.clone(),
        max_connections: config.peers.max_connections,
        advertise: config.peers.advertise.clone(),
        dns: config.peers.dns.clone(),
        lookup: settings::hostnames(config),
        federation,
    };
    let mut server = PeerServer::bind(settings, key)?;
    let advertise = settings::advertise_to_peers(config, &server.local_addrs());
    server.advertise(advertise);
    Ok(Some(server))
}

/// Where this broker is reached, as it tells other brokers.
pub(super) fn endpoints(
    config: &BrokerConfig,
    peers: Option<&PeerServer>,
    agents: &[SocketAddr],
    clients: &ClientServer,
) -> EndpointBody {
    let Some(peers) = peers else { return EndpointBody::default() };
    let concrete = |bound: Vec<SocketAddr>| {
        bound.iter().filter(|a| !a.ip().is_unspecified()).map(SocketAddr::to_string).collect()
    };
    EndpointBody {
        peers: settings::advertise_to_peers(config, &peers.local_addrs()),
        agents: settings::advertise(config, agents),
        clients: concrete(clients.local_addrs()),
        http: Vec::new(),
    }
}

/// Members that the configuration names.
pub(super) fn known(config: &BrokerConfig) -> Result<Vec<(Id, PeerBody)>, BrokerError> {
    if !config.peers.enabled {
        return Ok(Vec::new());
    }
    let one = |peer: &nearmost_config::KnownPeer| {
        let body = PeerBody {
            name: peer.name.clone(),
            admin: peer.admin,
            domains: peer.domains.clone(),
            addresses: peer.addresses.clone(),
            ..PeerBody::default()
        };
        Ok((Id::parse(&peer.id, Role::Broker).map_err(BrokerError::Peer)?, body))
    };
    config.peers.known.iter().map(one).collect()
}
