//! Why something of a session did not come about.

use super::find::FindError;
use nearmost_core::session::client::SettingError;
use nearmost_wire::frame::FrameError;
use nearmost_wire::identity::{Id, KeyError};
use nearmost_wire::ingress::flow::OpenError;
use nearmost_wire::name::NameError;
use std::time::Duration;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The domain has no valid name.
    #[error(transparent)]
    Domain(#[from] NameError),
    /// No broker was found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A token or URL was given and not followed yet.
    #[error("a token or URL is to be followed before the session starts: call connect, or find before start")]
    NotFound,
    /// Neither mirrors nor brokers are known.
    #[error("no mirror of {0} is known: name at least one that has an address, or a broker to ask")]
    NoMirrors(String),
    /// More mirrors than a session takes.
    #[error("{0} mirrors; a session takes at most {most}", most = super::MOST_MIRRORS)]
    TooManyMirrors(usize),
    /// A mirror is there twice.
    #[error("mirror {0} is given twice")]
    Twice(Id),
    /// A setting that no session can keep to.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nobody took the session in.
    #[error("no mirror of {domain} was attached within {} s: {}", within.as_secs(), list(problems))]
    NotAttached {
        /// Of which domain.
        domain: String,
        /// How long was waited.
        within: Duration,
        /// The last problem with each mirror and broker that had one.
        problems: Vec<(Id, String)>,
    },
}

fn list(problems: &[(Id, String)]) -> String {
    match problems {
        [] => "none answered".into(),
        some => some.iter().map(|(id, what)| format!("{id}: {what}")).collect::<Vec<_>>().join("; "),
    }
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No mirror is attached at the moment.
    #[error("no mirror is attached at the moment")]
    NotAttached,
    /// The flow's number does not fit into a packet.
    #[error("flow {0} is not below 2^62")]
    Flow(u64),
    /// It does not fit into one packet on the path to the primary.
    #[error("datagram of {have} bytes; the path takes at most {most}")]
    TooLarge {
        /// Its bytes.
        have: usize,
        /// What the path takes at the moment.
        most: usize,
    },
    /// Datagrams come faster than they leave.
    #[error("too many datagrams wait to be sent")]
    Full,
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No mirror is attached at the moment.
    #[error("no mirror is attached at the moment")]
    NotAttached,
    /// The service behind the primary takes no TCP connections.
    #[error("mirror {0}: its service takes no TCP connections")]
    NotServed(Id),
    /// The mirror has no connection to its service for this stream; nothing was sent to it.
    #[error("mirror {at}: no connection to its service ({})", code.label())]
    Failed {
        /// Which mirror.
        at: Id,
        /// Why.
        code: OpenError,
    },
    /// The connection to the mirror ended, or what it answered could not be read.
    #[error("mirror {at}: {source}")]
    Broken {
        /// Which mirror.
        at: Id,
        /// What happened.
        source: FrameError,
    },
}
