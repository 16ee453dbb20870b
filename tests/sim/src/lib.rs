//! Failure detection in a simulated network: nearmost's own fleet, and other detectors beside it.
//!
//! Time is virtual and everything random comes from one seed, so that a seed replays exactly. A
//! [`world::World`] has hosts with agents and services, a network that delays, loses, doubles and
//! reorders packets, things that go wrong ([`faults::Fault`]), and one [`world::Detector`]:
//!
//! | module | its part |
//! |---|---|
//! | [`rng`], [`queue`] | chance; the agenda |
//! | [`net`] | paths, losses, bursts, cuts |
//! | [`host`], [`faults`] | what hosts really are like; what goes wrong, and when |
//! | [`probe`] | connections that one end opens to another |
//! | [`world`] | the loop, and the broker's process as its kernel sees it: pauses, sockets |
//! | [`broker`] | the detector that this is for: `nearmost_core::fleet::Fleet` and its driver |
//! | [`agent`], [`session`], [`witness`] | agents' beacons and reports; messages; looking on the broker's order |
//! | [`fleet_of`] | registries of simulated fleets |
//! | [`evidence`] | whether what happened explains a verdict |
//! | [`rivals`] | SWIM, phi accrual, gdnsd's monitors, Route 53's checkers |
//! | [`federation`] | brokers that share a registry, which is another simulation |
//! | [`measure`] | how fast and how often wrongly detectors conclude |
//!
//! The tests have a short form, which `cargo test` runs. `NEARMOST_SIM=long` runs each scenario
//! with twenty times as many seeds, in release mode best: `NEARMOST_SIM=long cargo test --release -p
//! nearmost-sim`. A failing scenario names its seed, and `SEED=n` replays that one alone. The figures
//! of all detectors side by side: `cargo run --release -p nearmost-bench -- detection`.

pub mod agent;
pub mod broker;
pub mod evidence;
pub mod faults;
pub mod federation;
pub mod fleet_of;
pub mod host;
pub mod measure;
pub mod net;
pub mod probe;
pub mod queue;
pub mod rivals;
pub mod rng;
pub mod seeds;
pub mod session;
pub mod witness;
pub mod world;
