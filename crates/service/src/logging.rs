//! Where the logs go, and levels that change while running.
//!
//! ```text
//! configuration (level, levels) ┐
//! or a filter of the environment ├─> directives ─> reload::Layer<EnvFilter> ─> lines on standard error
//! set while running, for a time ┘   later ones win
//! ```
//! Lines are text for people, in colours on a terminal only, or JSON with stable fields: `timestamp`,
//! `level`, `target`, `message`, and those of the event.

use crate::journal::{Lines, is_journal};
use nearmost_config::{LogConfig, LogFormat, LogLevel, TargetLevel};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The environment has something that is no filter.
    #[error("NEARMOST_LOG: {text:?} is not a filter of logs: {source}")]
    Filter {
        /// Its value.
        text: String,
        /// What is wrong.
        source: ParseError,
    },
    /// Something set it up already.
    #[error("logging is set up already: {0}")]
    Already(#[from] TryInitError),
    /// What was set up is gone.
    #[error("the logs of this process are not set up here: their levels cannot be changed")]
    Gone,
}

/// A level that was set while running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// It.
    pub level: LogLevel,
    /// Until when, in milliseconds since the Unix epoch.
    pub until_unix_ms: Option<u64>,
    /// Which setting it was: an older one does not end it.
    turn: u64,
}

/// The levels in force, and what they are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of everything else.
    pub level: LogLevel,
    /// Of targets, as configured.
    pub levels: Vec<TargetLevel>,
    /// A filter of the environment, which stands in place of both.
    pub environment: Option<String>,
    /// Set while running; the empty target is everything else.
    pub set: BTreeMap<String, Set>,
    turns: u64,
}

impl Levels {
    /// Directives of the filter.
    pub fn directives(&self) -> String {
        let mut text = match &self.environment {
            Some(filter) => filter.clone(),
            None => {
                let targets = self.levels.iter().map(|t| format!(",{}={}", t.target, t.level.as_str()));
                format!("{}{}", self.level.as_str(), targets.collect::<String>())
            }
        };
        for (target, set) in &self.set {
            let level = set.level.as_str();
            match target.as_str() {
                "" => text.push_str(&format!(",{level}")),
                target => text.push_str(&format!(",{target}={level}")),
            }
        }
        text
    }

    fn filter(&self) -> Result<EnvFilter, LoggingError> {
        let text = self.directives();
        EnvFilter::try_new(&text).map_err(|source| LoggingError::Filter { text, source })
    }
}

/// Changes levels while running; clones change the same.
#[derive(Clone)]
pub struct LogControl {
    levels: Arc<Mutex<Levels>>,
    handle: Option<Handle<EnvFilter, Registry>>,
}

/// Sets up logging for this process, once. `filter` (from the environment, if set) stands in place of the
/// configured levels.
///
/// # Errors
/// A filter that is none, or logging that is set up already.
pub fn init(config: &LogConfig, filter: Option<&str>) -> Result<LogControl, LoggingError> {
    let environment = filter.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let levels =
        Levels { level: config.level, levels: config.levels.clone(), environment, ..Levels::default() };
    let (filter, handle) = reload::Layer::new(levels.filter()?);
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let lines = Lines { journal: is_journal(stream.as_deref()) };
    let registry = tracing_subscriber::registry().with(filter);
    registry.with(layer(config.format, lines)).try_init()?;
    Ok(LogControl { levels: Arc::new(Mutex::new(levels)), handle: Some(handle) })
}

type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

fn layer(format: LogFormat, lines: Lines) -> Box<dyn Layer<Filtered> + Send + Sync> {
    let layer = fmt::layer()
        .with_writer(lines)
        // Colours are for terminals: in a file or a pipe they are dirt.
        .with_ansi(std::io::stderr().is_terminal())
        // Complaining on a standard error that takes nothing, as on a full disk, would panic.
        .log_internal_errors(false);
    match (format, lines.journal) {
        (LogFormat::Text, false) => layer.boxed(),
        // The journal has the time.
        (LogFormat::Text, true) => layer.without_time().boxed(),
        (LogFormat::Json, _) => layer.json().flatten_event(true).boxed(),
    }
}

impl LogControl {
    /// One that changes nothing, for a process whose logs are set up elsewhere.
    pub fn detached() -> LogControl {
        LogControl { levels: Arc::default(), handle: None }
    }

    /// What is in force.
    pub fn levels(&self) -> Levels {
        self.lock().clone()
    }

    /// Takes over configured levels; what was set while running stays.
    ///
    /// # Errors
    /// [`LoggingError`]; nothing is changed then.
    pub fn reload(&self, config: &LogConfig) -> Result<(), LoggingError> {
        self.change(|levels| {
            levels.level = config.level;
            levels.levels.clone_from(&config.levels);
        })
    }

    /// Sets levels, after forgetting all that was set before where `reset` is asked for. With a time they
    /// are taken back after it.
    ///
    /// # Errors
    /// [`LoggingError`]; nothing is changed then.
    pub fn set(
        &self,
        wanted: &[(String, LogLevel)],
        reset: bool,
        ends: Option<(Duration, u64)>,
    ) -> Result<(), LoggingError> {
        let mut turn = 0;
        self.change(|levels| {
            if reset {
                levels.set.clear();
            }
            levels.turns += 1;
            turn = levels.turns;
            for (target, level) in wanted {
                let until_unix_ms = ends.map(|(_, until)| until);
                levels.set.insert(target.clone(), Set { level: *level, until_unix_ms, turn });
            }
        })?;
        if let Some((after, _)) = ends {
            let control = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                control.end(turn);
            });
        }
        Ok(())
    }

    /// Takes back what is left of one setting.
    fn end(&self, turn: u64) {
        let ended = self.change(|levels| levels.set.retain(|_, set| set.turn != turn));
        match ended {
            Ok(()) => tracing::info!(levels = self.lock().directives(), "levels of the logs are back"),
            Err(error) => tracing::warn!(%error, "levels of the logs cannot be taken back"),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) -> Result<(), LoggingError> {
        let mut levels = self.lock();
        let mut new = levels.clone();
        change(&mut new);
        let filter = new.filter()?;
        let handle = self.handle.as_ref().ok_or(LoggingError::Gone)?;
        handle.reload(filter).map_err(|_| LoggingError::Gone)?;
        *levels = new;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        // Levels are replaced as a whole.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn levels(level: LogLevel, targets: &[&str]) -> Levels {
        let levels = targets.iter().map(|t| t.parse().unwrap()).collect();
        Levels { level, levels, ..Levels::default() }
    }

    /// A control whose filter is in use nowhere else, and that filter.
    fn control(levels: Levels) -> (LogControl, reload::Layer<EnvFilter, Registry>) {
        let (layer, handle) = reload::Layer::new(levels.filter().unwrap());
        (LogControl { levels: Arc::new(Mutex::new(levels)), handle: Some(handle) }, layer)
    }

    #[test]
    fn what_is_set_while_running_wins_over_configuration_and_environment() {
        let mut all = levels(LogLevel::Warn, &["nearmost_broker::peers=debug"]);
        assert_eq!(all.directives(), "warn,nearmost_broker::peers=debug");
        all.environment = Some("info,quinn=error".into());
        let set = Set { level: LogLevel::Trace, until_unix_ms: None, turn: 1 };
        all.set = [(String::new(), set.clone()), ("quinn".into(), set)].into();
        assert_eq!(all.directives(), "info,quinn=error,trace,quinn=trace");
        let filter = all.filter().unwrap().to_string();
        assert!(filter.contains("quinn=trace") && !filter.contains("quinn=error"), "{filter}");
        all.environment = Some("a=b=c".into());
        assert!(all.filter().unwrap_err().to_string().contains("a=b=c"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_set_for_a_time_goes_back_by_itself_and_no_other_does() {
        let (control, _layer) = control(levels(LogLevel::Info, &[]));
        let one = |target: &str, level| vec![(target.to_owned(), level)];
        let minute = Some((Duration::from_secs(60), 60_000));
        control.set(&one("quinn", LogLevel::Debug), false, minute).unwrap();
        control.set(&one("rustls", LogLevel::Debug), false, None).unwrap();
        control.set(&one("", LogLevel::Warn), false, minute).unwrap();
        assert_eq!(control.levels().directives(), "info,warn,quinn=debug,rustls=debug");
        // Set again before it ends: it has the new end.
        tokio::time::sleep(Duration::from_secs(30)).await;
        control.set(&one("quinn", LogLevel::Trace), false, minute).unwrap();
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(control.levels().directives(), "info,quinn=trace,rustls=debug");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(control.levels().directives(), "info,rustls=debug");
        control.set(&[], true, None).unwrap();
        assert_eq!(control.levels().directives(), "info");
        let new = LogConfig { level: LogLevel::Error, ..LogConfig::default() };
        control.reload(&new).unwrap();
        assert_eq!(control.levels().directives(), "error");
    }

    #[test]
    fn a_process_whose_logs_are_elsewhere_says_so() {
        let refused = LogControl::detached().reload(&LogConfig::default()).unwrap_err();
        assert!(matches!(refused, LoggingError::Gone));
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_json_are_read_and_levels_change_at_once() {
        let (control, filter) = control(levels(LogLevel::Info, &[]));
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).json().flatten_event(true);
        let logs = tracing_subscriber::registry().with(filter).with(layer);
        tracing::subscriber::with_default(logs, || {
            tracing::info!(mirror = "lon\n\u{1b}[31m", number = 3, "first");
            tracing::debug!("not yet");
            let levels = vec![(String::new(), LogLevel::Debug)];
            control.set(&levels, false, None).unwrap();
            tracing::debug!("second");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["first", "second"]);
        assert_eq!((lines[0]["number"].as_u64(), lines[0]["level"].as_str()), (Some(3), Some("INFO")));
        assert!(lines[0]["timestamp"].is_string() && lines[0]["target"].is_string());
    }
}
