//! `[peers]`: the other brokers of a federation.

use super::any_v6;
use super::apply::{advertise_listen, unique};
use super::spec::Limit;
use crate::error::Fault;
use crate::value::{
    BrokerId, DomainName, DomainPattern, HostPort, Listen, Millis, Number, Plain, Seconds, ShortName,
    ShortNameOrDefault, Text, set,
};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// Tombstones live for 30 days: what waited for longer could bring back what they removed.
const LONGEST_QUEUE_S: u64 = 30 * 24 * 3600;

/// The other brokers of a federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeersConfig {
    /// Whether there are any: otherwise nobody is listened to, and nobody called.
    pub enabled: bool,
    /// QUIC addresses.
    pub listen: Vec<SocketAddr>,
    /// What other brokers connect to, as `host:port`; `listen` itself unless given, without addresses that
    /// stand for all (`0.0.0.0`, `::`), so it can be empty.
    pub advertise: Vec<String>,
    /// This broker's name for people, one label; empty for that of the machine.
    pub name: String,
    /// Connections at once, those not authorised yet included.
    pub max_connections: usize,
    /// What waits for peers that cannot be reached.
    pub queue: PeerQueueConfig,
    /// How often, and how fast.
    pub pace: PeerPaceConfig,
    /// Domains whose `_nearmost-peers` TXT records tell where peers are.
    pub dns: Vec<String>,
    /// Members of the federation on the word of this configuration.
    pub known: Vec<KnownPeer>,
}

/// What waits for a peer that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerQueueConfig {
    /// What waited for this long is dropped; the peer gets it by a comparison when it is back.
    pub life: Duration,
    /// Records waiting for one peer; beyond it all is compared instead.
    pub items: usize,
}

/// How often peers are called, told and compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPaceConfig {
    /// Time between two comparisons with a random peer.
    pub compare_every: Duration,
    /// Time between two announcements of where this broker is.
    pub announce_every: Duration,
    /// Wait after the first attempt that failed; doubles with each.
    pub retry_first: Duration,
    /// Longest wait between two attempts.
    pub retry_most: Duration,
    /// Bytes a second that peers are served in comparisons, all together.
    pub serve_bytes_per_s: u64,
}

/// A member of the federation on the word of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// `nb1…`; its form is checked, not whether it is a point of the curve.
    pub id: String,
    /// Its name for people, one label; names of its nodes begin with it.
    pub name: String,
    /// Where it is reached, as `host:port`; empty for one that calls.
    pub addresses: Vec<String>,
    /// Whether it may change members and everything else that concerns all.
    pub admin: bool,
    /// Domains that it may create and run: `a.example`, `*.a.example` for that and all below it, or `*`.
    pub domains: Vec<String>,
}

impl Default for PeersConfig {
    fn default() -> Self {
        PeersConfig {
            enabled: true,
            listen: vec![any_v6(7843)],
            advertise: Vec::new(),
            name: String::new(),
            max_connections: 256,
            queue: PeerQueueConfig::default(),
            pace: PeerPaceConfig::default(),
            dns: Vec::new(),
            known: Vec::new(),
        }
    }
}

impl Default for PeerQueueConfig {
    fn default() -> Self {
        PeerQueueConfig { life: Duration::from_secs(72 * 3600), items: 200_000 }
    }
}

impl Default for PeerPaceConfig {
    fn default() -> Self {
        PeerPaceConfig {
            compare_every: Duration::from_secs(60),
            announce_every: Duration::from_secs(300),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(300),
            serve_bytes_per_s: 32 << 20,
        }
    }
}

/// `[peers]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct PeersSpec {
    enabled: Option<bool>,
    listen: Option<Vec<Text<Listen>>>,
    advertise: Option<Vec<Text<HostPort>>>,
    name: Option<Text<ShortNameOrDefault>>,
    max_connections: Option<Limit>,
    queue_life_s: Option<Seconds<LONGEST_QUEUE_S>>,
    queue_items: Option<Limit>,
    compare_every_ms: Option<Millis>,
    announce_every_ms: Option<Millis>,
    retry_first_ms: Option<Millis>,
    retry_most_ms: Option<Millis>,
    serve_bytes_per_s: Option<Number<u64, 65_536, 1_099_511_627_776>>,
    dns: Option<Vec<Text<DomainName>>>,
    peer: Option<Vec<PeerSpec>>,
}

/// An entry of `[[peers.peer]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct PeerSpec {
    id: Text<BrokerId>,
    name: Text<ShortName>,
    addresses: Option<Vec<Text<HostPort>>>,
    admin: Option<bool>,
    domains: Option<Vec<Text<DomainPattern>>>,
}

impl PeersSpec {
    pub(super) fn apply(self, peers: &mut PeersConfig) -> Result<(), Fault> {
        let retry_key = if self.retry_first_ms.is_some() { "retry_first_ms" } else { "retry_most_ms" };
        set(&mut peers.enabled, self.enabled);
        set(&mut peers.listen, self.listen);
        set(&mut peers.advertise, self.advertise);
        set(&mut peers.name, self.name);
        set(&mut peers.max_connections, self.max_connections);
        set(&mut peers.queue.life, self.queue_life_s);
        set(&mut peers.queue.items, self.queue_items);
        set(&mut peers.pace.compare_every, self.compare_every_ms);
        set(&mut peers.pace.announce_every, self.announce_every_ms);
        set(&mut peers.pace.retry_first, self.retry_first_ms);
        set(&mut peers.pace.retry_most, self.retry_most_ms);
        set(&mut peers.pace.serve_bytes_per_s, self.serve_bytes_per_s);
        set(&mut peers.dns, self.dns);
        peers.known = self.peer.unwrap_or_default().into_iter().map(PeerSpec::known).collect();
        unique("peers.peer", "id", peers.known.iter().map(|p| p.id.as_str()))?;
        unique("peers.peer", "name", peers.known.iter().map(|p| p.name.as_str()))?;
        let (first, most) = (peers.pace.retry_first.as_millis(), peers.pace.retry_most.as_millis());
        match first <= most {
            true => Ok(()),
            false => Err(Fault::rule(
                format!("peers.{retry_key}"),
                format!("retry_first_ms ({first}) is above retry_most_ms ({most})"),
            )),
        }
    }
}

impl PeerSpec {
    fn known(self) -> KnownPeer {
        let mut peer = KnownPeer {
            id: self.id.plain(),
            name: self.name.plain(),
            addresses: Vec::new(),
            admin: false,
            domains: Vec::new(),
        };
        set(&mut peer.addresses, self.addresses);
        set(&mut peer.admin, self.admin);
        set(&mut peer.domains, self.domains);
        peer
    }
}

impl PeersConfig {
    /// What follows from the section as a whole.
    pub(super) fn complete(&mut self) -> Result<(), Fault> {
        advertise_listen(&self.listen, &mut self.advertise);
        match self.enabled && self.listen.is_empty() {
            true => Err(Fault::rule("peers.listen", "must hold at least one address, such as [::]:7843")),
            false => Ok(()),
        }
    }

    /// The addresses that are really listened on.
    pub(super) fn listening(&self) -> &[SocketAddr] {
        if self.enabled { &self.listen } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use std::time::Duration;

    const BOB: &str = "nb1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn peers_are_read_in_their_plain_form() {
        let text = format!(
            "[peers]\nname = \"Alice\"\nlisten = [\"192.0.2.1:7843\", \"[::]:7843\"]\nqueue_life_s = 60\n\
             dns = [\"Example.ORG.\"]\n[[peers.peer]]\nid = \"{BOB}\"\nname = \"Bob\"\n\
             addresses = [\"bob.example:7843\"]\ndomains = [\"*.Bob.Example\", \"*\"]\n"
        );
        let peers = read(&text, &[], &[]).unwrap().peers;
        assert_eq!((&*peers.name, &*peers.dns[0]), ("alice", "example.org"));
        assert_eq!(peers.advertise, ["192.0.2.1:7843"]);
        assert_eq!(peers.queue.life, Duration::from_secs(60));
        let bob = &peers.known[0];
        assert_eq!((&*bob.id, &*bob.name, bob.admin), (BOB, "bob", false));
        assert_eq!(bob.addresses, ["bob.example:7843"]);
        assert_eq!(bob.domains, ["*.bob.example", "*"]);
    }

    #[test]
    fn peers_that_make_no_sense_are_named() {
        let bob = |more: &str| format!("[[peers.peer]]\nid = \"{BOB}\"\nname = \"bob\"\n{more}");
        let other = BOB.replacen("nb1a", "nb1b", 1);
        let cases = [
            (
                "[peers]\nlisten = []".to_owned(),
                "peers.listen: must hold at least one address, such as [::]:7843",
            ),
            (
                "[peers]\nlisten = [\"[::]:7841\"]".to_owned(),
                "peers.listen[0]: [::]:7841 over UDP is already taken by agents.listen[0]",
            ),
            (
                "[peers]\nname = \"a.b\"".to_owned(),
                "peers.name: found \"a.b\", expected a name of up to 63 letters, digits, - and _, \
                 without - at its beginning or end; \"\" for the machine's",
            ),
            (
                "[peers]\nqueue_life_s = 2592001".to_owned(),
                "peers.queue_life_s: found 2592001, expected a whole number from 1 to 2592000",
            ),
            (
                "[peers]\nretry_first_ms = 300001".to_owned(),
                "peers.retry_first_ms: retry_first_ms (300001) is above retry_most_ms (300000)",
            ),
            (
                "[peers]\nretry_most_ms = 10".to_owned(),
                "peers.retry_most_ms: retry_first_ms (1000) is above retry_most_ms (10)",
            ),
            ("[[peers.peer]]\nname = \"bob\"".to_owned(), "peers.peer[0].id: missing"),
            (
                "[[peers.peer]]\nid = \"np1x\"\nname = \"bob\"".to_owned(),
                "peers.peer[0].id: found \"np1x\", expected a broker's id: nb1 and 52 letters a-z and digits 2-7",
            ),
            (
                bob("addresses = [\"bob.example\"]"),
                "peers.peer[0].addresses[0]: found \"bob.example\", expected a host and port such as \
                 broker.example.com:7841 or [2001:db8::1]:7841",
            ),
            (
                bob("domains = [\"a.*.example\"]"),
                "peers.peer[0].domains[0]: found \"a.*.example\", expected a domain name such as \
                 play.example.com, *.example.com for that and all below it, or * for all",
            ),
            (
                bob("adresses = []"),
                "peers.peer[0].adresses: unknown key; did you mean peers.peer[0].addresses?",
            ),
            (bob("") + &bob(""), &*format!("peers.peer[1].id: {BOB:?} is there already")),
            (bob("") + &bob("").replace(BOB, &other), "peers.peer[1].name: \"bob\" is there already"),
        ];
        for (text, message) in &cases {
            assert_eq!(refused(text, &[], &[]), format!("broker.toml: {message}"));
        }
    }

    #[test]
    fn a_broker_without_peers_takes_no_port_for_them() {
        let text = "[peers]\nenabled = false\nlisten = [\"[::]:7841\"]";
        assert!(!read(text, &[], &[]).unwrap().peers.enabled);
        assert!(read("[peers]\nenabled = false\nlisten = []", &[], &[]).is_ok());
    }
}
