//! The one answer function, for every transport: `(snapshot, message, client) → bytes`.

use crate::choosing;
use crate::config::{ConfigError, DnsConfig, MIN_UDP_PAYLOAD, Prepared};
use crate::cookie::{self, CookieState};
use crate::dnssec::{self, SetSigner, Signer, Signing, ZoneSigner};
use crate::edns::{Ending, Extended, Opt};
use crate::error::ErrorKind;
use crate::name::{LookupName, WireName};
use crate::outcome::{Account, Client, Outcome, Rcode, Transport};
use crate::query::{self, Edns, HEADER_LEN, Query, Rejection};
use crate::reply::{Header, Reply, ReplyError, Section};
use crate::resolve::Resolver;
use crate::{alike, chaos, zone};
use hickory_proto::rr::RecordType;
use nearmost_core::snapshot::Snapshot;
use std::sync::Arc;

/// Class IN (RFC 1035 §3.2.4).
const CLASS_IN: u16 = 1;

/// Answers queries. It holds settings and what makes signatures: what it answers from is handed in.
#[derive(Clone, Debug)]
pub struct Responder {
    pub(crate) config: DnsConfig,
    pub(crate) prepared: Prepared,
    pub(crate) signer: Option<Arc<Signer>>,
}

/// A query, and what its reply has whatever the answer is.
pub(crate) struct Asked<'q> {
    pub(crate) query: &'q Query<'q>,
    pub(crate) opt: Option<Opt<'q>>,
    cookie: CookieState,
    /// Bytes that the reply may have, OPT record included.
    most: u16,
}

impl Responder {
    /// From settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that makes no sense.
    pub fn new(config: DnsConfig) -> Result<Responder, ConfigError> {
        let prepared = Prepared::new(&config)?;
        Ok(Responder { config, prepared, signer: None })
    }

    /// The same that signs, in zones that have keys of the signer's site.
    pub fn with_signer(self, signer: Arc<Signer>) -> Responder {
        Responder { signer: Some(signer), ..self }
    }

    /// The settings.
    pub fn config(&self) -> &DnsConfig {
        &self.config
    }

    /// Answers one message. The reply replaces what is in `out`, without a length prefix; it is
    /// empty exactly when the outcome says that it was dropped.
    pub fn answer(&self, snapshot: &Snapshot, query: &[u8], client: &Client, out: &mut Vec<u8>) -> Outcome {
        out.clear();
        let mut outcome = match query::parse(query) {
            Err(rejection) => self.reject(&rejection, out),
            Ok(query) => match self.refusal(&query, client) {
                Some(rejection) => self.reject(&rejection, out),
                None => self.screen(snapshot, &query, client, out),
            },
        };
        // At most 65 535 bytes.
        outcome.account.reply_bytes = out.len() as u16;
        outcome
    }

    /// What is wrong with a query on this transport, or with these settings.
    fn refusal<'m>(&self, query: &Query<'m>, client: &Client) -> Option<Rejection<'m>> {
        let keepalive = query.edns.and_then(|e| e.options.keepalive);
        let error = match (client.transport, keepalive) {
            (Transport::Quic, Some(option)) => ErrorKind::KeepaliveQuic.at(option.at),
            (Transport::Tcp | Transport::Tls, Some(option)) if !option.empty => {
                ErrorKind::KeepaliveData.at(option.at)
            }
            _ if query.question.is_empty() && self.config.edns.cookies.is_none() => {
                ErrorKind::QuestionCount.at(4)
            }
            _ => return None,
        };
        Some(query.rejected(error))
    }

    /// Answers what is not a query.
    fn reject(&self, rejection: &Rejection<'_>, out: &mut Vec<u8>) -> Outcome {
        let mut outcome = Outcome { error: Some(rejection.error), ..Outcome::default() };
        outcome.qtype = rejection
            .question
            .and_then(|q| q.last_chunk::<4>())
            .map_or(0, |&[a, b, ..]| u16::from_be_bytes([a, b]));
        let Some(rcode) = rejection.error.kind.rcode() else { return outcome };
        outcome.rcode = rcode;
        let header = Header {
            id: rejection.id,
            opcode: rejection.opcode,
            rd: rejection.rd,
            rcode,
            question: rejection.question.is_some(),
            opt: rejection.opt,
            ..Header::default()
        };
        out.extend_from_slice(&header.bytes());
        out.extend_from_slice(rejection.question.unwrap_or_default());
        if rejection.opt {
            let opt = Opt { payload: self.config.edns.max_udp_payload, ..Opt::default() };
            let error = (rcode == Rcode::FormErr).then(|| Extended::other(rejection.error.kind.what()));
            // What the sender can take may not have been read.
            opt.encode(&Ending { rcode, scope: 0, error, most: MIN_UDP_PAYLOAD.into() }, out);
        }
        outcome
    }

    /// Sorts out what is not asked of the zones.
    fn screen(&self, snapshot: &Snapshot, query: &Query<'_>, client: &Client, out: &mut Vec<u8>) -> Outcome {
        let (opt, cookie) = match query.edns {
            None => (None, CookieState::Absent),
            Some(edns) => {
                let (opt, cookie) = self.opt(&edns, client);
                (Some(opt), cookie)
            }
        };
        let asked = Asked { query, opt, cookie, most: self.limit(query.edns, client) };
        let forgeable = match (client.transport, cookie) {
            (_, CookieState::Absent | CookieState::Valid) => false,
            // Such a query asks whether its cookie is good (RFC 7873 §5.4).
            (_, CookieState::Bad) if query.question.is_empty() => true,
            (Transport::Udp, _) => self.config.edns.require_cookie,
            _ => false,
        };
        if forgeable {
            return asked.decline(Rcode::BadCookie, None, out);
        }
        match (query.qclass, query.qtype) {
            // The cookie is the answer.
            _ if query.question.is_empty() => asked.decline(Rcode::NoError, None, out),
            // IXFR and AXFR: the registry is not given away.
            (CLASS_IN, 251 | 252) => asked.decline(Rcode::Refused, Some(Extended::NO_TRANSFER), out),
            // NXNAME is in proofs only (RFC 9824 §3.6).
            (CLASS_IN, dnssec::TYPE_NXNAME) => asked.decline(Rcode::FormErr, None, out),
            // Other meta types (RFC 6895 §3.1), ANY aside.
            (CLASS_IN, 129..=250 | 253 | 254) => {
                asked.decline(Rcode::NotImp, Some(Extended::NOT_SUPPORTED), out)
            }
            (CLASS_IN, _) => self.resolve(snapshot, &asked, client, out),
            (chaos::CLASS, _) => chaos::answer(&self.config.identity, &asked, out),
            _ => asked.decline(Rcode::Refused, Some(Extended::NOT_SUPPORTED), out),
        }
    }

    /// The OPT record of a reply, and what the query's cookie says.
    pub(crate) fn opt(&self, edns: &Edns, client: &Client) -> (Opt<'_>, CookieState) {
        let (config, options) = (&self.config.edns, &edns.options);
        let (cookie, state) = self.cookie(edns, client);
        let idle = match client.transport {
            Transport::Tcp => Some(config.keepalive.tcp),
            Transport::Tls => Some(config.keepalive.tls),
            Transport::Udp | Transport::Quic => None,
        };
        let tenths = idle.map(|idle| u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX));
        let opt = Opt {
            payload: config.max_udp_payload,
            dnssec_ok: edns.dnssec_ok,
            compact_ok: edns.compact_ok,
            // Echoed only where it is used.
            ecs: options.ecs.filter(|_| config.ecs),
            cookie,
            nsid: self.config.identity.id.as_deref().filter(|_| options.nsid).map(str::as_bytes),
            keepalive: options.keepalive.and(tenths),
            padded: options.padding && client.transport.encrypted(),
        };
        (opt, state)
    }

    /// The cookie of a reply, and what the query's says.
    pub(crate) fn cookie(&self, edns: &Edns, client: &Client) -> (Option<[u8; cookie::WHOLE]>, CookieState) {
        match (&self.config.edns.cookies, &edns.options.cookie) {
            (Some(key), Some(cookie)) => {
                let (state, reply) = key.check(cookie, client.source, client.now);
                (Some(reply), state)
            }
            _ => (None, CookieState::Absent),
        }
    }

    /// The size of a reply that this client takes, OPT record included.
    pub(crate) fn limit(&self, edns: Option<Edns>, client: &Client) -> u16 {
        match (client.transport, edns) {
            (Transport::Tcp | Transport::Tls | Transport::Quic, _) => u16::MAX,
            (Transport::Udp, None) => MIN_UDP_PAYLOAD,
            (Transport::Udp, Some(edns)) => {
                edns.payload.clamp(MIN_UDP_PAYLOAD, self.config.edns.max_udp_payload)
            }
        }
    }

    /// Answers a query from the zones.
    fn resolve(&self, snapshot: &Snapshot, asked: &Asked<'_>, client: &Client, out: &mut Vec<u8>) -> Outcome {
        let Asked { query, opt, most, .. } = *asked;
        let name = LookupName::from_wire(query.name.wire());
        let qtype = RecordType::from(query.qtype);
        let find = |skip| zone::find(&snapshot.registry, &self.prepared, &name, skip);
        let Some(zone) = find(0) else {
            return asked.decline(Rcode::Refused, Some(Extended::NOT_AUTHORITATIVE), out);
        };
        // DS of an apex is the parent zone's to tell, where that is ours too (RFC 4035 §3.1.4.1).
        let skip = usize::from(qtype == RecordType::DS && zone.apex == name.as_str() && find(1).is_some());
        let signed = qtype == RecordType::RRSIG || query.edns.is_some_and(|e| e.dnssec_ok);
        // What no DS leads to is no use without DO either: those who ask for keys believe nothing yet.
        let of_keys = matches!(qtype, RecordType::DNSKEY | RecordType::CDS | RecordType::CDNSKEY);
        let signing = find(skip).filter(|_| signed || of_keys).map(|z| self.signing(snapshot, &z, client));
        let signer = match signing {
            Some(Signing::Elsewhere) => {
                return asked.decline(Rcode::ServFail, Some(Extended::NO_DS), out);
            }
            Some(Signing::By(signer)) if signed => Some(*signer),
            _ => None,
        };
        // Signatures come with what they are of; by themselves they prove nothing (RFC 8482 §7).
        if signer.is_some() && qtype == RecordType::RRSIG {
            return asked.decline(Rcode::Refused, Some(Extended::NOT_SUPPORTED), out);
        }
        let ecs = opt.and_then(|o| o.ecs);
        let limit = most - opt.map_or(0, |o| o.len() as u16);
        let Some(question) = WireName::from_wire(query.name_bytes()) else {
            return asked.decline(Rcode::ServFail, Some(Extended::UNANSWERABLE), out);
        };
        let mut reply = Reply::new(out, query.question, limit);
        reply.signer = signer.map(SetSigner::new);
        let mut resolver = Resolver {
            responder: self,
            snapshot,
            qtype,
            dnssec_ok: query.edns.is_some_and(|e| e.dnssec_ok),
            compact_ok: query.edns.is_some_and(|e| e.compact_ok),
            client: ecs
                .filter(|e| e.source > 0)
                .map_or_else(|| choosing::users_of(snapshot, client.source), |e| e.address),
            now: client.now,
            reply,
            part: None,
            authoritative: true,
            outcome: asked.begin(),
        };
        match resolver.run(&question, &name, skip).and_then(|()| resolver.reply.finish()) {
            Ok(()) => {}
            Err(ReplyError::Full) => {
                resolver.reply.clear();
                resolver.outcome.truncated = true;
            }
            Err(ReplyError::Unanswerable) => {
                return asked.decline(Rcode::ServFail, Some(Extended::UNANSWERABLE), out);
            }
        }
        let Resolver { reply, part, authoritative, mut outcome, .. } = resolver;
        let header = Header {
            id: query.id,
            opcode: 0,
            rd: query.rd,
            authoritative,
            truncated: outcome.truncated,
            rcode: outcome.rcode,
            question: true,
            counts: reply.counts(),
            opt: opt.is_some(),
        };
        drop(reply);
        if let Some(room) = out.first_chunk_mut::<HEADER_LEN>() {
            *room = header.bytes();
        }
        let owner = outcome.domain.and_then(|d| snapshot.registry.domains.get(d.0 as usize));
        let owner = owner.map_or(zone.apex, |d| &d.name);
        let found = authoritative && (outcome.truncated || header.counts[Section::Answer as usize] > 0);
        let denied = outcome.rcode != Rcode::NoError || outcome.account.denial;
        outcome.account.alike = match found && !denied && outcome.nonce.is_none() {
            true => alike::named(query.name.wire(), query.qtype),
            false => alike::made_up(owner),
        };
        if let Some(opt) = opt {
            let used = ecs.filter(|e| e.source > 0);
            let scope = used.zip(part).map_or(0, |(e, part)| e.scope(part));
            outcome.scope = ecs.map(|_| scope);
            let error = Extended::of(&outcome);
            opt.encode(&Ending { rcode: outcome.rcode, scope, error, most: most.into() }, out);
        }
        outcome
    }
}

impl Responder {
    /// What is said in a zone now to those who validate.
    fn signing(&self, snapshot: &Snapshot, zone: &zone::Zone<'_>, client: &Client) -> Signing {
        let keys = dnssec::keys_of(&snapshot.registry, zone);
        match &self.signer {
            _ if keys.is_empty() => Signing::Bare,
            Some(signer) => ZoneSigner::signing(signer, zone.apex, keys, client.now),
            None => dnssec::without_own(keys, client.now),
        }
    }
}

impl Asked<'_> {
    /// The outcome before anything is known of the answer.
    pub(crate) fn begin(&self) -> Outcome {
        let ecs = self.query.edns.is_some_and(|e| e.options.ecs.is_some());
        let account = Account { ecs, cookie: self.cookie, ..Account::default() };
        Outcome { qtype: self.query.qtype, account, ..Outcome::default() }
    }

    /// Answers a query that there is no answer to.
    pub(crate) fn decline(&self, rcode: Rcode, error: Option<Extended>, out: &mut Vec<u8>) -> Outcome {
        out.clear();
        let header = Header { rcode, ..self.header() };
        out.extend_from_slice(&header.bytes());
        out.extend_from_slice(self.query.question);
        self.end(Outcome { rcode, ..self.begin() }, error, out)
    }

    /// The header of a reply without records.
    pub(crate) fn header(&self) -> Header {
        Header {
            id: self.query.id,
            rd: self.query.rd,
            question: !self.query.question.is_empty(),
            opt: self.opt.is_some(),
            ..Header::default()
        }
    }

    /// Appends the OPT record to a reply that is the same for every client.
    pub(crate) fn end(&self, mut outcome: Outcome, error: Option<Extended>, out: &mut Vec<u8>) -> Outcome {
        if let Some(opt) = self.opt {
            outcome.scope = opt.ecs.map(|_| 0);
            let most = self.most.into();
            opt.encode(&Ending { rcode: outcome.rcode, scope: 0, error, most }, out);
        }
        outcome
    }
}
