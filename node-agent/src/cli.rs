//! The command line of `nearmost-agent`, in the library so that another binary can be the agent.

use crate::agent::{Agent, AgentError, Shutdown};
use crate::join::{JoinOptions, KEY_FILE, join};
use crate::show;
use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use nearmost_config::{AgentConfig, LogConfig, file_to_read, parse_setting, process_env, told};
use nearmost_service::logging::{self, LogControl, LoggingError};
use nearmost_service::notify::Notifier;
use nearmost_wire::identity::{KeyPair, Role};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Where the configuration is unless `--config` says otherwise; it need not be there.
const CONFIG: &str = "/etc/nearmost/node-agent.toml";

#[derive(Parser)]
#[command(name = "nearmost-agent", version, about = "Tells nearmost brokers how this machine's services are")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Join with a one-time token from `nearmost node invite`
    Join(Join),
    /// Run the agent
    Run(Settings),
    /// Show how the running agent is doing: whether brokers know and trust it, what its services carry, and
    /// checks that do not pass or hang
    Status(Status),
    /// Say whether the configuration is right
    CheckConfig(Settings),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct Join {
    /// The token
    token: String,
    /// Where to write the configuration
    #[arg(long, value_name = "PATH", default_value = CONFIG)]
    config: PathBuf,
    /// Where to keep the node's key
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
    /// The node's name, if the invitation names none
    #[arg(long)]
    name: Option<String>,
    /// Port of the service
    #[arg(long, default_value_t = 443)]
    port: u16,
}

#[derive(Args)]
struct Settings {
    /// The configuration; without this, /etc/nearmost/node-agent.toml if it is there
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// A setting over the configuration's, such as drain.grace_ms=0
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What is read without `config`, if it is there; not for the command line.
    #[arg(skip = PathBuf::from(CONFIG))]
    default: PathBuf,
}

impl Settings {
    fn load(&self) -> anyhow::Result<AgentConfig> {
        self.load_with(process_env())
    }

    /// With these environment variables.
    fn load_with(&self, env: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<AgentConfig> {
        let set = self.set.iter().map(|s| parse_setting(s)).collect::<Result<Vec<_>, _>>()?;
        Ok(AgentConfig::load(self.file().as_deref(), env, &set)?)
    }

    fn file(&self) -> Option<PathBuf> {
        file_to_read(self.config.as_deref(), &self.default)
    }

    /// The file for people.
    fn file_name(&self) -> String {
        let missing = || format!("defaults ({} is not there)", self.default.display());
        self.file().map_or_else(missing, |f| f.display().to_string())
    }
}

/// The program: what went wrong is told once, on one line of standard error.
pub async fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    main_from_args(args).await.unwrap_or_else(failed)
}

/// Tells an error, and how the program then ends.
pub fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("error: {}", told(error.as_ref()));
    ExitCode::FAILURE
}

/// Runs the command line `args`, of which the first is the program's name. Sets up logging.
///
/// # Errors
/// For people: what did not work and why.
pub async fn main_from_args(args: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            e.print().context("standard output")?;
            return Ok(ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2)));
        }
    };
    match cli.command {
        Command::Join(options) => join_from(options).await,
        Command::Run(settings) => run_from(settings).await,
        Command::Status(status) => status_of(&status).await,
        Command::CheckConfig(settings) => check_config(&settings),
        Command::Completions { shell } => completions(shell),
    }
}

async fn join_from(options: Join) -> anyhow::Result<ExitCode> {
    let data_dir = options.data_dir.unwrap_or_else(|| AgentConfig::default().data_dir);
    let config = options.config;
    let options =
        JoinOptions { token: options.token, config, data_dir, name: options.name, port: options.port };
    let joined = join(&options).await?;
    println!("joined as {} ({})", joined.name, joined.id);
    println!("wrote {} and {}", options.config.display(), options.data_dir.join(KEY_FILE).display());
    for domain in &joined.domains {
        println!("mirrors {domain} on port {}; check [[services]] in the configuration", options.port);
    }
    println!("next: nearmost-agent run --config {}", options.config.display());
    Ok(ExitCode::SUCCESS)
}

fn check_config(settings: &Settings) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    crate::declare::hello(&config, 0, None)?;
    let (brokers, services) = (config.brokers.len(), config.services.len());
    println!("{}: good ({brokers} brokers, {services} services)", settings.file_name());
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nearmost-agent", &mut script);
    std::io::stdout().write_all(&script).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Fails when the agent's loop hangs; what services and brokers do is no failure of the agent.
async fn status_of(options: &Status) -> anyhow::Result<ExitCode> {
    let metrics = options.settings.load()?.metrics;
    let at = metrics.context("metrics.listen is \"\": the agent has no page to ask")?;
    let (status, alive) = show::ask(at).await?;
    let shown = match options.json {
        true => show::json(&status, alive)?,
        false => show::lines(&status, alive, crate::clock::unix().0),
    };
    std::io::stdout().write_all(shown.as_bytes()).context("standard output")?;
    Ok(if alive { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_from(settings: Settings) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    let around = Surroundings { log: init_logging(&config.log)?, notifier: Notifier::from_env()? };
    nearmost_service::limits::raise_open_files();
    // Without a broker there is no key either, and the way out is to join.
    if config.brokers.is_empty() {
        return Err(AgentError::NoBroker.into());
    }
    let key =
        KeyPair::load(&config.data_dir.join(KEY_FILE), Role::Node).context("cannot read the node's key")?;
    tracing::info!(config = settings.file_name(), node = %key.id(), brokers = config.brokers.len(), services = config.services.len(), "starting");
    let agent = Agent::bind(config, key).await?.within(around.notifier.clone());
    for addr in agent.ingress_addrs() {
        tracing::info!(%addr, "clients are taken in");
    }
    if let Some(addr) = agent.metrics_addr() {
        tracing::info!(%addr, "metrics are served");
    }
    let shutdown = Shutdown::default();
    let (reload, reloads) = mpsc::channel(1);
    let signals = tokio::spawn(signals(settings, shutdown.clone(), reload, around.clone())?);
    agent.run(shutdown, reloads).await;
    signals.abort();
    around.notifier.stopping();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What an agent has around it in its process.
#[derive(Clone)]
struct Surroundings {
    log: LogControl,
    notifier: Notifier,
}

impl Surroundings {
    /// Reads the configuration again and hands it over; how that went, for people.
    async fn reload(&self, settings: &Settings, reload: &mpsc::Sender<AgentConfig>) -> &'static str {
        let config = match settings.load() {
            Ok(config) => config,
            Err(e) => {
                tracing::error!("the new configuration is not used: {}", told(e.as_ref()));
                return "configuration not reloaded; the old one stays";
            }
        };
        if let Err(error) = self.log.reload(&config.log) {
            tracing::error!(%error, "levels of the logs not reloaded; the old ones stay");
        }
        // An agent that is stopping does not care.
        drop(reload.send(config).await);
        "configuration reloaded"
    }
}

/// Obeys signals: TERM and INT drain, a second one ends at once, HUP reads the configuration again.
fn signals(
    settings: Settings,
    shutdown: Shutdown,
    reload: mpsc::Sender<AgentConfig>,
    around: Surroundings,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hup = signal(SignalKind::hangup()).context("SIGHUP")?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {
                    around.notifier.reloading();
                    let status = around.reload(&settings, &reload).await;
                    around.notifier.reloaded(status);
                    continue;
                }
            }
            around.notifier.stopping();
            if shutdown.drain.is_cancelled() {
                shutdown.now.cancel();
            }
            shutdown.drain.cancel();
        }
    })
}

/// Logs to standard error as configured; `NEARMOST_LOG`, or else `RUST_LOG`, stands in place of the levels.
/// Where logging is set up already, as in a binary that is more than an agent, nothing is done.
///
/// # Errors
/// A filter in the environment that is none.
pub fn init_logging(log: &LogConfig) -> Result<LogControl, LoggingError> {
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let filter = set("NEARMOST_LOG").or_else(|| set("RUST_LOG"));
    match logging::init(log, filter.as_deref()) {
        Err(LoggingError::Already(_)) => Ok(LogControl::detached()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_configuration_that_was_asked_for_must_be_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = dir.path().join("node-agent.toml");
        let mut settings = Settings { config: None, set: vec![], default: missing.clone() };
        let none = || std::iter::empty::<(String, String)>();
        assert!(settings.load_with(none()).expect("defaults").brokers.is_empty());
        assert_eq!(settings.file_name(), format!("defaults ({} is not there)", missing.display()));
        settings.config = Some(missing.clone());
        let error = settings.load_with(none()).expect_err("it was asked for").to_string();
        assert!(error.contains(&missing.display().to_string()), "{error}");
        // One that is there is read without being asked for.
        std::fs::write(&missing, "[node]\nname = \"lon-1\"\n").expect("written");
        settings.config = None;
        assert_eq!(settings.load_with(none()).expect("read").node.name, "lon-1");
        assert_eq!(settings.file_name(), missing.display().to_string());
    }
}
