//! The kinds of check, each from its keys. That no other kind's keys are given is known here.

use super::spec::{CheckKeys, StepKeys};
use crate::error::Fault;
use crate::value::Plain;
use nearmost_core::check::{
    CheckKind, DEFAULT_MAX_OUTPUT, DEFAULT_QUIC_ALPN, DnsCheck, HandshakeCheck, HttpCheck, HttpVersion,
    RecordType, ResponseCode, TalkCheck, TalkStep, TlsTerms,
};

/// A connection, or a conversation where there is one to have.
pub(super) fn tcp(path: &str, keys: CheckKeys) -> Result<CheckKind, Fault> {
    Ok(match steps(path, keys)? {
        Some(steps) => talk(path, TalkCheck { tls: None, steps })?,
        None => CheckKind::Tcp,
    })
}

/// A handshake, and a conversation where there is one to have.
pub(super) fn tls(path: &str, mut keys: CheckKeys) -> Result<CheckKind, Fault> {
    let handshake = handshake(&mut keys);
    Ok(match steps(path, keys)? {
        Some(steps) => talk(path, TalkCheck { tls: Some(handshake), steps })?,
        None => CheckKind::Tls(handshake),
    })
}

pub(super) fn quic(path: &str, mut keys: CheckKeys) -> Result<CheckKind, Fault> {
    if keys.alpn.as_ref().is_some_and(Vec::is_empty) {
        return Err(Fault::rule(format!("{path}.alpn"), "must name a protocol: QUIC does not do without"));
    }
    let mut handshake = handshake(&mut keys);
    if handshake.alpn.is_empty() {
        handshake.alpn.push(DEFAULT_QUIC_ALPN.to_owned());
    }
    Ok(CheckKind::Quic(handshake))
}

pub(super) fn http(version: HttpVersion, tls: bool, keys: CheckKeys) -> CheckKind {
    CheckKind::Http(HttpCheck {
        version,
        tls: tls.then(|| terms(&keys)),
        path: keys.path.map_or_else(|| "/".to_owned(), Plain::plain),
        host: keys.host.map(Plain::plain),
        status: keys.status.map_or((200, 399), Plain::plain),
        body_contains: keys.body_contains,
    })
}

pub(super) fn dns(path: &str, keys: CheckKeys) -> Result<CheckKind, Fault> {
    let Some(name) = keys.query else {
        return Err(Fault::rule(format!("{path}.query"), "must give the name to ask for"));
    };
    Ok(CheckKind::Dns(DnsCheck {
        name: name.plain(),
        record_type: keys.query_type.map_or(RecordType::A, Plain::plain),
        rcode: keys.rcode.map_or(ResponseCode::NOERROR, Plain::plain),
        answer: keys.answer.map(Plain::plain),
    }))
}

pub(super) fn command(path: &str, keys: CheckKeys) -> Result<CheckKind, Fault> {
    let argv = keys.argv.unwrap_or_default();
    let program = argv.first().is_some_and(|program| !program.is_empty());
    if !program || argv.iter().any(|a| a.contains('\0')) {
        let message = "must name a program, then its arguments, such as [\"/usr/bin/pg_isready\", \"-q\"]";
        return Err(Fault::rule(format!("{path}.argv"), message));
    }
    let max_output = keys.max_output_bytes.map_or(DEFAULT_MAX_OUTPUT, Plain::plain);
    Ok(CheckKind::Command { argv, max_output })
}

fn terms(keys: &CheckKeys) -> TlsTerms {
    TlsTerms {
        verify: keys.verify.unwrap_or(true),
        min_days_to_expiry: keys.min_days_to_expiry.map(Plain::plain),
    }
}

fn handshake(keys: &mut CheckKeys) -> HandshakeCheck {
    HandshakeCheck {
        host: keys.host.take().map(Plain::plain),
        alpn: keys.alpn.take().map(Plain::plain).unwrap_or_default(),
        terms: terms(keys),
    }
}

/// The steps of a conversation; `send` and `expect` are one step.
fn steps(path: &str, keys: CheckKeys) -> Result<Option<Vec<TalkStep>>, Fault> {
    let alone = keys.send.is_some() || keys.expect.is_some();
    match keys.steps {
        Some(_) if alone => {
            Err(Fault::rule(format!("{path}.steps"), "give either steps, or send and expect beside them"))
        }
        Some(steps) => Ok(Some(steps.into_iter().map(step).collect())),
        None => Ok(alone.then(|| vec![step(StepKeys { send: keys.send, expect: keys.expect })])),
    }
}

fn step(keys: StepKeys) -> TalkStep {
    TalkStep {
        send: keys.send.map(Plain::plain).unwrap_or_default(),
        expect: keys.expect.map(Plain::plain).unwrap_or_default(),
    }
}

fn talk(path: &str, talk: TalkCheck) -> Result<CheckKind, Fault> {
    match talk.check_steps() {
        Ok(()) => Ok(CheckKind::Talk(talk)),
        Err(wrong) => Err(Fault::rule(format!("{path}.steps"), wrong)),
    }
}
