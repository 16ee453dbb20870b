//! Where a session finds brokers: told, by a token, at a URL, or in DNS.
//!
//! | from | whose word the broker's key is |
//! |---|---|
//! | [`BrokerAt`] | the caller's |
//! | a token (`nmc1…`, of `nearmost domain token`) | whoever handed it over |
//! | a URL of a broker's HTTP API | the certificate's, with https |
//! | DNS: TXT at `_nearmost.<domain>` | DNS's; pin the owner where that is not enough |
//!
//! In DNS each broker is one text, `v=nearmost1 broker=nb1… at=host:port`, and `owner=np1…` in any of them
//! names the owner.

use crate::client::Client;
use crate::endpoint::{Auth, Endpoint};
use crate::error::ClientError;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use nearmost_wire::armor::ArmorError;
use nearmost_wire::identity::{Id, IdError, Role};
use nearmost_wire::token::ClientToken;
use std::net::SocketAddr;
use std::time::Duration;

/// Port of clients' sessions where none is given.
pub const BROKER_PORT: u16 = 7840;
/// The most brokers of one session.
pub const MOST_BROKERS: usize = 8;
/// How long DNS may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// A broker, and where it takes clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAt {
    /// Its id: whoever answers must hold this key.
    pub id: Id,
    /// `host:port` of its QUIC for clients.
    pub at: String,
}

/// Why no broker was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A text that should be a broker.
    #[error("broker {0:?}: expected ID@HOST[:PORT] with an id that begins with nb1")]
    Broker(String),
    /// Not an id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The token.
    #[error("token: {0}")]
    Token(#[from] ArmorError),
    /// The token is of another domain.
    #[error("the token is of {0}")]
    TokenDomain(String),
    /// The broker's API.
    #[error(transparent)]
    Api(#[from] ClientError),
    /// The broker at the URL takes no clients over QUIC.
    #[error("broker {0}: takes no clients over QUIC")]
    NoClients(String),
    /// DNS.
    #[error("no brokers of {domain} in DNS: TXT {domain_at}: {detail}", domain_at = txt_name(domain))]
    Dns {
        /// Of which domain.
        domain: String,
        /// What is wrong.
        detail: String,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Brokers, to be asked in this order.
    pub brokers: Vec<BrokerAt>,
    /// The domain's owner, if whoever told of the brokers named it.
    pub owner: Option<Id>,
}

impl std::str::FromStr for BrokerAt {
    type Err = FindError;

    fn from_str(text: &str) -> Result<BrokerAt, FindError> {
        let (id, at) = text.split_once('@').ok_or_else(|| FindError::Broker(text.into()))?;
        Ok(BrokerAt { id: Id::parse(id, Role::Broker)?, at: with_port(at) })
    }
}

/// A host with the usual port where it has none.
fn with_port(at: &str) -> String {
    let bare_v6 = at.parse::<std::net::Ipv6Addr>().is_ok();
    match at.rsplit_once(':') {
        _ if bare_v6 => format!("[{at}]:{BROKER_PORT}"),
        Some((_, port)) if port.parse::<u16>().is_ok() => at.into(),
        _ => format!("{at}:{BROKER_PORT}"),
    }
}

/// The brokers of a token.
///
/// # Errors
/// [`FindError`]; a token of another domain is one.
pub fn by_token(domain: &str, text: &str) -> Result<Found, FindError> {
    let token = ClientToken::decode(text)?;
    if token.domain != domain {
        return Err(FindError::TokenDomain(token.domain));
    }
    let at = |(key, at): (_, String)| BrokerAt { id: Id { role: Role::Broker, key }, at: with_port(&at) };
    let owner = token.owner.map(|key| Id { role: Role::Person, key });
    Ok(Found { brokers: token.brokers.into_iter().take(MOST_BROKERS).map(at).collect(), owner })
}

/// The broker of a URL, asked there for its id and its ports.
///
/// # Errors
/// [`FindError`].
pub async fn by_url(endpoint: Endpoint) -> Result<Found, FindError> {
    let said = endpoint.to_string();
    let host = match &endpoint {
        // Whoever has its socket is on its machine.
        Endpoint::Unix(_) => std::net::Ipv4Addr::LOCALHOST.to_string(),
        Endpoint::Http { host, .. } | Endpoint::Https { host, .. } => host.clone(),
    };
    let health = Client::new(endpoint, Auth::None).health().await?;
    let id = Id::parse(&health.broker, Role::Broker)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let brokers: Vec<BrokerAt> =
        health.clients.iter().map(|port| BrokerAt { id, at: format!("{host}:{port}") }).collect();
    match brokers.is_empty() {
        true => Err(FindError::NoClients(said)),
        false => Ok(Found { brokers, owner: None }),
    }
}

/// The brokers that a domain names in DNS, asked of these name servers, or of the system's where none is named.
///
/// # Errors
/// [`FindError::Dns`].
pub async fn by_dns(domain: &str, servers: &[SocketAddr]) -> Result<Found, FindError> {
    let failed = |detail: String| FindError::Dns { domain: domain.into(), detail };
    let resolver = resolver(servers).map_err(|e| failed(e.to_string()))?;
    let answer = tokio::time::timeout(LOOK_UP, resolver.txt_lookup(txt_name(domain))).await;
    let answer = answer.map_err(|_| failed("no answer".into()))?.map_err(|e| failed(e.to_string()))?;
    let texts = answer.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    let found = in_texts(texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())).map_err(failed)?;
    match found.brokers.is_empty() {
        true => Err(failed("no text names a broker".into())),
        false => Ok(found),
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    if servers.is_empty() {
        return Resolver::builder_tokio()?.build();
    }
    let server = |addr: &SocketAddr| {
        let mut server = NameServerConfig::udp_and_tcp(addr.ip());
        server.connections.iter_mut().for_each(|c| c.port = addr.port());
        server
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

fn txt_name(domain: &str) -> String {
    format!("_nearmost.{domain}.")
}

/// What texts say; those that are something else are passed over. An owner that cannot be read, or is not the
/// same in all of them, is an error: whoever drops it takes everybody's word.
pub(crate) fn in_texts(texts: impl Iterator<Item = String>) -> Result<Found, String> {
    let mut found = Found::default();
    for text in texts {
        let mut words = text.split_whitespace();
        if words.next() != Some("v=nearmost1") {
            continue;
        }
        let (mut id, mut at) = (None, None);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "broker" => id = Id::parse(value, Role::Broker).ok(),
                "at" => at = Some(with_port(value)),
                "owner" => {
                    let owner = Id::parse(value, Role::Person).map_err(|e| format!("owner: {e}"))?;
                    if found.owner.is_some_and(|other| other != owner) {
                        return Err("the texts name different owners".into());
                    }
                    found.owner = Some(owner);
                }
                // A newer word.
                _ => {}
            }
        }
        if let (Some(id), Some(at)) = (id, at)
            && found.brokers.len() < MOST_BROKERS
        {
            found.brokers.push(BrokerAt { id, at });
        }
    }
    Ok(found)
}

/// The text by which DNS names a broker.
pub fn dns_text(broker: &BrokerAt, owner: Option<&Id>) -> String {
    let owner = owner.map(|id| format!(" owner={id}")).unwrap_or_default();
    format!("v=nearmost1 broker={} at={}{owner}", broker.id, broker.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::identity::KeyPair;

    fn broker(seed: u8, at: &str) -> BrokerAt {
        BrokerAt { id: KeyPair::from_seed(Role::Broker, &[seed; 32]).id(), at: at.into() }
    }

    #[test]
    fn brokers_are_read_from_text() {
        let id = broker(1, "").id;
        for (text, at) in [
            ("b.example", "b.example:7840"),
            ("b.example:1", "b.example:1"),
            ("192.0.2.1", "192.0.2.1:7840"),
            ("2001:db8::1", "[2001:db8::1]:7840"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            assert_eq!(format!("{id}@{text}").parse::<BrokerAt>().unwrap(), BrokerAt { id, at: at.into() });
        }
        assert!(matches!("b.example".parse::<BrokerAt>(), Err(FindError::Broker(_))));
        assert!(matches!("nn1@b".parse::<BrokerAt>(), Err(FindError::Id(_))));
    }

    #[test]
    fn texts_of_dns_come_back_and_others_are_passed_over() {
        let owner = KeyPair::from_seed(Role::Person, &[3; 32]).id();
        let (one, two) = (broker(1, "a.example:7840"), broker(2, "[2001:db8::1]:7841"));
        let texts = [
            "v=spf1 -all".into(),
            dns_text(&one, Some(&owner)),
            "v=nearmost1 broker=nb1bad at=x".into(),
            dns_text(&two, None) + " later=yes",
        ];
        let found = Found { brokers: vec![one.clone(), two], owner: Some(owner) };
        assert_eq!(in_texts(texts.into_iter()), Ok(found));
        let other = KeyPair::from_seed(Role::Person, &[4; 32]).id();
        let differ = [dns_text(&one, Some(&owner)), dns_text(&one, Some(&other))];
        assert!(in_texts(differ.into_iter()).unwrap_err().contains("different owners"));
        let damaged = dns_text(&one, Some(&owner)).replace("owner=np1", "owner=np1x");
        assert!(in_texts([damaged].into_iter()).unwrap_err().starts_with("owner:"));
    }

    #[test]
    fn a_token_is_of_its_domain() {
        let owner = KeyPair::from_seed(Role::Person, &[3; 32]).id();
        let token = ClientToken {
            domain: "play.example".into(),
            owner: Some(owner.key),
            brokers: vec![(broker(1, "").id.key, "a.example".into())],
        };
        let found = by_token("play.example", &token.encode()).unwrap();
        assert_eq!(found, Found { brokers: vec![broker(1, "a.example:7840")], owner: Some(owner) });
        assert!(matches!(by_token("b.example", &token.encode()), Err(FindError::TokenDomain(_))));
    }
}
