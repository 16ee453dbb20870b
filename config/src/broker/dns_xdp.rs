//! `[dns.xdp]`: UDP past the sockets, from interfaces' queues.

use crate::error::Fault;
use crate::value::{Number, Text, TextKind, set};
use serde::Deserialize;
use std::borrow::Cow;

/// UDP past the sockets (AF_XDP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsXdpConfig {
    /// Names of interfaces; none is off.
    pub interfaces: Vec<String>,
    /// Where the program runs.
    pub mode: XdpMode,
    /// Do not start without it.
    pub required: bool,
    /// Frames that may wait in each queue, each way; a power of two.
    pub ring: u32,
}

/// Where the program that diverts queries runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, else in the kernel.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel.
    Generic,
}

impl Default for DnsXdpConfig {
    fn default() -> Self {
        DnsXdpConfig { interfaces: Vec::new(), mode: XdpMode::Auto, required: false, ring: 2048 }
    }
}

/// `[dns.xdp]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsXdpSpec {
    interfaces: Option<Vec<Text<InterfaceName>>>,
    mode: Option<Text<XdpMode>>,
    required: Option<bool>,
    ring: Option<Number<u32, 64, 16_384>>,
}

impl DnsXdpSpec {
    pub(super) fn apply(self, xdp: &mut DnsXdpConfig) -> Result<(), Fault> {
        set(&mut xdp.interfaces, self.interfaces);
        set(&mut xdp.mode, self.mode);
        set(&mut xdp.required, self.required);
        set(&mut xdp.ring, self.ring);
        let mut sorted = xdp.interfaces.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0]) {
            return Err(Fault::rule("dns.xdp.interfaces", format!("names {twice} twice")));
        }
        match xdp.ring.is_power_of_two() {
            true => Ok(()),
            false => Err(Fault::rule("dns.xdp.ring", "must be a power of two, such as 2048")),
        }
    }
}

/// What the kernel takes as the name of an interface.
struct InterfaceName;

impl TextKind for InterfaceName {
    type Value = String;
    const EXPECTED: &'static str = "the name of an interface, such as eth0";

    fn parse(text: &str) -> Result<String, Cow<'static, str>> {
        // As the kernel's dev_valid_name.
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        match (1..=15).contains(&text.len()) && text != "." && text != ".." && !text.contains(odd) {
            true => Ok(text.to_owned()),
            false => Err(Cow::Borrowed(Self::EXPECTED)),
        }
    }
}

impl TextKind for XdpMode {
    type Value = XdpMode;
    const EXPECTED: &'static str = "\"auto\", \"native\" or \"generic\"";

    fn parse(text: &str) -> Result<XdpMode, Cow<'static, str>> {
        match text {
            "auto" => Ok(XdpMode::Auto),
            "native" => Ok(XdpMode::Native),
            "generic" => Ok(XdpMode::Generic),
            _ => Err(Cow::Borrowed(Self::EXPECTED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Result<DnsXdpConfig, Fault> {
        let spec: DnsXdpSpec = toml::from_str(text).unwrap();
        let mut xdp = DnsXdpConfig::default();
        spec.apply(&mut xdp).map(|()| xdp)
    }

    #[test]
    fn what_is_not_said_is_off_or_as_before() {
        assert_eq!(applied("").unwrap(), DnsXdpConfig::default());
        assert!(DnsXdpConfig::default().interfaces.is_empty());
        let xdp = applied("interfaces = [\"eth0\", \"eth1\"]\nmode = \"native\"\nrequired = true\nring = 64")
            .unwrap();
        assert_eq!(xdp.interfaces, ["eth0", "eth1"]);
        assert_eq!((xdp.mode, xdp.required, xdp.ring), (XdpMode::Native, true, 64));
    }

    #[test]
    fn one_interface_is_named_once_and_rings_are_powers_of_two() {
        for (text, key) in [
            ("interfaces = [\"eth0\", \"eth1\", \"eth0\"]", "dns.xdp.interfaces"),
            ("ring = 100", "dns.xdp.ring"),
        ] {
            assert_eq!(applied(text).unwrap_err().key(), key);
        }
    }

    #[test]
    fn names_are_what_the_kernel_takes() {
        for good in ["eth0", "enp3s0f1.7", "x", "fifteen-bytes-x"] {
            assert!(InterfaceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a:b", "sixteen-bytes-xx"] {
            assert!(InterfaceName::parse(bad).is_err(), "{bad}");
        }
    }
}
