//! Round trips of attached clients, as QUIC knows them, for what is told of [`crate::paths`].
//!
//! Standbys count too: they are what is known of ways that nobody uses now.

use super::connection::Attached;
use crate::process::Key;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The connections of all clients; empty where there is no ingress.
#[derive(Clone, Default)]
pub struct SessionPaths {
    connections: Arc<Mutex<HashMap<u64, Entry>>>,
}

struct Entry {
    connection: quinn::Connection,
    session: watch::Receiver<Option<Attached>>,
}

/// A connection that counts until dropped.
pub(super) struct Counted {
    link: u64,
    paths: SessionPaths,
}

impl SessionPaths {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        // Each operation is one of the map's, so a poisoned lock is usable.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection from when a session is attached.
    pub(super) fn enter(
        &self,
        link: u64,
        connection: quinn::Connection,
        session: watch::Receiver<Option<Attached>>,
    ) -> Counted {
        self.lock().insert(link, Entry { connection, session });
        Counted { link, paths: self.clone() }
    }

    /// The service, the client's address and the round trip in microseconds of each attached session.
    pub fn each(&self, mut take: impl FnMut(&Key, IpAddr, u32)) {
        for Entry { connection, session } in self.lock().values() {
            if let Some(attached) = &*session.borrow() {
                let rtt_us = u32::try_from(connection.rtt().as_micros()).unwrap_or(u32::MAX);
                take(&attached.door.key, connection.remote_address().ip().to_canonical(), rtt_us);
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.paths.lock().remove(&self.link);
    }
}
