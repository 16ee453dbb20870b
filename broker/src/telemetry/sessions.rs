//! How clients' sessions with mirrors fare, as clients tell. Clients are strangers: what they tell is bounded
//! and shown, and nothing is decided by it.

use super::{counter, counters, from_zero, registered};
use nearmost_wire::fare::{Cause, Fare};
use prometheus::{Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Upper bounds of gaps, in seconds.
const GAP_SECONDS: [f64; 13] = [0.0, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0, 30.0, 120.0];
/// How sessions stand: with a standby, without one, without a mirror at all.
const STANDINGS: [&str; 3] = ["standby", "alone", "unattached"];

/// What clients tell of their sessions with mirrors.
#[derive(Clone)]
pub struct SessionMetrics {
    /// `nearmost_session_standings{standing}`: sessions of connected clients that told, by how they stand.
    standings: IntGaugeVec,
    /// `nearmost_session_moves_total{cause}`: moves to another mirror.
    moves: IntCounterVec,
    /// `nearmost_session_gap_seconds`: for how long nothing was heard in a move.
    gaps: Histogram,
    /// `nearmost_session_losses_total`: times that nobody was there to take over.
    losses: IntCounter,
    /// `nearmost_session_moves_left_out_total`: moves that messages had no room for.
    left_out: IntCounter,
    /// `nearmost_session_tellings_total{result}`: messages `taken`, `refused`, or `too_fast`.
    tellings: IntCounterVec,
}

impl SessionMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<SessionMetrics, Error> {
        let gaps = HistogramOpts::new(
            "nearmost_session_gap_seconds",
            "For how long a client's session heard nothing when it moved to another mirror, as clients tell.",
        );
        let standings = Opts::new(
            "nearmost_session_standings",
            "Sessions of connected clients by whether a standby is ready, as clients tell.",
        );
        let metrics = SessionMetrics {
            standings: registered(registry, IntGaugeVec::new(standings, &["standing"])?)?,
            moves: counters(
                registry,
                "nearmost_session_moves_total",
                "Moves of clients' sessions to another mirror, as clients tell, by why.",
                &["cause"],
            )?,
            gaps: registered(registry, Histogram::with_opts(gaps.buckets(GAP_SECONDS.to_vec()))?)?,
            losses: counter(
                registry,
                "nearmost_session_losses_total",
                "Times that a session's mirror was gone and none was ready to take over, as clients tell.",
            )?,
            left_out: counter(
                registry,
                "nearmost_session_moves_left_out_total",
                "Moves of clients' sessions that their messages had no room for, as clients tell.",
            )?,
            tellings: counters(
                registry,
                "nearmost_session_tellings_total",
                "What clients told of their sessions, by what became of it.",
                &["result"],
            )?,
        };
        STANDINGS.iter().for_each(|s| metrics.standings.with_label_values(&[s]).set(0));
        from_zero(&metrics.moves, Cause::ALL.map(Cause::label));
        from_zero(&metrics.tellings, ["taken", "refused", "too_fast"]);
        Ok(metrics)
    }

    /// A message that was not taken.
    pub fn not_taken(&self, result: &str) {
        self.tellings.with_label_values(&[result]).inc();
    }

    /// One client's session, which counts as long as the result lives.
    pub fn follow(&self) -> FollowedSession {
        FollowedSession { metrics: self.clone(), standing: None }
    }
}

/// One client's session.
pub struct FollowedSession {
    metrics: SessionMetrics,
    standing: Option<&'static str>,
}

impl FollowedSession {
    /// Takes what the client told, which was checked.
    pub fn told(&mut self, fare: &Fare) {
        let metrics = &self.metrics;
        metrics.tellings.with_label_values(&["taken"]).inc();
        for moved in &fare.moves {
            metrics.moves.with_label_values(&[moved.cause.label()]).inc();
            metrics.gaps.observe(f64::from(moved.gap_ms) / 1000.0);
        }
        // One client cannot say more of what it cannot prove than of what it lists.
        metrics.losses.inc_by(u64::from(fare.lost.min(16)));
        metrics.left_out.inc_by(u64::from(fare.left_out.min(16)));
        self.told_standing(fare);
    }

    /// Takes only how the session stands, which cannot be told too often.
    pub fn told_standing(&mut self, fare: &Fare) {
        self.stands(Some(match (fare.attached, fare.standby) {
            (false, _) => "unattached",
            (true, false) => "alone",
            (true, true) => "standby",
        }));
    }

    fn stands(&mut self, standing: Option<&'static str>) {
        let gauge = |s: &str| self.metrics.standings.with_label_values(&[s]);
        if let Some(was) = self.standing {
            gauge(was).dec();
        }
        if let Some(is) = standing {
            gauge(is).inc();
        }
        self.standing = standing;
    }
}

impl Drop for FollowedSession {
    fn drop(&mut self) {
        self.stands(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_session_counts_once_by_how_it_stands_and_no_longer_than_it_lasts() {
        let registry = Registry::new();
        let metrics = SessionMetrics::register(&registry).unwrap();
        let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let has = |line: &str| assert!(text().lines().any(|l| l == line), "{line}\n{}", text());
        let mut session = metrics.follow();
        let mut standing = Fare { attached: true, standby: true, ..Fare::default() };
        session.told(&standing);
        has("nearmost_session_standings{standing=\"standby\"} 1");
        standing.moved(Cause::Silence, Duration::from_millis(280));
        standing.standby = false;
        session.told(&standing);
        has("nearmost_session_standings{standing=\"standby\"} 0");
        has("nearmost_session_standings{standing=\"alone\"} 1");
        has("nearmost_session_moves_total{cause=\"silence\"} 1");
        has("nearmost_session_moves_total{cause=\"drain\"} 0");
        has("nearmost_session_gap_seconds_bucket{le=\"0.3\"} 1");
        has("nearmost_session_gap_seconds_bucket{le=\"0.1\"} 0");
        session.told_standing(&Fare { attached: true, standby: true, lost: 1, ..Fare::default() });
        has("nearmost_session_standings{standing=\"standby\"} 1");
        has("nearmost_session_losses_total 0");
        session.told(&Fare { lost: u32::MAX, left_out: 3, ..Fare::default() });
        has("nearmost_session_moves_left_out_total 3");
        has("nearmost_session_losses_total 16");
        has("nearmost_session_standings{standing=\"unattached\"} 1");
        drop(session);
        has("nearmost_session_standings{standing=\"unattached\"} 0");
        has("nearmost_session_tellings_total{result=\"taken\"} 3");
    }
}
