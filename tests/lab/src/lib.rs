//! The WAN lab's decisions, without I/O: what becomes of packets between hosts, what a scenario asks for,
//! and what its users saw.
//!
//! ```text
//!  SCENARIO.toml ─▶ scenario ─▶ steps ─▶ order ─▶ ┌────────┐
//!                                     packet ───▶ │ fabric │ ──▶ packet, when it is due
//!                                                 │ nat    │
//!                                                 │ pipe…  │ one for each pair of hosts and direction
//!                                                 └────────┘
//!  what users were answered ─▶ gap ─▶ summary ─▶ table, CSV, SVG, JSON
//! ```
//!
//! The sockets, processes and clocks around this are in the binary `lab` of `nearmost-tests`. A moment is
//! a [`std::time::Duration`] since the machine's start, the same clock in all processes of the lab.

pub mod dice;
pub mod fabric;
pub mod gap;
pub mod nat;
pub mod order;
pub mod packet;
pub mod pipe;
pub mod report;
pub mod scenario;
pub mod seen;
pub mod timeline;
