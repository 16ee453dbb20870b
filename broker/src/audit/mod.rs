//! The audit log: every administrative act at this broker, in the store, in a chain of hashes.
//!
//! ```text
//! changes of the registry ── WriteBatch::origin ──┐
//! tokens, copies, levels, reloads ── Desk::done ──┼──> store: entry, in the act's own transaction
//! refused attempts ── Desk::refused ── task ──────┘    (or alone, where nothing else is written)
//!                     coalesced, few a minute
//! ```
//! A change of the registry and its entry are one transaction: there is one if and only if there is the
//! other. Refused attempts are written only of those who proved who they are, and so that no flood of them
//! pushes out what was done: the first of a kind at once, then one entry a minute for all the others. Agents and
//! peers that are refused for their one-time token proved nothing: they are gathered apart, and what they and their
//! like did has a bound of its own in the log. Who was let in stands with what people did (`Class`).
//!
//! | file | does |
//! |---|---|
//! | `render` | what an act did, as JSON without secrets |
//! | `desk` | acts that are no change of the registry, and refused ones |

mod desk;
mod render;

pub use desk::{AuditMetrics, Desk, DeskTask};
pub(crate) use render::{change, code_of, parts};

use crate::admin::Actor;
use nearmost_replica::PublicKey;
use nearmost_wire::api::AuditChange;
use nearmost_wire::identity::Id;
use std::net::IpAddr;

/// Codes of acts. Changes of the registry are told apart by what they change: `mirror.change`.
pub mod acts {
    /// Records of several kinds, or several things happened to them.
    pub const COMMIT: &str = "registry.commit";
    /// A token for a node was made.
    pub const INVITE: &str = "invite.create";
    /// A token for a broker was made.
    pub const PEER_INVITE: &str = "peer.invite";
    /// This broker asked another to let it in.
    pub const PEER_JOIN: &str = "peer.join";
    /// Another broker used a token and was let in.
    pub const PEER_ADMIT: &str = "peer.admit";
    /// A node used a token.
    pub const NODE_JOIN: &str = "node.join";
    /// A node's agent declared what it serves.
    pub const NODE_DECLARE: &str = "node.declare";
    /// A text for a certificate authority was set.
    pub const ACME_SET: &str = "acme.set";
    /// Such texts were removed.
    pub const ACME_REMOVE: &str = "acme.remove";
    /// Everything was copied to a file.
    pub const BACKUP: &str = "backup";
    /// The store was made of a copy.
    pub const RESTORE: &str = "restore";
    /// Levels of the logs were changed.
    pub const LOG_LEVEL: &str = "log.level";
    /// The configuration was read again.
    pub const RELOAD: &str = "reload";
    /// The broker was started with another configuration than the last time.
    pub const START: &str = "start";
    /// A token of the API was made.
    pub const TOKEN_CREATE: &str = "token.create";
    /// A token of the API was revoked.
    pub const TOKEN_REVOKE: &str = "token.revoke";
    /// The holder of a token asked for more than it is good for.
    pub const TOKEN_BEYOND: &str = "token.beyond";
    /// Entries of what agents did were forgotten.
    pub const PRUNE: &str = nearmost_wire::api::PRUNED;
    /// The broker stated something of its own accord.
    pub const OWN: &str = "broker.state";
    /// More refused attempts than are written one by one.
    pub const REFUSED: &str = "refused.others";
}

/// Through what an act came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// The admin socket.
    Socket,
    /// HTTP on a loopback address.
    Loopback,
    /// HTTP on another address.
    Public,
    /// A signal.
    Signal,
    /// The agents' port.
    Agents,
    /// The peers' port.
    Peers,
    /// The broker itself.
    #[default]
    Broker,
    /// A command that was run while the broker was stopped.
    Command,
}

impl Via {
    /// Whether what came so was no person's wish, but an agent's or a peer's own.
    pub fn is_of_agents(self) -> bool {
        matches!(self, Via::Agents | Via::Peers)
    }

    /// As entries have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Socket => "socket",
            Via::Loopback => "loopback",
            Via::Public => "public",
            Via::Signal => "signal",
            Via::Agents => "agents",
            Via::Peers => "peers",
            Via::Broker => "broker",
            Via::Command => "command",
        }
    }
}

/// Against which bound of the log an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `max_entries`: what people did, and who was let in by a token that a person made. Strangers cannot make
    /// such entries, however often they try.
    People,
    /// `max_agent_entries`: what agents and peers did of their own accord, or were refused.
    Agents,
    /// None: it tells of entries that were forgotten, and is kept as long as anything around it.
    Pruning,
}

impl Class {
    /// Of an act by its code, whether it was done, and whether it came by the agents' or the peers' port.
    pub(crate) fn of(code: &str, done: bool, of_agents: bool) -> Class {
        match code {
            acts::PRUNE if !of_agents => Class::Pruning,
            acts::PEER_ADMIT | acts::NODE_JOIN if done => Class::People,
            _ if of_agents => Class::Agents,
            _ => Class::People,
        }
    }
}

/// An administrator who asks for something, and through what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Who.
    pub actor: Actor,
    /// Through what.
    pub via: Via,
    /// From where, over a network.
    pub source: Option<IpAddr>,
}

impl From<Actor> for Who {
    /// As little as is known of an actor alone.
    fn from(actor: Actor) -> Who {
        let via = match actor {
            Actor::Socket { .. } => Via::Socket,
            Actor::Person(_) | Actor::Token(_) => Via::Loopback,
        };
        Who { actor, via, source: None }
    }
}

impl Who {
    /// As entries have it.
    pub fn by(&self) -> By {
        let actor = match &self.actor {
            Actor::Socket { uid } => format!("uid {uid}"),
            Actor::Person(id) => id.to_string(),
            Actor::Token(name) => format!("token {name}"),
        };
        By { actor, via: self.via, source: self.source.map(|source| source.to_string()) }
    }
}

/// Who did something, through what and from where, as entries have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct By {
    /// Who.
    pub actor: String,
    /// Through what.
    pub via: Via,
    /// From where.
    pub source: Option<String>,
}

impl By {
    /// The holder of a key, who came by its own port.
    pub fn key(id: &Id, via: Via) -> By {
        By { actor: id.to_string(), via, source: None }
    }

    /// The same, from an address.
    pub fn from(self, source: IpAddr) -> By {
        By { source: Some(source.to_canonical().to_string()), ..self }
    }

    /// A signal.
    pub fn signal(name: &str) -> By {
        By { actor: name.into(), via: Via::Signal, source: None }
    }
}

/// Whose change of the registry it is, and which act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who, through what, from where.
    pub by: By,
    /// One of [`acts`]; [`acts::COMMIT`], and none, are told apart by what they change.
    pub act: &'static str,
    /// This broker's own key: its signatures are shown as a broker's.
    pub own: Option<PublicKey>,
}

impl Origin {
    /// An act of somebody.
    pub fn new(by: By, act: &'static str) -> Origin {
        Origin { by, act, own: None }
    }
}

/// What became of an act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It was done.
    #[default]
    Done,
    /// It was refused, for the API's code.
    Refused(&'static str),
    /// It was allowed and did not succeed, for the API's code.
    Failed(&'static str),
}

impl Ending {
    /// As entries have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Refused(_) => "refused",
            Ending::Failed(_) => "failed",
        }
    }

    /// Why, where it was not done.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Ending::Done => None,
            Ending::Refused(code) | Ending::Failed(code) => Some(code),
        }
    }
}

/// An act, before it has a number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Act {
    /// Who.
    pub by: By,
    /// One of [`acts`].
    pub code: String,
    /// How it ended.
    pub ending: Ending,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// How many attempts it stands for; 0 is one.
    pub count: u64,
    /// For people.
    pub note: String,
    /// About what.
    pub target: String,
    /// The registry's version after it, and its number in the history.
    pub version: Option<(u64, u64)>,
    /// What it did.
    pub changes: Vec<AuditChange>,
}

impl Act {
    /// Against which bound of the log its entries count.
    pub(crate) fn class(&self) -> Class {
        Class::of(&self.code, self.ending == Ending::Done, self.by.via.is_of_agents())
    }
}

#[cfg(test)]
mod tests;
