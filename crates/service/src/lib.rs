//! What the broker and the agent have in common as services of a machine.
//!
//! | module | subject |
//! |---|---|
//! | [`logging`] | where the logs go, and levels that change while running |
//! | [`journal`] | lines for the journal of systemd: each with its importance, none with a second time |
//! | [`limits`] | how many files may be open |
//! | [`notify`] | word to systemd: ready, reloading, stopping, alive |

pub mod journal;
pub mod limits;
pub mod logging;
pub mod notify;
