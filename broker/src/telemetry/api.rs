//! Counters of the HTTP API.

use super::{counter, counters, from_zero, gauge, seconds_by};
use prometheus::{Error, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// How users ask over HTTP.
const RESOLVE: &str = "/v1/resolve/{domain}";
/// Why credentials are refused.
const AUTH_FAILURES: [&str; 11] = [
    "credentials_missing",
    "scheme_unknown",
    "token_unknown",
    "token_expired",
    "scope_insufficient",
    "person_unknown",
    "signature_format",
    "signature_time",
    "signature_wrong",
    "signature_replayed",
    "signature_flood",
];

/// What the HTTP API counts.
#[derive(Clone)]
pub struct ApiMetrics {
    /// `nearmost_http_requests_total{route,code}`: requests answered, by route template (never the
    /// path itself) and class of status (`2xx`).
    pub requests: IntCounterVec,
    /// `nearmost_http_request_duration_seconds{route}`: from the request's head to the answer's.
    pub duration: HistogramVec,
    /// `nearmost_http_rate_limited_total`: requests refused because their source asks too often.
    pub rate_limited: IntCounter,
    /// `nearmost_http_auth_failures_total{kind}`: requests refused for their credentials.
    pub auth_failures: IntCounterVec,
    /// `nearmost_http_connections`: open connections.
    pub connections: IntGauge,
    /// `nearmost_http_connections_refused_total{kind}`: connections closed before a request:
    /// `limit`, `handshake` (TLS failed) or `handshake_timeout`.
    pub refused: IntCounterVec,
    /// `nearmost_http_event_streams`: readers of `GET /v1/events`.
    pub event_streams: IntGauge,
    /// `nearmost_http_events_lagged_total`: events that a slow reader missed.
    pub events_lagged: IntCounter,
    /// `nearmost_http_redirects_total{result}`: plain HTTP users sent on (`mirror`, `fallback`) or not (`none`).
    pub redirects: IntCounterVec,
}

impl ApiMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ApiMetrics, Error> {
        let metrics = ApiMetrics {
            requests: counters(
                registry,
                "nearmost_http_requests_total",
                "HTTP requests answered, by route template and class of status.",
                &["route", "code"],
            )?,
            duration: seconds_by(
                registry,
                "nearmost_http_request_duration_seconds",
                "Time from the head of an HTTP request to the head of its answer.",
                &["route"],
            )?,
            rate_limited: counter(
                registry,
                "nearmost_http_rate_limited_total",
                "HTTP requests refused because their source asks too often.",
            )?,
            auth_failures: counters(
                registry,
                "nearmost_http_auth_failures_total",
                "HTTP requests refused for their credentials.",
                &["kind"],
            )?,
            connections: gauge(registry, "nearmost_http_connections", "Open HTTP connections.")?,
            refused: counters(
                registry,
                "nearmost_http_connections_refused_total",
                "HTTP connections closed before a request.",
                &["kind"],
            )?,
            event_streams: gauge(
                registry,
                "nearmost_http_event_streams",
                "Readers of the stream of events.",
            )?,
            events_lagged: counter(
                registry,
                "nearmost_http_events_lagged_total",
                "Events that slow readers of the stream missed.",
            )?,
            redirects: counters(
                registry,
                "nearmost_http_redirects_total",
                "Plain HTTP users redirected to a mirror or a fallback, or not at all.",
                &["result"],
            )?,
        };
        from_zero(&metrics.auth_failures, AUTH_FAILURES);
        from_zero(&metrics.refused, ["limit", "handshake", "handshake_timeout"]);
        from_zero(&metrics.redirects, ["mirror", "fallback", "none"]);
        for code in ["2xx", "3xx", "4xx", "5xx"] {
            metrics.requests.with_label_values(&[RESOLVE, code]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts an answered request. `route` must be a template.
    pub fn answered(&self, route: &str, status: u16, took: Duration) {
        let class = match status {
            0..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.duration.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}
