//! A sidecar: programs that know nothing of nearmost speak to a local address, and are carried to the service
//! over a [`Session`](crate::session::Session) that moves when its mirror fails.
//!
//! | file | its part |
//! |---|---|
//! | `udp` | a UDP socket: each local address is a flow |
//! | `tcp` | a TCP port: each connection is a stream |
//! | `http` | an HTTP port: each request goes where it may |
//! | `open` | a stream to the service, tried again while nothing was sent |
//! | `relay` | bytes both ways until both ends are said, or it broke |
//! | `count`, `notice` | what is counted and told |
//!
//! # What a program gets
//!
//! Nothing here can carry a service's state from one mirror to another: after a move the program talks to
//! another copy of the service, which knows what the mirrors replicate and nothing else.
//!
//! | | UDP | TCP | HTTP |
//! |---|---|---|---|
//! | a move of the session | the flow goes on at the new mirror, from a new address as the service sees it | new connections go to the new mirror; those of a mirror that drains end there in peace | new requests go to the new mirror; those under way at one that drains end there |
//! | the death of a mirror | packets on the way are lost, unless both ways were used | its connections are reset; none is ever carried on by another server | a request without an answer is asked again only where that cannot do harm, else 502 says what is known |
//! | kept | packets are whole, flows apart; no packet twice to one service | bytes, order, half-close, and the difference between an end and a break | no unsafe request is carried out twice, and an answer is whole or visibly cut; a program that closes its side before it has the answer gives its request up |
//! | can be lost | any packet | what was written and not answered | the answer of an unsafe request whose mirror died |
//! | the service replicates | whatever it remembers of a player or session | whatever a reconnecting program expects to find | whatever one request leaves for the next |
//!
//! # No resumed TCP connections
//!
//! A connection whose mirror died cannot be carried on at another one honestly without the service's help. The
//! last bytes that left may have been read by the service or not: an acknowledgement of QUIC or TCP says that
//! a machine had them, never that the program above did something with them. Sending them again may do it
//! twice, and not sending them may lose it; and of the other direction nobody knows how much of its answer the
//! dead service believes was read. So there is no such switch here. A service that wants it must number its
//! messages and acknowledge them itself, which is what streams of messages will be for; until then its
//! program sees a reset and connects again, and the new connection goes to a mirror that lives.

mod count;
pub mod http;
mod notice;
mod open;
mod relay;
pub mod tcp;
pub mod udp;

pub use count::{Count, Counters};
pub use notice::{Notice, Notices, notices};
