//! The answer function: tables of every kind of reply, and what holds for all of them.

mod client_subnet;
mod edns;
mod errors;
mod kinds;
mod onetime;
mod properties;
mod zones;
