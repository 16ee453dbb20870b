//! Scenarios that come with the lab, and files that do not.

use anyhow::{Context, Result, bail};
use nearmost_lab::scenario::Scenario;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../lab/scenarios/", $name, ".toml")))),*]
    };
}

/// Name and text of each.
const SHIPPED: [(&str, &str); 22] = shipped![
    "agent-crash",
    "blackhole",
    "blackhole-doubled",
    "both-die",
    "broker-and-mirror",
    "broker-dead",
    "bursts",
    "change-network",
    "change-network-untold",
    "deaf",
    "drain",
    "flapping",
    "kill",
    "kill-doubled",
    "loss-30",
    "loss-5",
    "mtu-1280",
    "mute",
    "rebind",
    "region",
    "service-crash",
    "stop",
];

/// All that come with the lab.
pub fn all() -> Result<Vec<Scenario>> {
    let read = |(name, text): (&str, &str)| Scenario::read(text).with_context(|| format!("scenario {name}"));
    SHIPPED.into_iter().map(read).collect()
}

/// One by its name, or from a file.
pub fn find(named: &str) -> Result<Scenario> {
    if let Some((_, text)) = SHIPPED.iter().find(|(name, _)| *name == named) {
        return Scenario::read(text).with_context(|| format!("scenario {named}"));
    }
    match std::fs::read_to_string(named) {
        Ok(text) => Scenario::read(&text).with_context(|| format!("scenario file {named}")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named.contains(['/', '.']) => {
            bail!("there is no scenario {named:?}; --list tells which there are")
        }
        Err(e) => Err(e).with_context(|| format!("scenario file {named}")),
    }
}
