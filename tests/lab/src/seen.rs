//! What a user's process tells of its sessions.

use serde::{Deserialize, Serialize};

/// How a user uses the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A packet each 10 ms, each answered by one.
    Udp,
    /// A block of a stream each 10 ms, each answered with the hash of all so far.
    Tcp,
    /// Requests one after the other, every other one a POST with an id of its own.
    Http,
}

impl Mode {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Udp => "udp",
            Mode::Tcp => "tcp",
            Mode::Http => "http",
        }
    }
}

/// What goes between the user and the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A session of the SDK.
    #[default]
    Nearmost,
    /// A QUIC connection of plain quinn with its defaults, to the nearest mirror, and when that ends to
    /// the next.
    Quinn,
    /// DNS with a TTL of 5 s, and curl that retries.
    Dns,
    /// HAProxy beside the user, with checks as fast as they go.
    Haproxy,
}

impl Way {
    /// How the service can be used by it.
    pub fn modes(self) -> &'static [Mode] {
        match self {
            Way::Nearmost => &[Mode::Udp, Mode::Tcp, Mode::Http],
            Way::Quinn => &[Mode::Udp],
            Way::Dns | Way::Haproxy => &[Mode::Http],
        }
    }

    /// How long it must be watched for its gaps to end, in milliseconds.
    pub fn least_watch_ms(self) -> u64 {
        match self {
            Way::Nearmost => 0,
            // Its idle timeout is 30 s.
            Way::Quinn => 40_000,
            Way::Dns => 20_000,
            Way::Haproxy => 6_000,
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Way::Nearmost => "nearmost",
            Way::Quinn => "quinn",
            Way::Dns => "dns",
            Way::Haproxy => "haproxy",
        }
    }
}

impl std::str::FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Way, String> {
        let all = [Way::Nearmost, Way::Quinn, Way::Dns, Way::Haproxy];
        let names = all.map(Way::name).join(", ");
        all.into_iter().find(|w| w.name() == text).ok_or(format!("found {text:?}, expected one of {names}"))
    }
}

/// One session, from its beginning to its end. Moments are in microseconds of the lab's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its requests' ids are this, a dash and their number.
    pub name: String,
    /// When each number was sent first, by number.
    pub sent: Vec<u64>,
    /// What was answered, in the order of its coming.
    pub answers: Vec<Answer>,
    /// Numbers of which nobody can tell whether the service took them: they could not be sent again
    /// safely.
    pub unsure: Vec<u64>,
    /// Answers whose hash or text was wrong.
    pub corrupt: u64,
    /// What the SDK told: when and what.
    pub events: Vec<(u64, Told)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// To which number.
    pub seq: u64,
    /// When it came.
    pub at: u64,
    /// The number of the mirror's host, 0 if it did not say.
    pub by: u8,
}

/// What the SDK told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Attached to a mirror's host.
    Attached(u8),
    /// Moved to a mirror's host, and why.
    Moved(u8, String),
    /// In doubt.
    Degraded,
    /// No longer in doubt.
    Restored,
    /// Nobody is left.
    Lost,
}

/// Of all sessions of one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// How they used the service.
    pub mode: Mode,
    /// Each of them.
    pub sessions: Vec<Session>,
}
