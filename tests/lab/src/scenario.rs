//! Scenario files: who is where, what is done to them and when, and how often.

use crate::order::Change;
use crate::seen::{Mode, Way};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::Duration;

/// The version of the format.
const VERSION: u32 = 1;
/// The most mirrors.
const MOST_MIRRORS: usize = 8;
/// The longest that a trial may be watched.
const MOST_WATCH_MS: u64 = 3_600_000;

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not what a scenario looks like; names the key and its place.
    #[error(transparent)]
    Form(#[from] toml::de::Error),
    /// It says what cannot be.
    #[error("{key}: {what}")]
    Sense {
        /// Where.
        key: String,
        /// What is wrong.
        what: String,
    },
}

/// What is done, to whom, and what is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Of this format: 1.
    pub version: u32,
    /// What it is called.
    pub name: String,
    /// What it is about.
    #[serde(default)]
    pub about: String,
    /// Of all chance.
    #[serde(default = "one")]
    pub seed: u64,
    /// How often, and for how long.
    pub pace: Pace,
    /// How the service is used.
    #[serde(default)]
    pub traffic: Traffic,
    /// From the client to the mirrors.
    pub ways: Ways,
    /// The gap that 99 of 100 are to stay within.
    pub figure: Option<Figure>,
    /// The mirrors; three if none are given.
    #[serde(default = "three", rename = "mirror")]
    pub mirrors: Vec<Mirror>,
    /// What is done.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

/// How often, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// How often it is done for each pair of round trips.
    pub trials: u32,
    /// How long sessions settle first.
    #[serde(default = "settle")]
    pub settle_ms: u64,
    /// How long they are watched from the first step on.
    pub watch_ms: u64,
}

/// How the service is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Sessions of each mode in a trial, each of which counts.
    pub users: u32,
    /// How they use the service.
    pub modes: Vec<Mode>,
    /// By what.
    pub way: Way,
    /// Bytes of a packet of udp.
    pub packet_bytes: usize,
    /// Bytes of a block of tcp.
    pub block_bytes: usize,
    /// When packets of udp go over the standby as well.
    pub doubled: Doubled,
}

impl Default for Traffic {
    fn default() -> Self {
        let (packet_bytes, block_bytes) = (64, 256);
        let (modes, way, doubled) = (vec![Mode::Udp], Way::Nearmost, Doubled::default());
        Traffic { users: 1, modes, way, packet_bytes, block_bytes, doubled }
    }
}

/// When packets go over the standby as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubled {
    /// While the primary is in doubt.
    #[default]
    Degraded,
    /// Always: both services answer each.
    Always,
}

/// From the client to the mirrors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ways {
    /// Round trips client to primary, in milliseconds …
    pub r_ms: Vec<u32>,
    /// … and client to standby. Pairs in which the standby would be nearer are left out.
    pub s_ms: Vec<u32>,
    /// The client is behind a translator of addresses.
    #[serde(default)]
    pub nat: bool,
    /// Senders are told of packets that are too long.
    #[serde(default)]
    pub tell_too_long: bool,
    /// Who tells users of mirrors.
    #[serde(default)]
    pub lists: Lists,
}

/// Who tells users of mirrors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lists {
    /// The lab: regions and round trips are the scenario's.
    #[default]
    Given,
    /// The broker, which pushes what changes: each mirror is in a region of its own.
    Broker,
}

/// What a gap may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What it takes in any case.
    pub base: Base,
    /// Milliseconds on top.
    pub plus_ms: u32,
}

/// What a gap takes in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// `r/2 + s`: the client hears of it, and the standby is asked and answers.
    HearAndAsk,
    /// `s - r`: answers come from farther away from now on, though none is missed.
    Farther,
    /// Nothing.
    Nothing,
}

/// A mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// `m1` and so on: by it steps speak of it.
    pub name: String,
    /// Round trip to the client.
    pub rtt: Rtt,
    /// What it fails together with.
    pub region: u32,
}

/// A round trip: `"r"`, `"s"`, or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rtt {
    /// One of the cell's.
    Of(Cell),
    /// So many milliseconds.
    Ms(u32),
}

impl Rtt {
    /// In milliseconds, in a cell.
    pub fn of(self, r_ms: u32, s_ms: u32) -> u32 {
        match self {
            Rtt::Of(Cell::R) => r_ms,
            Rtt::Of(Cell::S) => s_ms,
            Rtt::Ms(ms) => ms,
        }
    }
}

/// What a cell gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// The round trip to the primary.
    R,
    /// The round trip to the standby.
    S,
}

/// Something that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, after the first one.
    #[serde(default)]
    pub at_ms: u64,
    /// What.
    #[serde(rename = "do")]
    pub act: Act,
    /// To whom: `primary`, `standby`, a mirror, `broker`, `client`.
    pub on: String,
    /// For processes: which; all of the host if nothing is said.
    #[serde(default)]
    pub process: Process,
    /// For links: which way; both if nothing is said.
    #[serde(default)]
    pub direction: Direction,
    /// For links: only those with this other host.
    pub with: Option<String>,
    /// For `shape`: how.
    pub change: Option<Change>,
    /// For `change-network`: whether the session is told.
    #[serde(default)]
    pub told: bool,
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// SIGTERM to the agent, which drains and ends.
    Drain,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
    /// Nothing passes.
    Blackhole,
    /// The links change.
    Shape,
    /// The links are as in the beginning again.
    Heal,
    /// The translator before the client forgets all.
    Rebind,
    /// The client has another address.
    ChangeNetwork,
}

/// Processes of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Process {
    /// Its agent.
    Agent,
    /// Its service.
    Service,
    /// Both.
    #[default]
    Both,
}

/// Directions of links, seen from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// What it sends.
    From,
    /// What is sent to it.
    To,
    /// Either.
    #[default]
    Both,
}

fn one() -> u64 {
    1
}

fn settle() -> u64 {
    1500
}

fn three() -> Vec<Mirror> {
    let mirror = |name: &str, rtt, region| Mirror { name: name.into(), rtt, region };
    vec![mirror("m1", Rtt::Of(Cell::R), 1), mirror("m2", Rtt::Of(Cell::S), 2), mirror("m3", Rtt::Ms(250), 3)]
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Pairs of round trips in which the primary is no farther than the standby.
    pub fn cells(&self) -> Vec<(u32, u32)> {
        let all = self.ways.r_ms.iter().flat_map(|r| self.ways.s_ms.iter().map(|s| (*r, *s)));
        all.filter(|(r, s)| r <= s).collect()
    }

    /// The gap that is to be kept in a cell.
    pub fn bound(&self, r_ms: u32, s_ms: u32) -> Option<Duration> {
        let figure = self.figure?;
        let (r, s) = (f64::from(r_ms), f64::from(s_ms));
        let base = match figure.base {
            Base::HearAndAsk => r / 2.0 + s,
            Base::Farther => (s - r).max(0.0),
            Base::Nothing => 0.0,
        };
        Some(Duration::from_secs_f64((base + f64::from(figure.plus_ms)) / 1e3))
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let wrong = |key: &str, what: String| Err(ScenarioError::Sense { key: key.into(), what });
        if self.version != VERSION {
            return wrong("version", format!("found {}, this lab reads {VERSION}", self.version));
        }
        if !(1..=100_000).contains(&self.pace.trials) {
            return wrong("pace.trials", format!("found {}, expected 1 to 100000", self.pace.trials));
        }
        if !(1..=1000).contains(&self.traffic.users) {
            return wrong("traffic.users", format!("found {}, expected 1 to 1000", self.traffic.users));
        }
        if !(8..=1400).contains(&self.traffic.packet_bytes) {
            return wrong(
                "traffic.packet_bytes",
                format!("found {}, expected 8 to 1400", self.traffic.packet_bytes),
            );
        }
        if !(1..=65_536).contains(&self.traffic.block_bytes) {
            return wrong(
                "traffic.block_bytes",
                format!("found {}, expected 1 to 65536", self.traffic.block_bytes),
            );
        }
        if self.traffic.modes.is_empty() {
            return wrong("traffic.modes", "none is given".into());
        }
        if let Some(mode) = self.traffic.modes.iter().find(|mode| !self.traffic.way.modes().contains(mode)) {
            return wrong("traffic.modes", format!("{} is not for {}", mode.name(), self.traffic.way.name()));
        }
        if self.cells().is_empty() {
            return wrong("ways.r_ms, ways.s_ms", "there is no pair in which s is at least r".into());
        }
        if !(1..=MOST_WATCH_MS).contains(&self.pace.watch_ms) {
            return wrong(
                "pace.watch_ms",
                format!("found {}, expected 1 to {MOST_WATCH_MS}", self.pace.watch_ms),
            );
        }
        self.check_mirrors()?;
        self.check_steps()
    }

    fn check_mirrors(&self) -> Result<(), ScenarioError> {
        let wrong = |key: &str, what: String| Err(ScenarioError::Sense { key: key.into(), what });
        if self.mirrors.is_empty() || self.mirrors.len() > MOST_MIRRORS {
            return wrong(
                "mirror",
                format!("{} are given, expected 1 to {MOST_MIRRORS}", self.mirrors.len()),
            );
        }
        for (at, mirror) in self.mirrors.iter().enumerate() {
            let name = format!("m{}", at + 1);
            if mirror.name != name {
                return wrong(
                    &format!("mirror[{at}].name"),
                    format!("found {:?}, expected {name:?}", mirror.name),
                );
            }
        }
        Ok(())
    }

    fn check_steps(&self) -> Result<(), ScenarioError> {
        let mut hosts: HashSet<&str> = ["primary", "standby", "broker", "client"].into();
        hosts.extend(self.mirrors.iter().map(|m| m.name.as_str()));
        for (at, step) in self.steps.iter().enumerate() {
            let wrong = |key: &str, what: String| {
                Err(ScenarioError::Sense { key: format!("step[{at}].{key}"), what })
            };
            for (key, host) in [("on", Some(&step.on)), ("with", step.with.as_ref())] {
                if let Some(host) = host.filter(|host| !hosts.contains(host.as_str())) {
                    return wrong(key, format!("there is no host {host:?}"));
                }
            }
            let client = step.on == "client";
            match step.act {
                Act::Drain | Act::Kill | Act::Stop | Act::Continue if client || step.on == "broker" => {
                    return wrong("on", "processes are those of mirrors".into());
                }
                Act::Rebind if !(client && self.ways.nat) => {
                    return wrong("do", "rebind is for a client with ways.nat = true".into());
                }
                Act::ChangeNetwork if !client => {
                    return wrong("do", "change-network is for the client".into());
                }
                Act::Shape if step.change.is_none() => return wrong("change", "is what shape needs".into()),
                _ => {}
            }
            if step.at_ms >= self.pace.watch_ms {
                return wrong(
                    "at_ms",
                    format!("{} is not before pace.watch_ms, {}", step.at_ms, self.pace.watch_ms),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: &str = "version = 1\nname = \"kill\"\nfigure = { base = \"hear-and-ask\", plus_ms = 30 }\n\
                        [pace]\ntrials = 2\nwatch_ms = 1000\n\
                        [ways]\nr_ms = [10, 40]\ns_ms = [10, 40]\n\
                        [[step]]\ndo = \"kill\"\non = \"primary\"\n";

    #[test]
    fn a_file_is_read() {
        let scenario = Scenario::read(KILL).unwrap();
        assert_eq!(scenario.cells(), [(10, 10), (10, 40), (40, 40)]);
        assert_eq!(scenario.bound(10, 40), Some(Duration::from_millis(75)));
        assert_eq!((scenario.mirrors.len(), scenario.steps[0].act), (3, Act::Kill));
        assert_eq!(scenario.steps[0].process, Process::Both);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |from: &str, to: &str| {
            assert!(KILL.contains(from), "{from}");
            Scenario::read(&KILL.replace(from, to)).unwrap_err().to_string()
        };
        assert!(refused("trials", "trails").contains("`trails`"));
        assert!(refused("\"kill\"\non", "\"kil\"\non").contains("`kil`"));
        for (from, to, error) in [
            ("version = 1", "version = 2", "version: found 2, this lab reads 1"),
            ("trials = 2", "trials = 0", "pace.trials: found 0, expected 1 to 100000"),
            (
                "s_ms = [10, 40]",
                "s_ms = [5]",
                "ways.r_ms, ways.s_ms: there is no pair in which s is at least r",
            ),
            ("\"primary\"", "\"m9\"", "step[0].on: there is no host \"m9\""),
            ("\"primary\"", "\"broker\"", "step[0].on: processes are those of mirrors"),
            ("\"kill\"\non", "\"rebind\"\non", "step[0].do: rebind is for a client with ways.nat = true"),
            ("\"kill\"\non", "\"shape\"\non", "step[0].change: is what shape needs"),
            ("do = ", "at_ms = 1000\ndo = ", "step[0].at_ms: 1000 is not before pace.watch_ms, 1000"),
        ] {
            assert_eq!(refused(from, to), error);
        }
    }
}
