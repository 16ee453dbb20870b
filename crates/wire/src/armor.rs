//! Values as text that people copy: a prefix, and base32 of a version byte, postcard, and the first four
//! bytes of the SHA-256 of what precedes them, so that a text cut short or mistyped is told apart.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const CHECK: usize = 4;

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// Not even the prefix.
    #[error("expected a text that begins with {0}")]
    Prefix(&'static str),
    /// Damaged: letters are missing or wrong.
    #[error("the text {0}… is cut short or mistyped; copy all of it")]
    Damaged(&'static str),
    /// Made by a newer version.
    #[error("version {0} of it; this program knows {VERSION}: update it")]
    Version(u8),
}

/// The text of a value.
pub fn encode(prefix: &str, value: &impl Serialize) -> String {
    // Strings, arrays and lists of them always encode into a growing vector.
    let mut bytes = postcard::to_extend(value, vec![VERSION]).unwrap_or_default();
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..CHECK]);
    format!("{prefix}{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// The value of a text; white space around it is ignored.
///
/// # Errors
/// [`ArmorError`] says what is wrong with it.
pub fn decode<T: DeserializeOwned>(prefix: &'static str, text: &str) -> Result<T, ArmorError> {
    let damaged = || ArmorError::Damaged(prefix);
    let rest = text.trim().strip_prefix(prefix).ok_or(ArmorError::Prefix(prefix))?.to_ascii_uppercase();
    let bytes = data_encoding::BASE32_NOPAD.decode(rest.as_bytes()).map_err(|_| damaged())?;
    let (body, check) = bytes.split_at_checked(bytes.len().wrapping_sub(CHECK)).ok_or_else(damaged)?;
    if Sha256::digest(body)[..CHECK] != *check {
        return Err(damaged());
    }
    match body.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            _ => Err(damaged()),
        },
        Some((&other, _)) => Err(ArmorError::Version(other)),
        None => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFIX: &str = "nmx1";

    proptest! {
        #[test]
        fn values_come_back_and_every_cut_is_named(value: (u8, Vec<u16>, String)) {
            let text = encode(PREFIX, &value);
            prop_assert_eq!(decode(PREFIX, &format!(" {text}\n")), Ok(value));
            for end in PREFIX.len()..text.len() {
                prop_assert_eq!(decode::<(u8, Vec<u16>, String)>(PREFIX, &text[..end]), Err(ArmorError::Damaged(PREFIX)));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = decode::<u64>(PREFIX, &text);
            let _ = decode::<u64>(PREFIX, &format!("{PREFIX}{text}"));
        }
    }

    #[test]
    fn other_things_are_told_apart() {
        assert_eq!(decode::<u8>(PREFIX, "hello"), Err(ArmorError::Prefix(PREFIX)));
        let mut newer = vec![9u8];
        let check = Sha256::digest(&newer);
        newer.extend_from_slice(&check[..CHECK]);
        let text = format!("{PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&newer));
        assert_eq!(decode::<u8>(PREFIX, &text), Err(ArmorError::Version(9)));
    }
}
