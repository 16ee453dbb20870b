//! The API's questions, typed.

use crate::endpoint::{Auth, Endpoint};
use crate::error::ClientError;
use crate::events::{EventStream, Retained};
use crate::http::{Ask, Transport};
use nearmost_wire::api::{
    CheckupResponse, DnssecResponse, EventView, EventsHistoryResponse, ExplainResponse, FleetResponse,
    GeoResponse, HealthResponse, ResolveResponse, RttRequest, RttResponse, TrafficResponse,
};
use nearmost_wire::identity::Id;
use nearmost_wire::name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;

/// Written transitions asked for at once, and how often: more than any broker keeps.
const PAGE: &str = "5000";
const PAGES: usize = 200;

/// Asks one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) transport: Transport,
}

impl Client {
    /// A client of the broker at `endpoint`; nothing is connected before something is asked.
    pub fn new(endpoint: Endpoint, auth: Auth) -> Client {
        Client { transport: Transport { endpoint, auth, broker: None } }
    }

    /// Signs requests for this broker only, instead of asking the endpoint which one it is: nobody in
    /// between can then use them elsewhere.
    #[must_use]
    pub fn with_broker_id(mut self, id: Option<Id>) -> Client {
        self.transport.broker = id;
        self
    }

    /// Where it asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.transport.endpoint
    }

    /// The mirrors of a domain, best first. `client` asks on behalf of another address; brokers
    /// honour that from trusted sources only.
    ///
    /// # Errors
    /// [`ClientError`]; `unknown_domain` is its code where the broker does not serve the domain.
    pub async fn resolve(
        &self,
        domain: &str,
        client: Option<IpAddr>,
    ) -> Result<ResolveResponse, ClientError> {
        let path = format!("/v1/resolve/{}", name::domain(domain)?);
        let client = client.map(|ip| ip.to_string());
        let query: Vec<_> = client.iter().map(|c| ("client", c.as_str())).collect();
        self.transport.json(Ask::get(&path, &query)).await
    }

    /// Why each mirror of a domain stands where it stands for a client.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, domain: &str, client: IpAddr) -> Result<ExplainResponse, ClientError> {
        let (domain, client) = (name::domain(domain)?, client.to_string());
        self.transport.json(Ask::get("/v1/explain", &[("domain", &domain), ("client", &client)])).await
    }

    /// The same for whoever asks through a resolver that sends no client subnet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain_resolver(
        &self,
        domain: &str,
        resolver: IpAddr,
    ) -> Result<ExplainResponse, ClientError> {
        let (domain, resolver) = (name::domain(domain)?, resolver.to_string());
        self.transport.json(Ask::get("/v1/explain", &[("domain", &domain), ("resolver", &resolver)])).await
    }

    /// Reports round trips within the session that resolving gave.
    ///
    /// # Errors
    /// [`ClientError`]; its code says what the broker did not like.
    pub async fn report(&self, report: &RttRequest) -> Result<RttResponse, ClientError> {
        self.post("/v1/rtt", report).await
    }

    /// That the broker lives, which one it is, and where it takes clients.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health(&self) -> Result<HealthResponse, ClientError> {
        self.transport.json(Ask::get("/healthz", &[])).await
    }

    /// All domains, nodes and mirrors with their verdicts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fleet(&self) -> Result<FleetResponse, ClientError> {
        self.transport.json(Ask::get("/v1/fleet", &[])).await
    }

    /// The keys of a domain that is signed, and the next one of the broker's site: the one with this number,
    /// or the one after the last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dnssec(&self, domain: &str, generation: Option<u32>) -> Result<DnssecResponse, ClientError> {
        let (domain, generation) = (name::domain(domain)?, generation.map(|n| n.to_string()));
        let query = generation.as_deref().map(|n| ("generation", n));
        let query: Vec<_> = query.into_iter().chain([("domain", domain.as_str())]).collect();
        self.transport.json(Ask::get("/v1/dnssec", &query)).await
    }

    /// What the broker knows of an address, and from which source.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn geo(&self, address: IpAddr) -> Result<GeoResponse, ClientError> {
        let path = format!("/v1/geo/{}", crate::http::encode(&address.to_string()));
        self.transport.json(Ask::get(&path, &[])).await
    }

    /// A page of the transitions that the broker keeps. `query` narrows them: `since_unix_ms`,
    /// `until_unix_ms`, `domain`, `mirror`, `after`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events_history(&self, query: &[(&str, &str)]) -> Result<EventsHistoryResponse, ClientError> {
        self.transport.json(Ask::get("/v1/events/history", query)).await
    }

    /// Transitions from now on, or those after the event numbered `after`.
    pub fn events(&self, after: Option<u64>) -> EventStream {
        EventStream::new(self.transport.clone(), after)
    }

    /// Transitions that the broker retains: all, or those after the event numbered `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events_retained(&self, after: Option<u64>) -> Result<Retained, ClientError> {
        crate::events::retained(&self.transport, after).await
    }

    /// Transitions since a moment (Unix milliseconds), oldest first, as far as the broker wrote them down or
    /// retains them: the newest `most` of them; `None` from a broker that writes none down. `filters` are
    /// `domain` and `mirror`, in their canonical form.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events_since(
        &self,
        since_unix_ms: u64,
        most: usize,
        filters: &[(&str, &str)],
    ) -> Result<Option<Vec<EventView>>, ClientError> {
        let since = since_unix_ms.to_string();
        let mut events: Vec<EventView> = Vec::new();
        for _ in 0..PAGES {
            let before = events.last().map(|e| e.number);
            let last = before.map(|number| number.to_string());
            let mut query = vec![("since_unix_ms", since.as_str()), ("limit", PAGE)];
            query.extend_from_slice(filters);
            query.extend(last.as_deref().map(|number| ("after", number)));
            let Some(page) = served(self.events_history(&query).await)? else { return Ok(None) };
            // A broker that tells the same again and again is not asked for ever.
            let advances = page.events.last().is_some_and(|e| Some(e.number) > before);
            if advances {
                events.extend(page.events);
            }
            events.drain(..events.len().saturating_sub(most.max(1)));
            if !(page.more && advances) {
                break;
            }
        }
        // What is written down comes a moment after what is retained.
        let written = events.last().map(|e| e.number);
        let retained = self.events_retained(written).await?.events;
        let asked_for = |e: &EventView| {
            filters.iter().all(|(key, value)| match *key {
                "domain" => e.domain == *value,
                "mirror" => e.mirror == *value,
                _ => true,
            })
        };
        let newer = |e: &EventView| Some(e.number) > written && e.at_unix_ms >= since_unix_ms && asked_for(e);
        events.extend(retained.into_iter().filter(newer));
        events.drain(..events.len().saturating_sub(most.max(1)));
        Ok(Some(events))
    }

    /// Who uses which mirror now, and from where; `None` from a broker that does not tell.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn traffic(&self) -> Result<Option<TrafficResponse>, ClientError> {
        served(self.transport.json(Ask::get("/v1/traffic", &[])).await)
    }

    /// What the broker finds when it examines itself; `None` from one that cannot.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn checkup(&self) -> Result<Option<CheckupResponse>, ClientError> {
        served(self.transport.json(Ask::get("/v1/checkup", &[])).await)
    }

    /// How far the broker has come: `None` when it is ready, else what is missing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn not_ready(&self) -> Result<Option<String>, ClientError> {
        let ready = self.transport.json::<serde_json::Value>(Ask::get("/readyz", &[])).await;
        match ready {
            Err(ClientError::Answer { detail, .. }) if detail.starts_with("status 404") => Ok(None),
            // It says so in words, not in JSON.
            Ok(_) => Ok(None),
            Err(ClientError::Answer { detail, .. }) if !detail.starts_with("status ") => Ok(None),
            Err(ClientError::Api { status: 503, message, .. }) => Ok(Some(message)),
            Err(e) => Err(e),
        }
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = self.body("POST", path, body)?;
        self.transport.json(Ask::post(path, body)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = self.body("PUT", path, body)?;
        self.transport.json(Ask::put(path, body)).await
    }

    fn body(&self, method: &str, path: &str, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|e| ClientError::Protocol {
            at: self.transport.at(),
            what: format!("{method} {path}"),
            detail: e.to_string(),
        })
    }
}

/// `None` where the broker has no such path.
fn served<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Api { status: 404, code, .. }) if code == "no_such_path" => Ok(None),
        // A broker that is no broker of ours says nothing else to a path it does not know.
        Err(ClientError::Answer { detail, .. }) if detail.starts_with("status 404") => Ok(None),
        Err(e) => Err(e),
    }
}
