//! A broker of a test: says what the test tells it to.

use super::mirror::Mirror;
use super::world::{DOMAIN, soon};
use nearmost_client::identity::{KeyPair, Role};
use nearmost_client::session::BrokerAt;
use nearmost_wire::client::{Taken, ToBroker, ToClient};
use nearmost_wire::frame;
use nearmost_wire::grant::{Delegation, Grant};
use nearmost_wire::list::{Change, Entry, Fate, List, Reach, Signed, Standing, Version, Word};
use nearmost_wire::tls::{self, ALPN_CLIENT};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

pub struct Broker {
    pub key: KeyPair,
    pub at: BrokerAt,
    /// What clients ask.
    pub asked: mpsc::UnboundedReceiver<ToBroker>,
    says: broadcast::Sender<Vec<u8>>,
    endpoint: quinn::Endpoint,
    task: JoinHandle<()>,
}

impl Broker {
    pub fn start(seed: u8) -> Broker {
        let key = KeyPair::from_seed(Role::Broker, &[seed; 32]);
        let tls = tls::server_config(&key, ALPN_CLIENT).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (told, asked) = mpsc::unbounded_channel();
        let (says, _) = broadcast::channel(64);
        let task = tokio::spawn(accept(endpoint.clone(), told, says.clone()));
        let at = BrokerAt { id: key.id(), at: endpoint.local_addr().unwrap().to_string() };
        Broker { key, at, asked, says, endpoint, task }
    }

    /// Waits until a client asks for the list; the version that it holds.
    pub async fn asked(&mut self) -> Option<Version> {
        loop {
            if let ToBroker::Subscribe { domain, have } = soon(self.asked.recv()).await.expect("it lives") {
                assert_eq!(domain, DOMAIN);
                return have;
            }
        }
    }

    /// Says something to whoever is connected.
    pub fn say(&self, word: &Word) {
        self.say_signed(Signed::sign(&self.key, word));
    }

    pub fn say_signed(&self, signed: Signed) {
        self.says.send(frame::encode(&ToClient::List(signed)).unwrap()).expect("somebody listens");
    }

    /// Cuts its clients off, and takes nobody any more.
    pub fn kill(self) {
        self.task.abort();
        self.endpoint.close(0u8.into(), b"dead");
    }
}

async fn accept(
    endpoint: quinn::Endpoint,
    told: mpsc::UnboundedSender<ToBroker>,
    says: broadcast::Sender<Vec<u8>>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let (told, mut says) = (told.clone(), says.subscribe());
        tokio::spawn(async move {
            let connection = incoming.await.ok()?;
            let (mut send, mut receive) = connection.accept_bi().await.ok()?;
            let (answers, mut answered) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Ok(message) = frame::read::<ToBroker>(&mut receive).await {
                    if matches!(message, ToBroker::Rtt(_)) {
                        let taken = Taken { accepted: 0, tied: false, measure: Vec::new(), refused: None };
                        answers.send(frame::encode(&ToClient::Taken(taken)).unwrap()).ok()?;
                    }
                    told.send(message).ok()?;
                }
                Some(())
            });
            loop {
                let bytes = tokio::select! {
                    bytes = says.recv() => bytes.ok()?,
                    bytes = answered.recv() => bytes?,
                };
                send.write_all(&bytes).await.ok()?;
            }
            #[allow(unreachable_code)]
            Some(())
        });
    }
}

pub fn now_ms() -> u64 {
    nearmost_client::clock::now_unix_ms()
}

/// A mirror as brokers tell of it, the first ones nearer.
pub fn entry(mirror: &Mirror, place: u32) -> Entry {
    let IpAddr::V4(v4) = mirror.address.ip() else { panic!("IPv4") };
    Entry {
        name: format!("m{place}"),
        node: mirror.id().key,
        at: Reach { v4: Some(v4), v6: None, port: mirror.address.port() },
        rtt_us: 1000 + place,
        weight: 100,
        tier: 0,
        fate: Fate { site: u64::from(place), asn: 0, region: 0 },
        standing: Standing::Eligible,
        grant: None,
    }
}

pub fn list(number: u64, mirrors: Vec<Entry>) -> List {
    let version = Version { source: 1, number };
    List { domain: DOMAIN.into(), version, issued_ms: now_ms(), delegations: Vec::new(), mirrors }
}

pub fn change(number: u64, put: Vec<Entry>) -> Word {
    let to = Version { source: 1, number };
    let (domain, removed) = (DOMAIN.into(), Vec::new());
    Word::Change(Change { domain, from: number - 1, to, issued_ms: now_ms(), put, removed })
}

/// Grants an entry for an hour.
pub fn granted(by: &KeyPair, mut entry: Entry) -> Entry {
    entry.grant = Some(Grant::sign(by, entry.granted(DOMAIN), now_ms() + 3_600_000));
    entry
}

pub fn delegation(owner: &KeyPair, to: &KeyPair) -> Delegation {
    Delegation::sign(owner, DOMAIN, &to.id(), now_ms() - 1000, now_ms() + 90 * 24 * 3_600_000).unwrap()
}
