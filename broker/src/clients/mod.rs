//! Clients of users over QUIC: they ask which mirrors are near, and report what they measured.
//!
//! | file | does |
//! |---|---|
//! | [`endpoint`] | accepts connections, hands each to a session |
//! | [`session`] | one client: questions and answers in turn |
//! | [`resolved`] | the snapshot as a client sees it |
//! | `fare` | what a client tells of its session with mirrors |
//! | [`lists`] | signed lists that follow clients |
//! | `tunnels` | TCP beside the endpoints, where UDP is blocked |
//!
//! Clients are strangers. Nobody is authorised by a key; what the handshake proves is the address, and a
//! connection stays with it: a client that moves connects again. So a report speaks for the network
//! that it comes from, and needs no token.

pub mod endpoint;
mod fare;
pub mod lists;
pub mod resolved;
pub mod session;
#[cfg(test)]
mod tests;
mod tunnels;

pub use endpoint::{ClientParts, ClientServer, ClientSettings};
