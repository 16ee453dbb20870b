//! Other brokers: connections with them, and the machine that keeps all of them in step.

mod handle;

pub use handle::PeersHandle;
pub(crate) use handle::Question;
