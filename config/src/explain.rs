//! From figment's errors to ours: what was found, what was expected, in words for operators.

use crate::error::{ConfigError, Origin};
use crate::keys::{keys_of, nearest, show};
use figment::error::{Actual, Kind};
use serde::de::DeserializeOwned;

/// Longest text quoted back, in characters.
const MAX_QUOTED: usize = 100;

/// An error of reading `S` from the layer of this origin.
pub(crate) fn error<S: DeserializeOwned>(error: figment::Error, origin: Origin) -> ConfigError {
    let mut path = error.path;
    let key = show(&path);
    match error.kind {
        Kind::UnknownField(_, siblings) => {
            let nearest = nearest(&path, siblings, &keys_of::<S>()).map(|near| in_terms_of(&origin, near));
            ConfigError::UnknownKey { origin, key, nearest }
        }
        Kind::MissingField(name) => {
            path.push(name.into_owned());
            ConfigError::MissingKey { origin, key: show(&path) }
        }
        Kind::InvalidType(found, expected) => {
            let expected = with_hint(&origin, &found, plain_words(expected));
            ConfigError::WrongValue { origin, key, found: typed(&found), expected }
        }
        Kind::InvalidValue(found, expected) => {
            ConfigError::WrongValue { origin, key, found: bare(&found), expected: plain_words(expected) }
        }
        Kind::InvalidLength(items, expected) => {
            let found = format!("a list of {items}");
            ConfigError::WrongValue { origin, key, found, expected: plain_words(expected) }
        }
        Kind::UnknownVariant(found, expected) => {
            let expected = expected.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>().join(" or ");
            ConfigError::WrongValue { origin, key, found: quoted(&found), expected }
        }
        other => ConfigError::Rule { origin, key, message: other.to_string() },
    }
}

/// Adds the variable's name to a suggested key where variables were used.
fn in_terms_of(origin: &Origin, near: String) -> String {
    match origin {
        Origin::Environment(_) => {
            let variable = near.to_ascii_uppercase().replace('.', "__");
            format!("{near} (NEARMOST__{variable})")
        }
        _ => near,
    }
}

/// Serde's words for types, in ours.
fn plain_words(expected: String) -> String {
    match expected.as_str() {
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        _ => expected,
    }
}

/// Outside a file nothing but quotes tells text from a number.
fn with_hint(origin: &Origin, found: &Actual, expected: String) -> String {
    let by_shell = matches!(origin, Origin::Environment(_) | Origin::Flag);
    let scalar =
        matches!(found, Actual::Bool(_) | Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_));
    let not_text = ["a whole number", "a number", "true or false", "a list", "a table"];
    match by_shell && scalar && !not_text.iter().any(|t| expected.starts_with(t)) {
        true => format!("{expected} (text that looks like a number or truth value needs double quotes)"),
        false => expected,
    }
}

/// A value with its type, for when the type is what is wrong.
fn typed(found: &Actual) -> String {
    match found {
        Actual::Bool(v) => format!("{v}"),
        Actual::Str(v) => format!("string {}", quoted(v)),
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => format!("number {}", bare(found)),
        other => bare(other),
    }
}

/// A value as it was written.
fn bare(found: &Actual) -> String {
    match found {
        Actual::Bool(v) => v.to_string(),
        Actual::Unsigned(v) => v.to_string(),
        Actual::Signed(v) => v.to_string(),
        Actual::Float(v) => format!("{v:?}"),
        Actual::Char(v) => quoted(&v.to_string()),
        Actual::Str(v) => quoted(v),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        Actual::Unit | Actual::Option => "nothing".to_owned(),
        Actual::Other(v) => v.clone(),
        other => other.to_string(),
    }
}

/// Text in quotes, control characters escaped, not longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?} and more", &text[..end]),
        None => format!("{text:?}"),
    }
}
