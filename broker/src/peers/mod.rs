//! Other brokers: connections with them, and the machine that keeps all of them in step.
//!
//! ```text
//!  registrar ── members, log head ──▶ ┌──────┐ ◀── messages, checked ── talk (one a connection)
//!            ◀── what was delivered ─ │ task │ ─── messages ──────────▶
//!                     what became ──▶ └──────┘ ─── dial ──▶ dial ──▶ a connection
//! ```
//! The task owns `nearmost_replica::Federation` and waits for nothing but news: what takes time (dialling,
//! storing, checking signatures) is done beside it and comes back as an event. Connections' readers stop
//! reading while the task has enough to store.
//!
//! | file | does |
//! |---|---|
//! | [`endpoint`] | binds, accepts, says hello to whoever connects |
//! | [`dial`] | finds addresses and connects |
//! | [`dns`] | addresses that DNS tells |
//! | [`talk`] | one connection: reading and checking, writing, facts |
//! | [`task`] | the machine's driver |
//! | [`view`] | what people are told |

mod dial;
pub(crate) mod dns;
mod endpoint;
mod handle;
mod talk;
mod task;
mod view;

pub use endpoint::{PeerServer, PeerSettings};
pub use handle::PeersHandle;
#[cfg(test)]
pub(crate) use handle::Question;
pub use task::PeerParts;
