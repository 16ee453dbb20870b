//! Reasons of verdicts in words.

pub use nearmost_client::api::reason::{is_wanted, words};
