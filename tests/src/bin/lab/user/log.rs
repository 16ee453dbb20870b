//! What one session saw, written down while it goes on.

use crate::clock::now;
use nearmost_lab::seen::{Answer, Session, Told};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the tasks of a session.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Session>>);

impl Log {
    fn open(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its requests' ids begin with this and a dash.
    pub fn name(&self, name: &str) {
        self.open().name = name.into();
    }

    /// The next number is sent for the first time, now.
    pub fn next(&self) -> u64 {
        let mut session = self.open();
        session.sent.push(micros());
        session.sent.len() as u64 - 1
    }

    /// The same, and the id of the request.
    pub fn next_request(&self) -> (u64, String) {
        let seq = self.next();
        let id = format!("{}-{seq}", self.open().name);
        (seq, id)
    }

    /// A number was answered by a host.
    pub fn answered(&self, seq: u64, by: u8) {
        self.open().answers.push(Answer { seq, at: micros(), by });
    }

    /// Nobody can tell whether a number was taken.
    pub fn unsure(&self, seq: u64) {
        self.open().unsure.push(seq);
    }

    /// An answer was wrong.
    pub fn corrupt(&self) {
        self.open().corrupt += 1;
    }

    /// The SDK told something.
    pub fn told(&self, what: Told) {
        self.open().events.push((micros(), what));
    }

    /// All of it.
    pub fn take(&self) -> Session {
        self.open().clone()
    }
}

fn micros() -> u64 {
    now().as_micros() as u64
}
