//! The answer function: tables of every kind of reply, and what holds for all of them.

mod client_subnet;
mod edns;
mod errors;
mod hot;
mod kinds;
mod onetime;
mod properties;
mod statics;
mod wildcards;
mod zones;
