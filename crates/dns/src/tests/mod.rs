//! The answer function: tables of every kind of reply, and what holds for all of them.

mod client_subnet;
mod errors;
mod kinds;
mod onetime;
mod properties;
mod statics;
mod wildcards;
mod zones;
