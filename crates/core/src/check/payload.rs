//! Bytes as people write them in checks: text as it is, or `hex:` and digits.

/// The bytes that `text` stands for; `None` when what follows `hex:` is not pairs of hexadecimal digits.
/// Spaces between digits do not count.
pub fn payload(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix(HEX) {
        Some(digits) => hex(digits),
        None => Some(text.as_bytes().to_vec()),
    }
}

/// A text that stands for these bytes: readable where they are plain text.
pub fn payload_text(bytes: &[u8]) -> String {
    let plain = |c: char| !c.is_control() || matches!(c, '\r' | '\n' | '\t');
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(plain) && !text.starts_with(HEX) => text.to_owned(),
        _ => bytes.iter().fold(HEX.to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

const HEX: &str = "hex:";

fn hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles =
        digits.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()));
    let nibbles: Vec<u8> = nibbles.collect::<Option<_>>()?;
    let (pairs, rest) = nibbles.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_come_as_text_or_hex() {
        assert_eq!(payload("ping"), Some(b"ping".to_vec()));
        assert_eq!(payload("hex:00 fF 10"), Some(vec![0, 255, 16]));
        assert_eq!(payload("hex:"), Some(vec![]));
        for wrong in ["hex:0", "hex:zz", "hex:é", "hex:+1"] {
            assert_eq!(payload(wrong), None, "{wrong}");
        }
        assert_eq!(payload_text(b"PING\r\n"), "PING\r\n");
        assert_eq!(payload_text(&[0, 255]), "hex:00ff");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_written(bytes: Vec<u8>) {
            prop_assert_eq!(payload(&payload_text(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_reads_back_or_is_refused(text in "(hex:)?\\PC{0,20}") {
            if let Some(bytes) = payload(&text) {
                prop_assert_eq!(payload(&payload_text(&bytes)), Some(bytes));
            }
        }
    }
}
