//! A lab of networks on one machine: a broker and nodes, each a host in a network of its own behind one
//! router, whose links are cut while real processes run.
//!
//! ```text
//!  host 1, 10.1.0.2 ──┐
//!  host 2, 10.2.0.2 ──┤ router, 10.n.0.1 ── host 100, 10.100.0.2: the broker
//!  host 3, 10.3.0.2 ──┘   (here links are cut and packets dropped)
//! ```
//!
//! Each network is a /16: without autonomous systems, agents are independent witnesses by that. All
//! namespaces hang on one process in a user namespace, so the lab needs no privileges where those are
//! allowed, changes nothing of the machine's own network, and is gone when that process is, however the
//! test ends. Processes are the test's own children, ended by their ids.

mod journal;
mod lab;
mod network;
mod node;

pub use journal::{Journal, Seen};
pub use lab::{BROKER, DOMAIN, Lab};
pub use network::{Cut, Network};
pub use node::{INGRESS, Node, Setup, Signal, signal};
