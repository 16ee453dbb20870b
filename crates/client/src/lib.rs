//! The client of nearmost: asks a broker where to go, and administers its registry.
//!
//! [`Client`] speaks HTTP/1.1 to one broker, over the admin Unix socket of the machine, plain TCP
//! or TLS; each request is one connection, bounded in time and size. What it returns are the JSON
//! types of [`api`]. A program that only wants to know its nearest mirror needs no more:
//!
//! ```no_run
//! # async fn f() -> Result<(), nearmost_client::ClientError> {
//! use nearmost_client::{Auth, Client, Endpoint};
//! let broker: Endpoint = "https://broker.example.com".parse()?;
//! let client = Client::new(broker, Auth::None);
//! let answer = client.resolve("play.example.com", None).await?;
//! println!("go to {}", answer.mirrors[0].url);
//! # Ok(()) }
//! ```
//!
//! With the feature `admin` come registry files, plans, signed changes and persons' keys; with `quic`
//! sessions with mirrors that move when a mirror fails, and round trips are measured and reported over
//! QUIC as well.
//!
//! | module | subject |
//! |---|---|
//! | [`endpoint`] | where a broker listens, and what proves us to it |
//! | [`client`] | the API's questions, typed |
//! | [`events`] | transitions as they happen, resumed after a cut |
//! | [`measure`] | how far mirrors are from here, for the broker to learn |
//! | [`outages`] | which mirror was out, for how long, and why |
//! | [`moment`] | moments as people read and write them |
//! | [`text`] | others' text on a terminal |
//! | `admin` | the API's administration, typed |
//! | `federation` | peers and applications' records, typed |
//! | `person` | a person's key |
//! | `registry` | files, plans, signatures, undo |
//! | `session` | a session with a domain's mirrors; with the feature `quic` |
//! | `sidecar` | programs that know nothing of it, carried over a session; with the feature `quic` |

#[cfg(feature = "admin")]
pub mod admin;
pub mod client;
pub mod clock;
#[cfg(feature = "quic")]
mod dial;
pub mod endpoint;
mod error;
pub mod events;
#[cfg(feature = "admin")]
pub mod federation;
mod follow;
#[cfg(feature = "quic")]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod measure;
pub mod moment;
pub mod outages;
#[cfg(feature = "admin")]
pub mod person;
#[cfg(feature = "quic")]
mod quic;
#[cfg(feature = "admin")]
pub mod registry;
#[cfg(feature = "quic")]
pub mod session;
#[cfg(feature = "quic")]
pub mod sidecar;
mod sse;
pub mod text;

pub use client::Client;
pub use endpoint::{Auth, Endpoint};
pub use error::{CertificateFault, ClientError};
pub use events::EventStream;
pub use nearmost_wire::{api, grant, identity, name, prefix, token};
