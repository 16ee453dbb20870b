//! The broker: answers for domains, knows who is healthy and near.

pub mod admin;
pub mod agents;
pub mod api;
pub mod args;
mod backoff;
pub mod clock;
mod declare;
pub mod dns;
pub mod driver;
pub mod events;
pub mod geoip;
pub mod hostnames;
pub mod keys;
pub mod learning;
mod net;
mod placing;
pub mod probing;
pub mod publish;
pub mod registrar;
pub mod server;
pub mod settings;
pub mod store;
mod supervise;
pub mod telemetry;
pub mod verdicts;
