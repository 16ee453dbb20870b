//! The ingress with clients and services that speak the real protocols, over loopback.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod attach;
mod flows;
mod leave;
mod world;
