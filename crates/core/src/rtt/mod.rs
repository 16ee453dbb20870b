//! Predicted round-trip times: how near a mirror is, in milliseconds.
//!
//! The score of a mirror for a client is the round trip we expect between them. Where nothing was
//! measured, a model of distance stands in: light in fibre covers about 200 km a millisecond, and
//! real paths are longer than great circles and cross equipment.
//!
//! The two constants are the least-absolute-deviation line of mean round trip against great-circle
//! distance over 14 697 ordered pairs of 122 servers around the world (a public day of pings,
//! WonderProxy, 2020-07-19), rounded to three figures. Half of the pairs lie within 19 ms of the
//! line and nine of ten within 79 ms; the servers whose coordinates are wrong move a median fit
//! little (without the pairs that beat light in fibre it is 13.4 + 0.0169 a kilometre). The line
//! is meant for comparing mirrors, not for promising a figure: the intercept is what access and
//! detours cost a typical path, and a mirror in the client's own city is nearer than it says
//! (pairs within 500 km: 12 ms in the median at 310 km).

mod observation;
pub mod pairs;

pub use observation::{Coarseness, Observation, Source, Target};

/// Round trip at zero distance, in milliseconds.
pub const BASE_MS: f64 = 13.3;
/// Milliseconds of round trip for each kilometre of great circle; light in fibre alone needs 0.0100.
pub const MS_PER_KM: f64 = 0.0169;
/// Predicted for a client or mirror whose place is unknown: half the Earth's circumference away.
pub const UNKNOWN_MS: f64 = BASE_MS + MS_PER_KM * 20_015.0;

/// The round trip that distance alone suggests, in milliseconds.
pub fn from_distance_ms(distance_km: f64) -> f64 {
    BASE_MS + MS_PER_KM * distance_km
}
