//! What can be wrong with a configuration, told so that a person can mend it at once: where it was
//! said, which key, what was found, what was expected.

use std::fmt;
use std::path::PathBuf;

/// Who gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is the default.
    Defaults,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A `--set key=value` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Defaults => f.write_str("defaults"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag => f.write_str("--set"),
        }
    }
}

/// A configuration that cannot be used. The text is complete: show it as it is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, not readable or not UTF-8.
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable {
        /// As it was given.
        file: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {message}", file.display())]
    Syntax {
        /// As it was given.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// The file is of a version this program cannot read.
    #[error("{origin}: version: found {found}, expected {supported}, the only version this program reads")]
    UnsupportedVersion {
        /// Who said so.
        origin: Origin,
        /// The version given.
        found: String,
        /// The version there is.
        supported: u64,
    },
    /// No setting has this key.
    #[error("{origin}: {key}: unknown key{}", nearest.as_deref().map(|k| format!("; did you mean {k}?")).unwrap_or_default())]
    UnknownKey {
        /// Who said so.
        origin: Origin,
        /// Path of the key, such as `geo.overrides[0].prefx`.
        key: String,
        /// The existing key that looks most like it, if one does.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or one that makes no sense.
    #[error("{origin}: {key}: found {found}, expected {expected}")]
    WrongValue {
        /// Who said so.
        origin: Origin,
        /// Path of the key.
        key: String,
        /// What was there.
        found: String,
        /// What belongs there.
        expected: String,
    },
    /// An entry lacks a key that it must have.
    #[error("{origin}: {key}: missing")]
    MissingKey {
        /// Who wrote the entry.
        origin: Origin,
        /// Path of the key that is not there.
        key: String,
    },
    /// Each value is fine alone, but not with the others.
    #[error("{origin}: {key}: {message}")]
    Rule {
        /// Who gave the value of `key`.
        origin: Origin,
        /// Path of the key to look at.
        key: String,
        /// What does not fit.
        message: String,
    },
    /// The text after `--set` is not `key=value`.
    #[error("--set {text}: expected key=value, such as dns.workers=4")]
    NotASetting {
        /// As it was given.
        text: String,
    },
}

/// A rule broken between keys, before its origin is looked up.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A value that is wrong beside another.
    Value { key: String, found: String, expected: String },
    /// Keys that contradict each other.
    Rule { key: String, message: String },
}

impl Fault {
    /// `key` holds `found`, where `expected` belongs.
    pub(crate) fn value(
        key: impl Into<String>,
        found: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Fault {
        Fault::Value { key: key.into(), found: found.to_string(), expected: expected.into() }
    }

    /// `key` does not go with the rest.
    pub(crate) fn rule(key: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault::Rule { key: key.into(), message: message.into() }
    }

    /// The path of the key at fault.
    pub(crate) fn key(&self) -> &str {
        match self {
            Fault::Value { key, .. } | Fault::Rule { key, .. } => key,
        }
    }

    /// The error for people, now that it is known who gave the value.
    pub(crate) fn at(self, origin: Origin) -> ConfigError {
        match self {
            Fault::Value { key, found, expected } => ConfigError::WrongValue { origin, key, found, expected },
            Fault::Rule { key, message } => ConfigError::Rule { origin, key, message },
        }
    }
}
