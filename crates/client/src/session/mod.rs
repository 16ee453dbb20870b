//! A session with a domain that moves to another mirror when its own fails, drains or is no longer the
//! nearest.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use nearmost_client::session::Session;
//! // Brokers are looked up in DNS where none is named.
//! let session = Session::builder("play.example.com").connect().await?;
//! session.send(1, b"hello")?;
//! let answer = session.recv().await;
//! # Ok(()) }
//! ```
//!
//! Every decision is made by [`nearmost_core::session::client::Client`]; here is the shell around it, which
//! speaks [`nearmost_wire::ingress`] to mirrors:
//!
//! ```text
//!   Session (cloneable) ── send, close ──▶ ┌────────┐ ── probe ───▶ one small socket each
//!      ◀── recv: inbox, oldest dropped ─── │ driver │
//!      ◀── events: oldest dropped ──────── │  owns  │ ── attach ──▶ link: a task, a socket, a QUIC
//!      ◀── primary ─────────────────────── │  the   │ ◀─ said ────        connection and a tripwire
//!                                          │machine │ ── beacons, data, retire, detach ──▶   ┆
//!   Stream ◀═══════ bytes ═══════════════▶ └────────┘ ═══════════════════════════════════════▶ mirror
//! ```
//!
//! | file | its part |
//! |---|---|
//! | `builder` | what a session is made of |
//! | `find` | where brokers are: told, by a token, at a URL, in DNS |
//! | `lists` | where the machine's lists come from |
//! | `line` | the conversation with one broker |
//! | `trust` | opens what brokers sign; whose word a mirror is |
//! | `table` | the mirrors that are known, by number |
//! | `known` | one of them |
//! | `handle` | what the application holds |
//! | `driver` | the task that owns the machine |
//! | `link` | one mirror that is attached or on the way |
//! | `probe`, `probes` | how far a mirror is; those under way |
//! | `stream` | a TCP connection to the service |
//! | `flows`, `inbox` | numbers of packets; those that wait for the application |
//! | `event`, `counters`, `error` | what the application is told |
//!
//! **Queues.** All are bounded. Packets of the application wait for the driver, [`COMMANDS`] at most, and
//! one more is refused with [`SendError::Full`]. Packets for the application wait for it, [`INBOX`] at most,
//! and the oldest is dropped and counted. Events are kept for each listener, [`EVENTS`] at most, and the
//! oldest is missed and counted. Links wait for the driver, and behind each of them quinn drops the oldest
//! datagrams.
//!
//! **Copies.** While the primary is in doubt a packet may go over the standby as well ([`Mode`]). Each
//! mirror hands it to its own service once. Both services may then answer, and both answers come here:
//! mirrors number the packets of their services on their own, so only copies that came by one connection
//! are known for copies. A service that cannot bear this asks for [`Duplicate::Never`].
//!
//! **Ends.** A session ends with its last handle, or by [`Session::close`]; then its tasks end and its
//! connections close. Streams and event listeners keep none alive. Every future of a handle may be dropped
//! at any time: what it waited for is then left to others, or was not begun.
//!
//! **Brokers** tell of the domain's mirrors and of what changes, one of them at a time: the next one is
//! asked when it is lost. With all of them gone a session goes on for as long as its list holds, a day, and
//! moves among the mirrors that it knows. A caller that knows the mirrors names them, and no broker is asked.

mod builder;
mod counters;
mod driver;
mod error;
mod event;
pub(crate) mod find;
mod flows;
mod handle;
mod inbox;
mod known;
mod line;
mod link;
mod lists;
mod probe;
mod probes;
mod stream;
mod table;
mod trust;

pub use builder::Builder;
pub use counters::Count;
pub use error::{SendError, SessionError, StreamError};
pub use event::{Event, Events};
pub use find::{BROKER_PORT, BrokerAt, FindError, Found, MOST_BROKERS, dns_text};
pub use handle::Session;
pub use inbox::Datagram;
pub use known::{INGRESS_PORT, Known, MOST_MIRRORS};
pub use nearmost_core::session::client::{ClientConfig, MoveReason};
pub use nearmost_core::session::list::FailureDomain;
pub use nearmost_core::session::{Duplicate, Mode};
pub use stream::Stream;
pub use trust::UntrustedList;

/// Packets of the application that wait for the driver.
pub const COMMANDS: usize = 1024;
/// Packets that wait for the application.
pub const INBOX: usize = 1024;
/// Events that wait for a listener.
pub const EVENTS: usize = 256;
/// What links have said that waits for the driver.
const SAID: usize = 1024;
