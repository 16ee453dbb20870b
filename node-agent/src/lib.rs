//! The node agent: runs beside a service and tells brokers how it is.
//!
//! It dials out, so it works behind NAT and on changing addresses. With each of up to
//! `node.max_sessions` brokers it holds one QUIC session, over which it declares its services,
//! reports their checks and load, and gets the key for its beacons; the beacons themselves are UDP.
//!
//! | module | does |
//! |---|---|
//! | [`agent`] | an agent as a whole; its one loop, which owns all state, is in `running` |
//! | [`slots`], [`backoff`] | decide which broker to try when |
//! | [`dial`], [`link`] | one connection, one session |
//! | [`sessions`] | all of them, and one replacing another |
//! | [`beacons`] | when a beacon is due, and sending it |
//! | [`declare`], [`report`], [`load`] | what is said: declarations, checks and load |
//! | [`process`] | the services' processes: a crash is known at once |
//! | [`paths`] | round trips to the services' users, read off their connections |
//! | [`measure`] | round trips to other mirrors, measured on order |
//! | [`witness`] | other nodes' mirrors, probed on order |
//! | [`orders`] | how orders come in and answers go back |
//! | [`ingress`] | takes clients' sessions in and hands their flows to the services |
//! | [`drain`] | leaving in order |
//! | [`join`] | redeeming an invitation |
//! | [`metrics`], [`status`], [`http`] | what people see of it |
//! | [`cli`] | the command line; its `status` reads the page of a running agent |

pub mod agent;
pub mod backoff;
pub mod beacons;
pub mod cli;
pub mod clock;
pub mod declare;
pub mod dial;
pub mod drain;
#[doc(hidden)]
pub mod fuzzing;
mod health;
pub mod http;
pub mod ingress;
pub mod join;
pub mod link;
pub mod load;
pub mod measure;
pub mod metrics;
pub mod orders;
pub mod paths;
pub mod process;
pub mod report;
mod running;
pub mod sessions;
mod show;
pub mod slots;
pub mod status;
pub mod witness;

pub use agent::{Agent, AgentError, Shutdown};
pub use cli::{init_logging, main_from_args};
pub use status::{AgentStatus, BrokerStatus, FailingCheck, IngressStatus, ProcessStatus, SessionState};
