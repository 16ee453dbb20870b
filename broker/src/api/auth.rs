//! Who asks, and what they may.
//!
//! | listener | without credentials | with a token or a person's key |
//! |---|---|---|
//! | [`Unix`](ListenerKind::Unix) | everything: the socket's file mode is the credential | |
//! | [`Loopback`](ListenerKind::Loopback) | reading, but for the audit log | changing too |
//! | [`Public`](ListenerKind::Public) | users' endpoints: resolve, round trips, redirects, health; the page without its data | everything |
//! | [`Redirect`](ListenerKind::Redirect) | redirects and `/healthz`, nothing else ever | |
//!
//! A token of scope `read` reads only, and nothing that tells of administrators; one of scope `metrics` reads `/metrics` only: see [`within`].
//!
//! A request that a proxy on this machine forwards for someone elsewhere is a public one.

use super::cors;
use super::error::Problem;
use super::settings::ApiSettings;
use crate::admin::Actor;
use crate::store::ApiTokenEntry;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use nearmost_config::Scope;
use nearmost_wire::auth::{MAX_SKEW_MS, Signable, SignedRequest};
use nearmost_wire::identity::Id;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// What kind of listener a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// A loopback address: whoever is on this machine may read.
    Loopback,
    /// Any other address, always with TLS.
    Public,
    /// Plain HTTP that gives redirects and nothing else.
    Redirect,
    /// The admin socket: whoever may open it may do everything.
    Unix,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP or TLS.
    Tcp {
        /// By which kind of listener.
        kind: ListenerKind,
        /// Its address.
        addr: SocketAddr,
    },
    /// Over the admin socket.
    Unix {
        /// The user's id, as the kernel says.
        uid: u32,
    },
}

impl Peer {
    /// By which kind of listener it came.
    pub fn kind(&self) -> ListenerKind {
        match self {
            Peer::Tcp { kind, .. } => *kind,
            Peer::Unix { .. } => ListenerKind::Unix,
        }
    }
}

/// Who asks, once admitted.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: Peer,
    /// As what it counts: what a proxy forwards on this machine comes from elsewhere.
    pub kind: ListenerKind,
    /// From where, as far as a trusted proxy says so.
    pub source: IpAddr,
    /// Who it proved to be; `None` where that was not asked.
    pub actor: Option<Actor>,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Open,
    /// A token or a person's signature.
    Credentials,
    /// There is no such thing on this listener.
    Hidden,
}

/// What is open to everyone, by route template: endpoints that users need, and the live page's files, which
/// tell nothing (what they show is asked for like everything else).
const USERS: [&str; 6] = ["/v1/resolve/{domain}", "/v1/rtt", "/healthz", "/readyz", "/", "/page/{file}"];
/// What a listener of redirects serves besides redirects.
const REDIRECT: [&str; 1] = ["/healthz"];
/// What is told of administrators, of files, limits and what is weak, to nobody who has not proven who it is, on this machine neither.
const CLOSED: [&str; 3] = ["/v1/audit", "/v1/checkup", "/v1/tokens"];
/// What is told of administrators: to no token that only reads. What is weak is told it, as it is there to watch.
const OF_ADMINISTRATORS: [&str; 2] = ["/v1/audit", "/v1/tokens"];

/// Whether a route serves a method; redirects keep whichever it is.
pub(super) fn serves(route: &str, method: &Method) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        _ if cors::is_preflight(route, method) => true,
        "/v1/registry" => reads || *method == Method::POST,
        "/v1/invites" | "/v1/rtt" | "/v1/backup" | "/v1/peers/invites" | "/v1/peers/join" => {
            *method == Method::POST
        }
        "/v1/log-level" => reads || *method == Method::PUT,
        "/v1/tokens" => reads || *method == Method::POST,
        "/v1/tokens/{name}" => *method == Method::DELETE,
        "/v1/domains/{name}/acme-challenge" => matches!(*method, Method::PUT | Method::DELETE),
        go if go.starts_with("/go/") => true,
        _ => reads,
    }
}

/// What a request to a route (`None`: to nowhere) needs. Nothing is needed to be told that a method
/// is not served.
pub(super) fn access(kind: ListenerKind, method: &Method, route: Option<&str>) -> Access {
    let among = |routes: &[&str]| route.is_some_and(|r| routes.contains(&r) || r.starts_with("/go/"));
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match kind {
        ListenerKind::Unix => Access::Open,
        ListenerKind::Redirect if among(&REDIRECT) => Access::Open,
        ListenerKind::Redirect => Access::Hidden,
        ListenerKind::Loopback | ListenerKind::Public if route.is_some_and(|r| !serves(r, method)) => {
            Access::Open
        }
        ListenerKind::Loopback if route.is_some_and(|r| CLOSED.contains(&r)) => Access::Credentials,
        ListenerKind::Loopback if reads || among(&USERS) || route.is_none() => Access::Open,
        // Nothing is told by a 404.
        ListenerKind::Public if among(&USERS) || route.is_none() => Access::Open,
        ListenerKind::Loopback | ListenerKind::Public => Access::Credentials,
    }
}

/// Whether a token of this scope is good for a request to a route (`None`: to nowhere).
pub(super) fn within(scope: Scope, method: &Method, route: Option<&str>) -> bool {
    match scope {
        Scope::Admin => true,
        Scope::Read => {
            matches!(*method, Method::GET | Method::HEAD)
                && !route.is_some_and(|r| OF_ADMINISTRATORS.contains(&r))
        }
        Scope::Metrics => matches!(*method, Method::GET | Method::HEAD) && route == Some("/metrics"),
    }
}

/// A claim in an `Authorization` header, not yet proven.
pub(super) enum Claim {
    /// The bearer of a known token; nothing is left to prove.
    Token(Actor, Scope),
    /// A person's signature, to be checked with the body.
    Signed(SignedRequest),
}

/// Reads the claim of a request.
///
/// # Errors
/// 401 without one or with a wrong one; 403 for a person who may not use this API.
pub(super) fn claim(
    headers: &HeaderMap,
    settings: &ApiSettings,
    made: &[ApiTokenEntry],
    now_ms: u64,
) -> Result<Claim, AuthProblem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(AuthProblem::new("credentials_missing", "this needs a token or a person's key"));
    };
    let text = value.to_str().unwrap_or("");
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        let configured = settings.tokens.iter().map(|t| (&t.sha256, t));
        if let Some(token) = found(rest.trim(), configured) {
            return Ok(Claim::Token(Actor::Token(token.name.clone()), token.scope));
        }
        let unknown = "the token is not one of http.tokens, and none that was made here";
        return match found(rest.trim(), made.iter().map(|t| (&t.sha256, t))) {
            None => Err(AuthProblem::new("token_unknown", unknown)),
            Some(token) if token.expires_unix_ms.is_some_and(|until| until <= now_ms) => {
                let message = format!("the token {} has ended; have another one made", token.name);
                Err(AuthProblem::new("token_expired", message))
            }
            Some(token) => Ok(Claim::Token(Actor::Token(token.name.clone()), token.scope)),
        };
    }
    if scheme != "Nearmost" {
        return Err(AuthProblem::new("scheme_unknown", "Authorization must be of scheme Bearer or Nearmost"));
    }
    let signed =
        SignedRequest::parse(text).map_err(|e| AuthProblem::new("signature_format", e.to_string()))?;
    if !settings.persons.contains(&signed.person) {
        let message = format!("{} is not one of http.persons", signed.person);
        return Err(AuthProblem { forbidden: true, ..AuthProblem::new("person_unknown", message) });
    }
    Ok(Claim::Signed(signed))
}

/// The token of this text. Every hash is compared in full, so time tells nothing of them.
fn found<'a, T>(text: &str, tokens: impl Iterator<Item = (&'a [u8; 32], &'a T)>) -> Option<&'a T> {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut found = None;
    for (sha256, token) in tokens {
        let differing = sha256.iter().zip(hash).fold(0, |bits, (a, b)| bits | (a ^ b));
        if std::hint::black_box(differing) == 0 {
            found = Some(token);
        }
    }
    found
}

/// Why credentials were refused.
#[derive(Debug)]
pub(super) struct AuthProblem {
    /// Code, and label of the counter.
    pub(super) kind: &'static str,
    message: String,
    /// 403 instead of 401: asking again with other words does not help.
    forbidden: bool,
}

impl AuthProblem {
    /// The holder of a token asks for more than its scope allows.
    pub(super) fn beyond(actor: &Actor, scope: Scope) -> AuthProblem {
        let may = match scope {
            Scope::Metrics => "read /metrics only".to_owned(),
            _ => format!("read only, and not {}", OF_ADMINISTRATORS.join(" or ")),
        };
        let message = format!("the {actor} has the scope {:?}: it may {may}", scope.as_str());
        AuthProblem { forbidden: true, ..AuthProblem::new("scope_insufficient", message) }
    }

    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> AuthProblem {
        AuthProblem { kind, message: message.into(), forbidden: false }
    }
}

impl From<AuthProblem> for Problem {
    fn from(problem: AuthProblem) -> Problem {
        if problem.forbidden {
            return Problem::new(StatusCode::FORBIDDEN, problem.kind, problem.message);
        }
        let ask = HeaderValue::from_static("Bearer realm=\"nearmost\", Nearmost realm=\"nearmost\"");
        let refused = Problem::new(StatusCode::UNAUTHORIZED, problem.kind, problem.message);
        Problem { header: Some((header::WWW_AUTHENTICATE, ask)), ..refused }
    }
}

/// Most nonces remembered: more signed requests than this within two minutes are refused, rather
/// than one of them forgotten.
const MAX_NONCES: usize = 16 * 1024;

/// Nonces of signed requests, each good once. Those of an earlier run of the broker are forgotten, so
/// no request signed before this one is taken.
pub(super) struct Nonces {
    broker: Id,
    started_ms: u64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Hash of person and nonce → when its request would be too old anyway.
    until: HashMap<[u8; 32], u64>,
    swept_ms: u64,
}

impl Nonces {
    /// For requests signed for `broker` from `started_ms` (Unix) on.
    pub(super) fn new(broker: Id, started_ms: u64) -> Nonces {
        Nonces { broker, started_ms, seen: Mutex::default() }
    }

    /// Checks a signed request's time, signature and nonce.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn check(
        &self,
        signed: &SignedRequest,
        parts: &http::request::Parts,
        body: &[u8],
        now_ms: u64,
    ) -> Result<(), AuthProblem> {
        use nearmost_wire::auth::AuthError;
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let asked =
            Signable { broker: &self.broker, method: parts.method.as_str(), path_and_query: path, body };
        signed.check(&asked, now_ms).map_err(|e| {
            let kind = match e {
                AuthError::Format => "signature_format",
                AuthError::Skew(_) => "signature_time",
                AuthError::Signature => "signature_wrong",
            };
            AuthProblem::new(kind, e.to_string())
        })?;
        if signed.time_ms < self.started_ms {
            return Err(AuthProblem::new(
                "signature_time",
                "the request was signed before this broker started; sign a new one",
            ));
        }
        self.take(signed, now_ms)
    }

    fn take(&self, signed: &SignedRequest, now_ms: u64) -> Result<(), AuthProblem> {
        let key = Sha256::new().chain_update(signed.person.key).chain_update(&signed.nonce).finalize().into();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        if now_ms.abs_diff(seen.swept_ms) >= 1000 {
            seen.swept_ms = now_ms;
            seen.until.retain(|_, until| *until >= now_ms);
        }
        if seen.until.contains_key(&key) {
            return Err(AuthProblem::new(
                "signature_replayed",
                "this signed request was made already; sign a new one",
            ));
        }
        if seen.until.len() >= MAX_NONCES {
            return Err(AuthProblem::new(
                "signature_flood",
                "too many signed requests in two minutes; try again later",
            ));
        }
        seen.until.insert(key, signed.time_ms.saturating_add(MAX_SKEW_MS));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::auth::sign as sign_for;
    use nearmost_wire::identity::{KeyPair, Role};

    #[test]
    fn each_listener_gives_what_its_table_says() {
        use Access::{Credentials, Hidden, Open};
        use ListenerKind::{Loopback, Public, Redirect, Unix};
        let cases = [
            ("GET", Some("/v1/resolve/{domain}"), [Open, Open, Hidden, Open]),
            ("POST", Some("/go/{domain}/{*path}"), [Open, Open, Open, Open]),
            ("GET", Some("/go/{domain}"), [Open, Open, Open, Open]),
            ("GET", Some("/healthz"), [Open, Open, Open, Open]),
            ("GET", Some("/readyz"), [Open, Open, Hidden, Open]),
            ("GET", Some("/"), [Open, Open, Hidden, Open]),
            ("GET", Some("/page/{file}"), [Open, Open, Hidden, Open]),
            ("GET", Some("/v1/fleet"), [Open, Credentials, Hidden, Open]),
            ("GET", Some("/v1/checkup"), [Credentials, Credentials, Hidden, Open]),
            ("GET", Some("/metrics"), [Open, Credentials, Hidden, Open]),
            ("GET", Some("/v1/registry"), [Open, Credentials, Hidden, Open]),
            ("POST", Some("/v1/registry"), [Credentials, Credentials, Hidden, Open]),
            ("POST", Some("/v1/invites"), [Credentials, Credentials, Hidden, Open]),
            ("GET", Some("/v1/peers"), [Open, Credentials, Hidden, Open]),
            ("GET", Some("/v1/records"), [Open, Credentials, Hidden, Open]),
            ("GET", Some("/v1/records/watch"), [Open, Credentials, Hidden, Open]),
            ("POST", Some("/v1/peers/invites"), [Credentials, Credentials, Hidden, Open]),
            ("POST", Some("/v1/peers/join"), [Credentials, Credentials, Hidden, Open]),
            ("POST", Some("/v1/backup"), [Credentials, Credentials, Hidden, Open]),
            ("GET", Some("/v1/audit"), [Credentials, Credentials, Hidden, Open]),
            ("POST", Some("/v1/audit"), [Open, Open, Hidden, Open]),
            ("GET", Some("/v1/tokens"), [Credentials, Credentials, Hidden, Open]),
            ("POST", Some("/v1/tokens"), [Credentials, Credentials, Hidden, Open]),
            ("DELETE", Some("/v1/tokens/{name}"), [Credentials, Credentials, Hidden, Open]),
            ("GET", Some("/v1/tokens/{name}"), [Open, Open, Hidden, Open]),
            ("GET", Some("/v1/events/history"), [Open, Credentials, Hidden, Open]),
            ("GET", Some("/v1/log-level"), [Open, Credentials, Hidden, Open]),
            ("PUT", Some("/v1/log-level"), [Credentials, Credentials, Hidden, Open]),
            ("GET", Some("/v1/backup"), [Open, Open, Hidden, Open]),
            ("PUT", Some("/v1/domains/{name}/acme-challenge"), [Credentials, Credentials, Hidden, Open]),
            ("DELETE", Some("/v1/domains/{name}/acme-challenge"), [Credentials, Credentials, Hidden, Open]),
            ("GET", Some("/v1/domains/{name}/acme-challenge"), [Open, Open, Hidden, Open]),
            ("GET", None, [Open, Open, Hidden, Open]),
            ("POST", None, [Open, Open, Hidden, Open]),
            ("DELETE", Some("/v1/fleet"), [Open, Open, Hidden, Open]),
            ("PUT", Some("/v1/registry"), [Open, Open, Hidden, Open]),
            ("GET", Some("/v1/invites"), [Open, Open, Hidden, Open]),
        ];
        for (method, route, expected) in cases {
            let got =
                [Loopback, Public, Redirect, Unix].map(|kind| access(kind, &method.parse().unwrap(), route));
            assert_eq!(got, expected, "{method} {route:?}");
        }
    }

    fn broker() -> Id {
        KeyPair::from_seed(Role::Broker, &[1; 32]).id()
    }

    fn sign(
        key: &KeyPair,
        method: &str,
        path_and_query: &str,
        time_ms: u64,
        nonce: &str,
        body: &[u8],
    ) -> String {
        let asked = Signable { broker: &broker(), method, path_and_query, body };
        sign_for(key, &asked, time_ms, nonce)
    }

    #[test]
    fn what_was_signed_for_another_broker_or_run_is_refused() {
        let key = KeyPair::from_seed(Role::Person, &[9; 32]);
        let (parts, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let request = |time| SignedRequest::parse(&sign(&key, "GET", "/", time, "n", b"")).unwrap();
        let check =
            |nonces: Nonces, time| nonces.check(&request(time), &parts, b"", 1_000_000).map_err(|e| e.kind);
        assert_eq!(check(Nonces::new(broker(), 990_000), 990_000), Ok(()));
        assert_eq!(check(Nonces::new(broker(), 990_000), 989_999), Err("signature_time"));
        let other = KeyPair::from_seed(Role::Broker, &[2; 32]).id();
        assert_eq!(check(Nonces::new(other, 0), 1_000_000), Err("signature_wrong"));
    }

    #[test]
    fn a_nonce_is_good_once_while_its_time_is() {
        let key = KeyPair::from_seed(Role::Person, &[9; 32]);
        let (parts, ()) = http::Request::post("/v1/registry?a=b").body(()).unwrap().into_parts();
        let request = |time, nonce| {
            SignedRequest::parse(&sign(&key, "POST", "/v1/registry?a=b", time, nonce, b"x")).unwrap()
        };
        let nonces = Nonces::new(broker(), 0);
        let check =
            |request: &SignedRequest, now| nonces.check(request, &parts, b"x", now).map_err(|e| e.kind);
        assert_eq!(check(&request(1_000_000, "n"), 1_000_000), Ok(()));
        assert_eq!(check(&request(1_000_000, "n"), 1_000_500), Err("signature_replayed"));
        assert_eq!(check(&request(1_000_000, "m"), 1_000_500), Ok(()));
        // One from the future stays good, and so remembered, longer.
        assert_eq!(check(&request(1_060_000, "f"), 1_000_500), Ok(()));
        assert_eq!(check(&request(1_060_000, "f"), 1_110_000), Err("signature_replayed"));
        assert_eq!(check(&request(1_060_000, "f"), 1_130_000), Err("signature_time"));
        assert_eq!(
            nonces.check(&request(1_000_000, "o"), &parts, b"y", 1_000_000).map_err(|e| e.kind),
            Err("signature_wrong")
        );
    }

    #[test]
    fn nonces_are_bounded_and_forgotten_in_time() {
        let key = KeyPair::from_seed(Role::Person, &[9; 32]);
        let nonces = Nonces::new(broker(), 0);
        let mut request = SignedRequest::parse(&sign(&key, "GET", "/", 1_000_000, "n", b"")).unwrap();
        for n in 0..MAX_NONCES {
            request.nonce = n.to_string();
            nonces.take(&request, 1_000_000).unwrap();
        }
        request.nonce = "one more".into();
        assert_eq!(nonces.take(&request, 1_000_000).unwrap_err().kind, "signature_flood");
        assert!(nonces.take(&request, 1_070_000).is_ok());
    }

    #[test]
    fn tokens_are_found_by_hash() {
        let tokens = [("a", "secret one"), ("b", "secret two")]
            .map(|(name, text)| (<[u8; 32]>::from(Sha256::digest(text)), name));
        let found = |text| found(text, tokens.iter().map(|(sha256, name)| (sha256, name))).copied();
        assert_eq!(found("secret two"), Some("b"));
        assert_eq!((found("secret three"), found("")), (None, None));
    }

    #[test]
    fn a_scope_is_good_for_reading_and_no_more() {
        let good = |scope, method: &str, route| within(scope, &method.parse().unwrap(), Some(route));
        for (method, route, expected) in [
            ("GET", "/metrics", [true, true, true]),
            ("HEAD", "/metrics", [true, true, true]),
            ("GET", "/v1/fleet", [true, true, false]),
            ("GET", "/v1/events", [true, true, false]),
            ("GET", "/v1/audit", [true, false, false]),
            ("GET", "/v1/checkup", [true, true, false]),
            ("HEAD", "/v1/tokens", [true, false, false]),
            ("POST", "/v1/registry", [true, false, false]),
            ("PUT", "/v1/log-level", [true, false, false]),
            ("DELETE", "/v1/tokens/{name}", [true, false, false]),
        ] {
            assert_eq!(Scope::ALL.map(|scope| good(scope, method, route)), expected, "{method} {route}");
        }
    }
}
