//! What the registrar tells everybody else.

use nearmost_core::registry::Registry;
use nearmost_replica::PublicKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// A member of the federation as whoever connects with it needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its key.
    pub key: PublicKey,
    /// Its name.
    pub name: String,
    /// Whether it may change members.
    pub admin: bool,
    /// Domains that it may create.
    pub domains: Vec<String>,
    /// On whose word it is a member; `None` for ours.
    pub via: Option<PublicKey>,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

/// The channels out.
#[derive(Clone)]
pub(super) struct Out {
    pub registry: watch::Sender<Arc<Registry>>,
    pub members: watch::Sender<Arc<Vec<MemberInfo>>>,
    /// The log's last position.
    pub head: watch::Sender<u64>,
    /// Secrets of tokens with which this broker asks to be let in, by the key of the broker that made them.
    pub joins: watch::Sender<Arc<BTreeMap<PublicKey, [u8; 16]>>>,
    /// Counts changes of anything, applications' records too.
    pub changes: watch::Sender<u64>,
}

impl Out {
    pub fn new(registry: Registry, head: u64) -> Out {
        Out {
            registry: watch::Sender::new(Arc::new(registry)),
            members: watch::Sender::new(Arc::default()),
            head: watch::Sender::new(head),
            joins: watch::Sender::new(Arc::default()),
            changes: watch::Sender::new(0),
        }
    }

    /// Something has changed.
    pub fn touched(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// What those who talk with peers follow.
#[derive(Clone)]
pub struct Followed {
    /// Other members.
    pub members: watch::Receiver<Arc<Vec<MemberInfo>>>,
    /// The log's last position.
    pub head: watch::Receiver<u64>,
    /// Secrets of tokens with which this broker asks to be let in, by the key of the broker that made them.
    pub joins: watch::Receiver<Arc<BTreeMap<PublicKey, [u8; 16]>>>,
    /// Counts changes of anything.
    pub changes: watch::Receiver<u64>,
}
