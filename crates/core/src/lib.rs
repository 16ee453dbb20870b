//! Every decision that nearmost takes about its fleet and its clients, without I/O.
//!
//! Nothing here knows a runtime, a socket, a clock or a file. State machines take inputs with
//! `now`, give outputs when polled and name their next deadline; randomness is handed in.
//!
//! | module | decides |
//! |---|---|
//! | [`geo`] | where an address is |
//! | [`rtt`] | how many milliseconds lie between a place and a mirror |
//! | [`registry`] | what exists: domains, nodes, mirrors, as plain types |
//! | [`health`] | what is concluded of one mirror in one address family |
//! | [`fleet`] | the health of all mirrors, from beacons, reports and probes |
//! | [`map`] | client address → cell and place |
//! | [`ranking`] | which mirrors are near, and which of them are answered |
//! | [`spread`] | how much of its share of users each mirror is offered |
//! | [`snapshot`] | the one immutable value that queries read |
//! | [`session`] | where a client is attached, and when it moves |
//! | [`ahead`] | nothing: it tells the processor what will be read soon |
//! | [`traffic`] | who uses which mirror now, and from where |

pub mod ahead;
pub mod check;
pub mod fleet;
pub mod geo;
pub mod hash;
pub mod health;
pub mod id;
pub mod live;
pub mod map;
pub mod ranking;
pub mod registry;
pub mod rtt;
pub mod session;
pub mod snapshot;
pub mod spread;
pub mod time;
pub mod traffic;
