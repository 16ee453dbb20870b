//! Round trips that clients report, over HTTP and QUIC alike.
//!
//! ```text
//! resolve ─▶ session token, whom to measure
//! one-time name ─▶ DNS: nonce → resolver ───────┐ (once)
//! report ─▶ limit of its source ─▶ session ─▶ checks ─▶ Lesson::Observed, Lesson::Behind
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`desk`] | takes reports, whichever way they came |
//! | [`error`] | why a report is not taken |
//! | [`token`] | sessions of HTTP: stateless, sealed with a key of this process |
//! | [`nonces`] | who asked for which one-time name |
//! | [`measure`] | which mirrors a client should measure |
//!
//! Reports are hints of strangers. A source has few of them, speaks for its own network only, and has
//! one vote there; what one liar can say is bounded before the learner doubts it.

pub mod desk;
pub mod error;
pub mod measure;
pub mod nonces;
pub mod token;

pub use desk::{Report, ReportSettings, Reports, Taken, Way};
pub use error::ReportError;
pub use nonces::SeenNonces;
