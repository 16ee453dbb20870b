//! Where peers are, as TXT records at `_nearmost-peers.<name>` tell: `id=nb1… endpoint=host:port`.
//!
//! DNS says where a broker is, not that it is a member: whoever answers there must hold the key that the
//! members know. So a forged answer keeps a peer away at worst, and other addresses are tried first.

use crate::hostnames::{HostnameSettings, resolver};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use nearmost_replica::PublicKey;
use nearmost_wire::identity::{Id, Role};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Most addresses that DNS may tell of one peer.
const MAX_ADDRESSES: usize = 8;

/// Addresses by peer.
pub(super) type Told = Arc<BTreeMap<PublicKey, Vec<String>>>;

/// Asks again and again where peers are.
pub(super) async fn follow(names: Vec<String>, settings: HostnameSettings, told: watch::Sender<Told>) {
    if names.is_empty() {
        return std::future::pending().await;
    }
    loop {
        match resolver(&settings) {
            Ok(resolver) => ask(&resolver, &names, &told).await,
            Err(error) => tracing::warn!(%error, "where peers are cannot be asked"),
        }
        tokio::time::sleep(settings.max_refresh).await;
    }
}

async fn ask(resolver: &TokioResolver, names: &[String], told: &watch::Sender<Told>) {
    let mut found: BTreeMap<PublicKey, Vec<String>> = BTreeMap::new();
    for name in names {
        let at = format!("_nearmost-peers.{name}.");
        let answer = match resolver.txt_lookup(at.as_str()).await {
            Ok(answer) => answer,
            Err(error) => {
                // What was told before stands: a resolver that is away is no reason to forget.
                tracing::warn!(name = at, %error, "where peers are was not told");
                return;
            }
        };
        for record in answer.answers() {
            let RData::TXT(txt) = &record.data else { continue };
            let text = txt.txt_data.concat();
            match read(&text) {
                Ok((key, endpoint)) => {
                    let addresses = found.entry(key).or_default();
                    if addresses.len() < MAX_ADDRESSES && !addresses.contains(&endpoint) {
                        addresses.push(endpoint);
                    }
                }
                Err(why) => tracing::warn!(name = at, why, "a TXT record about a peer was left out"),
            }
        }
    }
    told.send_if_modified(|known| {
        let changed = **known != found;
        if changed {
            *known = Arc::new(found);
        }
        changed
    });
}

/// One record.
pub(crate) fn read(text: &[u8]) -> Result<(PublicKey, String), &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
    let field = |name: &str| text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
    let id = field("id=").ok_or("id= is missing")?;
    let id = Id::parse(id, Role::Broker).map_err(|_| "id= is no broker's id")?;
    let endpoint = field("endpoint=").ok_or("endpoint= is missing")?;
    match endpoint.rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>())) {
        Some((false, Ok(_))) => Ok((PublicKey(id.key), endpoint.to_owned())),
        _ => Err("endpoint= is not host:port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::identity::KeyPair;

    #[test]
    fn records_are_read_and_what_is_wrong_is_named() {
        let id = KeyPair::from_seed(Role::Broker, &[1; 32]).id();
        let good = format!("id={id} endpoint=b.example:7843");
        assert_eq!(read(good.as_bytes()), Ok((PublicKey(id.key), "b.example:7843".into())));
        let v6 = format!("endpoint=[2001:db8::1]:7843 id={id} more=later");
        assert!(read(v6.as_bytes()).is_ok());
        for (text, why) in [
            ("endpoint=b.example:1".to_owned(), "id= is missing"),
            ("id=np1 endpoint=b.example:1".to_owned(), "id= is no broker's id"),
            (format!("id={id}"), "endpoint= is missing"),
            (format!("id={id} endpoint=b.example"), "endpoint= is not host:port"),
            (format!("id={id} endpoint=:1"), "endpoint= is not host:port"),
            (format!("id={id} endpoint=b:99999"), "endpoint= is not host:port"),
        ] {
            assert_eq!(read(text.as_bytes()), Err(why), "{text}");
        }
        assert_eq!(read(&[0xff]), Err("it is not UTF-8"));
    }
}
