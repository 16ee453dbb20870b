//! Names that people choose: domains, hosts, nodes and mirrors.

/// Most characters of a name: with the lengths of its labels and of the root it has 255 bytes (RFC 1035
/// §2.3.4).
pub const MAX_CHARS: usize = 253;

/// Why a text is not a domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name is empty")]
    Empty,
    /// More than 253 characters.
    #[error("{0:?} has more than 253 characters")]
    TooLong(String),
    /// A label that is empty or has more than 63 characters.
    #[error("{name:?}: label {label:?} must have 1 to 63 characters")]
    LabelLength {
        /// The whole name.
        name: String,
        /// The label.
        label: String,
    },
    /// A character that no label of a host name may have.
    #[error(
        "{name:?}: character {found:?} is not allowed; use letters, digits, '-' and '_' (international names in their xn-- form)"
    )]
    Character {
        /// The whole name.
        name: String,
        /// The character.
        found: char,
    },
    /// A label that begins or ends with a hyphen.
    #[error("{name:?}: label {label:?} must not begin or end with '-'")]
    Hyphen {
        /// The whole name.
        name: String,
        /// The label.
        label: String,
    },
}

/// The canonical form of a domain name: lower case, without the final dot. Letters, digits,
/// hyphens (RFC 1123 §2.1) and underscores (service labels) only.
pub fn domain(text: &str) -> Result<String, NameError> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_CHARS {
        return Err(NameError::TooLong(name));
    }
    for part in name.split('.') {
        label(&name, part)?;
    }
    Ok(name)
}

/// The canonical form of a node's or mirror's name: one label, so that `<mirror>.<domain>` is a name.
pub fn short(text: &str) -> Result<String, NameError> {
    let name = text.to_ascii_lowercase();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    label(&name, &name)?;
    Ok(name)
}

fn label(name: &str, label: &str) -> Result<(), NameError> {
    let found =
        label.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')));
    if let Some(found) = found {
        return Err(NameError::Character { name: name.into(), found });
    }
    if label.is_empty() || label.len() > 63 {
        return Err(NameError::LabelLength { name: name.into(), label: label.into() });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen { name: name.into(), label: label.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_made_canonical() {
        assert_eq!(domain("Play.Example.COM."), Ok("play.example.com".into()));
        assert_eq!(domain("_sip._tcp.example.com"), Ok("_sip._tcp.example.com".into()));
        assert_eq!(short("Lon-1"), Ok("lon-1".into()));
    }

    #[test]
    fn wrong_names_say_why() {
        assert_eq!(domain("."), Err(NameError::Empty));
        assert!(matches!(domain("a..b"), Err(NameError::LabelLength { .. })));
        assert!(matches!(domain(&"a".repeat(64)), Err(NameError::LabelLength { .. })));
        assert!(matches!(domain(&"a.".repeat(130)), Err(NameError::TooLong(_))));
        assert!(matches!(domain("b\u{0}ad.example"), Err(NameError::Character { found: '\0', .. })));
        assert!(matches!(domain("münchen.example"), Err(NameError::Character { found: 'ü', .. })));
        assert!(matches!(domain("-a.example"), Err(NameError::Hyphen { .. })));
        assert!(matches!(short("lon.one"), Err(NameError::Character { found: '.', .. })));
    }

    proptest! {
        #[test]
        fn never_panics_and_is_idempotent(text: String) {
            if let Ok(name) = domain(&text) {
                prop_assert_eq!(domain(&name), Ok(name.clone()));
            }
            let _ = short(&text);
        }
    }
}
