//! The same over QUIC: the handshake proves this machine's address, and the broker's key.

use super::{Course, Findings, Measured, Options, Target};
use crate::quic::{QuicError, STEP, Talk, lost};
use nearmost_wire::client::{self, Mirror, Resolved, Rtt, Taken, ToBroker, ToClient};
use nearmost_wire::frame;
use nearmost_wire::identity::Id;
use nearmost_wire::name;
use std::net::SocketAddr;
use std::time::Duration;

/// Resolves, measures and reports over one QUIC connection to the broker `id` at `at` (`host:port`).
///
/// # Errors
/// [`QuicError`]. A report that the broker does not take is no error: [`Measured::taken`] says why.
pub async fn over_quic(at: &str, id: Id, domain: &str, options: Options) -> Result<Measured, QuicError> {
    let domain = name::domain(domain)?;
    let mut session = Session(Talk::open(at, id).await?);
    let Resolved { domain, observed, mirrors, measure, .. } = session.resolve(domain).await?;
    let target = |m: &Mirror| {
        let addresses = m.addresses.iter().map(|a| SocketAddr::new(*a, m.port)).collect();
        Target::new(m.name.clone(), m.rtt_ms, addresses, observed)
    };
    let named = measure.iter().filter_map(|name| mirrors.iter().find(|m| m.name == *name));
    let mut wanted: Vec<Target> = named.map(target).collect();
    let mut course = Course::new(options);
    while let Some(findings) = course.measure(&domain, wanted).await {
        let Taken { accepted, tied, measure, refused } = session.report(&domain, &findings).await?;
        course.took(accepted, tied, refused);
        wanted = measure.iter().map(target).collect();
    }
    session.close().await;
    Ok(course.end(domain, observed))
}

/// A session with a broker.
struct Session(Talk);

impl Session {
    async fn resolve(&mut self, domain: String) -> Result<Resolved, QuicError> {
        match self.ask(&ToBroker::Resolve { domain }).await? {
            ToClient::Resolved(resolved) => Ok(resolved),
            ToClient::Taken(_) | ToClient::List(_) => {
                Err(QuicError::OutOfOrder { at: self.0.at.clone(), asked: "Resolve" })
            }
        }
    }

    async fn report(&mut self, domain: &str, findings: &Findings) -> Result<Taken, QuicError> {
        let rtts = findings.rtts().map(|(m, rtt_ms)| client::Measured { mirror: m.into(), rtt_ms });
        let rtt = Rtt {
            domain: domain.into(),
            rtts: rtts.collect(),
            nonce: findings.nonce.clone(),
            tried: findings.tried.clone(),
            failed: findings.failed.clone(),
        };
        match self.ask(&ToBroker::Rtt(rtt)).await? {
            ToClient::Taken(taken) => Ok(taken),
            ToClient::Resolved(_) | ToClient::List(_) => {
                Err(QuicError::OutOfOrder { at: self.0.at.clone(), asked: "Rtt" })
            }
        }
    }

    async fn ask(&mut self, message: &ToBroker) -> Result<ToClient, QuicError> {
        let Talk { send, receive, .. } = &mut self.0;
        let exchange = async {
            frame::write(send, message).await?;
            frame::read(receive).await
        };
        match tokio::time::timeout(STEP, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            // The connection's own end says more, if it has ended.
            Ok(Err(source)) => Err(match self.0.connection.close_reason() {
                Some(reason) => lost(&self.0.at, reason),
                None => QuicError::Frame { at: self.0.at.clone(), source },
            }),
            Err(_) => Err(QuicError::Slow { at: self.0.at.clone(), what: "answer" }),
        }
    }

    /// Closes, and waits a moment for the broker to hear of it, so that it does not wait for us.
    async fn close(self) {
        self.0.connection.close(0u8.into(), b"done");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.endpoint.wait_idle()).await;
    }
}
