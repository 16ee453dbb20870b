//! Sessions with mirrors over real QUIC on the loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics")]

mod attach;
mod bad;
mod blocked;
mod broker;
mod ends;
mod hub;
mod lists;
mod mirror;
mod moves;
mod sidecar;
mod world;
