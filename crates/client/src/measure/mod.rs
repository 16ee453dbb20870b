//! Measures how far the mirrors of a domain are from here, and tells the broker.
//!
//! The broker says which mirrors are worth measuring, at most five. Each is measured by the time that a
//! TCP connection to its service takes to be established, which is one round trip, the least of three.
//! Beside it a one-time name of the domain is looked up, which tells the broker which resolver this
//! machine is behind.
//!
//! ```no_run
//! # async fn f() -> Result<(), nearmost_client::ClientError> {
//! use nearmost_client::measure::{self, Options};
//! use nearmost_client::{Auth, Client};
//! let client = Client::new("https://broker.example.com".parse()?, Auth::None);
//! let measured = measure::over_http(&client, "play.example.com", Options::default()).await?;
//! for round in &measured.rounds {
//!     println!("{}: {:?}", round.mirror, round.rtt);
//! }
//! # Ok(()) }
//! ```
//!
//! With the feature `quic` the same goes over QUIC: `over_quic`.

mod connect;
mod onetime;
#[cfg(feature = "quic")]
mod quic;

#[cfg(feature = "quic")]
pub use quic::{QuicError, over_quic};

pub use nearmost_wire::client::{Declined, Taken};

use crate::client::Client;
use crate::error::ClientError;
use nearmost_wire::api::{RttEntry, RttRequest};
use nearmost_wire::client::{MAX_MEASURED, MAX_RTT_MS};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What to do besides measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Look up a one-time name, so that the broker learns which resolver this machine is behind.
    pub look_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { look_up: true }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The domain.
    pub domain: String,
    /// This machine's address as the broker sees it.
    pub client: IpAddr,
    /// One for each mirror that the broker wanted measured, in its order.
    pub rounds: Vec<Round>,
    /// What the broker took of it; nothing was sent where nothing could be measured.
    pub taken: Taken,
}

/// A mirror and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// Its name.
    pub mirror: String,
    /// What the broker had predicted, in milliseconds.
    pub predicted_ms: f32,
    /// Where it was measured.
    pub at: Option<SocketAddr>,
    /// The least of three, or what went wrong, in words.
    pub rtt: Result<Duration, String>,
}

/// A mirror to measure.
#[derive(Clone, Debug)]
struct Target {
    mirror: String,
    predicted_ms: f32,
    /// Those tried, in this order, until one can be connected to.
    addresses: Vec<SocketAddr>,
}

impl Target {
    /// Addresses of the family that the broker sees us in come first: the network that it learns for
    /// is of that family.
    fn new(mirror: String, predicted_ms: f32, addresses: Vec<SocketAddr>, client: IpAddr) -> Target {
        let mut addresses = addresses;
        addresses.sort_by_key(|a| a.is_ipv4() != client.is_ipv4());
        Target { mirror, predicted_ms, addresses }
    }
}

/// What is reported.
struct Findings {
    rounds: Vec<Round>,
    /// Of the one-time name, when it was looked up.
    nonce: Option<String>,
}

impl Findings {
    fn rtts(&self) -> impl Iterator<Item = (&str, f64)> {
        self.rounds.iter().filter_map(|r| {
            // A clock too coarse to see it still saw it take no longer than this.
            let ms = (r.rtt.as_ref().ok()?.as_secs_f64() * 1e3).max(0.001);
            (ms <= MAX_RTT_MS).then_some((r.mirror.as_str(), ms))
        })
    }

    fn is_empty(&self) -> bool {
        self.nonce.is_none() && self.rtts().next().is_none()
    }
}

/// The mirrors to measure of all that a broker named; it can send nobody to more than a few.
fn to_measure<T>(measure: &[String], mirrors: Vec<T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut named: Vec<(usize, T)> =
        mirrors.into_iter().filter_map(|m| Some((measure.iter().position(|n| n == name(&m))?, m))).collect();
    named.sort_by_key(|(at, _)| *at);
    named.into_iter().take(MAX_MEASURED).map(|(_, m)| m).collect()
}

async fn find_out(domain: &str, targets: Vec<Target>, options: Options) -> Findings {
    let look_up = async {
        match options.look_up {
            true => onetime::look_up(domain).await,
            false => None,
        }
    };
    let (rounds, nonce) = tokio::join!(connect::measure(targets), look_up);
    Findings { rounds, nonce }
}

/// Resolves, measures and reports over HTTP.
///
/// # Errors
/// [`ClientError`] when the broker cannot be asked or does not know the domain. A report that it does
/// not take is no error: [`Measured::taken`] says why.
pub async fn over_http(client: &Client, domain: &str, options: Options) -> Result<Measured, ClientError> {
    let resolved = client.resolve(domain, None).await?;
    let asked = to_measure(&resolved.measure, resolved.mirrors, |m| &m.mirror);
    let targets = asked.into_iter().map(|m| {
        let addresses = m.addresses.iter().filter_map(|a| Some(SocketAddr::new(a.parse().ok()?, m.port)));
        Target::new(m.mirror, m.rtt_ms, addresses.collect(), resolved.client)
    });
    let findings = find_out(&resolved.domain, targets.collect(), options).await;
    let taken = match findings.is_empty() {
        true => nothing(),
        false => {
            let rtts = findings.rtts().map(|(m, rtt_ms)| RttEntry { mirror: m.into(), rtt_ms });
            let nonce = findings.nonce.clone();
            let request = RttRequest { session: resolved.session, nonce, rtts: rtts.collect() };
            match client.report(&request).await {
                Ok(taken) => Taken { accepted: taken.accepted, tied: taken.tied, refused: None },
                Err(ClientError::Api { code, message, .. }) => {
                    Taken { accepted: 0, tied: false, refused: Some(Declined { code, message }) }
                }
                Err(other) => return Err(other),
            }
        }
    };
    let Findings { rounds, .. } = findings;
    Ok(Measured { domain: resolved.domain, client: resolved.client, rounds, taken })
}

fn nothing() -> Taken {
    Taken { accepted: 0, tied: false, refused: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_wants_measured_is_bounded_and_in_its_order() {
        let names = |measure: &[&str]| {
            let measure: Vec<String> = measure.iter().map(|n| (*n).to_owned()).collect();
            to_measure(&measure, vec!["a", "b", "c", "d", "e", "f"], |m| m)
        };
        assert_eq!(names(&["c", "a", "nobody"]), ["c", "a"]);
        assert_eq!(names(&["f", "e", "d", "c", "b", "a"]), ["f", "e", "d", "c", "b"]);
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn the_family_that_the_broker_sees_comes_first() {
        let both: Vec<SocketAddr> = vec!["192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        let first = |client: &str| {
            let target = Target::new("m".into(), 1.0, both.clone(), client.parse().unwrap());
            target.addresses[0]
        };
        assert_eq!((first("198.51.100.1"), first("2001:db8::9")), (both[0], both[1]));
    }

    #[test]
    fn only_what_was_measured_is_reported() {
        let round = |mirror: &str, rtt: Result<Duration, String>| Round {
            mirror: mirror.into(),
            predicted_ms: 1.0,
            at: None,
            rtt,
        };
        let rounds = vec![
            round("a", Ok(Duration::from_micros(1500))),
            round("b", Err("refused".into())),
            round("c", Ok(Duration::from_secs(11))),
            round("d", Ok(Duration::ZERO)),
        ];
        let findings = Findings { rounds, nonce: None };
        assert_eq!(findings.rtts().collect::<Vec<_>>(), [("a", 1.5), ("d", 0.001)]);
        assert!(!findings.is_empty());
        assert!(Findings { rounds: Vec::new(), nonce: None }.is_empty());
    }
}
