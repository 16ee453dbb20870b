//! Probes of mirrors from outside, as people write them, and the plain checks that they stand for.

use super::build::BuildDefaults;
use crate::name;
use nearmost_core::check::{
    CheckKind, CheckSpec, DEFAULT_QUIC_ALPN, DnsCheck, HandshakeCheck, HttpCheck, HttpVersion, RecordType,
    ResponseCode, TalkCheck, TalkStep, TlsTerms, foreign_key, kinds_with, payload,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A probe from outside. Absent parts take the broker's defaults. Agents' messages carry it too, in an
/// encoding without field names: no field may be skipped when writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeBody {
    /// What is asked.
    pub kind: ProbeKind,
    /// Milliseconds between two probes, in health mode `probe`; nothing goes by it, `rise` or `fall` elsewhere.
    pub interval_ms: Option<u32>,
    /// Milliseconds after which an unanswered probe failed.
    pub timeout_ms: Option<u32>,
    /// Successes that make it good, in health mode `probe`.
    pub rise: Option<u8>,
    /// Failures that make it bad, in health mode `probe`.
    pub fall: Option<u8>,
    /// HTTP: path and query.
    pub path: Option<String>,
    /// HTTP, TLS, QUIC: `Host` and TLS server name; default the domain.
    pub host: Option<String>,
    /// HTTP: lowest and highest good status.
    pub status: Option<(u16, u16)>,
    /// HTTP: text that the body must contain.
    pub body_contains: Option<String>,
    /// HTTPS, TLS, QUIC: verify the certificate; default true.
    pub verify: Option<bool>,
    /// HTTPS, TLS, QUIC: fewest days to its expiry.
    pub min_days_to_expiry: Option<u32>,
    /// TLS, QUIC: protocols offered, of which one must be chosen; default none, and `h3`.
    pub alpn: Option<Vec<String>>,
    /// UDP, TCP, TLS: what is sent, as text or `hex:` and digits.
    pub send: Option<String>,
    /// UDP, TCP, TLS: what the reply must contain, written alike.
    pub expect: Option<String>,
    /// TCP, TLS: steps of a conversation, in place of `send` and `expect`.
    pub steps: Option<Vec<StepBody>>,
    /// DNS: the name asked for; default the domain.
    pub query: Option<String>,
    /// DNS: type of records; default `A`.
    pub query_type: Option<String>,
    /// DNS: the response code that is good; default `NOERROR`.
    pub rcode: Option<String>,
    /// DNS: an address among the answers, or text that one of them must contain.
    pub answer: Option<String>,
}

/// One step of a conversation, in the same words as the probe's own; no field may be skipped either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepBody {
    /// What is sent.
    pub send: Option<String>,
    /// What is then waited for.
    pub expect: Option<String>,
}

impl Default for ProbeBody {
    fn default() -> Self {
        ProbeBody {
            kind: ProbeKind::Tcp,
            interval_ms: None,
            timeout_ms: None,
            rise: None,
            fall: None,
            path: None,
            host: None,
            status: None,
            body_contains: None,
            verify: None,
            min_days_to_expiry: None,
            alpn: None,
            send: None,
            expect: None,
            steps: None,
            query: None,
            query_type: None,
            rcode: None,
            answer: None,
        }
    }
}

impl ProbeBody {
    /// Its keys that not all kinds have, and whether each is given.
    pub fn keys(&self) -> [(&'static str, bool); 14] {
        [
            ("path", self.path.is_some()),
            ("host", self.host.is_some()),
            ("status", self.status.is_some()),
            ("body_contains", self.body_contains.is_some()),
            ("verify", self.verify.is_some()),
            ("min_days_to_expiry", self.min_days_to_expiry.is_some()),
            ("alpn", self.alpn.is_some()),
            ("send", self.send.is_some()),
            ("expect", self.expect.is_some()),
            ("steps", self.steps.is_some()),
            ("query", self.query.is_some()),
            ("query_type", self.query_type.is_some()),
            ("rcode", self.rcode.is_some()),
            ("answer", self.answer.is_some()),
        ]
    }

    /// Another kind; keys that it does not have are dropped.
    pub fn change_kind(&mut self, kind: ProbeKind) {
        fn keep<T>(kind: ProbeKind, key: &str, value: &mut Option<T>) {
            if !kinds_with(key).contains(&kind.as_str()) {
                *value = None;
            }
        }
        self.kind = kind;
        keep(kind, "path", &mut self.path);
        keep(kind, "host", &mut self.host);
        keep(kind, "status", &mut self.status);
        keep(kind, "body_contains", &mut self.body_contains);
        keep(kind, "verify", &mut self.verify);
        keep(kind, "min_days_to_expiry", &mut self.min_days_to_expiry);
        keep(kind, "alpn", &mut self.alpn);
        keep(kind, "send", &mut self.send);
        keep(kind, "expect", &mut self.expect);
        keep(kind, "steps", &mut self.steps);
        keep(kind, "query", &mut self.query);
        keep(kind, "query_type", &mut self.query_type);
        keep(kind, "rcode", &mut self.rcode);
        keep(kind, "answer", &mut self.answer);
    }
}

/// Kinds of outside probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// A TCP connection, or a conversation over it.
    Tcp,
    /// A TLS handshake, or a conversation after it.
    Tls,
    /// An HTTP request.
    Http,
    /// An HTTPS request.
    Https,
    /// An HTTP/2 request over TLS.
    H2,
    /// An HTTP/2 request in the clear.
    H2c,
    /// A datagram and its reply.
    Udp,
    /// A DNS query.
    Dns,
    /// A QUIC handshake.
    Quic,
    /// It cannot be probed from outside.
    None,
}

impl ProbeKind {
    /// Every kind.
    pub const ALL: [ProbeKind; 10] = [
        ProbeKind::Tcp,
        ProbeKind::Tls,
        ProbeKind::Http,
        ProbeKind::Https,
        ProbeKind::H2,
        ProbeKind::H2c,
        ProbeKind::Udp,
        ProbeKind::Dns,
        ProbeKind::Quic,
        ProbeKind::None,
    ];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Tcp => "tcp",
            ProbeKind::Tls => "tls",
            ProbeKind::Http => "http",
            ProbeKind::Https => "https",
            ProbeKind::H2 => "h2",
            ProbeKind::H2c => "h2c",
            ProbeKind::Udp => "udp",
            ProbeKind::Dns => "dns",
            ProbeKind::Quic => "quic",
            ProbeKind::None => "none",
        }
    }
}

/// The plain check of a probe of a mirror of `domain`; `None` for kind `none`. The error says what is
/// wrong with it.
pub(crate) fn check(
    body: &ProbeBody,
    domain: &str,
    defaults: &BuildDefaults,
) -> Result<Option<CheckSpec>, String> {
    if let Some((key, message)) = foreign_key(body.kind.as_str(), &body.keys()) {
        return Err(format!("probe {key}: {message}"));
    }
    let kind = match body.kind {
        ProbeKind::None => return Ok(None),
        ProbeKind::Tcp => match steps(body)? {
            Some(steps) => talk(TalkCheck { tls: None, steps })?,
            None => CheckKind::Tcp,
        },
        ProbeKind::Tls => match steps(body)? {
            Some(steps) => talk(TalkCheck { tls: Some(handshake(body, domain, &[])?), steps })?,
            None => CheckKind::Tls(handshake(body, domain, &[])?),
        },
        ProbeKind::Http => http(body, domain, HttpVersion::Http1, false)?,
        ProbeKind::Https => http(body, domain, HttpVersion::Http1, true)?,
        ProbeKind::H2 => http(body, domain, HttpVersion::Http2, true)?,
        ProbeKind::H2c => http(body, domain, HttpVersion::Http2, false)?,
        ProbeKind::Udp => {
            let TalkStep { send, expect } = step(&body.send, &body.expect)?;
            CheckKind::Udp { send, expect }
        }
        ProbeKind::Dns => dns(body, domain)?,
        ProbeKind::Quic => CheckKind::Quic(quic(body, domain)?),
    };
    paced(kind, body, defaults).map(Some)
}

/// The check at its own pace, or the usual one.
fn paced(kind: CheckKind, body: &ProbeBody, defaults: &BuildDefaults) -> Result<CheckSpec, String> {
    let duration =
        |ms: Option<u32>, default: Duration| ms.map_or(default, |ms| Duration::from_millis(ms.into()));
    let spec = CheckSpec {
        kind,
        interval: duration(body.interval_ms, defaults.probe_interval),
        timeout: duration(body.timeout_ms, defaults.probe_timeout),
        rise: body.rise.unwrap_or(defaults.probe_rise),
        fall: body.fall.unwrap_or(defaults.probe_fall),
    };
    match () {
        () if spec.interval < Duration::from_millis(100) => {
            Err("probe interval_ms: expected at least 100".into())
        }
        () if spec.timeout < Duration::from_millis(10) => {
            Err("probe timeout_ms: expected at least 10".into())
        }
        () if spec.rise == 0 || spec.fall == 0 => Err("probe rise and fall: expected at least 1".into()),
        () => Ok(spec),
    }
}

fn http(body: &ProbeBody, domain: &str, version: HttpVersion, tls: bool) -> Result<CheckKind, String> {
    let path = body.path.clone().unwrap_or_else(|| "/".into());
    if !path.starts_with('/') || path.chars().any(|c| c.is_control() || c == ' ') {
        return Err(format!("probe path {path:?}: expected it to begin with / and hold no spaces"));
    }
    let status = body.status.unwrap_or((200, 399));
    if status.0 > status.1 || status.0 < 100 || status.1 > 599 {
        return Err(format!("probe status {status:?}: expected a range within 100 to 599"));
    }
    Ok(CheckKind::Http(HttpCheck {
        version,
        tls: tls.then(|| terms(body)),
        path,
        host: Some(host(body, domain)),
        status,
        body_contains: body.body_contains.clone(),
    }))
}

fn host(body: &ProbeBody, domain: &str) -> String {
    body.host.clone().unwrap_or_else(|| domain.into())
}

fn terms(body: &ProbeBody) -> TlsTerms {
    TlsTerms { verify: body.verify.unwrap_or(true), min_days_to_expiry: body.min_days_to_expiry }
}

fn handshake(body: &ProbeBody, domain: &str, usual: &[&str]) -> Result<HandshakeCheck, String> {
    let usual = || usual.iter().map(ToString::to_string).collect();
    let alpn: Vec<String> = body.alpn.clone().unwrap_or_else(usual);
    if let Some(wrong) = alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
        return Err(format!("probe alpn {wrong:?}: expected protocols of 1 to 255 bytes"));
    }
    Ok(HandshakeCheck { host: Some(host(body, domain)), alpn, terms: terms(body) })
}

fn quic(body: &ProbeBody, domain: &str) -> Result<HandshakeCheck, String> {
    let handshake = handshake(body, domain, &[DEFAULT_QUIC_ALPN])?;
    match handshake.alpn.is_empty() {
        true => Err("probe alpn: must name a protocol: QUIC does not do without".into()),
        false => Ok(handshake),
    }
}

fn dns(body: &ProbeBody, domain: &str) -> Result<CheckKind, String> {
    let name = match &body.query {
        Some(query) => name::domain(query).map_err(|e| format!("probe query: {e}"))?,
        None => domain.into(),
    };
    let record_type = match &body.query_type {
        Some(text) => RecordType::parse(text)
            .ok_or_else(|| format!("probe query_type {text:?}: expected {}", RecordType::EXPECTED))?,
        None => RecordType::A,
    };
    let rcode = match &body.rcode {
        Some(text) => ResponseCode::parse(text)
            .ok_or_else(|| format!("probe rcode {text:?}: expected {}", ResponseCode::EXPECTED))?,
        None => ResponseCode::NOERROR,
    };
    Ok(CheckKind::Dns(DnsCheck { name, record_type, rcode, answer: body.answer.clone() }))
}

/// The steps of a conversation; `send` and `expect` are one step.
fn steps(body: &ProbeBody) -> Result<Option<Vec<TalkStep>>, String> {
    let alone = body.send.is_some() || body.expect.is_some();
    match &body.steps {
        Some(_) if alone => Err("probe steps: give either steps, or send and expect beside them".into()),
        Some(steps) => steps.iter().map(|s| step(&s.send, &s.expect)).collect::<Result<_, _>>().map(Some),
        None if alone => Ok(Some(vec![step(&body.send, &body.expect)?])),
        None => Ok(None),
    }
}

fn step(send: &Option<String>, expect: &Option<String>) -> Result<TalkStep, String> {
    let bytes = |key: &str, text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        payload(text).ok_or_else(|| {
            format!("probe {key} {text:?}: expected text, or hex: and pairs of hexadecimal digits")
        })
    };
    Ok(TalkStep { send: bytes("send", send)?, expect: bytes("expect", expect)? })
}

fn talk(talk: TalkCheck) -> Result<CheckKind, String> {
    talk.check_steps().map_err(|e| format!("probe steps: {e}"))?;
    Ok(CheckKind::Talk(talk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn built(body: serde_json::Value) -> Result<CheckKind, String> {
        let body: ProbeBody = serde_json::from_value(body).map_err(|e| e.to_string())?;
        // Agents' messages carry it without field names.
        let bytes = postcard::to_stdvec(&body).expect("encoded");
        assert_eq!(postcard::from_bytes::<ProbeBody>(&bytes).expect("decoded"), body);
        let spec = check(&body, "play.example", &BuildDefaults::default())?;
        Ok(spec.expect("a check").kind)
    }

    #[test]
    fn every_kind_stands_for_a_check() {
        let host = Some("play.example".to_owned());
        let terms = TlsTerms { verify: false, min_days_to_expiry: Some(3) };
        let handshake = HandshakeCheck { host: host.clone(), alpn: vec!["x".into()], terms };
        let keys = json!({ "kind": "tls", "alpn": ["x"], "verify": false, "min_days_to_expiry": 3 });
        assert_eq!(built(keys), Ok(CheckKind::Tls(handshake)));
        let h3 = HandshakeCheck { host, alpn: vec!["h3".into()], ..HandshakeCheck::default() };
        assert_eq!(built(json!({ "kind": "quic" })), Ok(CheckKind::Quic(h3)));
        let step = |send: &[u8], expect: &[u8]| TalkStep { send: send.into(), expect: expect.into() };
        let talk = TalkCheck { tls: None, steps: vec![step(b"PING\r\n", b"+PONG")] };
        let keys = json!({ "kind": "tcp", "send": "PING\r\n", "expect": "+PONG" });
        assert_eq!(built(keys), Ok(CheckKind::Talk(talk)));
        let steps = json!([{ "expect": "220" }, { "send": "hex:00 ff" }]);
        match built(json!({ "kind": "tls", "steps": steps })) {
            Ok(CheckKind::Talk(talk)) if talk.tls.is_some() => {
                assert_eq!(talk.steps, [step(b"", b"220"), step(&[0, 255], b"")]);
            }
            other => panic!("{other:?}"),
        }
        for (kind, version, tls) in [("h2", HttpVersion::Http2, true), ("h2c", HttpVersion::Http2, false)] {
            let built = built(json!({ "kind": kind }));
            assert!(
                matches!(&built, Ok(CheckKind::Http(h)) if h.version == version && h.tls.is_some() == tls),
                "{built:?}"
            );
        }
        let dns = DnsCheck {
            name: "play.example".into(),
            record_type: RecordType(28),
            rcode: ResponseCode(3),
            answer: None,
        };
        let keys = json!({ "kind": "dns", "query_type": "AAAA", "rcode": "NXDOMAIN" });
        assert_eq!(built(keys), Ok(CheckKind::Dns(dns)));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let steps = |steps| json!({ "kind": "tcp", "steps": steps });
        let cases = [
            (
                json!({ "kind": "http", "verify": true }),
                "probe verify: only checks of kind https or h2 or tls",
            ),
            (json!({ "kind": "tcp", "path": "/" }), "probe path: only checks of kind http or"),
            (json!({ "kind": "quic", "alpn": [] }), "probe alpn: must name a protocol"),
            (json!({ "kind": "tls", "alpn": [""] }), "probe alpn \"\": expected protocols of 1 to 255 bytes"),
            (json!({ "kind": "udp", "send": "hex:0" }), "probe send \"hex:0\": expected text, or hex:"),
            (json!({ "kind": "dns", "query": "a..b" }), "probe query: "),
            (json!({ "kind": "dns", "query_type": "B" }), "probe query_type \"B\": expected a record type"),
            (json!({ "kind": "dns", "rcode": "OK" }), "probe rcode \"OK\": expected \"NOERROR\""),
            (steps(json!([])), "probe steps: expected 1 to 16 steps, found 0"),
            (steps(json!([{}])), "probe steps: step 1 neither sends nor expects anything"),
            (json!({ "kind": "tcp", "send": "a", "steps": [] }), "probe steps: give either steps, or"),
            (json!({ "kind": "command" }), "unknown variant `command`"),
            (steps(json!([{ "sent": "a" }])), "unknown field `sent`"),
        ];
        for (body, message) in cases {
            let error = built(body.clone()).expect_err("refused");
            assert!(error.starts_with(message), "{body}: {error}");
        }
    }

    #[test]
    fn another_kind_keeps_only_its_own_keys() {
        let mut probe = ProbeBody {
            kind: ProbeKind::Https,
            rise: Some(3),
            path: Some("/".into()),
            host: Some("a.example".into()),
            verify: Some(false),
            ..ProbeBody::default()
        };
        probe.change_kind(ProbeKind::Tls);
        let kept = ProbeBody {
            kind: ProbeKind::Tls,
            rise: Some(3),
            host: Some("a.example".into()),
            verify: Some(false),
            ..ProbeBody::default()
        };
        assert_eq!(probe, kept);
        probe.change_kind(ProbeKind::None);
        assert_eq!(probe, ProbeBody { kind: ProbeKind::None, rise: Some(3), ..ProbeBody::default() });
    }
}
