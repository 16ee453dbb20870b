//! Where the logs go: standard error, as text for people or JSON for machines.

use nearmost_config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` is set to something that is no filter.
    #[error("RUST_LOG: {text:?} is not a filter of logs: {source}")]
    Filter {
        /// Its value.
        text: String,
        /// What is wrong.
        source: ParseError,
    },
    /// Something set it up already.
    #[error("logging is set up already: {0}")]
    Already(#[from] TryInitError),
}

/// Sets up logging for this process, once. `filter` (the value of `RUST_LOG`, if set) overrules the
/// configured level and can name modules.
///
/// # Errors
/// A filter that is none, or logging that is set up already.
pub fn init(config: &LogConfig, filter: Option<&str>) -> Result<(), LoggingError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse(config, filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // Complaining on a standard error that takes nothing, as on a full disk, would panic.
        .log_internal_errors(false);
    match config.format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

fn parse(config: &LogConfig, filter: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let text = match filter {
        Some(text) if !text.trim().is_empty() => text,
        _ => config.level.as_str(),
    };
    EnvFilter::try_new(text).map_err(|source| LoggingError::Filter { text: text.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_config::LogLevel;

    #[test]
    fn the_filter_overrules_the_level_and_a_wrong_one_is_named() {
        let config = LogConfig { level: LogLevel::Warn, format: LogFormat::Json };
        assert_eq!(parse(&config, None).unwrap().to_string(), "warn");
        assert_eq!(parse(&config, Some(" ")).unwrap().to_string(), "warn");
        assert_eq!(parse(&config, Some("debug")).unwrap().to_string(), "debug");
        let error = parse(&config, Some("a=b=c")).unwrap_err().to_string();
        assert!(error.contains("a=b=c"), "{error}");
    }
}
