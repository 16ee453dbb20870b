//! One client's session: questions in turn, each answered before the next is read.

use super::endpoint::{ClientParts, ClientSettings};
use super::fare;
use super::lists::{Frame, Subscription};
use super::resolved::{resolved, to_measure};
use crate::clock::mono_now;
use crate::quic::gate::Permit;
use crate::quic::rate::Bucket;
use crate::reports::measure::measure_after;
use crate::reports::{Report, ReportError, Taken, Way};
use crate::steering::Demand;
use nearmost_core::registry::DomainIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::client::{self, Declined, MAX_MESSAGE, Refusal, Rtt, ToBroker, ToClient};
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::list::Version;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Why the broker ends a session.
struct Refused {
    refusal: Refusal,
    detail: String,
}

impl Refused {
    fn new(refusal: Refusal, detail: impl Into<String>) -> Refused {
        Refused { refusal, detail: detail.into() }
    }
}

/// Counts a session in the gauge while it lives, however it ends.
struct Open<'a>(&'a ClientParts);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.sessions.dec();
    }
}

/// Serves one incoming connection to its end; its permit is given back then. The handshake proves the
/// client's address, and without migration it stays.
pub async fn serve(
    incoming: quinn::Incoming,
    client: IpAddr,
    permit: Permit,
    settings: Arc<ClientSettings>,
    parts: ClientParts,
) {
    let failed = |kind| parts.metrics.handshakes_refused.with_label_values(&[kind]).inc();
    let connection = match timeout(settings.handshake_timeout, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client's handshake failed");
            return failed("failed");
        }
        Err(_) => return failed("timeout"),
    };
    parts.metrics.sessions.inc();
    let _open = Open(&parts);
    let conversed = tokio::select! {
        conversed = converse(&connection, client, &settings, &parts) => conversed,
        // Beside it, and never ending.
        () = fare::hear(&connection, &parts.metrics.told) => Ok(()),
    };
    if let Err(Refused { refusal, detail }) = conversed {
        parts.metrics.refusals.with_label_values(&[refusal.label()]).inc();
        tracing::debug!(remote = %connection.remote_address(), reason = refusal.label(), detail, "client refused");
        connection.close(refusal.code().into(), detail.as_bytes());
    }
    drop(permit);
}

/// A session that follows a domain asks each 30 s; one that has not for so long is not there any more.
const FOLLOWED_IDLE: Duration = Duration::from_secs(100);

/// Ends without an error when the client ends it.
async fn converse(
    connection: &quinn::Connection,
    client: IpAddr,
    settings: &ClientSettings,
    parts: &ClientParts,
) -> Result<(), Refused> {
    let idle = |_| Refused::new(Refusal::Idle, "no message in time");
    let Ok((mut send, mut receive)) =
        timeout(settings.idle_timeout, connection.accept_bi()).await.map_err(idle)?
    else {
        return Ok(());
    };
    let mut talk = Talk { client, settings, parts, send: &mut send, follows: None };
    let mut rate = Bucket::new(settings.message_burst, settings.message_every, mono_now());
    loop {
        let patience = talk.follows.as_ref().map_or(settings.idle_timeout, |_| FOLLOWED_IDLE);
        let read = timeout(patience, frame::read_at_most::<ToBroker>(&mut receive, MAX_MESSAGE));
        tokio::pin!(read);
        // Reading goes on where it was: a push may come in the middle of a message.
        let message = loop {
            tokio::select! {
                message = &mut read => break message.map_err(idle)?,
                pushed = pushed(&mut talk.follows) => match pushed {
                    Some(frame) => if !talk.write(&frame).await? { return Ok(()) },
                    None => return Err(Refused::new(Refusal::TooSlow, "the list's changes were not taken in time")),
                },
            }
        };
        let message = match message {
            Ok(message) => message,
            Err(FrameError::Ended) => break,
            Err(FrameError::Io(_)) => return Ok(()),
            Err(bad) => return Err(Refused::new(Refusal::BadMessage, bad.to_string())),
        };
        if !rate.take(1, mono_now()) {
            return Err(Refused::new(Refusal::TooFast, "too many messages"));
        }
        if !talk.take(message).await? {
            return Ok(());
        }
    }
    // The client asks no more; it closes when it has read the last answer.
    let _ = send.finish();
    let _ = timeout(settings.handshake_timeout, connection.closed()).await;
    Ok(())
}

/// What comes by itself; never, where nothing is followed.
async fn pushed(follows: &mut Option<Subscription>) -> Option<Frame> {
    match follows {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// One client's side of the conversation.
struct Talk<'a> {
    client: IpAddr,
    settings: &'a ClientSettings,
    parts: &'a ClientParts,
    send: &'a mut quinn::SendStream,
    follows: Option<Subscription>,
}

impl Talk<'_> {
    /// Answers a message; false when the client is gone.
    async fn take(&mut self, message: ToBroker) -> Result<bool, Refused> {
        let answer = match message {
            ToBroker::Subscribe { domain, have } => {
                self.parts.metrics.messages.with_label_values(&["subscribe"]).inc();
                self.subscribe(&domain, have).await?;
                return Ok(true);
            }
            other => answer(other, self.client, self.parts)?,
        };
        match frame::encode(&answer) {
            Ok(bytes) => self.write(&bytes).await,
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written");
                Ok(false)
            }
        }
    }

    async fn subscribe(&mut self, domain: &str, have: Option<Version>) -> Result<(), Refused> {
        let snapshot = self.parts.snapshot.load_full();
        let found = find(&snapshot, domain)?;
        let name = snapshot.registry.domain(found).name.clone();
        match &self.follows {
            Some(follows) if *follows.domain() == *name => follows.again(have).await,
            _ => self.follows = Some(self.parts.lists.subscribe(name, self.client, have).await),
        }
        Ok(())
    }

    /// False when the client is gone.
    async fn write(&mut self, bytes: &[u8]) -> Result<bool, Refused> {
        let idle = |_| Refused::new(Refusal::Idle, "an answer was not taken in time");
        let written = timeout(self.settings.idle_timeout, self.send.write_all(bytes)).await.map_err(idle)?;
        if let Err(error) = &written {
            tracing::debug!(client = %self.client, %error, "a client did not take its answer");
        }
        Ok(written.is_ok())
    }
}

fn find(snapshot: &Snapshot, domain: &str) -> Result<DomainIndex, Refused> {
    snapshot.registry.find_domain(domain).ok_or_else(|| {
        let name: String = domain.chars().take(253).collect();
        Refused::new(Refusal::UnknownDomain, format!("no domain {name:?}"))
    })
}

fn answer(message: ToBroker, client: IpAddr, parts: &ClientParts) -> Result<ToClient, Refused> {
    let counted = |kind| parts.metrics.messages.with_label_values(&[kind]).inc();
    match message {
        ToBroker::Resolve { domain } => {
            counted("resolve");
            let snapshot = parts.snapshot.load_full();
            let resolved = resolved(&snapshot, find(&snapshot, &domain)?, client);
            let first = resolved.mirrors.first().filter(|m| m.eligible).map(|m| m.name.as_str().into());
            parts.demand.tell(Demand::asked((resolved.domain.as_str().into(), first), client, 1));
            Ok(ToClient::Resolved(resolved))
        }
        // Answered by whoever keeps lists, before it comes here.
        ToBroker::Subscribe { .. } => Err(Refused::new(Refusal::BadMessage, "not answered in turn")),
        ToBroker::Rtt(rtt) => {
            counted("rtt");
            let taken = take(rtt, client, parts).unwrap_or_else(|error| {
                let declined = Declined { code: error.code().into(), message: error.to_string() };
                client::Taken { accepted: 0, tied: false, measure: Vec::new(), refused: Some(declined) }
            });
            Ok(ToClient::Taken(taken))
        }
    }
}

fn take(rtt: Rtt, client: IpAddr, parts: &ClientParts) -> Result<client::Taken, ReportError> {
    let reports = &parts.reports;
    reports.admit(client)?;
    let snapshot = parts.snapshot.load_full();
    let domain = reports.domain_named(&snapshot, &rtt.domain)?;
    let rtts = rtt.rtts.into_iter().map(|m| (m.mirror, m.rtt_ms)).collect();
    let report = Report { rtts, tried: rtt.tried, failed: rtt.failed, nonce: rtt.nonce };
    let Taken { accepted, tied } = reports.take(Way::Quic, &snapshot, domain, client, &report, mono_now())?;
    let next = measure_after(&snapshot, domain, client, &report);
    let measure = to_measure(&snapshot, domain, client, &next);
    let accepted = u32::try_from(accepted).unwrap_or(u32::MAX);
    Ok(client::Taken { accepted, tied, measure, refused: None })
}
