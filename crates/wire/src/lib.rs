//! What agents, brokers, clients and people say to one another, and how it is framed.
//!
//! Everything that crosses a process boundary is typed here, versioned, bounded and converted at
//! the boundary to the plain types of `nearmost-core`; logic never sees a version.
//!
//! | module | carries |
//! |---|---|
//! | [`identity`] | Ed25519 keys, their files and their text forms |
//! | `tls` | TLS 1.3 raw public keys (RFC 7250) for quinn; with the feature `quic` |
//! | `tunnel` | QUIC inside TLS over TCP, where UDP is blocked; with the feature `quic` |
//! | [`frame`] | length-prefixed, versioned messages on a stream |
//! | [`agent`] | the messages between an agent and a broker |
//! | [`client`] | the messages between a client and a broker |
//! | [`fare`] | what a client tells its broker of how its session fares |
//! | [`list`] | the signed list of a domain's mirrors that follows a client, and its changes |
//! | [`grant`] | the chain of signatures from a domain's owner to a mirror |
//! | [`ingress`] | messages, streams and datagrams between a client and a mirror |
//! | [`paths`] | the parts of those messages that are about round trips |
//! | [`witness`] | the parts of those messages that are about probing other nodes' mirrors |
//! | [`facts`] | what brokers tell each other of mirrors' health |
//! | [`beacon`] | the 52-byte datagram that says an agent is alive |
//! | [`token`] | the one-time invitation of a node; what a client begins with |
//! | [`armor`] | how those are written as text |
//! | [`registry`] | bodies of the registry's records, and records → [`nearmost_core::registry::Registry`] |
//! | [`authority`] | who may state what in a federation |
//! | [`api`] | the JSON of the HTTP API |
//! | [`auth`] | a person's signature on an HTTP request |

pub mod agent;
pub mod api;
pub mod armor;
pub mod auth;
pub mod authority;
pub mod beacon;
pub mod client;
pub mod facts;
pub mod fare;
pub mod frame;
pub mod grant;
pub mod identity;
pub mod ingress;
pub mod list;
pub mod name;
pub mod paths;
pub mod peer;
pub mod prefix;
pub mod registry;
pub mod standing;
#[cfg(feature = "quic")]
pub mod tls;
pub mod token;
#[cfg(feature = "quic")]
pub mod tunnel;
pub mod witness;
