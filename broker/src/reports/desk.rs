//! Takes reports, whichever way they came.

use super::error::ReportError;
use super::nonces::{NonceLimits, SeenNonces};
use super::token::TokenKey;
use crate::driver::{Complaint, Complaints};
use crate::learning::{LearnHandle, Lesson};
use crate::limit::SourceLimiter;
use crate::telemetry::ReportMetrics;
use nearmost_core::check::CheckKind;
use nearmost_core::health::Family;
use nearmost_core::registry::{DomainIndex, MirrorIndex};
use nearmost_core::rtt::{Coarseness, Observation, Source, Target};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::Nonce;
use nearmost_wire::client::{MAX_RTT_MS, MAX_RTTS};
use nearmost_wire::identity::KeyError;
use ring::hmac;
use ring::rand::SystemRandom;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often one source may report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// Time between two reports in the long run; zero for no limit.
    pub interval: Duration,
    /// Reports at once after a pause.
    pub burst: u32,
}

/// How a report came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `POST /v1/rtt`.
    Http,
    /// A client's session.
    Quic,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Way::Http => "http",
            Way::Quic => "quic",
        }
    }
}

/// What a client says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Mirror and round trip in milliseconds.
    pub rtts: Vec<(String, f64)>,
    /// Names of mirrors that it was asked for and does not report: reported before, or out of reach.
    pub tried: Vec<String>,
    /// Names of mirrors that it does not reach.
    pub failed: Vec<String>,
    /// Of the one-time name that it looked up.
    pub nonce: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Round trips handed to the learner.
    pub accepted: usize,
    /// Whether the one-time name was seen, for the first time here.
    pub tied: bool,
}

/// Takes reports of all clients.
pub struct Reports {
    tokens: TokenKey,
    /// Turns addresses into reporters.
    reporters: hmac::Key,
    nonces: Arc<SeenNonces>,
    limiter: SourceLimiter,
    learn: LearnHandle,
    /// Told of mirrors that clients do not reach.
    driver: Option<Complaints>,
    metrics: Arc<ReportMetrics>,
}

impl Reports {
    /// A desk with new keys.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new(
        settings: ReportSettings,
        learn: LearnHandle,
        metrics: Arc<ReportMetrics>,
    ) -> Result<Reports, KeyError> {
        let reporters = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Reports {
            tokens: TokenKey::generate()?,
            reporters: reporters.map_err(|_| KeyError::Random)?,
            nonces: Arc::new(SeenNonces::new(NonceLimits::default(), metrics.clone())),
            limiter: SourceLimiter::every(settings.interval, settings.burst),
            learn,
            driver: None,
            metrics,
        })
    }

    /// Mirrors that clients do not reach are told to a driver.
    pub fn telling(self, driver: Complaints) -> Reports {
        Reports { driver: Some(driver), ..self }
    }

    /// Where DNS notes who asks for one-time names.
    pub fn nonces(&self) -> Arc<SeenNonces> {
        self.nonces.clone()
    }

    /// A session of HTTP, to report about a domain with.
    pub fn session(&self, domain: &str, client: IpAddr, now: UnixMillis) -> String {
        self.tokens.seal(domain, client, now)
    }

    /// Counts a report that could not even be read; gives back what was wrong.
    pub fn unreadable<E>(&self, reason: &'static str, error: E) -> E {
        self.metrics.refused.with_label_values(&[reason]).inc();
        error
    }

    /// Whether a client may report now; to be asked before anything else of its report is looked at.
    ///
    /// # Errors
    /// [`ReportError::TooOften`].
    pub fn admit(&self, client: IpAddr) -> Result<(), ReportError> {
        let refused = |wait| ReportError::TooOften { client, wait };
        self.counted(self.limiter.check(client).map_err(refused))
    }

    /// The domain that a client's session is about.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn domain_of(
        &self,
        snapshot: &Snapshot,
        client: IpAddr,
        session: &str,
        now: UnixMillis,
    ) -> Result<DomainIndex, ReportError> {
        let name = self.counted(self.tokens.open(session, client, now).map_err(ReportError::from))?;
        self.domain_named(snapshot, &name)
    }

    /// The domain that a report names.
    ///
    /// # Errors
    /// [`ReportError::UnknownDomain`].
    pub fn domain_named(&self, snapshot: &Snapshot, name: &str) -> Result<DomainIndex, ReportError> {
        let unknown = || ReportError::UnknownDomain(name.chars().take(253).collect());
        self.counted(snapshot.registry.find_domain(name).ok_or_else(unknown))
    }

    /// Hands what a client says of a domain's mirrors to the learner, all of it or nothing.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn take(
        &self,
        way: Way,
        snapshot: &Snapshot,
        domain: DomainIndex,
        client: IpAddr,
        report: &Report,
        now: Instant,
    ) -> Result<Taken, ReportError> {
        let author = self.author(client);
        let checked = check(snapshot, domain, &author, report);
        let Checked { observations, failed, nonce } = self.counted(checked)?;
        self.tell(snapshot, domain, client, &failed);
        let missed = targets(snapshot, &failed);
        if !missed.is_empty() {
            let Author { network, reporter } = author;
            self.learn.teach(Lesson::Missed { network, targets: missed, reporter });
        }
        let accepted = observations.len();
        if accepted > 0 {
            self.learn.teach(Lesson::Observed(observations));
        }
        let resolver = nonce.and_then(|n| self.nonces.take(&n, now));
        if let Some(resolver) = resolver {
            let Author { network, reporter } = author;
            self.learn.teach(Lesson::Behind { resolver, network, reporter });
        }
        self.metrics.taken.with_label_values(&[way.label()]).inc();
        Ok(Taken { accepted, tied: resolver.is_some() })
    }

    /// Tells the driver of mirrors that a client does not reach.
    fn tell(&self, snapshot: &Snapshot, domain: DomainIndex, client: IpAddr, failed: &[MirrorIndex]) {
        let Some(driver) = &self.driver else { return };
        let family = if client.to_canonical().is_ipv4() { Family::V4 } else { Family::V6 };
        for mirror in failed {
            let domain = snapshot.registry.domain(domain).name.clone();
            let mirror = snapshot.registry.mirror(*mirror).name.clone();
            driver.tell(Complaint { domain, mirror, family, client });
        }
    }

    fn counted<T>(&self, result: Result<T, ReportError>) -> Result<T, ReportError> {
        result.inspect_err(|e| self.metrics.refused.with_label_values(&[e.code()]).inc())
    }

    /// For whom a client speaks. Addresses are not kept: only their hash under a key that this process
    /// forgets. Of an IPv6 address the upper half is hashed, since one line has all of the lower.
    fn author(&self, client: IpAddr) -> Author {
        let client = client.to_canonical();
        let seal = match client {
            IpAddr::V4(v4) => hmac::sign(&self.reporters, &v4.octets()),
            IpAddr::V6(v6) => hmac::sign(&self.reporters, &v6.octets()[..8]),
        };
        let first = seal.as_ref().first_chunk::<8>().copied().unwrap_or_default();
        Author { network: Coarseness::default().network(client), reporter: u64::from_be_bytes(first) }
    }
}

/// Who says something.
struct Author {
    network: ipnet::IpNet,
    reporter: u64,
}

/// A report that makes sense.
struct Checked {
    observations: Vec<Observation>,
    failed: Vec<MirrorIndex>,
    nonce: Option<Nonce>,
}

fn check(
    snapshot: &Snapshot,
    domain: DomainIndex,
    author: &Author,
    report: &Report,
) -> Result<Checked, ReportError> {
    let Report { rtts, failed, nonce, .. } = report;
    if let Some(many) = [rtts.len(), failed.len()].into_iter().find(|n| *n > MAX_RTTS) {
        return Err(ReportError::TooMany(many));
    }
    if rtts.is_empty() && failed.is_empty() && nonce.is_none() {
        return Err(ReportError::Empty);
    }
    let nonce = match nonce {
        Some(text) => Some(Nonce::parse(text).ok_or(ReportError::Nonce)?),
        None => None,
    };
    let registry = &snapshot.registry;
    let find = |name: &String| {
        registry.find_mirror(domain, name).ok_or_else(|| ReportError::UnknownMirror {
            domain: registry.domain(domain).name.to_string(),
            mirror: name.chars().take(253).collect(),
        })
    };
    let observed = |(name, rtt_ms): &(String, f64)| {
        let mirror = find(name)?;
        if !(rtt_ms.is_finite() && *rtt_ms > 0.0 && *rtt_ms <= MAX_RTT_MS) {
            return Err(ReportError::Range { mirror: name.clone(), rtt_ms: *rtt_ms });
        }
        Ok(Observation {
            network: author.network,
            target: Target::of(registry, mirror),
            // So close to zero that it rounds to it, it would be no round trip any more.
            rtt_ms: (*rtt_ms as f32).max(f32::MIN_POSITIVE),
            source: Source::Client,
            reporter: author.reporter,
            users: 1,
        })
    };
    let observations = rtts.iter().map(observed).collect::<Result<_, _>>()?;
    let mut failed = failed.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    // Said twice is said once.
    failed.sort_unstable();
    failed.dedup();
    // Clients try TCP, which says nothing of what does not speak it; of what is out for everybody, or has no
    // address of theirs, they say nothing new.
    let family = if author.network.addr().is_ipv4() { Family::V4 } else { Family::V6 };
    failed.retain(|m| {
        let speaks = registry.mirror(*m).probe.as_ref().is_some_and(|p| speaks_tcp(&p.kind));
        speaks && snapshot.live.mirror(*m).eligible(family)
    });
    Ok(Checked { observations, failed, nonce })
}

/// What the mirrors run on, each once: a node may have several of them.
fn targets(snapshot: &Snapshot, mirrors: &[MirrorIndex]) -> Vec<Target> {
    let mut targets = Vec::new();
    for target in mirrors.iter().map(|m| Target::of(&snapshot.registry, *m)) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

fn speaks_tcp(kind: &CheckKind) -> bool {
    matches!(kind, CheckKind::Tcp | CheckKind::Tls(_) | CheckKind::Http(_) | CheckKind::Talk(_))
}

#[cfg(test)]
mod tests;
