//! What a broker tells an agent of the node's mirrors: whether they are trusted and used.
//!
//! The broker opens unidirectional streams in the session: the first carries a [`Standing`], the second a [`Usage`],
//! each when it changes, at most one each few seconds. An agent that allows fewer such streams is told that much
//! less, and a broker that opens fewer tells it; nothing else depends on them.

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

/// How much a broker and its users use a node's mirrors, and what came in its name that was refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// One entry a mirror; at most [`MAX_STANDING`].
    #[serde(deserialize_with = "bounded")]
    pub mirrors: Vec<MirrorUsage>,
    /// Beacons in this node's name whose signature was wrong, since the broker began.
    pub beacons_refused: u64,
}

/// How much one mirror is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorUsage {
    /// The domain.
    pub domain: String,
    /// The mirror.
    pub mirror: String,
    /// Users there now, as far as the broker knows.
    pub users: f32,
    /// Users of all mirrors of the domain.
    pub domain_users: f32,
}

impl MirrorUsage {
    /// The mirror's share of its domain's users, 0..=1; `None` where there are none, or what is told is no number.
    pub fn share(&self) -> Option<f32> {
        let share = self.users / self.domain_users;
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

fn bounded<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let all = Vec::<T>::deserialize(from)?;
    match all.len() {
        0..=MAX_STANDING => Ok(all),
        n => Err(D::Error::custom(format!("{n} entries, at most {MAX_STANDING}"))),
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

    #[test]
    fn a_share_is_one_whatever_is_told() {
        let used = |users, domain_users| MirrorUsage {
            domain: "a.test".into(),
            mirror: "m".into(),
            users,
            domain_users,
        };
        assert_eq!(used(3.0, 12.0).share(), Some(0.25));
        assert_eq!(used(3.0, 2.0).share(), Some(1.0));
        assert_eq!(used(0.0, 0.0).share(), None);
        assert_eq!(used(f32::NAN, 1.0).share(), None);
        let told = Usage { mirrors: vec![used(3.0, 12.0)], beacons_refused: 7 };
        let bytes = frame::encode(&told).expect("encodes");
        assert_eq!(frame::decode::<Usage>(&bytes[4..]).expect("decodes"), told);
        // The greatest of names and numbers fits where its reader looks.
        let name = "x".repeat(80);
        let most = MirrorUsage { domain: name.clone(), mirror: name, users: 1e8, domain_users: 1e8 };
        let most = Usage { mirrors: vec![most; MAX_STANDING], beacons_refused: u64::MAX };
        assert!(frame::encode(&most).expect("encodes").len() < MAX_STANDING_BYTES);
    }
}
