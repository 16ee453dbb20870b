//! How the services are: their checks and their processes, and the one proving the other.
//!
//! A process that is there after another ended may not serve yet. Its service counts as stopped until
//! every check has passed in a run that began since; these are run at once.

use crate::clock::Clock;
use crate::process::state::Machine;
use crate::process::{Key, Processes};
use crate::report;
use crate::status::{FailingCheck, ProcessStatus};
use nearmost_config::Service;
use nearmost_core::check::CheckOutcome;
use nearmost_core::time::MonoTime;
use nearmost_probe::{CheckRunner, CheckStatus, Prober};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Checks and processes of all services.
pub(crate) struct Health {
    runner: CheckRunner,
    processes: Processes,
    checked: watch::Receiver<u64>,
    observed: watch::Receiver<u64>,
    /// Names of the checks that prove a service's process.
    checks: BTreeMap<Key, Vec<String>>,
    /// Each ends with whether it is proven; not when the checks were replaced meanwhile.
    proofs: JoinSet<(Key, u64, bool)>,
    /// By service, the epoch of the proof that is under way.
    proving: BTreeMap<Key, u64>,
    clock: Clock,
}

impl Health {
    /// Nothing known; `seed` is the randomness of the checks' jitter.
    pub(crate) fn new(prober: Arc<Prober>, seed: u64, clock: Clock) -> Health {
        let runner = CheckRunner::new(prober, seed, &CancellationToken::new());
        let processes = Processes::new();
        Health {
            checked: runner.changes(),
            observed: processes.changes(),
            runner,
            processes,
            checks: BTreeMap::new(),
            proofs: JoinSet::new(),
            proving: BTreeMap::new(),
            clock,
        }
    }

    /// Follows these services; of what stays the same, what is known stays too.
    pub(crate) fn set(&mut self, services: &[Service]) {
        self.runner.set(report::checks(services));
        self.processes.set(services);
        let names = |s: &Service| ((s.domain.clone(), s.mirror.clone()), report::check_names(s));
        self.checks = services.iter().map(names).collect();
    }

    /// Looks for checks that hang: how many do, and what of each that does not pass.
    pub(crate) fn watch_checks(&mut self) -> (usize, Vec<FailingCheck>) {
        let stuck = self.runner.find_stuck();
        (stuck, report::failing(&self.runner.statuses()))
    }

    /// Waits until anything is to be reported, perhaps. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.observed.changed() => self.prove(),
            Ok(()) = self.checked.changed() => {}
            Some(ended) = self.proofs.join_next() => self.on_proof(ended.ok()),
            else => std::future::pending().await,
        }
    }

    /// Begins the proofs that are wanted and not under way.
    fn prove(&mut self) {
        for (key, machine) in self.processes.machines() {
            let Some(epoch) = machine.proving() else { continue };
            if self.proving.insert(key.clone(), epoch) == Some(epoch) {
                continue;
            }
            let names = self.checks.get(&key).map(Vec::as_slice).unwrap_or_default();
            let results = names.iter().filter_map(|name| self.runner.watch(name)).collect();
            self.proofs.spawn(proof(key, epoch, results, self.clock));
            for name in names {
                self.runner.run_now(name);
            }
        }
    }

    fn on_proof(&mut self, ended: Option<(Key, u64, bool)>) {
        let Some((key, epoch, proven)) = ended else { return };
        if self.proving.get(&key) == Some(&epoch) {
            self.proving.remove(&key);
        }
        match proven {
            true => self.processes.proven(&key, epoch),
            // With the checks that are there now.
            false => self.prove(),
        }
    }

    /// What is known of every check.
    pub(crate) fn statuses(&self) -> Vec<CheckStatus> {
        self.runner.statuses()
    }

    /// What is known of every process.
    pub(crate) fn machines(&self) -> BTreeMap<Key, Machine> {
        self.processes.machines()
    }

    /// The processes for the status page.
    pub(crate) fn process_status(&self) -> Vec<ProcessStatus> {
        self.processes.status()
    }

    /// Stops the checks.
    pub(crate) async fn shutdown(self) {
        self.runner.shutdown().await;
    }
}

/// Waits until each check has passed in a run that began after now.
async fn proof(
    key: Key,
    epoch: u64,
    results: Vec<watch::Receiver<CheckStatus>>,
    clock: Clock,
) -> (Key, u64, bool) {
    let from = clock.now();
    for mut result in results {
        // What is known now came before.
        result.mark_unchanged();
        loop {
            if result.changed().await.is_err() {
                return (key, epoch, false);
            }
            if passed_since(&result.borrow_and_update(), clock.now(), from) {
                break;
            }
        }
    }
    (key, epoch, true)
}

/// Whether the last result, which came at `now`, is a pass of a run that began at `from` or later.
fn passed_since(status: &CheckStatus, now: MonoTime, from: MonoTime) -> bool {
    match status.last {
        Some(CheckOutcome::Pass { took }) => {
            now.since(MonoTime::ZERO).saturating_sub(took) >= from.since(MonoTime::ZERO)
        }
        _ => false,
    }
}
