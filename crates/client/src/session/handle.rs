//! The handle of a session.

use super::builder::Builder;
use super::counters::{Count, Counters};
use super::driver::{Command, Names, Primary, Problems};
use super::error::{SendError, StreamError};
use super::event::{Event, Events};
use super::inbox::{Datagram, Inbox};
use super::stream::{Begun, Stream};
use nearmost_wire::identity::Id;
use nearmost_wire::ingress::datagram::MAX_OVERHEAD;
use nearmost_wire::ingress::flow::OpenError;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, watch};

/// The largest number of a flow (RFC 9000 §16).
const MOST_FLOW: u64 = (1 << 62) - 1;

/// A session with a domain, attached to its nearest mirror that serves. Clones are the same session;
/// it ends with the last of them.
#[derive(Clone)]
pub struct Session(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub commands: mpsc::Sender<Command>,
    pub primary: watch::Receiver<Option<Primary>>,
    /// Never read: others are made from it.
    pub events: broadcast::Receiver<Event>,
    pub inbox: Arc<Inbox>,
    pub counters: Arc<Counters>,
    pub problems: Arc<Problems>,
    pub names: Arc<Names>,
}

impl Session {
    /// Begins a session with a domain.
    pub fn builder(domain: &str) -> Builder {
        Builder::new(domain)
    }

    /// The node of the mirror that new work goes to; `None` while there is none.
    pub fn primary(&self) -> Option<Id> {
        self.0.primary.borrow().as_ref().map(|primary| primary.node)
    }

    /// What the mirror at a node is called, where a list or the caller says so.
    pub fn name(&self, node: Id) -> Option<String> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Waits for a primary; `None` when the session ends before. Cancel-safe.
    pub async fn attached(&self) -> Option<Id> {
        let mut primary = self.0.primary.clone();
        let found = primary.wait_for(Option::is_some).await.ok()?;
        found.as_ref().map(|primary| primary.node)
    }

    /// Sends a packet of a flow to the service, and never waits. Flows are numbered by the caller, below
    /// 2^62; each is one UDP socket beside the service at the mirror.
    ///
    /// # Errors
    /// [`SendError`]; the packet is then gone. One that was taken may still be lost, like any datagram.
    pub fn send(&self, flow: u64, payload: &[u8]) -> Result<(), SendError> {
        if self.0.commands.is_closed() {
            return Err(SendError::Closed);
        }
        if flow > MOST_FLOW {
            return Err(SendError::Flow(flow));
        }
        let most = match &*self.0.primary.borrow() {
            Some(primary) => primary.connection.max_datagram_size().unwrap_or(0),
            None => return Err(SendError::NotAttached),
        };
        let (have, most) = (payload.len(), most.saturating_sub(MAX_OVERHEAD));
        if have > most {
            return Err(SendError::TooLarge { have, most });
        }
        let command = Command::Send { flow, payload: payload.to_vec() };
        self.0.commands.try_send(command).map_err(|e| match e {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// The next packet of any flow; `None` once the session has ended. Cancel-safe; several may wait, and
    /// each packet goes to one of them.
    pub async fn recv(&self) -> Option<Datagram> {
        self.0.inbox.get().await
    }

    /// Opens a TCP connection to the service at the current primary.
    ///
    /// # Errors
    /// [`StreamError`]. Dropping the future breaks what was begun.
    pub async fn open_stream(&self) -> Result<Stream, StreamError> {
        loop {
            let primary = self.0.primary.borrow().clone().ok_or(StreamError::NotAttached)?;
            let Primary { node, link, connection, tcp, work } = primary;
            if !tcp {
                return Err(StreamError::NotServed(node));
            }
            match Stream::open(connection, node, &work).await {
                Ok(stream) => return Ok(stream),
                // The session moved meanwhile, and nothing was sent to the service.
                Err((StreamError::Failed { code: OpenError::NotPrimary, .. }, _) | (_, Begun::No))
                    if self.is_elsewhere(link) => {}
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn is_elsewhere(&self, link: u64) -> bool {
        self.0.primary.borrow().as_ref().is_some_and(|primary| primary.link != link)
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events { events: self.0.events.resubscribe(), missed: 0 }
    }

    /// Says that this machine's addresses or routes changed: what was learnt of mirrors may no longer hold.
    /// Cancel-safe: dropped before it is done, nothing was said.
    pub async fn network_changed(&self) {
        // A session that has ended has no use for it.
        let _ = self.0.commands.send(Command::NetworkChanged).await;
    }

    /// How often something was dropped or refused.
    pub fn count(&self, what: Count) -> u64 {
        self.0.counters.get(what)
    }

    /// The last problem with each mirror and broker that had one, sorted.
    pub fn problems(&self) -> Vec<(Id, String)> {
        let problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = problems.iter().map(|(id, what)| (*id, what.clone())).collect();
        all.sort_by_cached_key(|(id, _)| id.to_string());
        all
    }

    /// Waits for a primary other than this node; `None` when the session ends before. Cancel-safe.
    pub async fn attached_beside(&self, node: Id) -> Option<Id> {
        let mut primary = self.0.primary.clone();
        let other = |primary: &Option<Primary>| primary.as_ref().is_some_and(|primary| primary.node != node);
        let found = primary.wait_for(other).await.ok()?;
        found.as_ref().map(|primary| primary.node)
    }

    /// Round trip to the primary as its connection measures it; `None` while there is no primary.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.primary.borrow().as_ref().map(|primary| primary.connection.rtt())
    }

    /// Says that the service behind a mirror does not serve although the mirror does. The mirror is left in
    /// order, as if it drained: new work goes to another one as soon as there is one, what is open stays.
    /// Cancel-safe: dropped before it is done, nothing was said.
    pub async fn leave(&self, node: Id) {
        // A session that has ended has left.
        let _ = self.0.commands.send(Command::Leave(node)).await;
    }

    /// Ends the session for all its handles: packets sent before may take half a second to leave, and its
    /// mirrors as long again to acknowledge the end.
    pub async fn close(&self) {
        let _ = self.0.commands.send(Command::Close).await;
        let mut primary = self.0.primary.clone();
        // Its sender ends with the session.
        while primary.changed().await.is_ok() {}
    }
}
