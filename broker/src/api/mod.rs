//! The HTTP API.
//!
//! ```text
//! listener ── Peer ──> gate ──> route ──> handler ──> view ──> JSON
//!  TCP, TLS,           redirects by host,            pure functions of
//!  Unix socket         rate limit, credentials,      the one snapshot
//!                      body, counters
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `server`, `listen`, `tls` | sockets, certificates, connections |
//! | `gate`, `auth`, `client`, `cors` | who asks, for whom, how often, and what they may |
//! | `users`, `redirect`, `target` | what users ask for |
//! | `reports` | what they measured |
//! | `ops`, `traffic`, `checkup`, `stream`, `drain` | what operators ask for |
//! | `changes`, `challenges`, `dnssec` | what administrators ask for |
//! | `audit`, `loglevel` | who did what, and what is logged |
//! | `tokens` | programs that read |
//! | `federation`, `records` | other brokers, and what applications have them carry |
//! | `view`, `explain` | the snapshot as JSON |
//! | `reasons`, `verdicts` | … and in sentences |
//! | `params`, `error`, `openapi` | questions read, refusals, the API's own description |
//!
//! One table of routes ([`router`]) makes both the router and `/openapi.json`. Every refusal is an
//! [`ErrorBody`](nearmost_wire::api::ErrorBody).

mod audit;
mod auth;
mod challenges;
mod changes;
mod checkup;
pub(crate) mod client;
mod cors;
mod dnssec;
mod drain;
mod error;
mod explain;
mod federation;
mod fleet;
mod gate;
pub(crate) mod listen;
pub(crate) mod loglevel;
mod openapi;
mod ops;
pub(crate) mod params;
mod reasons;
mod records;
mod redirect;
mod reports;
mod server;
mod settings;
mod stream;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod traffic;
mod users;
mod verdicts;
mod view;

pub use crate::tls_files::TlsError;
pub use auth::{Caller, ListenerKind, Peer};
pub use error::Problem;
pub use fleet::FleetAccess;
pub use listen::{ApiError, Listeners};
pub use server::{ApiControl, ApiServer, ReloadError};
pub use settings::{ApiSettings, ApiToken, RateLimit, Readiness};

use crate::admin::AdminHandle;
use crate::checkup::Examiner;
use crate::clock::unix_now;
use crate::dns::signing::Signing;
use crate::events::EventLog;
use crate::peers::PeersHandle;
use crate::publish::SnapshotReader;
use crate::reports::Reports;
use crate::telemetry::ApiMetrics;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, options};
use http::{StatusCode, Uri};
use nearmost_core::registry::{DomainIndex, Registry};
use nearmost_service::logging::LogControl;
use nearmost_wire::identity::Id;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Askers for an examination that wait for the one at a time that there is, which `status --watch` does each second.
const CHECKUPS: usize = 4;
/// Readings of what happened at once.
const HISTORIES: usize = 2;

/// What the API shows and whom it asks.
#[derive(Clone)]
pub struct ApiState {
    /// This broker.
    pub me: Me,
    /// What everything is answered from.
    pub snapshot: SnapshotReader,
    /// What domains are signed with.
    pub signing: Signing,
    /// Transitions.
    pub events: Arc<EventLog>,
    /// Changes go here.
    pub admin: AdminHandle,
    /// Who talks with other brokers; `None` where that is turned off.
    pub peers: Option<PeersHandle>,
    /// Who is connected, and what verdicts rest on.
    pub fleet: FleetAccess,
    /// What clients measured goes here.
    pub reports: Arc<Reports>,
    /// What `/metrics` encodes.
    pub registry: prometheus::Registry,
    /// Counters.
    pub metrics: ApiMetrics,
    /// Who may do what, until a reload says otherwise.
    pub settings: ApiSettings,
    /// Levels of the logs.
    pub log: LogControl,
    /// How far the broker has come.
    pub ready: watch::Receiver<Readiness>,
    /// Looks at the broker itself.
    pub examiner: Examiner,
}

/// Who a broker is, and where it takes clients.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its id.
    pub id: Id,
    /// Its name for people.
    pub name: String,
    /// Where other brokers reach it, `host:port`.
    pub addresses: Vec<String>,
    /// Its UDP ports for clients over QUIC, each once.
    pub clients: Vec<u16>,
}

/// What all requests share.
struct Shared {
    api: ApiState,
    settings: settings::ActiveSettings,
    nonces: auth::Nonces,
    hosts: redirect::Hosts,
    /// What was told of the fleet a moment ago.
    fleet: fleet::Told,
    /// Readers of events.
    streams: Arc<Semaphore>,
    /// Large bodies of people who have not proven themselves yet.
    large: Semaphore,
    /// Drain previews under way.
    previews: Arc<Semaphore>,
    /// Readings of the audit log and of transitions under way.
    histories: Semaphore,
    /// Examinations under way.
    checkups: Semaphore,
    openapi: String,
    /// Streams end when it is cancelled.
    closing: CancellationToken,
}

/// The description's frame; paths and schemas come from the routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "nearmost broker", description = "Which mirror is near, which are healthy, and why."),
    paths(redirect::go),
    tags(
        (name = "users", description = "Open to everyone"),
        (name = "health", description = "For the machines that watch the broker"),
        (name = "operators", description = "Reading; beyond this machine with credentials"),
        (name = "federation", description = "Other brokers, and the records of applications"),
        (name = "administration", description = "The registry; changes need credentials or the admin socket"),
    )
)]
struct Description;

/// The whole API as a service; `closing` ends its streams. Each request needs a [`Peer`] among its
/// extensions, without one it has no rights.
pub fn router(state: ApiState, closing: CancellationToken) -> Router {
    let settings = settings::ActiveSettings::new(state.settings.clone());
    router_with(state, settings, closing)
}

/// The same with settings that others may replace.
fn router_with(state: ApiState, settings: settings::ActiveSettings, closing: CancellationToken) -> Router {
    let (router, description) = OpenApiRouter::<Arc<Shared>>::with_openapi(Description::openapi())
        .routes(routes!(users::resolve))
        .routes(routes!(reports::rtt))
        .routes(routes!(users::explain))
        .routes(routes!(users::geo))
        .routes(routes!(ops::fleet))
        .routes(routes!(traffic::traffic))
        .routes(routes!(checkup::checkup))
        .routes(routes!(dnssec::dnssec))
        .routes(routes!(stream::events))
        .routes(routes!(stream::history))
        .routes(routes!(drain::drain_preview))
        .routes(routes!(changes::registry, changes::commit))
        .routes(routes!(changes::history))
        .routes(routes!(changes::invite))
        .routes(routes!(changes::backup))
        .routes(routes!(audit::audit))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(loglevel::levels, loglevel::set))
        .routes(routes!(challenges::set, challenges::remove))
        .routes(routes!(federation::peers))
        .routes(routes!(federation::invite))
        .routes(routes!(federation::join))
        .routes(routes!(records::records))
        .routes(routes!(records::watch))
        .routes(routes!(ops::metrics))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::openapi))
        .split_for_parts();
    let shared = Arc::new(Shared {
        settings,
        nonces: auth::Nonces::new(state.me.id, unix_now().0),
        hosts: redirect::Hosts::default(),
        fleet: fleet::Told::default(),
        streams: Arc::new(Semaphore::new(state.settings.max_event_streams)),
        large: Semaphore::new(gate::LARGE_UNPROVEN),
        previews: Arc::new(Semaphore::new(1)),
        histories: Semaphore::new(HISTORIES),
        checkups: Semaphore::new(CHECKUPS),
        openapi: openapi::describe(&description),
        api: state,
        closing,
    });
    // Any method: 307 keeps it.
    router
        .merge(crate::page::router())
        .route("/v1/resolve/{domain}", options(cors::preflight))
        .route("/v1/rtt", options(cors::preflight))
        .route("/go/{domain}", any(redirect::go))
        .route("/go/{domain}/", any(redirect::go))
        .route("/go/{domain}/{*path}", any(redirect::go))
        .fallback(|uri: Uri| async move { no_such_route(&uri) })
        .method_not_allowed_fallback(method_not_allowed)
        // The gate has bounded every body before.
        .layer(DefaultBodyLimit::max(gate::MAX_CHANGE))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), gate::gate))
        .layer(compression())
        .with_state(shared)
}

/// What is smaller is sent as it is.
const COMPRESS_FROM: u16 = 1024;

/// Shrinks what is large for whoever takes it so: lists of thousands of mirrors, metrics, the page. Streams of events
/// are left alone, since a compressor holds back what a reader waits for. Nothing here reflects what somebody else may
/// choose beside a secret: tokens are told in answers that are shorter.
fn compression() -> CompressionLayer<And<SizeAbove, NotForContentType>> {
    let fit = SizeAbove::new(COMPRESS_FROM).and(NotForContentType::SSE);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(fit)
}

async fn method_not_allowed(method: http::Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("{method} is not for {path}"))
}

fn no_such_route(uri: &Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        format!("nothing is served at {path:?}; see /openapi.json"),
    )
}

/// A domain by name, or the refusal that names the one that was perhaps meant.
fn find_domain(registry: &Registry, name: &str) -> Result<DomainIndex, Problem> {
    registry.find_domain(name).ok_or_else(|| {
        let known = registry.domains.iter().map(|d| &*d.name);
        Problem::not_found("unknown_domain", "domain", name, error::nearest(name, known))
    })
}
