//! Other detectors, on the same network with the same faults.
//!
//! Each is a pure state machine with the figures that its makers publish, and a driver that lives in
//! a [`crate::world::World`]:
//!
//! | module | what | figures |
//! |---|---|---|
//! | [`phi`] | φ accrual on the beacons | threshold 8; Akka's normal and Cassandra's exponential form |
//! | [`monitor`] | gdnsd's monitors | every 10 s, 10 failures, 10 or 20 successes |
//! | [`checkers`] | Route 53's checkers | 16 of them, every 10 s, 3 failures, 18 % |
//! | [`swim`] | SWIM as memberlist has it | its LAN figures, with Lifeguard's |

pub mod checkers;
pub mod monitor;
pub mod phi;
pub mod suspicion;
pub mod swim;
pub mod swim_member;
