//! One request, to its answer or to words that say why there is none.

use super::super::count::Count;
use super::super::notice::Notice;
use super::super::open::Unreached;
use super::Gateway;
use super::body::{Answer, Given, Outgoing, Theirs};
use super::headers::{self, Outbound, Refused};
use super::program::{Program, UnderWay};
use super::retry::{self, Fate, Tries};
use super::tunnel::Tunnel;
use super::upstream::{Failed, Upstream};
use crate::clock::mono_now;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use nearmost_wire::identity::Id;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// For how long a session that lost its mirror may take to have another one, before the same one is tried again:
/// longer than it takes silence for a death.
const ELSEWHERE: Duration = Duration::from_millis(600);
/// RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Answers a program's request.
pub(super) async fn forward(
    gateway: Arc<Gateway>,
    program: Program,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    gateway.counters.add(Count::Requests);
    let mut told = Told { gateway: gateway.clone(), is_known: false, under_way: Some(program.request()) };
    let upgraded = hyper::upgrade::on(&mut request);
    let version = request.version();
    let (parts, body) = request.into_parts();
    let mut outbound = match headers::outbound(parts, &gateway.settings.domain) {
        Ok(outbound) => outbound,
        Err(Refused { status, why }) => {
            told.is(Count::Bad);
            return ours(status, why, None);
        }
    };
    let read = Given::read(body, version == Version::HTTP_2, &gateway.room);
    let given = match tokio::time::timeout(gateway.settings.patience, read).await {
        Ok(Ok(given)) => given,
        Ok(Err(_)) => {
            told.is(Count::GivenUp);
            let why = "the body broke off; nothing was sent to the service";
            return ours(StatusCode::BAD_REQUEST, why, None);
        }
        Err(_) => {
            told.is(Count::GivenUp);
            let why = "the body did not come in time; nothing was sent to the service";
            return ours(StatusCode::REQUEST_TIMEOUT, why, None);
        }
    };
    if given.is_open_ended() {
        headers::chunk(&mut outbound.headers);
    }
    let asks = Asks { outbound, given, sent: None, told, gateway };
    asks.answer(program, version, upgraded).await
}

/// What became of a request. Dropped before that is known, its program gave it up.
struct Told {
    gateway: Arc<Gateway>,
    is_known: bool,
    under_way: Option<UnderWay>,
}

impl Told {
    fn is(&mut self, what: Count) {
        self.gateway.counters.add(what);
        self.is_known = true;
    }

    /// From here on the answer counts what becomes of it.
    fn hand_on(&mut self) -> Option<UnderWay> {
        self.is_known = true;
        self.under_way.take()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.is_known {
            self.gateway.counters.add(Count::GivenUp);
        }
    }
}

/// A request under way.
struct Asks {
    outbound: Outbound,
    given: Given,
    /// The mirror whose service may have had it last.
    sent: Option<Id>,
    told: Told,
    gateway: Arc<Gateway>,
}

/// A try without an answer.
enum Missed {
    Unreached(Unreached),
    Failed(Id, Failed),
}

impl Asks {
    async fn answer(mut self, program: Program, version: Version, upgraded: OnUpgrade) -> Response<Answer> {
        let keys = self.gateway.settings.idempotency_keys;
        let repeatable = retry::repeatable(&self.outbound.method, &self.outbound.headers, keys);
        let mut tries = Tries::new(mono_now(), repeatable);
        // A body that can be sent once goes where nothing was before, and so does what failed once.
        let mut fresh = matches!(self.given, Given::Flowing(_)) || self.outbound.upgrade.is_some();
        loop {
            let missed = match self.attempt(repeatable, fresh).await {
                Ok((response, upstream)) => {
                    return self.deliver(response, upstream, program, version, upgraded);
                }
                Err(missed) => missed,
            };
            let (at, fate) = match &missed {
                Missed::Unreached(_) => return self.unanswered(missed),
                Missed::Failed(at, failed) => (*at, failed.fate),
            };
            if fate == Fate::Sent {
                self.sent = Some(at);
            }
            if !tries.again(fate, self.given.is_here(), mono_now()) {
                return self.unanswered(missed);
            }
            fresh = true;
            self.gateway.counters.add(Count::Retried);
            let _ = tokio::time::timeout(ELSEWHERE, self.gateway.session.attached_beside(at)).await;
        }
    }

    async fn attempt(
        &mut self,
        repeatable: bool,
        fresh: bool,
    ) -> Result<(Response<Incoming>, Upstream), Missed> {
        let Gateway { session, pool, .. } = &*self.gateway;
        let waiting = session.primary().filter(|_| !fresh).and_then(|at| pool.take(at, repeatable));
        let mut upstream = match waiting {
            Some(upstream) => upstream,
            None => Upstream::open(session).await.map_err(Missed::Unreached)?,
        };
        // `Tries` asks whether it is here before there is another try.
        let body = self.given.take().unwrap_or_else(|| Outgoing::Left(Full::default()));
        let mut request = Request::new(body);
        *request.method_mut() = self.outbound.method.clone();
        *request.uri_mut() = self.outbound.target.clone();
        *request.headers_mut() = self.outbound.headers.clone();
        match upstream.send(request).await {
            Ok(response) => Ok((response, upstream)),
            Err(mut failed) => {
                self.given.give_back(failed.body.take());
                Err(Missed::Failed(upstream.at, failed))
            }
        }
    }

    fn deliver(
        mut self,
        mut response: Response<Incoming>,
        upstream: Upstream,
        program: Program,
        version: Version,
        upgraded: OnUpgrade,
    ) -> Response<Answer> {
        let of_h1 = version < Version::HTTP_2;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if self.outbound.upgrade.is_none() {
                self.told.is(Count::Unknown);
                return ours(StatusCode::BAD_GATEWAY, "the service changed a protocol unasked", Some(ODD));
            }
            self.told.is(Count::Tunnels);
            let service = hyper::upgrade::on(&mut response);
            program.becomes(Tunnel { program: upgraded, service });
            let (mut parts, _) = response.into_parts();
            headers::inbound(&mut parts.headers, true);
            return Response::from_parts(parts, Answer::Ours(Full::default()));
        }
        if !headers::is_framed(response.headers()) {
            self.told.is(Count::Unknown);
            let why =
                "the answer has a transfer coding besides chunked; the request may have been carried out";
            return ours(StatusCode::BAD_GATEWAY, why, Some(CODED));
        }
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        headers::inbound(&mut parts.headers, of_h1 && parts.status == StatusCode::UPGRADE_REQUIRED);
        let local = of_h1.then_some(program.local);
        let theirs = Theirs::new(incoming, upstream, local, self.gateway, self.told.hand_on());
        Response::from_parts(parts, Answer::Theirs(theirs))
    }

    /// Says what is known.
    fn unanswered(self, missed: Missed) -> Response<Answer> {
        let Asks { outbound, sent, gateway, mut told, .. } = self;
        let method = &outbound.method;
        let why = match &missed {
            Missed::Unreached(error) => error.to_string(),
            Missed::Failed(at, failed) => format!("mirror {at}: {}", whole(&failed.why)),
        };
        if matches!(&missed, Missed::Failed(_, failed) if failed.why.is_user()) {
            // Nobody waits for what became of it.
            told.is(Count::GivenUp);
            return ours(StatusCode::BAD_REQUEST, &why, None);
        }
        let (known, status) = match sent {
            Some(at) => {
                told.is(Count::Unknown);
                let (method, why) = (method.to_string(), why.clone());
                gateway.notices.tell(Notice::Unknown { method, at, why });
                ("It may have been carried out: send it again only if that does no harm.", LOST)
            }
            None => {
                told.is(Count::Unreached);
                gateway.notices.tell(Notice::Unreached { why: why.clone() });
                ("It was not sent to the service, so it was not carried out.", NO_WAY)
            }
        };
        ours(StatusCode::BAD_GATEWAY, &format!("no answer to {method}: {why}. {known}"), Some(status))
    }
}

const NO_WAY: &str = "nearmost; error=destination_unavailable";
const LOST: &str = "nearmost; error=http_response_incomplete";
const CODED: &str = "nearmost; error=http_response_transfer_coding";
const ODD: &str = "nearmost; error=http_upgrade_failed";

/// The error and its causes.
fn whole(error: &hyper::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

fn ours(status: StatusCode, text: &str, proxy_status: Option<&'static str>) -> Response<Answer> {
    let mut response = Response::new(Answer::Ours(Full::from(format!("nearmost: {text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(value) = proxy_status {
        response.headers_mut().insert(PROXY_STATUS, HeaderValue::from_static(value));
    }
    response
}
