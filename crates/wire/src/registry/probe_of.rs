//! Plain checks → the probes that stand for them.

use super::probe::{ProbeBody, ProbeKind, StepBody};
use nearmost_core::check::{
    CheckKind, HandshakeCheck, HttpCheck, HttpVersion, TalkStep, TlsTerms, payload_text,
};

impl ProbeBody {
    /// The probe that stands for a check; its pace is left to defaults. `None` for a command, which is
    /// run for nobody else.
    pub fn of(kind: &CheckKind) -> Option<ProbeBody> {
        let mut body = ProbeBody::default();
        match kind {
            CheckKind::Tcp => body.kind = ProbeKind::Tcp,
            CheckKind::Tls(check) => handshake(&mut body, ProbeKind::Tls, check),
            CheckKind::Quic(check) => handshake(&mut body, ProbeKind::Quic, check),
            CheckKind::Http(check) => http(&mut body, check),
            CheckKind::Talk(check) => {
                if let Some(tls) = &check.tls {
                    handshake(&mut body, ProbeKind::Tls, tls);
                }
                body.steps = Some(check.steps.iter().map(step).collect());
            }
            CheckKind::Udp { send, expect } => {
                body.kind = ProbeKind::Udp;
                body.send = Some(payload_text(send));
                body.expect = Some(payload_text(expect));
            }
            CheckKind::Dns(check) => {
                body.kind = ProbeKind::Dns;
                body.query = Some(check.name.clone());
                body.query_type = Some(check.record_type.to_string());
                body.rcode = Some(check.rcode.to_string());
                body.answer = check.answer.clone();
            }
            CheckKind::Command { .. } => return None,
        }
        Some(body)
    }
}

fn http(body: &mut ProbeBody, check: &HttpCheck) {
    body.kind = match (check.version, check.tls.is_some()) {
        (HttpVersion::Http1, false) => ProbeKind::Http,
        (HttpVersion::Http1, true) => ProbeKind::Https,
        (HttpVersion::Http2, false) => ProbeKind::H2c,
        (HttpVersion::Http2, true) => ProbeKind::H2,
    };
    body.path = Some(check.path.clone());
    body.host = check.host.clone();
    body.status = Some(check.status);
    body.body_contains = check.body_contains.clone();
    if let Some(given) = check.tls {
        terms(body, given);
    }
}

fn handshake(body: &mut ProbeBody, kind: ProbeKind, check: &HandshakeCheck) {
    body.kind = kind;
    body.host = check.host.clone();
    body.alpn = Some(check.alpn.clone());
    terms(body, check.terms);
}

fn terms(body: &mut ProbeBody, terms: TlsTerms) {
    body.verify = Some(terms.verify);
    body.min_days_to_expiry = terms.min_days_to_expiry;
}

fn step(step: &TalkStep) -> StepBody {
    let text = |bytes: &Vec<u8>| (!bytes.is_empty()).then(|| payload_text(bytes));
    StepBody { send: text(&step.send), expect: text(&step.expect) }
}
