//! What the API is told, and how far the broker has come.

use crate::limit::SourceLimiter;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use nearmost_config::{HttpConfig, Scope};
use nearmost_wire::identity::{Id, IdError, Role};
use std::sync::Arc;

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// Who may say on whose behalf it asks (`client=`, `Forwarded`, `X-Forwarded-For`).
    pub trusted_sources: Vec<IpNet>,
    /// Bearer tokens of the configuration.
    pub tokens: Vec<ApiToken>,
    /// People whose keys may use all of the API.
    pub persons: Vec<Id>,
    /// How often one source may ask on listeners that are not on this machine alone.
    pub rate: RateLimit,
    /// Readers of `GET /v1/events` at once.
    pub max_event_streams: usize,
}

/// A bearer token; its text is not kept.
#[derive(Clone, Debug)]
pub struct ApiToken {
    /// Whose it is, for logs and the history.
    pub name: String,
    /// SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub scope: Scope,
}

/// Requests of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Over time; 0 for no limit.
    pub per_second: u32,
    /// At once after a pause.
    pub burst: u32,
}

impl TryFrom<&HttpConfig> for ApiSettings {
    type Error = IdError;

    fn try_from(config: &HttpConfig) -> Result<ApiSettings, IdError> {
        let token = |t: &nearmost_config::HttpToken| ApiToken {
            name: t.name.clone(),
            sha256: t.sha256,
            scope: t.scope,
        };
        let persons = config.persons.iter().map(|p| Id::parse(&p.id, Role::Person));
        Ok(ApiSettings {
            trusted_sources: config.trusted_sources.clone(),
            tokens: config.tokens.iter().map(token).collect(),
            persons: persons.collect::<Result<_, _>>()?,
            rate: RateLimit { per_second: config.requests_per_second, burst: config.request_burst },
            // A quarter of the connections, so that readers who stay leave room for the others.
            max_event_streams: (config.max_connections / 4).max(1),
        })
    }
}

/// The settings in force, and the limiter that follows from them.
pub(super) struct Active {
    pub(super) settings: ApiSettings,
    pub(super) limiter: Arc<SourceLimiter>,
}

/// What requests read and a reload replaces.
#[derive(Clone)]
pub(super) struct ActiveSettings(Arc<ArcSwap<Active>>);

impl ActiveSettings {
    pub(super) fn new(settings: ApiSettings) -> ActiveSettings {
        let limiter = Arc::new(SourceLimiter::per_second(settings.rate.per_second, settings.rate.burst));
        ActiveSettings(Arc::new(ArcSwap::from_pointee(Active { settings, limiter })))
    }

    pub(super) fn load(&self) -> Arc<Active> {
        self.0.load_full()
    }

    /// Puts other settings in force; with the same limit nobody's count begins anew.
    pub(super) fn replace(&self, settings: ApiSettings) {
        let now = self.load();
        let limiter = match now.settings.rate == settings.rate {
            true => now.limiter.clone(),
            false => Arc::new(SourceLimiter::per_second(settings.rate.per_second, settings.rate.burst)),
        };
        self.0.store(Arc::new(Active { settings, limiter }));
    }
}

/// How far the broker has come, for `GET /readyz`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The store is open.
    pub store_open: bool,
    /// The registry was built from it.
    pub registry_loaded: bool,
    /// All sockets are bound.
    pub sockets_bound: bool,
    /// The configured geo databases are in use.
    pub places_complete: bool,
    /// The broker is on its way out.
    pub stopping: bool,
}

impl Readiness {
    /// Everything is there.
    pub const READY: Readiness = Readiness {
        store_open: true,
        registry_loaded: true,
        sockets_bound: true,
        places_complete: true,
        stopping: false,
    };

    /// What is missing; `None` when nothing is.
    pub fn missing(&self) -> Option<&'static str> {
        match self {
            Readiness { stopping: true, .. } => Some("the broker is stopping"),
            Readiness { store_open: false, .. } => Some("the store is not open yet"),
            Readiness { registry_loaded: false, .. } => Some("the registry is not loaded yet"),
            Readiness { sockets_bound: false, .. } => Some("not all sockets are bound yet"),
            Readiness { places_complete: false, .. } => Some("the geo databases are not compiled yet"),
            _ => None,
        }
    }
}
