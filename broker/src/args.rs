//! The command line of `nearmost-broker`, as a library so that another program can be a broker too.

use crate::audit::By;
use crate::clock::unix_now;
use crate::server::{Broker, Control, Surroundings, init};
use crate::store::{RedbStore, Store, restore};
use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use nearmost_config::{BrokerConfig, Given, file_to_read, parse_setting, process_env, told};
use nearmost_service::notify::Notifier;
use nearmost_service::{limits, logging};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Where the configuration is unless `--config` says otherwise; it need not be there.
const CONFIG: &str = "/etc/nearmost/broker.toml";
/// Exit code after a second signal to end: as of a program that an interrupt ended.
const AT_ONCE: i32 = 130;
/// How long what is still being read from a disk at the end is waited for.
const LAST_READS: Duration = Duration::from_secs(10);

/// nearmost broker: answers for domains, knows who is healthy and near.
#[derive(Debug, Parser)]
#[command(name = "nearmost-broker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C; SIGHUP reloads geo databases, certificates, who may use the HTTP API,
    /// levels of the logs, and how long what happened is kept.
    Run(Common),
    /// Read the configuration and the certificates it names, say what is wrong with them, and stop. Opens no
    /// port.
    CheckConfig {
        /// Print as JSON what can be found of a broker that is stopped, too: ports, certificates, geo databases,
        /// limits, the disk. Opens each port for a moment.
        #[arg(long)]
        examine: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make the data directory and the broker's key, and print its id.
    Init(Common),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Copy the registry of a broker that is stopped to a file.
    Backup {
        /// Where to.
        file: PathBuf,
        /// Write over a file that is there.
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make the registry of a broker that is stopped from a copy.
    Restore {
        /// Where from.
        file: PathBuf,
        /// Move a registry that is there aside.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Configuration file (TOML); without this, /etc/nearmost/broker.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrule one setting, e.g. --set dns.listen='["127.0.0.1:5300"]'.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Common {
    fn load(&self) -> Result<BrokerConfig> {
        self.load_with_given().map(|(config, _)| config)
    }

    /// With what was said key by key.
    fn load_with_given(&self) -> Result<(BrokerConfig, Given)> {
        let settings = self.settings.iter().map(|s| parse_setting(s)).collect::<Result<Vec<_>, _>>()?;
        Ok(BrokerConfig::load_with_given(self.file().as_deref(), process_env(), &settings)?)
    }

    fn file(&self) -> Option<PathBuf> {
        file_to_read(self.config.as_deref(), Path::new(CONFIG))
    }

    /// The file for people.
    fn file_name(&self) -> String {
        self.file().map_or_else(|| format!("defaults ({CONFIG} is not there)"), |f| f.display().to_string())
    }
}

/// The program: what went wrong is told once, on one line of standard error.
pub fn program(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match main(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", told(e.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Runs the program that `args` (with the program's name first) ask for.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<()> {
    match Arguments::parse_from(args).command {
        Command::CheckConfig { examine: true, common } => {
            let findings = crate::checkup::stopped::examine(&common.load()?, unix_now());
            serde_json::to_writer(std::io::stdout(), &findings)?;
            Ok(())
        }
        Command::CheckConfig { examine: false, common } => {
            check(&common.load()?)?;
            writeln!(std::io::stdout(), "{}: good", common.file_name())?;
            Ok(())
        }
        Command::Init(common) => {
            let (id, new) = init(&common.load()?)?;
            writeln!(std::io::stdout(), "{id}{}", if new { "" } else { " (was there already)" })?;
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "nearmost-broker", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(())
        }
        Command::Backup { file, overwrite, common } => {
            let store = RedbStore::open_made(&common.load()?.data_dir)?;
            let statements = store.backup(&file, overwrite).and_then(|job| job())?;
            writeln!(std::io::stdout(), "{}: {statements} records", file.display())?;
            Ok(())
        }
        Command::Restore { file, force, common } => {
            let restored = restore(&file, &common.load()?.data_dir, force, unix_now().0)?;
            let mut out = std::io::stdout();
            writeln!(out, "{} records restored from {}", restored.statements, file.display())?;
            if let Some(aside) = restored.moved_aside {
                writeln!(out, "the registry that was there is now {}", aside.display())?;
            }
            Ok(())
        }
        Command::Run(common) => {
            let (config, given) = common.load_with_given()?;
            let filter = std::env::var("NEARMOST_LOG").ok();
            let log = logging::init(&config.observing.log, filter.as_deref())?;
            limits::raise_open_files();
            let around = Surroundings { log, notifier: Notifier::from_env()?, given: Some(given) };
            tracing::info!(config = common.file_name(), "starting");
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().context("runtime")?;
            let ended = runtime.block_on(serve(config, around, common));
            runtime.shutdown_timeout(LAST_READS);
            ended
        }
    }
}

/// What the configuration cannot say of itself: whether the certificates it names can be used.
fn check(config: &BrokerConfig) -> Result<()> {
    let used = [("http", config.http.tls.as_ref()), ("dns.tls", config.dns.tls.files_in_use())];
    for (section, files) in used.into_iter().filter_map(|(section, files)| Some((section, files?))) {
        crate::dns::certificate::check(files).with_context(|| section.to_owned())?;
    }
    Ok(())
}

async fn serve(config: BrokerConfig, around: Surroundings, common: Common) -> Result<()> {
    let cancel = CancellationToken::new();
    let notifier = around.notifier.clone();
    // Before anything that takes long: a large store is opened, databases are read.
    let signals = Signals::catch()?;
    let (hand_over, control) = oneshot::channel();
    let (ask, asked) = mpsc::channel(1);
    tokio::spawn(signals.obey(ask, notifier.clone(), cancel.clone()));
    let reloads = reloads(common, control, notifier.clone(), asked);
    tokio::spawn(cancel.clone().run_until_cancelled_owned(reloads));
    let bound = cancel.run_until_cancelled(Broker::bind_in(config, around)).await;
    let Some(broker) = bound.transpose()? else { return Ok(()) };
    // Who waits for it has ended only where all of this ends.
    let _ = hand_over.send(broker.control());
    // One line for people and scripts: where everything is, and that it answers from now on.
    writeln!(std::io::stdout(), "{}", serde_json::to_string(broker.addresses())?)?;
    let ended = broker.run(cancel).await;
    // Also where it ends on its own.
    notifier.stopping();
    Ok(ended?)
}

/// Signals, which are caught from the start on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("SIGHUP")?,
        })
    }

    /// HUP has the configuration read again, TERM and INT end; a second one of these ends at once.
    async fn obey(mut self, reload: mpsc::Sender<()>, notifier: Notifier, cancel: CancellationToken) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                _ = self.hangup.recv() => {
                    // One that is asked for and has not begun reads what is there then.
                    let _ = reload.try_send(());
                    continue;
                }
            }
            if cancel.is_cancelled() {
                end_at_once();
            }
            tracing::info!("stopping");
            cancel.cancel();
            notifier.stopping();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "asked for twice: nothing is waited for any more")]
fn end_at_once() -> ! {
    tracing::warn!("ending at once: what was in hand is not finished");
    std::process::exit(AT_ONCE)
}

/// Reads the configuration again as often as asked, once there is a broker to be told.
async fn reloads(
    common: Common,
    control: oneshot::Receiver<Control>,
    notifier: Notifier,
    mut asked: mpsc::Receiver<()>,
) {
    let Ok(control) = control.await else { return };
    while asked.recv().await.is_some() {
        reload(&common, &control, &notifier).await;
    }
}

async fn reload(common: &Common, control: &Control, notifier: &Notifier) {
    notifier.reloading();
    let by = By::signal("SIGHUP");
    match common.load() {
        Ok(config) => {
            let told = match control.reload(&config, by).await {
                true => "configuration reloaded",
                false => "configuration partly reloaded: the log says what was not",
            };
            notifier.reloaded(told);
        }
        Err(e) => {
            let error = told(e.as_ref());
            tracing::error!(error, "configuration not reloaded; the old one stays");
            control.refused(by, &error).await;
            notifier.reloaded("configuration not reloaded; the old one stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on a data directory.
    fn run(data_dir: &Path, args: &[&str]) -> Result<(), String> {
        let set = format!("data_dir={:?}", data_dir.display().to_string());
        let args = ["nearmost-broker"].iter().chain(args).map(OsString::from);
        main(args.chain(["--set".into(), set.into()])).map_err(|e| told(e.as_ref()))
    }

    #[test]
    fn a_registry_is_copied_and_restored_while_the_broker_is_stopped() {
        let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copy = dir.path().join("copy");
        let file = copy.to_str().unwrap();
        let none = run(dir.path(), &["backup", file]).unwrap_err();
        assert!(none.contains("there is no registry at") && !copy.exists(), "{none}");
        let running = RedbStore::open(dir.path()).unwrap();
        let in_use = run(dir.path(), &["backup", file]).unwrap_err();
        assert!(in_use.contains("another broker uses this data directory"), "{in_use}");
        drop(running);
        run(dir.path(), &["backup", file]).unwrap();
        assert!(run(dir.path(), &["backup", file]).unwrap_err().contains("is there already"));
        run(dir.path(), &["backup", file, "--overwrite"]).unwrap();
        run(new.path(), &["restore", file]).unwrap();
        assert!(run(new.path(), &["restore", file]).unwrap_err().contains("is there already"));
        run(new.path(), &["restore", file, "--force"]).unwrap();
        assert_eq!(std::fs::read_dir(new.path()).unwrap().count(), 2, "the store and the one moved aside");
    }

    #[test]
    fn certificates_are_looked_at_where_they_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = ("dns.tls.cert=\"/nowhere/cert\"", "dns.tls.key=\"/nowhere/key\"");
        let unused = ["check-config", "--set", cert, "--set", key];
        run(dir.path(), &unused).unwrap();
        let used = [&unused[..], &["--set", "dns.tls.dot_listen=[\"127.0.0.1:0\"]"]].concat();
        assert!(run(dir.path(), &used).unwrap_err().contains("/nowhere/cert"));
    }
}
