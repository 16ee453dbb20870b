//! The one answer function, for every transport: `(snapshot, message, client) → bytes`.

use crate::config::{ConfigError, DnsConfig, MIN_UDP_PAYLOAD, Prepared};
use crate::dnssec::{self, SetSigner, Signer, ZoneSigner};
use crate::name::{LookupName, WireName};
use crate::outcome::{Client, Outcome, Rcode, Transport};
use crate::query::{self, Edns, HEADER_LEN, Query, Rejection};
use crate::reply::{Header, Opt, Reply, ReplyError};
use crate::resolve::Resolver;
use crate::zone;
use hickory_proto::rr::RecordType;
use nearmost_core::snapshot::Snapshot;
use std::net::IpAddr;
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
        match query::parse(query) {
            Err(rejection) => self.reject(&rejection, out),
            Ok(query) => match screen(&query) {
                Some(rcode) => self.decline(&query, rcode, out),
                None => self.resolve(snapshot, &query, client, out),
            },
        }
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
            let opt = Opt { payload: self.config.max_udp_payload, dnssec_ok: false, ecs: None };
            opt.encode(rcode, 0, out);
        }
        outcome
    }

    /// Answers a query that there is no answer to.
    fn decline(&self, query: &Query<'_>, rcode: Rcode, out: &mut Vec<u8>) -> Outcome {
        out.clear();
        let opt = query.edns.map(|e| self.opt(&e));
        let header = Header {
            id: query.id,
            rd: query.rd,
            rcode,
            question: true,
            opt: opt.is_some(),
            ..Header::default()
        };
        out.extend_from_slice(&header.bytes());
        out.extend_from_slice(query.question);
        if let Some(opt) = opt {
            opt.encode(rcode, 0, out);
        }
        Outcome { rcode, scope: opt.and_then(|o| o.ecs).map(|_| 0), ..begin(query) }
    }

    /// The OPT record of a reply; its client subnet is echoed only where it is used.
    fn opt(&self, edns: &Edns) -> Opt {
        Opt {
            payload: self.config.max_udp_payload,
            dnssec_ok: edns.dnssec_ok,
            ecs: edns.ecs.filter(|_| self.config.ecs),
        }
    }

    /// The size of a reply that this client takes, OPT record included.
    fn limit(&self, query: &Query<'_>, client: &Client) -> u16 {
        match (client.transport, query.edns) {
            (Transport::Tcp | Transport::Tls | Transport::Quic, _) => u16::MAX,
            (Transport::Udp, None) => MIN_UDP_PAYLOAD,
            (Transport::Udp, Some(edns)) => edns.payload.clamp(MIN_UDP_PAYLOAD, self.config.max_udp_payload),
        }
    }

    /// Answers a query from the zones.
    fn resolve(&self, snapshot: &Snapshot, query: &Query<'_>, client: &Client, out: &mut Vec<u8>) -> Outcome {
        let name = LookupName::from_wire(query.name.wire());
        let qtype = RecordType::from(query.qtype);
        let find = |skip| zone::find(&snapshot.registry, &self.prepared, &name, skip);
        let skip = match find(0) {
            None => return self.decline(query, Rcode::Refused, out),
            // DS of an apex is the parent zone's to tell, where that is ours too (RFC 4035 §3.1.4.1).
            Some(zone) => {
                usize::from(qtype == RecordType::DS && zone.apex == name.as_str() && find(1).is_some())
            }
        };
        let signed = qtype == RecordType::RRSIG || query.edns.is_some_and(|e| e.dnssec_ok);
        let zone = find(skip).filter(|_| signed);
        let signer = zone.and_then(|zone| self.zone_signer(snapshot, &zone, client));
        // Signatures come with what they are of; by themselves they prove nothing (RFC 8482 §7).
        if signer.is_some() && qtype == RecordType::RRSIG {
            return self.decline(query, Rcode::Refused, out);
        }
        let opt = query.edns.map(|e| self.opt(&e));
        let ecs = opt.and_then(|o| o.ecs);
        let limit = self.limit(query, client) - opt.map_or(0, |o| o.len() as u16);
        let Some(question) = WireName::from_wire(query.name_bytes()) else {
            return self.decline(query, Rcode::ServFail, out);
        };
        let mut reply = Reply::new(out, query.question, limit);
        reply.signer = signer.map(SetSigner::new);
        let mut resolver = Resolver {
            responder: self,
            snapshot,
            qtype,
            client: ecs
                .filter(|e| e.source > 0)
                .map_or_else(|| users_of(snapshot, client.source), |e| e.address),
            now: client.now,
            reply,
            part: None,
            authoritative: true,
            outcome: begin(query),
        };
        match resolver.run(&question, &name, skip).and_then(|()| resolver.reply.finish()) {
            Ok(()) => {}
            Err(ReplyError::Full) => {
                resolver.reply.clear();
                resolver.outcome.truncated = true;
            }
            Err(ReplyError::Unanswerable) => return self.decline(query, Rcode::ServFail, out),
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
        if let Some(opt) = opt {
            let used = ecs.filter(|e| e.source > 0);
            let scope = used.zip(part).map_or(0, |(e, part)| e.scope(part));
            outcome.scope = ecs.map(|_| scope);
            opt.encode(outcome.rcode, scope, out);
        }
        outcome
    }
}

impl Responder {
    /// What signs in a zone now.
    fn zone_signer(&self, snapshot: &Snapshot, zone: &zone::Zone<'_>, client: &Client) -> Option<ZoneSigner> {
        let keys = dnssec::keys_of(&snapshot.registry, zone);
        let signer = self.signer.as_ref().filter(|_| !keys.is_empty())?;
        ZoneSigner::new(signer, zone.apex, keys, client.now)
    }
}

/// Where the users of a resolver are that says nothing of them: where they were found, else where it is.
fn users_of(snapshot: &Snapshot, source: IpAddr) -> IpAddr {
    snapshot.map.model.users_behind(source).unwrap_or(source)
}

/// The outcome of a query before anything is known of its answer.
fn begin(query: &Query<'_>) -> Outcome {
    Outcome { qtype: query.qtype, ecs: query.edns.is_some_and(|e| e.ecs.is_some()), ..Outcome::default() }
}

/// Classes and types that are never answered.
fn screen(query: &Query<'_>) -> Option<Rcode> {
    match (query.qclass, query.qtype) {
        // IXFR and AXFR: the registry is not given away.
        (CLASS_IN, 251 | 252) => Some(Rcode::Refused),
        // NXNAME is in proofs only: RFC 9824 §3.6.
        (CLASS_IN, dnssec::TYPE_NXNAME) => Some(Rcode::FormErr),
        // Other meta types (RFC 6895 §3.1), ANY aside.
        (CLASS_IN, 128..=250 | 253 | 254) => Some(Rcode::NotImp),
        (CLASS_IN, _) => None,
        _ => Some(Rcode::Refused),
    }
}
