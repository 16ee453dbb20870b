//! The processes of services, where the operator says how they are found: a crash is known in
//! milliseconds, before any check fails.
//!
//! | file | does |
//! |---|---|
//! | [`resolve`] | pid file, unit or program → process |
//! | [`watch`] | waits for its end |
//! | [`state`] | what that means for the service |
//!
//! Each service has a task and a state of its own. A process that is there after another ended, or that
//! goes on after it was stopped, has to be proven by the checks: see `health`.

pub mod resolve;
pub mod state;
pub mod watch;

use crate::status::ProcessStatus;
use nearmost_config::{ProcessSource, Service};
use state::Machine;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::task::AbortOnDropHandle;
use watch::{Means, Watcher};

/// Domain and mirror of a service.
pub type Key = (String, String);

/// The processes of all services that have the setting.
pub struct Processes {
    watched: BTreeMap<Key, Watch>,
    means: Means,
}

struct Watch {
    source: ProcessSource,
    machine: Arc<Sender<Machine>>,
    _task: AbortOnDropHandle<()>,
}

impl Processes {
    /// None yet; with pidfds where the system has them.
    pub fn new() -> Processes {
        Processes::with(resolve::Roots::default(), true)
    }

    /// The same, seen from other places, or without pidfds.
    pub fn with(roots: resolve::Roots, pidfd: bool) -> Processes {
        let means = Means { roots, pidfd, told: Arc::default(), changes: Sender::new(0) };
        Processes { watched: BTreeMap::new(), means }
    }

    /// Follows the processes of these services; those whose setting stays keep what is known. Must be
    /// called within a tokio runtime.
    pub fn set(&mut self, services: &[Service]) {
        let mut old = std::mem::take(&mut self.watched);
        for service in services {
            let Some(source) = service.local.process.clone() else { continue };
            let key = (service.domain.clone(), service.mirror.clone());
            let kept = old.remove(&key).filter(|w| w.source == source);
            let watch = kept.unwrap_or_else(|| self.start(&key, source));
            self.watched.insert(key, watch);
        }
        self.means.changes.send_modify(|version| *version += 1);
    }

    fn start(&self, (domain, mirror): &Key, source: ProcessSource) -> Watch {
        let machine = Arc::new(Sender::new(Machine::default()));
        let watcher = Watcher {
            source: source.clone(),
            service: format!("{mirror}.{domain}"),
            machine: Arc::clone(&machine),
            means: self.means.clone(),
        };
        Watch { source, machine, _task: AbortOnDropHandle::new(tokio::spawn(watcher.run())) }
    }

    /// Wakes whenever anything changed; the number grows.
    pub fn changes(&self) -> Receiver<u64> {
        self.means.changes.subscribe()
    }

    /// What is known of each.
    pub fn machines(&self) -> BTreeMap<Key, Machine> {
        self.watched.iter().map(|(key, w)| (key.clone(), w.machine.borrow().clone())).collect()
    }

    /// The checks of a service passed since its machine said `epoch`.
    pub fn proven(&self, key: &Key, epoch: u64) {
        let Some(watch) = self.watched.get(key) else { return };
        if watch.machine.send_if_modified(|machine| machine.proven(epoch)) {
            self.means.changes.send_modify(|version| *version += 1);
        }
    }

    /// For the status page.
    pub fn status(&self) -> Vec<ProcessStatus> {
        let of = |(key, w): (&Key, &Watch)| {
            let machine = w.machine.borrow();
            ProcessStatus {
                domain: key.0.clone(),
                mirror: key.1.clone(),
                state: machine.phase().label().to_string(),
                pid: machine.pid(),
                problem: machine.problem(),
            }
        };
        self.watched.iter().map(of).collect()
    }
}

impl Default for Processes {
    fn default() -> Self {
        Processes::new()
    }
}

#[cfg(test)]
mod tests;
