//! `[dns.identity]`, `[dns.cookies]`, `[dns.limits]`: what strangers are told, how they are known again,
//! and how much is sent to those who may be somebody else.

use crate::error::Fault;
use crate::value::{Number, Prefix, Seconds, ServerText, Text, set};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What a server says of itself; nothing while empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsIdentityConfig {
    /// Which server this is (NSID, `id.server`).
    pub id: String,
    /// `version.bind`.
    pub version: String,
}

/// DNS cookies (RFC 7873).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsCookieConfig {
    /// Give and take them.
    pub enabled: bool,
    /// Answer those that have a cookie only once they have one of ours.
    pub required: bool,
}

/// Limits of replies over UDP to sources without a valid cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsLimitsConfig {
    /// Answers that are alike, for each network; 0 for no limit.
    pub responses_per_second: u32,
    /// Denials within one domain, for each network; 0 for no limit.
    pub nxdomains_per_second: u32,
    /// Errors, for each network; 0 for no limit.
    pub errors_per_second: u32,
    /// The longest that a network stays limited once its flood has ended.
    pub window: Duration,
    /// One of so many replies above a rate is sent short; 0 for none.
    pub slip: u32,
    /// What is one network.
    pub ipv4_prefix: u8,
    /// The same for IPv6.
    pub ipv6_prefix: u8,
    /// Sources without limits.
    pub allow: Vec<IpNet>,
    /// Bytes sent to a network for each byte from it; 0 for no limit.
    pub max_amplification: u32,
    /// Networks and kinds of replies told apart at a time, for each worker.
    pub table_size: usize,
}

impl Default for DnsCookieConfig {
    fn default() -> Self {
        DnsCookieConfig { enabled: true, required: false }
    }
}

impl Default for DnsLimitsConfig {
    fn default() -> Self {
        DnsLimitsConfig {
            responses_per_second: 500,
            nxdomains_per_second: 100,
            errors_per_second: 50,
            window: Duration::from_secs(15),
            slip: 1,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            // Nobody elsewhere can send as this machine.
            allow: vec![
                Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
                Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
            ],
            max_amplification: 8,
            table_size: 65_536,
        }
    }
}

/// `[dns.identity]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsIdentitySpec {
    id: Option<Text<ServerText>>,
    version: Option<Text<ServerText>>,
}

/// `[dns.cookies]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsCookieSpec {
    enabled: Option<bool>,
    required: Option<bool>,
}

/// `[dns.limits]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsLimitsSpec {
    responses_per_second: Option<Number<u32, 0, 20_000>>,
    nxdomains_per_second: Option<Number<u32, 0, 20_000>>,
    errors_per_second: Option<Number<u32, 0, 20_000>>,
    window_s: Option<Seconds<60>>,
    slip: Option<Number<u32, 0, 100>>,
    ipv4_prefix: Option<Number<u8, 1, 32>>,
    ipv6_prefix: Option<Number<u8, 1, 64>>,
    allow: Option<Vec<Text<Prefix>>>,
    max_amplification: Option<Number<u32, 0, 1000>>,
    table_size: Option<Number<usize, 64, 16_777_216>>,
}

impl DnsIdentitySpec {
    pub(super) fn apply(self, identity: &mut DnsIdentityConfig) {
        set(&mut identity.id, self.id);
        set(&mut identity.version, self.version);
    }
}

impl DnsCookieSpec {
    pub(super) fn apply(self, cookies: &mut DnsCookieConfig) {
        set(&mut cookies.enabled, self.enabled);
        set(&mut cookies.required, self.required);
    }
}

impl DnsLimitsSpec {
    pub(super) fn apply(self, limits: &mut DnsLimitsConfig) {
        set(&mut limits.responses_per_second, self.responses_per_second);
        set(&mut limits.nxdomains_per_second, self.nxdomains_per_second);
        set(&mut limits.errors_per_second, self.errors_per_second);
        set(&mut limits.window, self.window_s);
        set(&mut limits.slip, self.slip);
        set(&mut limits.ipv4_prefix, self.ipv4_prefix);
        set(&mut limits.ipv6_prefix, self.ipv6_prefix);
        set(&mut limits.allow, self.allow);
        set(&mut limits.max_amplification, self.max_amplification);
        set(&mut limits.table_size, self.table_size);
    }
}

/// What cannot be together.
pub(super) fn complete(cookies: &DnsCookieConfig, limits: &DnsLimitsConfig) -> Result<(), Fault> {
    if cookies.required && !cookies.enabled {
        return Err(Fault::rule("dns.cookies.required", "needs dns.cookies.enabled"));
    }
    if limits.max_amplification == 1 {
        let message =
            "1 leaves no room for a reply that sends resolvers to TCP; at least 2, or 0 for no limit";
        return Err(Fault::rule("dns.limits.max_amplification", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use super::*;

    #[test]
    fn every_key_is_taken() {
        let text = "[dns.identity]\nid = \"lon-1\"\nversion = \"x\"\n[dns.cookies]\nrequired = true\n\
            [dns.limits]\nresponses_per_second = 1\nnxdomains_per_second = 2\nerrors_per_second = 3\n\
            window_s = 4\nslip = 5\nipv4_prefix = 6\nipv6_prefix = 7\nallow = [\"192.0.2.0/24\"]\n\
            max_amplification = 9\ntable_size = 100\n";
        let dns = read(text, &[], &[]).unwrap().dns;
        assert_eq!((dns.edns.identity.id.as_str(), dns.edns.identity.version.as_str()), ("lon-1", "x"));
        assert_eq!(dns.edns.cookies, DnsCookieConfig { enabled: true, required: true });
        let wanted = DnsLimitsConfig {
            responses_per_second: 1,
            nxdomains_per_second: 2,
            errors_per_second: 3,
            window: Duration::from_secs(4),
            slip: 5,
            ipv4_prefix: 6,
            ipv6_prefix: 7,
            allow: vec!["192.0.2.0/24".parse().unwrap()],
            max_amplification: 9,
            table_size: 100,
        };
        assert_eq!(dns.limits, wanted);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, message) in [
            (
                "[dns.cookies]\nenabled = false\nrequired = true",
                "broker.toml: dns.cookies.required: needs dns.cookies.enabled",
            ),
            (
                "[dns.limits]\nmax_amplification = 1",
                "broker.toml: dns.limits.max_amplification: 1 leaves no room for a reply that sends resolvers \
                 to TCP; at least 2, or 0 for no limit",
            ),
            (
                "[dns.limits]\nwindow_s = 61",
                "broker.toml: dns.limits.window_s: found 61, expected a whole number from 1 to 60",
            ),
            (
                "[dns.limits]\nipv6_prefix = 65",
                "broker.toml: dns.limits.ipv6_prefix: found 65, expected a whole number from 1 to 64",
            ),
            (
                "[dns.identity]\nid = \"a\\nb\"",
                "broker.toml: dns.identity.id: found \"a\\nb\", expected at most 128 bytes without \
                 control characters",
            ),
        ] {
            assert_eq!(refused(text, &[], &[]), message);
        }
    }
}
