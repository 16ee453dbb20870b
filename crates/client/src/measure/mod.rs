//! Measures how far the mirrors of a domain are from here, and tells the broker.
//!
//! The broker says which mirrors are worth measuring, and after each report which ones next, given what
//! was found: at most five in all. Each is measured by the time that a TCP connection to its service takes to be established, which is one round trip, the least of three.
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
pub use crate::quic::QuicError;
#[cfg(feature = "quic")]
pub use quic::over_quic;

pub use nearmost_wire::client::{Declined, Taken};

use crate::client::Client;
use crate::error::ClientError;
use nearmost_wire::api::{RankedMirror, ResolveResponse, RttEntry, RttRequest};
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
    /// One for each mirror that the broker wanted measured, in the order of its asking; at most five.
    pub rounds: Vec<Round>,
    /// What the broker took of all reports; nothing was sent where there was nothing to say.
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

/// What is reported at once.
struct Findings {
    rounds: Vec<Round>,
    /// Of the one-time name, when it was looked up.
    nonce: Option<String>,
    /// Mirrors that were to be measured and are not reported here: before, or out of reach.
    tried: Vec<String>,
    /// Those that could not be connected to just now: the broker has them probed.
    failed: Vec<String>,
}

impl Findings {
    fn rtts(&self) -> impl Iterator<Item = (&str, f64)> {
        self.rounds.iter().filter_map(|r| Some((r.mirror.as_str(), reported_ms(r)?)))
    }

    /// Whether there is nothing to say.
    fn is_empty(&self) -> bool {
        self.nonce.is_none() && self.rtts().next().is_none() && self.failed.is_empty()
    }
}

/// Mirrors of rounds that could not be connected to, of those that have an address at all.
fn unreached(rounds: &[Round], addressed: &[String]) -> Vec<String> {
    let failed = rounds.iter().filter(|r| r.rtt.is_err() && addressed.contains(&r.mirror));
    failed.map(|r| r.mirror.clone()).collect()
}

/// What is reported of a round; `None` when nothing is.
fn reported_ms(round: &Round) -> Option<f64> {
    // A clock too coarse to see it still saw it take no longer than this.
    let ms = (round.rtt.as_ref().ok()?.as_secs_f64() * 1e3).max(0.001);
    (ms <= MAX_RTT_MS).then_some(ms)
}

/// Measuring and reporting in turn, until the broker names no mirror any more.
struct Course {
    options: Options,
    rounds: Vec<Round>,
    /// What was taken of all reports.
    taken: Taken,
    begun: bool,
}

impl Course {
    fn new(options: Options) -> Course {
        let taken = Taken { accepted: 0, tied: false, measure: Vec::new(), refused: None };
        Course { options, rounds: Vec::new(), taken, begun: false }
    }

    /// Measures what the broker wants measured; `None` when there is nothing to report.
    async fn measure(&mut self, domain: &str, wanted: Vec<Target>) -> Option<Findings> {
        let new = |t: &Target| self.rounds.iter().all(|r| r.mirror != t.mirror);
        let room = MAX_MEASURED.saturating_sub(self.rounds.len());
        let targets: Vec<Target> = wanted.into_iter().filter(new).take(room).collect();
        let look_up = self.options.look_up && !self.begun;
        if self.begun && targets.is_empty() || self.taken.refused.is_some() {
            return None;
        }
        self.begun = true;
        let look_up = async {
            match look_up {
                true => onetime::look_up(domain).await,
                false => None,
            }
        };
        let addressed: Vec<String> =
            targets.iter().filter(|t| !t.addresses.is_empty()).map(|t| t.mirror.clone()).collect();
        let (rounds, nonce) = tokio::join!(connect::measure(targets), look_up);
        let failed = unreached(&rounds, &addressed);
        let tried = self.rounds.iter().chain(rounds.iter().filter(|r| reported_ms(r).is_none()));
        let tried = tried.map(|r| r.mirror.clone()).collect();
        self.rounds.extend(rounds.iter().cloned());
        Some(Findings { rounds, nonce, tried, failed }).filter(|f| !f.is_empty())
    }

    /// Adds what the broker took of a report.
    fn took(&mut self, accepted: u32, tied: bool, refused: Option<Declined>) {
        self.taken.accepted = self.taken.accepted.saturating_add(accepted);
        self.taken.tied |= tied;
        self.taken.refused = refused;
    }

    fn end(self, domain: String, client: IpAddr) -> Measured {
        Measured { domain, client, rounds: self.rounds, taken: self.taken }
    }
}

/// Resolves, measures and reports over HTTP.
///
/// # Errors
/// [`ClientError`] when the broker cannot be asked or does not know the domain. A report that it does
/// not take is no error: [`Measured::taken`] says why.
pub async fn over_http(client: &Client, domain: &str, options: Options) -> Result<Measured, ClientError> {
    let ResolveResponse { domain, client: observed, mirrors, session, mut measure, .. } =
        client.resolve(domain, None).await?;
    let target = |m: &RankedMirror| {
        let addresses = m.addresses.iter().filter_map(|a| Some(SocketAddr::new(a.parse().ok()?, m.port)));
        Target::new(m.mirror.clone(), m.rtt_ms, addresses.collect(), observed)
    };
    let mut course = Course::new(options);
    loop {
        let wanted = measure.iter().filter_map(|name| mirrors.iter().find(|m| m.mirror == *name));
        let Some(findings) = course.measure(&domain, wanted.map(target).collect()).await else { break };
        let rtts = findings.rtts().map(|(m, rtt_ms)| RttEntry { mirror: m.into(), rtt_ms }).collect();
        let Findings { nonce, tried, failed, .. } = findings;
        let request = RttRequest { session: session.clone(), nonce, rtts, tried, failed };
        match client.report(&request).await {
            Ok(taken) => {
                course.took(taken.accepted, taken.tied, None);
                measure = taken.measure;
            }
            Err(ClientError::Api { code, message, .. }) => {
                course.took(0, false, Some(Declined { code, message }));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(course.end(domain, observed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_broker_wants_measured_is_bounded_and_in_its_order() {
        let target = |name: &&str| Target::new((*name).into(), 1.0, Vec::new(), IpAddr::from([127, 0, 0, 1]));
        let mut course = Course::new(Options { look_up: false });
        for (wanted, measured) in [
            (&["c", "a"][..], &["c", "a"][..]),
            (&["a", "f", "c"], &["c", "a", "f"]),
            (&["b", "d", "e"], &["c", "a", "f", "b", "d"]),
            (&["e"], &["c", "a", "f", "b", "d"]),
        ] {
            let known = course.rounds.len();
            let found = course.measure("d.test", wanted.iter().map(target).collect()).await;
            assert!(found.is_none(), "none has an address, so there is nothing to say");
            assert!(course.rounds[known..].iter().map(|r| &*r.mirror).eq(measured[known..].iter().copied()));
            let names: Vec<&str> = course.rounds.iter().map(|r| r.mirror.as_str()).collect();
            assert_eq!(names, measured);
        }
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
        let failed = unreached(&rounds, &["a".into(), "b".into()]);
        let findings = Findings { rounds, nonce: None, tried: Vec::new(), failed };
        assert_eq!(findings.rtts().collect::<Vec<_>>(), [("a", 1.5), ("d", 0.001)]);
        assert_eq!(findings.failed, ["b"]);
        assert!(unreached(&findings.rounds, &["a".into()]).is_empty(), "it has no address");
        assert!(!findings.is_empty());
        assert!(
            Findings { rounds: Vec::new(), nonce: None, tried: Vec::new(), failed: Vec::new() }.is_empty()
        );
    }
}
