//! The agents' side of the broker: QUIC sessions and beacons.
//!
//! | file | does |
//! |---|---|
//! | [`endpoint`] | accepts connections, hands each to a session |
//! | [`session`] | one agent: join, hello, reports, orders |
//! | [`hints`] | what agents say of round trips, made into lessons |
//! | [`orders`] | what a session was ordered to have its agent do |
//! | [`witnessing`] | the fleet's questions to witnesses |
//! | [`pairing`] | has nodes measure the way to one another |
//! | [`table`] | who is connected, and how to end it |
//! | [`standing`] | tells an agent what is thought of its node's mirrors, and who uses them |
//! | [`pace`] | stretches the beacons' period under load |
//! | [`beacons`] | receives and authenticates beacons |
//!
//! A session is authorised by the key that its connection proved, at the first message and again
//! whenever the registry changes: a revoked or removed node is closed at once.

pub mod beacons;
pub mod endpoint;
pub mod hints;
pub mod orders;
pub mod pace;
pub mod pairing;
pub mod session;
pub mod standing;
pub mod table;
pub mod witnessing;

pub use endpoint::{AgentServer, AgentSettings};
pub use standing::Telling;
pub use table::SessionTable;
