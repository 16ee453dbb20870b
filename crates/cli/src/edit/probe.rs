//! How brokers probe a mirror, as flags of `nearmost mirror add` and `set`.

use super::clearable;
use crate::args::{Item, text_item};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nearmost_client::registry::{ProbeBody, ProbeKind, StepBody};

/// Fields of a probe. Bytes are text, or `hex:` and digits, as in files.
#[derive(Debug, Default, Args)]
pub struct ProbeFields {
    /// Probe by this; flags of other kinds that were set before are dropped
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    probe: Option<ProbeKind>,
    #[command(flatten)]
    pace: PaceFields,
    #[command(flatten)]
    http: HttpFields,
    #[command(flatten)]
    tls: TlsFields,
    #[command(flatten)]
    talk: TalkFields,
    #[command(flatten)]
    dns: DnsFields,
}

/// When, and how often.
#[derive(Debug, Default, Args)]
struct PaceFields {
    /// Time between two probes, in milliseconds
    #[arg(long, value_name = "MS")]
    probe_interval_ms: Option<u32>,
    /// Time after which a probe failed, in milliseconds
    #[arg(long, value_name = "MS")]
    probe_timeout_ms: Option<u32>,
    /// Successes in a row that make it good
    #[arg(long, value_name = "COUNT")]
    probe_rise: Option<u8>,
    /// Failures in a row that make it bad
    #[arg(long, value_name = "COUNT")]
    probe_fall: Option<u8>,
}

/// What HTTP is asked.
#[derive(Debug, Default, Args)]
struct HttpFields {
    /// HTTP path and query
    #[arg(long, value_name = "PATH")]
    probe_path: Option<String>,
    /// Good HTTP status, or range: 200 or 200-399
    #[arg(long, value_parser = status, value_name = "RANGE")]
    probe_status: Option<(u16, u16)>,
    /// Text that the HTTP body must contain
    #[arg(long, value_name = "TEXT")]
    probe_contains: Option<String>,
}

/// What TLS is held to.
#[derive(Debug, Default, Args)]
struct TlsFields {
    /// HTTP host and TLS server name
    #[arg(long, value_name = "HOST")]
    probe_host: Option<String>,
    /// Whether the certificate is verified
    #[arg(long, value_name = "BOOL")]
    probe_verify: Option<bool>,
    /// Fewest days to the certificate's expiry
    #[arg(long, value_name = "DAYS")]
    probe_min_days: Option<u32>,
    /// A protocol offered by TLS or QUIC; replaces all; an empty text clears
    #[arg(long, value_name = "NAME", value_parser = text_item)]
    probe_alpn: Vec<Item<String>>,
}

/// What is said to the service.
#[derive(Debug, Default, Args)]
struct TalkFields {
    /// UDP, TCP, TLS: what is sent; an empty text clears it
    #[arg(long, value_name = "BYTES", conflicts_with = "probe_step")]
    probe_send: Option<String>,
    /// UDP, TCP, TLS: what the reply must contain; an empty text clears it
    #[arg(long, value_name = "BYTES", conflicts_with = "probe_step")]
    probe_expect: Option<String>,
    /// TCP, TLS: a step of a conversation, send:BYTES or expect:BYTES; replaces all; an empty text clears
    #[arg(long, value_name = "STEP", value_parser = step_item)]
    probe_step: Vec<Item<StepBody>>,
}

/// What DNS is asked.
#[derive(Debug, Default, Args)]
struct DnsFields {
    /// DNS: the name asked for instead of the domain; an empty text clears it
    #[arg(long, value_name = "NAME")]
    probe_query: Option<String>,
    /// DNS: type of records
    #[arg(long, value_name = "TYPE")]
    probe_query_type: Option<String>,
    /// DNS: the response code that is good
    #[arg(long, value_name = "CODE")]
    probe_rcode: Option<String>,
    /// DNS: an address among the answers, or text in one; an empty text clears it
    #[arg(long, value_name = "TEXT")]
    probe_answer: Option<String>,
}

fn kinds() -> impl TypedValueParser<Value = ProbeKind> {
    let names = PossibleValuesParser::new(ProbeKind::ALL.map(ProbeKind::as_str));
    let find = |text: String| ProbeKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    names.try_map(move |text| find(text).ok_or("not a kind of probe"))
}

fn status(text: &str) -> Result<(u16, u16), String> {
    let number =
        |t: &str| t.parse::<u16>().map_err(|_| format!("{t:?} is not a status; write 200 or 200-399"));
    match text.split_once('-') {
        Some((low, high)) => Ok((number(low)?, number(high)?)),
        None => number(text).map(|n| (n, n)),
    }
}

fn step_item(text: &str) -> Result<Item<StepBody>, String> {
    Item::read(text, |t| match t.split_once(':') {
        Some(("send", bytes)) => Ok(StepBody { send: Some(bytes.to_owned()), expect: None }),
        Some(("expect", bytes)) => Ok(StepBody { send: None, expect: Some(bytes.to_owned()) }),
        _ => Err(format!("{t:?} is not a step; write send:BYTES or expect:BYTES")),
    })
}

/// A list that an empty text clears.
fn replace<T: Clone>(field: &mut Option<Vec<T>>, given: &[Item<T>]) {
    let mut list = field.take().unwrap_or_default();
    Item::replace(&mut list, given);
    *field = Some(list).filter(|list| !list.is_empty());
}

impl ProbeFields {
    /// Changes what is given.
    pub fn patch(&self, body: &mut ProbeBody) {
        if let Some(kind) = self.probe.filter(|kind| *kind != body.kind) {
            body.change_kind(kind);
        }
        let ProbeFields { probe: _, pace, http, tls, talk, dns } = self;
        body.interval_ms = pace.probe_interval_ms.or(body.interval_ms);
        body.timeout_ms = pace.probe_timeout_ms.or(body.timeout_ms);
        body.rise = pace.probe_rise.or(body.rise);
        body.fall = pace.probe_fall.or(body.fall);
        body.status = http.probe_status.or(body.status);
        clearable(&http.probe_path, &mut body.path);
        clearable(&http.probe_contains, &mut body.body_contains);
        body.verify = tls.probe_verify.or(body.verify);
        body.min_days_to_expiry = tls.probe_min_days.or(body.min_days_to_expiry);
        clearable(&tls.probe_host, &mut body.host);
        replace(&mut body.alpn, &tls.probe_alpn);
        talk.patch(body);
        clearable(&dns.probe_query, &mut body.query);
        clearable(&dns.probe_query_type, &mut body.query_type);
        clearable(&dns.probe_rcode, &mut body.rcode);
        clearable(&dns.probe_answer, &mut body.answer);
    }
}

impl TalkFields {
    /// One exchange and steps replace each other.
    fn patch(&self, body: &mut ProbeBody) {
        if !self.probe_step.is_empty() {
            (body.send, body.expect) = (None, None);
        } else if self.probe_send.is_some() || self.probe_expect.is_some() {
            body.steps = None;
        }
        clearable(&self.probe_send, &mut body.send);
        clearable(&self.probe_expect, &mut body.expect);
        replace(&mut body.steps, &self.probe_step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fields: ProbeFields,
    }

    fn patched(body: &ProbeBody, flags: &[&str]) -> ProbeBody {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap_or_else(|e| panic!("{e}"));
        let mut body = body.clone();
        line.fields.patch(&mut body);
        body
    }

    #[test]
    fn status_ranges_are_read() {
        assert_eq!(status("204"), Ok((204, 204)));
        assert_eq!(status("200-399"), Ok((200, 399)));
        assert!(status("2xx").is_err());
    }

    #[test]
    fn every_kind_can_be_given() {
        for kind in ProbeKind::ALL {
            assert_eq!(patched(&ProbeBody::default(), &["--probe", kind.as_str()]).kind, kind);
        }
        let error = Line::try_parse_from(["x", "--probe", "command"]).err().expect("refused").to_string();
        assert!(error.contains("tcp, tls, http, https, h2, h2c, udp, dns, quic, none"), "{error}");
    }

    #[test]
    fn flags_reach_their_keys() {
        let flags = "--probe dns --probe-query a.example --probe-query-type AAAA --probe-rcode NXDOMAIN \
                     --probe-answer ::1 --probe-rise 3 --probe-fall 4";
        let dns = patched(&ProbeBody::default(), &flags.split_whitespace().collect::<Vec<_>>());
        let text = |t: &str| Some(t.to_owned());
        let expected = ProbeBody {
            kind: ProbeKind::Dns,
            rise: Some(3),
            fall: Some(4),
            query: text("a.example"),
            query_type: text("AAAA"),
            rcode: text("NXDOMAIN"),
            answer: text("::1"),
            ..ProbeBody::default()
        };
        assert_eq!(dns, expected);
        // What the new kind does not have is gone.
        let tls = ["--probe", "tls", "--probe-min-days", "7", "--probe-alpn", "a", "--probe-alpn", "b"];
        let tls = patched(&dns, &tls);
        let expected = ProbeBody {
            kind: ProbeKind::Tls,
            rise: Some(3),
            fall: Some(4),
            min_days_to_expiry: Some(7),
            alpn: Some(vec!["a".into(), "b".into()]),
            ..ProbeBody::default()
        };
        assert_eq!(tls, expected);
        assert_eq!(patched(&tls, &["--probe-alpn", ""]).alpn, None);
        assert_eq!(patched(&tls, &["--probe", "tls"]), tls);
    }

    #[test]
    fn one_exchange_and_steps_replace_each_other() {
        let one = patched(&ProbeBody::default(), &["--probe-send", "PING\r\n", "--probe-expect", "+PONG"]);
        assert_eq!((one.send.as_deref(), one.expect.as_deref()), (Some("PING\r\n"), Some("+PONG")));
        let steps = patched(&one, &["--probe-step", "expect:220", "--probe-step", "send:a:b"]);
        assert_eq!((&steps.send, &steps.expect), (&None, &None));
        let step = |send: Option<&str>, expect: Option<&str>| StepBody {
            send: send.map(str::to_owned),
            expect: expect.map(str::to_owned),
        };
        assert_eq!(steps.steps, Some(vec![step(None, Some("220")), step(Some("a:b"), None)]));
        assert_eq!(patched(&steps, &["--probe-send", "x"]).steps, None);
        assert_eq!(patched(&steps, &["--probe-step", ""]).steps, None);
        assert!(Line::try_parse_from(["x", "--probe-step", "wait:1"]).is_err());
    }
}
