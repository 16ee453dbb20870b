//! One strict query parser and one pure answer function (DESIGN §4, §8).
//!
//! ```text
//! message ─► query::parse ─► zone of the name ─► what stands there ─► records ─► bytes
//!              │ rejected        │ none              │ nothing          │ too large
//!              ▼                 ▼                   ▼                  ▼
//!           FORMERR …          REFUSED        NXDOMAIN, NODATA          TC
//! ```
//!
//! [`Responder::answer`] is the same for every transport: it is handed the snapshot, the message and
//! who sent it, and reads no clock, socket or file. Record data and encoding are hickory-proto's;
//! parsing is ours, because malformed options must be seen to be refused.

mod alike;
mod answer;
mod chaos;
mod choosing;
pub mod config;
pub mod cookie;
pub mod dnssec;
pub mod ecs;
mod edns;
pub mod error;
mod hot;
pub mod limiter;
pub mod name;
mod onetime;
pub mod outcome;
pub mod query;
mod records;
mod reply;
mod resolve;
mod service;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod zone;

pub use answer::Responder;
pub use config::{ConfigError, DnsConfig, EdnsConfig, Identity, IdleTimeouts, SoaTimers};
pub use cookie::{CookieKey, CookieState};
pub use error::{ErrorKind, QueryError};
pub use hot::HotPath;
pub use onetime::Nonce;
pub use outcome::{Account, ChosenFor, Client, Outcome, Rcode, Transport};
