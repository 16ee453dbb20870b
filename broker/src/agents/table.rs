//! Who is connected, and the way to them.

use super::orders::Ordered;
use nearmost_core::id::NodeId;
use nearmost_core::registry::Registry;
use nearmost_wire::agent::Refusal;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// The sessions of joined agents; one a node, the newest.
#[derive(Default)]
pub struct SessionTable {
    sessions: Mutex<HashMap<NodeId, Session>>,
    /// Grows when a session is entered or removed.
    version: AtomicU64,
}

struct Session {
    number: u64,
    connection: quinn::Connection,
    /// Into the session; what finds no room is dropped.
    orders: mpsc::Sender<Ordered>,
}

impl SessionTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Session>> {
        // The map is consistent between any two of its operations, so a poisoned lock is usable.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a node's agent has a session here.
    pub fn is_connected(&self, node: &NodeId) -> bool {
        self.lock().contains_key(node)
    }

    /// How many agents are connected.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Grows whenever the connected nodes may have changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The connected nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.lock().keys().copied().collect()
    }

    /// Hands an order to a node's session; whether there is one that has room for it.
    pub fn order(&self, node: &NodeId, order: Ordered) -> bool {
        self.lock().get(node).is_some_and(|s| s.orders.try_send(order).is_ok())
    }

    /// Enters a session that takes orders; an older one of the same node is closed.
    pub fn enter(
        &self,
        node: NodeId,
        number: u64,
        connection: quinn::Connection,
        orders: mpsc::Sender<Ordered>,
    ) {
        let now = connection.remote_address();
        let old = self.lock().insert(node, Session { number, connection, orders });
        self.version.fetch_add(1, Ordering::Relaxed);
        if let Some(old) = old {
            // Twice in a row from two places: one key runs on two machines.
            let before = old.connection.remote_address();
            tracing::info!(%node, %before, %now, "a newer session of the same node began; the older is closed");
            close(&old.connection, Refusal::Superseded, "a newer session of the same node began");
        }
    }

    /// Removes a session, unless a newer one took its place.
    pub fn leave(&self, node: &NodeId, number: u64) {
        let mut sessions = self.lock();
        if sessions.get(node).is_some_and(|s| s.number == number) {
            sessions.remove(node);
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the sessions of nodes that the registry no longer holds, or has revoked.
    pub fn enforce(&self, registry: &Registry) {
        for (node, session) in self.lock().iter() {
            match authorise(registry, node) {
                Ok(()) => {}
                Err(refusal) => close(&session.connection, refusal, "the registry changed"),
            }
        }
    }
}

/// Whether a node may have a session.
pub fn authorise(registry: &Registry, node: &NodeId) -> Result<(), Refusal> {
    match registry.node_by_id.get(node) {
        None => Err(Refusal::UnknownKey),
        Some(i) if registry.nodes[i.0 as usize].revoked => Err(Refusal::Revoked),
        Some(_) => Ok(()),
    }
}

/// Ends a connection with a refusal.
pub fn close(connection: &quinn::Connection, refusal: Refusal, detail: &str) {
    connection.close(refusal.code().into(), detail.as_bytes());
}
