//! Signed lists of mirrors that follow clients: made for a client network, and pushed when they change.
//!
//! ```text
//!  sessions ── subscribe, ask again, leave ──▶ ┌───────┐ ── signed frames ──▶ bounded queue of each
//!  publisher ── news of a snapshot ──────────▶ │ Board │                      session, which writes
//!                                              └───────┘
//!  a domain's mirrors changed ─▶ urgent groups ─▶ the others ─▶ at rest
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`content`] | what a client network is told of a domain, from a snapshot: pure |
//! | [`grants`] | signs the grants of mirrors, where the owner delegated that |
//! | [`due`] | which groups are due, the endangered ones first |
//! | [`board`] | who is subscribed, what each holds, who is due: no I/O |
//! | [`task`] | the task around it |
//!
//! Subscribers of one network and domain are a **group**: they hold the same version and are sent the same
//! bytes, signed once. When a mirror's standing changes nothing is ranked anew (DESIGN §3.3): the entry is
//! put into the lists that have it. First come the groups that the change **endangers**, whose nearest
//! mirrors are the ones that became worse; new mirrors and better ones can wait a moment. Round trips that
//! are learnt move nothing by themselves: they are in the answer when a client asks again, each 30 s.
//!
//! A session whose queue is full is ended: it comes back with the version that it has, and is told what it
//! missed.

pub mod board;
#[cfg(test)]
mod board_tests;
pub mod content;
pub mod due;
pub mod grants;
pub mod task;

pub use board::Frame;
pub use task::{ListHandle, ListTask, Subscription};

/// Frames that wait for a session that does not write.
pub const QUEUE: usize = 16;
