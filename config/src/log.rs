//! What is logged, and how; alike for broker and agent.

use crate::value::{Text, TextKind, set};
use serde::Deserialize;
use std::borrow::Cow;
use std::str::FromStr;

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is logged.
    pub level: LogLevel,
    /// Levels of targets (modules), the longest that fits wins.
    pub levels: Vec<TargetLevel>,
    /// How a line looks.
    pub format: LogFormat,
}

/// The level of one target and all below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetLevel {
    /// A module's path, as log lines have it: `nearmost_broker::peers`.
    pub target: String,
    /// Its level.
    pub level: LogLevel,
}

/// How important a log line must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is lost.
    Error,
    /// Something is wrong, and handled.
    Warn,
    /// What an operator wants to have read afterwards.
    #[default]
    Info,
    /// For finding a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All of them, the most important first.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// The level's name, as log filters take it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct LogSpec {
    level: Option<Text<LogLevel>>,
    levels: Option<Vec<Text<TargetLevel>>>,
    format: Option<Text<LogFormat>>,
}

impl LogSpec {
    pub(crate) fn apply(self, log: &mut LogConfig) {
        set(&mut log.level, self.level);
        set(&mut log.levels, self.levels);
        set(&mut log.format, self.format);
    }
}

impl TextKind for LogLevel {
    type Value = LogLevel;
    const EXPECTED: &'static str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

    fn parse(text: &str) -> Result<LogLevel, Cow<'static, str>> {
        LogLevel::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| match nearest(text) {
            Some(level) => format!("{}; did you mean {:?}?", Self::EXPECTED, level.as_str()).into(),
            None => Cow::Borrowed(Self::EXPECTED),
        })
    }
}

/// The level that was most probably meant.
fn nearest(text: &str) -> Option<LogLevel> {
    let text = text.trim().to_ascii_lowercase();
    let usual = match text.as_str() {
        "warning" => Some(LogLevel::Warn),
        "err" => Some(LogLevel::Error),
        _ => None,
    };
    let alike = LogLevel::ALL
        .into_iter()
        .map(|level| (strsim::damerau_levenshtein(&text, level.as_str()), level))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, level)| level);
    usual.or(alike)
}

/// Why a text is no level, or no level of a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?}: expected {expected}")]
pub struct LevelError {
    found: String,
    expected: Cow<'static, str>,
}

impl FromStr for LogLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<LogLevel, LevelError> {
        <LogLevel as TextKind>::parse(text).map_err(|expected| LevelError { found: text.into(), expected })
    }
}

impl FromStr for TargetLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<TargetLevel, LevelError> {
        <TargetLevel as TextKind>::parse(text).map_err(|expected| LevelError { found: text.into(), expected })
    }
}

impl TextKind for TargetLevel {
    type Value = TargetLevel;
    const EXPECTED: &'static str = "TARGET=LEVEL, such as \"nearmost_broker::peers=debug\"";

    fn parse(text: &str) -> Result<TargetLevel, Cow<'static, str>> {
        let (target, level) = text.split_once('=').ok_or(Cow::Borrowed(Self::EXPECTED))?;
        match is_target(target) {
            true => Ok(TargetLevel { target: target.into(), level: <LogLevel as TextKind>::parse(level)? }),
            false => Err(Cow::Borrowed("a module's path before the \"=\", such as nearmost_broker::peers")),
        }
    }
}

/// Whether a text is a module's path.
fn is_target(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    text.len() <= 200 && text.split("::").all(part)
}

impl TextKind for LogFormat {
    type Value = LogFormat;
    const EXPECTED: &'static str = "\"text\" or \"json\"";

    fn parse(text: &str) -> Result<LogFormat, Cow<'static, str>> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(Cow::Borrowed(Self::EXPECTED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_level_is_told_with_the_one_that_was_meant() {
        let says = |text: &str| text.parse::<LogLevel>().unwrap_err().to_string();
        for (text, meant) in [("debgu", "debug"), ("WARNING", "warn"), ("Info", "info"), ("err", "error")] {
            assert!(says(text).ends_with(&format!("did you mean \"{meant}\"?")), "{}", says(text));
        }
        assert!(!says("everything").contains("did you mean"), "{}", says("everything"));
    }

    #[test]
    fn a_level_of_a_target_is_read() {
        let read = "nearmost_broker::peers=debug".parse::<TargetLevel>().unwrap();
        assert_eq!((read.target.as_str(), read.level), ("nearmost_broker::peers", LogLevel::Debug));
        for text in ["debug", "=debug", "a b=debug", "a::=debug", "a=", "a=b=c", "a,b=debug"] {
            assert!(text.parse::<TargetLevel>().is_err(), "{text}");
        }
        let said = "quinn=debgu".parse::<TargetLevel>().unwrap_err().to_string();
        assert!(said.contains("did you mean \"debug\"?"), "{said}");
    }
}
