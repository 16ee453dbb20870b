//! Which service a domain is, and what becomes of it when settings change.

use super::hub::{self, Hub, Order, ToHub};
use super::{STOPPED, Shared};
use crate::link::ReportBody;
use crate::process::Key;
use nearmost_config::{Service, ServiceIngress};
use nearmost_core::session::mirror::MirrorConfig;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

/// The way to the sessions of one service.
#[derive(Clone)]
pub(super) struct Door {
    /// Which service it is.
    pub key: Key,
    /// Takes what its clients do.
    pub hub: mpsc::Sender<ToHub>,
    /// Where its flows go.
    pub target: ServiceIngress,
}

/// The doors by domain, as they are now.
pub(super) type Doors = watch::Receiver<Arc<HashMap<String, Door>>>;

/// The services that the ingress serves.
pub(super) struct Directory {
    services: BTreeMap<Key, Entry>,
    /// Of services that are no more: each ends once its sessions did.
    leaving: Vec<AbortOnDropHandle<()>>,
    doors: watch::Sender<Arc<HashMap<String, Door>>>,
    shared: Shared,
}

struct Entry {
    door: Door,
    bounds: watch::Sender<MirrorConfig>,
    orders: watch::Sender<Order>,
    task: AbortOnDropHandle<()>,
}

impl Directory {
    /// Opens a door for each service that takes flows.
    pub(super) fn new(services: &[Service], shared: Shared) -> Directory {
        let mut directory = Directory {
            services: BTreeMap::new(),
            leaving: Vec::new(),
            doors: watch::Sender::default(),
            shared,
        };
        directory.set(services, Duration::ZERO);
        directory
    }

    pub(super) fn doors(&self) -> Doors {
        self.doors.subscribe()
    }

    /// Takes over a new list; what goes elsewhere now is drained within `grace`, and begins anew. Another
    /// capacity counts from now on, and drives nobody out.
    pub(super) fn set(&mut self, services: &[Service], grace: Duration) {
        let mut before = std::mem::take(&mut self.services);
        let (mut doors, mut after) = (HashMap::new(), BTreeMap::new());
        for service in services {
            let target = service.local.ingress;
            if target.udp.is_none() && target.tcp.is_none() {
                continue;
            }
            let key = (service.domain.clone(), service.mirror.clone());
            let capacity = service.share.capacity;
            let same = |e: &Entry| e.door.target == target;
            let kept = match before.remove(&key) {
                Some(entry) if same(&entry) => {
                    let bounds = hub::limits(capacity);
                    entry.bounds.send_if_modified(|was| std::mem::replace(was, bounds) != bounds);
                    entry
                }
                Some(entry) => {
                    self.leave(entry, grace);
                    self.open(key.clone(), target, capacity)
                }
                None => self.open(key.clone(), target, capacity),
            };
            // Of two mirrors of one domain on one node, the first one in the list is served.
            doors.entry(service.domain.clone()).or_insert_with(|| kept.door.clone());
            after.insert(key, kept);
        }
        before.into_values().for_each(|entry| self.leave(entry, grace));
        self.leaving.retain(|task| !task.is_finished());
        self.services = after;
        self.doors.send_replace(Arc::new(doors));
    }

    fn open(&self, key: Key, target: ServiceIngress, capacity: u32) -> Entry {
        let orders = watch::Sender::new(Order::Serve);
        let bounds = watch::Sender::new(hub::limits(capacity));
        let (sender, hub) = Hub::new(target, hub::limits(capacity), self.shared.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(hub.run(orders.subscribe(), bounds.subscribe())));
        Entry { door: Door { key, hub: sender, target }, bounds, orders, task }
    }

    fn leave(&mut self, entry: Entry, within: Duration) {
        entry.orders.send_replace(Order::Leave { within });
        self.leaving.push(entry.task);
    }

    /// Takes over what is reported; whether all services are well.
    pub(super) fn told(&self, report: &ReportBody) -> bool {
        let mut well = true;
        for (key, entry) in &self.services {
            let of = report.services.iter().find(|s| (&s.domain, &s.mirror) == (&key.0, &key.1));
            // Nothing is well until it was seen to be.
            well &= of.is_some_and(|s| s.healthy && !s.stopped);
            let order = match of.is_some_and(|s| s.stopped) {
                true => Order::Drain { within: STOPPED },
                false => Order::Serve,
            };
            if !report.draining {
                entry.orders.send_if_modified(|was| std::mem::replace(was, order) != order);
            }
        }
        well
    }

    /// Tells every client to leave.
    pub(super) fn drain(&self, within: Duration) {
        for entry in self.services.values() {
            entry.orders.send_replace(Order::Drain { within });
        }
    }
}
