//! The beacon: a small authenticated datagram that says an agent is alive.
//!
//! ```text
//!  0        1       2           4      12      20    28           36     52
//!  | version | flags | key epoch | tag | boot | seq | sent (µs)  | MAC  |
//! ```
//! All integers big-endian. `tag` names the node, `boot` is the Unix time in milliseconds at which
//! the agent started, `seq` counts up from 0 within a boot, `sent` is the agent's monotonic clock.
//! The MAC is HMAC-SHA-256 over the first 36 bytes, cut to 16 bytes (RFC 2104 §5), keyed by the
//! node's beacon key: HKDF-SHA-256 (RFC 5869) of the site's master key, the node's id and the key
//! epoch. So every broker of a site verifies any beacon without having met the agent.

use nearmost_core::id::NodeId;
use ring::{hkdf, hmac};

/// Bytes of a beacon.
pub const LEN: usize = 52;
/// The version that this build speaks.
pub const VERSION: u8 = 1;
const SIGNED: usize = 36;

/// The agent is draining.
pub const FLAG_DRAINING: u8 = 1;

/// A site's master key, from which all its beacon keys derive.
#[derive(Clone)]
pub struct SiteKey(hkdf::Prk);

/// A node's beacon key and the tag that names the node in its beacons.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BeaconSecret {
    /// HMAC key.
    pub key: [u8; 32],
    /// The node's name on the wire.
    pub tag: u64,
    /// Which master key and derivation this is.
    pub key_epoch: u16,
}

/// The contents of a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// [`FLAG_DRAINING`]; other bits are kept zero and ignored.
    pub flags: u8,
    /// Of the key used.
    pub key_epoch: u16,
    /// Of the node.
    pub tag: u64,
    /// When the agent started, Unix milliseconds.
    pub boot: u64,
    /// Counts up within a boot.
    pub seq: u64,
    /// The agent's monotonic clock in microseconds.
    pub sent_us: u64,
}

/// Why a datagram is not a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconError {
    /// Not 52 bytes.
    #[error("a beacon has {LEN} bytes, this has {0}")]
    Length(usize),
    /// A version this build does not speak.
    #[error("beacon version {0}; this build speaks {VERSION}")]
    Version(u8),
    /// The MAC does not fit: forged, damaged, or of another site.
    #[error("beacon with a wrong MAC")]
    Mac,
}

impl BeaconError {
    /// What [`BeaconError::kind`] may say.
    pub const KINDS: [&'static str; 3] = ["length", "version", "mac"];

    /// A bounded label for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            BeaconError::Length(_) => "length",
            BeaconError::Version(_) => "version",
            BeaconError::Mac => "mac",
        }
    }
}

struct Okm(usize);
impl hkdf::KeyType for Okm {
    fn len(&self) -> usize {
        self.0
    }
}

impl SiteKey {
    /// From 32 secret bytes.
    pub fn new(master: &[u8; 32]) -> SiteKey {
        SiteKey(hkdf::Salt::new(hkdf::HKDF_SHA256, b"nearmost site v1").extract(master))
    }

    /// The beacon secret of one node in one key epoch.
    pub fn beacon_secret(&self, node: &NodeId, key_epoch: u16) -> BeaconSecret {
        let info: [&[u8]; 3] = [b"nearmost beacon v1", &node.0, &key_epoch.to_be_bytes()];
        let mut out = [0u8; 40];
        // 40 bytes are far below HKDF's limit of 255 blocks, so neither step can fail.
        if let Ok(okm) = self.0.expand(&info, Okm(out.len())) {
            let _ = okm.fill(&mut out);
        }
        let (mut key, mut tag) = ([0; 32], [0; 8]);
        key.copy_from_slice(&out[..32]);
        tag.copy_from_slice(&out[32..]);
        BeaconSecret { key, tag: u64::from_be_bytes(tag), key_epoch }
    }

    /// What the site's DNS cookies are made with.
    pub fn cookie_key(&self) -> [u8; 16] {
        let info: [&[u8]; 1] = [b"nearmost dns-cookie v1"];
        let mut out = [0u8; 16];
        // 16 bytes are far below HKDF's limit of 255 blocks, so neither step can fail.
        if let Ok(okm) = self.0.expand(&info, Okm(out.len())) {
            let _ = okm.fill(&mut out);
        }
        out
    }
}

impl BeaconSecret {
    /// The key prepared for signing or verifying many beacons.
    pub fn prepare(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.key)
    }
}

impl std::fmt::Debug for BeaconSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BeaconSecret(tag {:016x}, epoch {})", self.tag, self.key_epoch)
    }
}

impl Beacon {
    /// The datagram.
    pub fn encode(&self, key: &hmac::Key) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = VERSION;
        out[1] = self.flags;
        out[2..4].copy_from_slice(&self.key_epoch.to_be_bytes());
        for (at, value) in [(4, self.tag), (12, self.boot), (20, self.seq), (28, self.sent_us)] {
            out[at..at + 8].copy_from_slice(&value.to_be_bytes());
        }
        let mac = hmac::sign(key, &out[..SIGNED]);
        out[SIGNED..].copy_from_slice(&mac.as_ref()[..LEN - SIGNED]);
        out
    }

    /// The contents, not yet authenticated: use `tag` and `key_epoch` to find the key, then
    /// [`authenticate`].
    pub fn decode(datagram: &[u8]) -> Result<Beacon, BeaconError> {
        let bytes: &[u8; LEN] = datagram.try_into().map_err(|_| BeaconError::Length(datagram.len()))?;
        if bytes[0] != VERSION {
            return Err(BeaconError::Version(bytes[0]));
        }
        let word = |at: usize| {
            let mut b = [0; 8];
            b.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(b)
        };
        Ok(Beacon {
            flags: bytes[1],
            key_epoch: u16::from_be_bytes([bytes[2], bytes[3]]),
            tag: word(4),
            boot: word(12),
            seq: word(20),
            sent_us: word(28),
        })
    }
}

/// Whether a datagram's MAC is by `key`, in constant time.
pub fn authenticate(datagram: &[u8], key: &hmac::Key) -> Result<(), BeaconError> {
    if datagram.len() != LEN {
        return Err(BeaconError::Length(datagram.len()));
    }
    let mac = hmac::sign(key, &datagram[..SIGNED]);
    let pairs = mac.as_ref().iter().zip(&datagram[SIGNED..]);
    // ring verifies only whole tags; folding every byte keeps the comparison's time constant.
    match pairs.fold(0u8, |diff, (a, b)| diff | (a ^ b)) {
        0 => Ok(()),
        _ => Err(BeaconError::Mac),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(node: u8) -> BeaconSecret {
        SiteKey::new(&[1; 32]).beacon_secret(&NodeId([node; 32]), 3)
    }

    #[test]
    fn keys_differ_by_site_node_and_epoch() {
        let base = secret(1);
        assert_eq!(base, secret(1));
        assert_ne!(base.key, secret(2).key);
        assert_ne!(base.tag, secret(2).tag);
        assert_ne!(base.key, SiteKey::new(&[2; 32]).beacon_secret(&NodeId([1; 32]), 3).key);
        assert_ne!(base.key, SiteKey::new(&[1; 32]).beacon_secret(&NodeId([1; 32]), 4).key);
    }

    #[test]
    fn cookie_keys_are_the_sites() {
        let key = SiteKey::new(&[1; 32]).cookie_key();
        assert_eq!(key, SiteKey::new(&[1; 32]).cookie_key());
        assert_ne!(key, SiteKey::new(&[2; 32]).cookie_key());
        assert_ne!(key, [0; 16]);
    }

    proptest! {
        #[test]
        fn round_trip_and_every_flipped_bit_is_refused(flags: u8, boot: u64, seq: u64, sent_us: u64, bit in 0usize..LEN * 8) {
            let secret = secret(1);
            let key = secret.prepare();
            let beacon = Beacon { flags, key_epoch: 3, tag: secret.tag, boot, seq, sent_us };
            let mut bytes = beacon.encode(&key);
            prop_assert_eq!(Beacon::decode(&bytes), Ok(beacon));
            prop_assert_eq!(authenticate(&bytes, &key), Ok(()));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(authenticate(&bytes, &key), Err(BeaconError::Mac));
        }

        #[test]
        fn arbitrary_datagrams_never_panic(bytes: Vec<u8>) {
            let _ = Beacon::decode(&bytes);
            prop_assert!(authenticate(&bytes, &secret(1).prepare()).is_err());
        }
    }

    #[test]
    fn another_nodes_key_is_refused() {
        let bytes = Beacon { flags: 0, key_epoch: 3, tag: 1, boot: 2, seq: 3, sent_us: 4 }
            .encode(&secret(1).prepare());
        assert_eq!(authenticate(&bytes, &secret(2).prepare()), Err(BeaconError::Mac));
    }
}
