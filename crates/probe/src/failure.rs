//! Why a check failed, and whether that is the service's doing.

use crate::reason;
use nearmost_core::check::CheckOutcome;
use std::io;

/// A failure as whoever found it knows it: only there it is known whether anything came back.
#[derive(Debug)]
pub struct Failure {
    reason: String,
    answered: bool,
}

impl Failure {
    /// The service refused, or said what it should not.
    pub fn answer(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), answered: true }
    }

    /// Nothing came from the service, or what is wrong is wrong on this side.
    pub fn silence(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), answered: false }
    }

    /// What an operation on a socket ended with, where `expected` should have come.
    pub fn io(expected: &str, error: &io::Error) -> Failure {
        Failure::caused(format!("{expected}, found: {}", reason::io(error)), error)
    }

    /// As much of an answer as the error on a socket is that led to it.
    pub fn caused(reason: String, error: &io::Error) -> Failure {
        Failure { reason, answered: reason::is_answer(error) }
    }

    /// For whoever wanted to know, with its reason made presentable.
    pub fn outcome(&self) -> CheckOutcome {
        CheckOutcome::Fail { reason: reason::presentable(&self.reason), answered: self.answered }
    }
}
