//! The agent's small HTTP server: `/metrics` and `/healthz`.
//!
//! `/healthz` answers 200 while the agent's loop turns and 503 when it has not for
//! [`HUNG_AFTER`]; its body says how each broker is doing. Not having a session is no failure of
//! the agent: restarting it would not help.

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::status::AgentStatus;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nearmost_core::time::MonoTime;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A loop that has not turned for so long hangs; it turns at least once a second.
pub const HUNG_AFTER: Duration = Duration::from_secs(5);

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// State of the sessions.
    pub status: watch::Receiver<AgentStatus>,
    /// When the loop turned last.
    pub pulse: Arc<Pulse>,
}

/// When the agent's loop turned last.
pub struct Pulse {
    clock: Clock,
    last_us: AtomicU64,
}

impl Pulse {
    /// Turning now.
    pub fn new(clock: Clock) -> Pulse {
        Pulse { clock, last_us: AtomicU64::new(clock.now().0) }
    }

    /// The loop turns.
    pub fn beat(&self, now: MonoTime) {
        self.last_us.store(now.0, Ordering::Relaxed);
    }

    /// Whether the loop turned lately.
    pub fn alive(&self) -> bool {
        self.clock.now().since(MonoTime(self.last_us.load(Ordering::Relaxed))) < HUNG_AFTER
    }
}

/// Serves the pages until dropped.
pub async fn serve(listener: TcpListener, pages: Pages) -> std::io::Result<()> {
    axum::serve(listener, router(pages)).await
}

fn router(pages: Pages) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(pages)
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.metrics.render() {
        Ok(page) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {e}\n")).into_response(),
    }
}

async fn healthz(State(pages): State<Pages>) -> Response {
    let code = match pages.pulse.alive() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, axum::Json(pages.status.borrow().clone())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::identity::{KeyPair, Role};

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_unhealthy() {
        let key = |role| KeyPair::from_seed(role, &[1; 32]).id();
        let status = AgentStatus::new(key(Role::Node), [key(Role::Broker)]);
        let (_sender, status) = watch::channel(status);
        let clock = Clock::start();
        let pulse = Arc::new(Pulse::new(clock));
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let pages = Pages { metrics, status, pulse: Arc::clone(&pulse) };
        let code = || async { healthz(State(pages.clone())).await.status() };
        assert_eq!(code().await, StatusCode::OK);
        tokio::time::advance(HUNG_AFTER).await;
        assert_eq!(code().await, StatusCode::SERVICE_UNAVAILABLE);
        pulse.beat(clock.now());
        assert_eq!(code().await, StatusCode::OK);
    }
}
