//! What is logged, and how; alike for broker and agent.

use crate::value::{Text, TextKind, set};
use serde::Deserialize;
use std::borrow::Cow;

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How important a log line must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    format: Option<Text<LogFormat>>,
}

impl LogSpec {
    pub(crate) fn apply(self, log: &mut LogConfig) {
        set(&mut log.level, self.level);
        set(&mut log.format, self.format);
    }
}

impl TextKind for LogLevel {
    type Value = LogLevel;
    const EXPECTED: &'static str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

    fn parse(text: &str) -> Result<LogLevel, Cow<'static, str>> {
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(Cow::Borrowed(Self::EXPECTED))
    }
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
