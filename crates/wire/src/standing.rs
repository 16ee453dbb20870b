//! What a broker tells an agent of the node's mirrors: whether they are trusted and used.
//!
//! The broker opens one unidirectional stream in the session and sends a [`Standing`] when it changes, at most
//! one each few seconds. An agent that allows no such stream is not told; nothing else depends on it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Most verdicts in one telling.
pub const MAX_STANDING: usize = 256;
/// Most bytes of such a message: version and body.
pub const MAX_STANDING_BYTES: usize = 48 * 1024;

/// What a broker concludes of a node's mirrors, all that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// One entry a mirror and address family; at most [`MAX_STANDING`].
    #[serde(deserialize_with = "bounded")]
    pub verdicts: Vec<MirrorStanding>,
}

/// What a broker concludes of one mirror in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStanding {
    /// The domain.
    pub domain: String,
    /// The mirror.
    pub mirror: String,
    /// `v4` or `v6`.
    pub family: String,
    /// `up`, `down`, …
    pub state: String,
    /// Code of the reason.
    pub reason: String,
    /// Who measured it.
    pub vantage: String,
    /// Since when, Unix milliseconds of the broker's clock.
    pub since_unix_ms: u64,
    /// Whether new users are sent there.
    pub eligible: bool,
}

fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<MirrorStanding>, D::Error> {
    let all = Vec::deserialize(from)?;
    match all.len() {
        0..=MAX_STANDING => Ok(all),
        n => Err(D::Error::custom(format!("{n} verdicts, at most {MAX_STANDING}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn more_than_the_most_is_refused() {
        let one = MirrorStanding {
            domain: "a.test".into(),
            mirror: "m".into(),
            family: "v4".into(),
            state: "up".into(),
            reason: "proven".into(),
            vantage: "agent+broker".into(),
            since_unix_ms: 5,
            eligible: true,
        };
        let of = |n| Standing { verdicts: vec![one.clone(); n] };
        let read = |standing: &Standing| {
            let bytes = frame::encode(standing).expect("encodes");
            frame::decode::<Standing>(&bytes[4..])
        };
        assert_eq!(read(&of(MAX_STANDING)).expect("decodes"), of(MAX_STANDING));
        assert!(read(&of(MAX_STANDING + 1)).is_err());
    }
}
