//! Brokers that federate, in virtual time: the machines of `nearmost_replica` over a network that cuts,
//! delays and forgets, on disks that lose what was not written, with clocks that are wrong.
//!
//! | module | its part |
//! |---|---|
//! | [`disk`] | what a broker's store does, without a file |
//! | [`broker`] | one broker: set, machine, clock, disk |
//! | [`world`] | the loop: lines, stores that take their time, faults |
//! | [`oracle`] | what everybody acknowledged, and so what must stand in the end |
//! | [`plan`] | what is written and what goes wrong, drawn from a seed |
//! | [`rights`] | who may state what there, given and taken while things go wrong |
//! | [`evil`] | a member that keeps to no rule |

#![allow(clippy::panic, reason = "what does not hold is to fail the test that runs it")]

pub mod broker;
pub mod disk;
pub mod evil;
pub mod oracle;
pub mod plan;
pub mod rights;
pub mod world;
