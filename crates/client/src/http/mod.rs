//! HTTP/1.1 to one broker: one connection a request, bounded in time and size.
//!
//! A client asks seldom and its process is short-lived, so connections are not kept: there is no
//! pool to go stale and nothing to close. Only [`Streaming`] holds its connection.

mod connect;

use crate::clock::now_unix_ms;
use crate::endpoint::{Auth, Endpoint};
use crate::error::ClientError;
use crate::text::printable;
use connect::{Stream, connect};
use data_encoding::HEXLOWER;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use nearmost_wire::api::{ErrorBody, HealthResponse};
use nearmost_wire::auth::Signable;
use nearmost_wire::identity::{Id, IdError, Role};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longest answer read, in bytes: a registry of some 10 000 records fits many times.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Longest error answer read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long an answer may take, connecting included.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A longer time is given to long requests: what a slow line carries, in bytes a second.
const SLOWEST_BYTES_PER_S: usize = 256 * 1024;
/// How long a stream may be silent; brokers send comments much more often.
const SILENT_WITHIN: Duration = Duration::from_secs(90);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// One question.
pub(crate) struct Ask {
    method: Method,
    path_and_query: String,
    body: Vec<u8>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Ask {
    pub(crate) fn get(path: &str, query: &[(&str, &str)]) -> Ask {
        Ask { method: Method::GET, path_and_query: with_query(path, query), body: Vec::new(), header: None }
    }

    pub(crate) fn post(path: &str, body: Vec<u8>) -> Ask {
        Ask { method: Method::POST, path_and_query: path.into(), body, header: None }
    }

    pub(crate) fn put(path: &str, body: Vec<u8>) -> Ask {
        Ask { method: Method::PUT, path_and_query: path.into(), body, header: None }
    }

    pub(crate) fn delete(path: &str, query: &[(&str, &str)]) -> Ask {
        Ask { method: Method::DELETE, ..Ask::get(path, query) }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Ask {
        self.header = Some((name, value));
        self
    }

    fn what(&self) -> String {
        format!("{} {}", self.method, self.path_and_query)
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (i, (key, value)) in query.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(&format!("{key}={}", encode(value)));
    }
    out
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ClientError::Random)?;
    Ok(bytes)
}

/// The way to one broker.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) endpoint: Endpoint,
    pub(crate) auth: Auth,
    /// For whom requests are signed; `None`: for whom the endpoint says it is.
    pub(crate) broker: Option<Id>,
}

impl Transport {
    /// Asks and reads the whole answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, ClientError> {
        let what = ask.what();
        let sending = Duration::from_secs((ask.body.len() / SLOWEST_BYTES_PER_S) as u64);
        let bytes = self.within(ANSWER_WITHIN + sending, &what, Box::pin(self.bytes(ask))).await?;
        self.decode(what, &bytes)
    }

    fn decode<T: DeserializeOwned>(&self, what: String, bytes: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(bytes).map_err(|e| ClientError::Answer {
            at: self.at(),
            what,
            detail: e.to_string(),
        })
    }

    async fn bytes(&self, ask: Ask) -> Result<Bytes, ClientError> {
        let what = ask.what();
        let (response, _connection) = self.send(ask).await?;
        self.collect(response.into_body(), &what, MAX_ANSWER_BYTES).await
    }

    /// Asks and hands over the answer's body as it comes.
    pub(crate) async fn stream(&self, ask: Ask) -> Result<Streaming, ClientError> {
        let what = ask.what();
        let (response, connection) = self.within(ANSWER_WITHIN, &what, self.send(ask)).await?;
        Ok(Streaming { transport: self.clone(), what, body: response.into_body(), _connection: connection })
    }

    async fn send(&self, ask: Ask) -> Result<(Response<Incoming>, Connection), ClientError> {
        // On the heap: the states of a connection are large, and commands make several requests at once.
        let broker = Box::pin(self.signed_for()).await?;
        Box::pin(self.exchange(ask, broker.as_ref())).await
    }

    /// The broker that the next request is signed for; `None` where none is signed.
    async fn signed_for(&self) -> Result<Option<Id>, ClientError> {
        match &self.auth {
            Auth::Person(_) if !self.endpoint.is_unix() && self.broker.is_none() => {
                let ask = Ask::get("/healthz", &[]);
                let what = ask.what();
                let open = Transport { auth: Auth::None, ..self.clone() };
                let asked = async {
                    let (response, _connection) = open.exchange(ask, None).await?;
                    open.collect(response.into_body(), &what, MAX_ERROR_BYTES).await
                };
                let bytes = self.within(ANSWER_WITHIN, &what, asked).await?;
                let health: HealthResponse = self.decode(what.clone(), &bytes)?;
                let id = Id::parse(&health.broker, Role::Broker);
                let wrong = |e: IdError| ClientError::Answer { at: self.at(), what, detail: e.to_string() };
                id.map(Some).map_err(wrong)
            }
            _ => Ok(self.broker),
        }
    }

    async fn exchange(
        &self,
        ask: Ask,
        broker: Option<&Id>,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let what = ask.what();
        let request = self.request(ask, broker)?;
        let stream = self.within(CONNECT_WITHIN, &what, connect(&self.endpoint)).await?;
        let protocol = |e: hyper::Error| self.protocol(&what, &e);
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<TokioIo<Stream>, Full<Bytes>>(io)
                .await
                .map_err(protocol)?;
        let connection = Connection(tokio::spawn(async move {
            // A connection that breaks is reported by the request or body that is under way.
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(protocol)?;
        if response.status().is_success() {
            return Ok((response, connection));
        }
        Err(self.refused(response, &what).await)
    }

    fn request(&self, ask: Ask, broker: Option<&Id>) -> Result<Request<Full<Bytes>>, ClientError> {
        self.endpoint.check_auth(&self.auth)?;
        let what = ask.what();
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(&ask.path_and_query)
            .header(HOST, self.endpoint.authority())
            .header(ACCEPT, "application/json");
        if let Some(value) = self.authorization(&ask, broker)? {
            request = request.header(AUTHORIZATION, value);
        }
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some((name, value)) = ask.header {
            request = request.header(name, value);
        }
        request.body(Full::new(ask.body.into())).map_err(|e| self.protocol(&what, &e))
    }

    fn authorization(&self, ask: &Ask, broker: Option<&Id>) -> Result<Option<String>, ClientError> {
        Ok(match (&self.auth, broker) {
            _ if self.endpoint.is_unix() => None,
            (Auth::Token(token), _) => Some(format!("Bearer {token}")),
            (Auth::Person(key), Some(broker)) => {
                let nonce = HEXLOWER.encode(&random::<16>()?);
                let asked = Signable {
                    broker,
                    method: ask.method.as_str(),
                    path_and_query: &ask.path_and_query,
                    body: &ask.body,
                };
                Some(nearmost_wire::auth::sign(key, &asked, now_unix_ms(), &nonce))
            }
            (Auth::None | Auth::Person(_), _) => None,
        })
    }

    async fn refused(&self, response: Response<Incoming>, what: &str) -> ClientError {
        let status = response.status();
        let body = match self.collect(response.into_body(), what, MAX_ERROR_BYTES).await {
            Ok(body) => body,
            Err(e) => return e,
        };
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { code, message }) => {
                let (code, message) = (printable(&code), printable(&message));
                ClientError::Api { status: status.as_u16(), code, message }
            }
            Err(_) => self.foreign(status, &body, what),
        }
    }

    /// An error that is not of this API: of a proxy in between, or no broker at all.
    fn foreign(&self, status: StatusCode, body: &[u8], what: &str) -> ClientError {
        let text: String =
            String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect();
        ClientError::Answer {
            at: self.at(),
            what: what.into(),
            detail: format!("status {status}, body {text:?}"),
        }
    }

    async fn collect(&self, body: Incoming, what: &str, limit: usize) -> Result<Bytes, ClientError> {
        let too_long = || ClientError::TooLong { at: self.at(), what: what.into(), limit };
        // Said before the first byte is read, where the answer announces its length.
        if body.size_hint().lower() > limit as u64 {
            return Err(too_long());
        }
        match Limited::new(body, limit).collect().await {
            Ok(all) => Ok(all.to_bytes()),
            Err(e) if e.is::<LengthLimitError>() => Err(too_long()),
            Err(e) => Err(self.protocol(what, e.as_ref())),
        }
    }

    async fn within<T>(
        &self,
        after: Duration,
        what: &str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let timeout = ClientError::Timeout { at: self.at(), what: what.into(), after };
        tokio::time::timeout(after, work).await.unwrap_or(Err(timeout))
    }

    pub(crate) fn at(&self) -> String {
        self.endpoint.to_string()
    }

    fn protocol(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> ClientError {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            detail.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        ClientError::Protocol { at: self.at(), what: what.into(), detail }
    }
}

/// The task that drives a connection; ends with its user.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body as it comes.
pub(crate) struct Streaming {
    transport: Transport,
    what: String,
    body: Incoming,
    _connection: Connection,
}

impl Streaming {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = tokio::time::timeout(SILENT_WITHIN, self.body.frame()).await;
            let timeout = || ClientError::Timeout {
                at: self.transport.at(),
                what: self.what.clone(),
                after: SILENT_WITHIN,
            };
            match frame.map_err(|_| timeout())? {
                None => return Ok(None),
                Some(Err(e)) => return Err(self.transport.protocol(&self.what, &e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// An answer that is not what it should be.
    pub(crate) fn not_understood(&self, detail: String) -> ClientError {
        ClientError::Answer { at: self.transport.at(), what: self.what.clone(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(with_query("/v1/x", &[]), "/v1/x");
        assert_eq!(
            with_query("/v1/x", &[("a", "é &=/"), ("b", "::1")]),
            "/v1/x?a=%C3%A9%20%26%3D%2F&b=%3A%3A1"
        );
    }

    #[test]
    fn a_persons_request_is_signed_over_what_is_sent() {
        use nearmost_wire::identity::{KeyPair, Role};
        let key = KeyPair::from_seed(Role::Person, &[9; 32]);
        let endpoint = "http://127.0.0.1:1".parse().unwrap();
        let transport = Transport { endpoint, auth: Auth::person(key.clone()), broker: None };
        let broker = KeyPair::from_seed(Role::Broker, &[1; 32]).id();
        let header = |ask: Ask| {
            transport.request(ask, Some(&broker)).unwrap().headers()[AUTHORIZATION]
                .to_str()
                .unwrap()
                .to_owned()
        };
        let first = header(Ask::post("/v1/registry", b"{}".to_vec()));
        let signed = nearmost_wire::auth::SignedRequest::parse(&first).unwrap();
        assert_eq!(signed.person, key.id());
        let asked = Signable { broker: &broker, method: "POST", path_and_query: "/v1/registry", body: b"{}" };
        assert_eq!(signed.check(&asked, signed.time_ms), Ok(()));
        let second = header(Ask::post("/v1/registry", b"{}".to_vec()));
        assert_ne!(signed.nonce, nearmost_wire::auth::SignedRequest::parse(&second).unwrap().nonce);
    }

    #[test]
    fn nothing_is_sent_to_prove_us_on_the_unix_socket() {
        let endpoint = "unix:/x".parse().unwrap();
        let transport = Transport { endpoint, auth: Auth::Token("t".into()), broker: None };
        let request = transport.request(Ask::get("/v1/fleet", &[]), None).unwrap();
        assert!(!request.headers().contains_key(AUTHORIZATION));
        assert_eq!(request.headers()[HOST], "localhost");
    }
}
