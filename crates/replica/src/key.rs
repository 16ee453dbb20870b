//! Ed25519 keys (RFC 8032), as authors of records have them.
//!
//! Signatures are always checked strictly: keys of small order and signatures that are not in
//! canonical form are refused, so that a record has no second valid spelling made by a stranger.

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::Signer;
use std::fmt;
use std::str::FromStr;

/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 public key. Shown in base32 (RFC 4648, lower case, without padding); who shows it to
/// people puts the prefix of the holder's sort before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// What is wrong with a key or a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not the base32 of 32 bytes.
    #[error("{text:?} is not a public key: expected the base32 of 32 bytes, 52 characters")]
    NotBase32 {
        /// What was given, shortened.
        text: String,
    },
    /// The bytes are no point of the curve.
    #[error("{key} is not a valid Ed25519 public key")]
    NotAPoint {
        /// The key as given.
        key: PublicKey,
    },
    /// The signature was not made by this key over this message.
    #[error("the signature does not verify under the key {key}")]
    BadSignature {
        /// The key it was checked against.
        key: PublicKey,
    },
}

impl PublicKey {
    /// Checks a signature over `message`, strictly.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`] or [`KeyError::BadSignature`].
    pub fn verify_strict(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .map_err(|_| KeyError::NotAPoint { key: *self })?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(message, &signature).map_err(|_| KeyError::BadSignature { key: *self })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads what [`fmt::Display`] wrote; upper case is accepted too.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok();
        let key = bytes.and_then(|b| <[u8; 32]>::try_from(b).ok());
        key.map(PublicKey).ok_or_else(|| KeyError::NotBase32 { text: text.chars().take(80).collect() })
    }
}

/// An Ed25519 private key. Its memory is wiped when it is dropped, and it is never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a 32-byte seed (the private key of RFC 8032 §5.1.5). The seed must come from a
    /// cryptographic source of randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`. The caller puts a domain-separation tag in front of what it signs.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8032 §7.1, test 2.
    const SEED: &str = "4CCD089B28FF96DA9DB6C346EC114E0F5B8A319F35ABA624DA8CF6ED4FB8A6FB";
    const PUBLIC: &str = "3D4017C3E843895A92B70AA74D1B7EBC9C982CCF2EC4968CC0CD55F12AF4660C";
    const SIGNATURE: &str = "92A009A9F0D4CAB8720E820B5F642540A2B27B5416503F8FB3762223EBDB69DA\
                             085AC1E43E15996E458F3613D0F11D8C387B2EAEB4302AEEB00D291612BB0C00";

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        data_encoding::HEXUPPER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn agrees_with_the_test_vector_of_the_standard() {
        let key = SigningKey::from_seed(&bytes(SEED));
        assert_eq!(key.public(), PublicKey(bytes(PUBLIC)));
        assert_eq!(key.sign(&[0x72]), bytes(SIGNATURE));
        key.public().verify_strict(&[0x72], &bytes(SIGNATURE)).unwrap();
        let wrong = key.public().verify_strict(&[0x73], &bytes(SIGNATURE));
        assert_eq!(wrong, Err(KeyError::BadSignature { key: key.public() }));
    }

    #[test]
    fn a_key_of_small_order_verifies_nothing() {
        // The neutral element: without the strict check, R = identity and s = 0 verify any message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(PublicKey(identity).verify_strict(b"anything", &signature).is_err());
    }

    #[test]
    fn text_form_round_trips_and_bad_text_is_named() {
        let key = PublicKey(bytes(PUBLIC));
        let text = key.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text, text.to_ascii_lowercase());
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_ascii_uppercase().parse(), Ok(key));
        for bad in ["", "abc", &text[1..], &format!("{text}aa"), "ünï"] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::NotBase32 { text: bad.into() }), "{bad}");
        }
    }

    #[test]
    fn debug_output_does_not_hold_the_secret() {
        let shown = format!("{:?}", SigningKey::from_seed(&[7; 32]));
        assert!(shown.contains(&SigningKey::from_seed(&[7; 32]).public().to_string()));
        assert!(!shown.contains("7, 7"));
    }
}
