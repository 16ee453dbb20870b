//! The command line of `connect`.

use clap::{Args, ValueEnum};
use nearmost_client::identity::{Id, Role};
use nearmost_client::session::{BrokerAt, Duplicate, INGRESS_PORT};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Where to listen, for what, and where it goes.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The domain
    pub domain: String,
    /// Where programs connect to, such as 127.0.0.1:7000; port 0 takes any that is free
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// What programs speak
    #[arg(long, value_enum, default_value = "tcp")]
    pub mode: ModeArg,
    /// Name the mirrors yourself, once each, and no broker is asked: the node's id and the address of
    /// its ingress, with a name of yours for messages if you like
    #[arg(long = "mirror", value_name = "[NAME=]NODE_ID@IP[:PORT]")]
    pub mirrors: Vec<MirrorArg>,
    /// The domain's token (nmc1…), as `nearmost domain token` prints it: it names brokers and owner
    #[arg(long, env = "NEARMOST_CLIENT_TOKEN", value_name = "TOKEN")]
    pub via: Option<String>,
    /// Ask this broker for mirrors; repeat for more, the first ones are asked first. Without any, and
    /// without a token or --broker, brokers are looked up in DNS: TXT at _nearmost.DOMAIN
    #[arg(long, value_name = "ID@HOST[:PORT]", conflicts_with = "mirrors")]
    pub ask: Vec<BrokerAt>,
    /// The domain's owner (np1…): take only mirrors that brokers of its choice granted
    #[arg(long, value_name = "ID")]
    pub owner: Option<Id>,
    /// udp: send packets over a second mirror as well
    #[arg(long, value_enum, default_value = "degraded")]
    pub duplicate: DuplicateArg,
    /// udp: forget an address after so many seconds without a packet
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub idle: u32,
    /// Addresses (udp, default 256) or connections (tcp and http, default 1024) at one time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub most: Option<u32>,
    /// http: the service honours Idempotency-Key, so requests that carry one may be sent again after
    /// an answer was lost
    #[arg(long)]
    pub idempotency_keys: bool,
}

/// What programs speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Datagrams: each address is a flow, which goes on at another mirror
    Udp,
    /// Connections: each stays with its mirror, and is reset when that dies
    Tcp,
    /// HTTP/1.1 and h2 in clear text: requests are sent again where that does no harm
    Http,
}

/// When packets go over a second mirror as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DuplicateArg {
    /// Never
    Never,
    /// While the mirror in use is in doubt
    Degraded,
    /// Always
    Always,
}

impl From<DuplicateArg> for Duplicate {
    fn from(arg: DuplicateArg) -> Duplicate {
        match arg {
            DuplicateArg::Never => Duplicate::Never,
            DuplicateArg::Degraded => Duplicate::WhileDegraded,
            DuplicateArg::Always => Duplicate::Always,
        }
    }
}

/// A mirror by the node's id and the address of its ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorArg {
    /// For messages.
    pub name: Option<String>,
    /// The node.
    pub node: Id,
    /// Its ingress.
    pub at: SocketAddr,
}

impl FromStr for MirrorArg {
    type Err = String;

    fn from_str(text: &str) -> Result<MirrorArg, String> {
        let (name, rest) = match text.split_once('=') {
            Some(("", _)) => return Err("the name before = is empty".into()),
            Some((name, rest)) => (Some(name.to_owned()), rest),
            None => (None, text),
        };
        let (node, at) = rest.split_once('@').ok_or("expected NODE_ID@IP or NODE_ID@IP:PORT")?;
        let node = Id::parse(node, Role::Node).map_err(|e| e.to_string())?;
        let address = at.parse::<SocketAddr>().ok();
        let bare = || at.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let address = address.or_else(|| bare().map(|ip| (ip, INGRESS_PORT).into()));
        let at = address.ok_or_else(|| format!("{at:?} is not an IP address, with or without a port"))?;
        Ok(MirrorArg { name, node, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_client::identity::KeyPair;

    #[test]
    fn mirrors_are_read() {
        let node = KeyPair::from_seed(Role::Node, &[1; 32]).id();
        let at = |text: &str| text.replace("NODE", &node.to_string()).parse::<MirrorArg>();
        let arg = |name: Option<&str>, at: &str| {
            Ok(MirrorArg { name: name.map(str::to_owned), node, at: at.parse().unwrap() })
        };
        assert_eq!(at("NODE@192.0.2.1"), arg(None, "192.0.2.1:7850"));
        assert_eq!(at("lon=NODE@192.0.2.1:99"), arg(Some("lon"), "192.0.2.1:99"));
        assert_eq!(at("NODE@2001:db8::1"), arg(None, "[2001:db8::1]:7850"));
        assert_eq!(at("NODE@[2001:db8::1]"), arg(None, "[2001:db8::1]:7850"));
        assert_eq!(at("NODE@[2001:db8::1]:99"), arg(None, "[2001:db8::1]:99"));
        for (bad, says) in [
            ("NODE", "expected NODE_ID@IP"),
            ("=NODE@192.0.2.1", "empty"),
            ("NODE@lon.example", "\"lon.example\" is not an IP address"),
            ("nb1aaaa@192.0.2.1", "nb1aaaa"),
        ] {
            let error = at(bad).unwrap_err();
            assert!(error.contains(says) || bad.starts_with("nb1"), "{bad}: {error}");
        }
    }
}
