//! What brokers and agents say when an agent probes somebody else's mirror, to corroborate or dispel a
//! suspicion.
//!
//! An order says all that a probe needs; the agent decides by itself what it does for anybody, and says
//! so when it declines. Lists and texts that are longer than their bounds are refused as they are read.

use crate::name;
use crate::paths::bounded;
use crate::registry::{BuildDefaults, ProbeBody, plain_probe};
use nearmost_core::check::CheckKind;
use serde::de;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Most orders, and most results, in one message.
pub const MAX_ORDERS: usize = 64;
/// Most attempts of one order.
pub const MAX_ATTEMPTS: usize = 4;
/// Most characters of a reason.
pub const MAX_REASON_CHARS: usize = 200;

/// Latest start of an attempt, in milliseconds after the order came.
pub const MAX_OFFSET_MS: u16 = 1000;
/// How long one attempt may take, in milliseconds.
pub const TIMEOUT_MS: RangeInclusive<u32> = 10..=3000;
/// Most bytes of the datagram of a probe by udp.
pub const MAX_SEND: usize = 512;
/// Most bytes of a probe's description: paths, hosts and texts together.
pub const MAX_PROBE: usize = 2048;

/// A mirror that a broker wants probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WitnessOrder {
    /// Comes back with the result; means nothing to the agent.
    pub id: u64,
    /// Domain of the mirror.
    pub domain: String,
    /// Name of the mirror.
    pub mirror: String,
    /// Its user-facing address …
    pub address: IpAddr,
    /// … and port.
    pub port: u16,
    /// What is asked of it; the pace in there (`interval_ms`, `timeout_ms`, `rise`, `fall`) counts for
    /// nothing here.
    pub probe: ProbeBody,
    /// When each attempt starts, in milliseconds after the order came; at most [`MAX_ATTEMPTS`]. A later
    /// one does not wait for an earlier one's end.
    #[serde(deserialize_with = "attempts")]
    pub attempts_ms: Vec<u16>,
    /// Milliseconds after which an unanswered attempt failed.
    pub timeout_ms: u32,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessResult {
    /// [`WitnessOrder::id`].
    pub id: u64,
    /// How it ended.
    pub outcome: WitnessOutcome,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WitnessOutcome {
    /// An attempt was answered as expected. Later ones were not made.
    Passed {
        /// How long the answered attempt took, in microseconds.
        rtt_us: u32,
    },
    /// Every attempt failed.
    Failed {
        /// Why the last to end did, for people; at most [`MAX_REASON_CHARS`].
        #[serde(deserialize_with = "reason")]
        reason: String,
    },
    /// Nothing was sent.
    Declined(Decline),
}

/// Why an agent does not carry an order out. It says nothing of the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decline {
    /// The node's operator switched witnessing off.
    Disabled,
    /// An address, port or mirror that this agent does not probe for anybody.
    Forbidden,
    /// That address, or addresses near it, were probed too often lately.
    TooFast,
    /// The agent has no room for more now.
    Overload,
    /// An order that makes no sense, or that is larger than a probe needs to be.
    BadOrder,
}

impl Decline {
    /// Every reason.
    pub const ALL: [Decline; 5] =
        [Decline::Disabled, Decline::Forbidden, Decline::TooFast, Decline::Overload, Decline::BadOrder];

    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            Decline::Disabled => "disabled",
            Decline::Forbidden => "forbidden",
            Decline::TooFast => "too_fast",
            Decline::Overload => "overload",
            Decline::BadOrder => "bad_order",
        }
    }
}

/// For the fields of messages that hold orders or results.
pub(crate) fn orders<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    bounded::<_, _, MAX_ORDERS>(deserializer)
}

impl WitnessOrder {
    /// What is to be done, if the order makes sense and is no larger than a probe needs to be. Brokers
    /// can ask the same before they send it. Whom it is about is not looked at.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<CheckKind, String> {
        let domain = name::domain(&self.domain).map_err(|e| e.to_string())?;
        name::short(&self.mirror).map_err(|e| e.to_string())?;
        let starts = &self.attempts_ms;
        if starts.is_empty() || starts.len() > MAX_ATTEMPTS || !starts.is_sorted() {
            return Err(format!("attempts_ms {starts:?}: expected 1 to {MAX_ATTEMPTS}, in order"));
        }
        if let Some(late) = starts.iter().find(|ms| **ms > MAX_OFFSET_MS) {
            return Err(format!("attempts_ms {late}: expected at most {MAX_OFFSET_MS}"));
        }
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            let (low, high) = (TIMEOUT_MS.start(), TIMEOUT_MS.end());
            return Err(format!("timeout_ms {}: expected {low} to {high}", self.timeout_ms));
        }
        self.kind(&domain)
    }

    fn kind(&self, domain: &str) -> Result<CheckKind, String> {
        let size = postcard::to_stdvec(&self.probe).map_err(|e| format!("probe: {e}"))?.len();
        if size > MAX_PROBE {
            return Err(format!("probe of {size} bytes: expected at most {MAX_PROBE}"));
        }
        if let Some(host) = &self.probe.host {
            name::domain(host).map_err(|e| format!("probe host: {e}"))?;
        }
        // The pace is the order's own.
        let paced =
            ProbeBody { interval_ms: None, timeout_ms: None, rise: None, fall: None, ..self.probe.clone() };
        match plain_probe(&paced, domain, &BuildDefaults::default())?.map(|spec| spec.kind) {
            None => Err("probe kind none: nothing to probe".into()),
            Some(CheckKind::Command { .. }) => Err("commands are not run for anybody".into()),
            Some(CheckKind::Udp { send, .. }) if send.len() > MAX_SEND => {
                Err(format!("probe send of {} bytes: expected at most {MAX_SEND}", send.len()))
            }
            Some(kind) => Ok(kind),
        }
    }
}

fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    bounded::<_, _, MAX_ATTEMPTS>(deserializer)
}

fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let reason: &str = Deserialize::deserialize(deserializer)?;
    match reason.chars().nth(MAX_REASON_CHARS) {
        None => Ok(reason.to_owned()),
        Some(_) => Err(de::Error::invalid_length(reason.len(), &"a reason of at most 200 characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{ToAgent, ToBroker};
    use crate::frame::{self, MAX_FRAME};
    use crate::registry::ProbeKind;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn order(id: u64) -> WitnessOrder {
        WitnessOrder {
            id,
            domain: "play.example".into(),
            mirror: "lon".into(),
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            port: 443,
            probe: ProbeBody {
                kind: ProbeKind::Https,
                path: Some("/healthz".into()),
                ..ProbeBody::default()
            },
            attempts_ms: vec![0, 150, 300],
            timeout_ms: 400,
        }
    }

    fn reads<M: Serialize + serde::de::DeserializeOwned>(message: &M) -> bool {
        frame::decode::<M>(&frame::encode(message).unwrap()[4..]).is_ok()
    }

    #[test]
    fn a_full_message_of_usual_orders_fits_a_frame() {
        let orders: Vec<_> = (0..MAX_ORDERS as u64).map(order).collect();
        let message = ToAgent::Witness { orders };
        let bytes = frame::encode(&message).unwrap();
        assert!(bytes.len() < MAX_FRAME / 8, "{}", bytes.len());
        assert_eq!(frame::decode::<ToAgent>(&bytes[4..]).unwrap(), message);
    }

    #[test]
    fn longer_lists_and_texts_are_refused() {
        let failed =
            |chars| WitnessResult { id: 1, outcome: WitnessOutcome::Failed { reason: "é".repeat(chars) } };
        for (more, good) in [(0, true), (1, false)] {
            let orders = vec![order(1); MAX_ORDERS + more];
            assert_eq!(reads(&ToAgent::Witness { orders }), good);
            let often = WitnessOrder { attempts_ms: vec![0; MAX_ATTEMPTS + more], ..order(1) };
            assert_eq!(reads(&ToAgent::Witness { orders: vec![often] }), good);
            let results = vec![failed(1); MAX_ORDERS + more];
            assert_eq!(reads(&ToBroker::Witnessed { results }), good);
            let results = vec![failed(MAX_REASON_CHARS + more)];
            assert_eq!(reads(&ToBroker::Witnessed { results }), good);
        }
    }

    #[test]
    fn orders_that_make_no_sense_are_told_what_is_wrong() {
        assert!(matches!(order(1).check(), Ok(CheckKind::Http(http)) if http.tls.is_some()));
        let probe = |probe: ProbeBody| WitnessOrder { probe, ..order(1) };
        let long = |n: usize| Some("x".repeat(n));
        let of = |kind| ProbeBody { kind, ..ProbeBody::default() };
        let cases = [
            (WitnessOrder { domain: String::new(), ..order(1) }, "empty"),
            (WitnessOrder { mirror: "a.b".into(), ..order(1) }, "a.b"),
            (WitnessOrder { attempts_ms: vec![], ..order(1) }, "attempts_ms []"),
            (WitnessOrder { attempts_ms: vec![5, 4], ..order(1) }, "attempts_ms [5, 4]"),
            (WitnessOrder { attempts_ms: vec![0; 5], ..order(1) }, "expected 1 to 4"),
            (WitnessOrder { attempts_ms: vec![0, 1001], ..order(1) }, "attempts_ms 1001"),
            (WitnessOrder { timeout_ms: 9, ..order(1) }, "timeout_ms 9"),
            (WitnessOrder { timeout_ms: 3001, ..order(1) }, "timeout_ms 3001"),
            (probe(of(ProbeKind::None)), "kind none"),
            (probe(ProbeBody { send: long(513), ..of(ProbeKind::Udp) }), "513 bytes"),
            (probe(ProbeBody { body_contains: long(3000), ..of(ProbeKind::Http) }), "probe of 30"),
            (probe(ProbeBody { host: Some("a\r\nb".into()), ..of(ProbeKind::Http) }), "probe host"),
            (probe(ProbeBody { path: Some("a".into()), ..of(ProbeKind::Http) }), "probe path"),
        ];
        for (order, part) in cases {
            let error = order.check().expect_err(part);
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        let most = probe(ProbeBody { send: long(512), interval_ms: Some(0), ..of(ProbeKind::Udp) });
        assert!(most.check().is_ok());
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::BTreeSet<_> = Decline::ALL.iter().map(|d| d.label()).collect();
        assert_eq!(labels.len(), Decline::ALL.len());
    }

    fn outcome() -> impl Strategy<Value = WitnessOutcome> {
        prop_oneof![
            any::<u32>().prop_map(|rtt_us| WitnessOutcome::Passed { rtt_us }),
            "\\PC{0,200}".prop_map(|reason| WitnessOutcome::Failed { reason }),
            prop::sample::select(&Decline::ALL[..]).prop_map(WitnessOutcome::Declined),
        ]
    }

    fn any_order() -> impl Strategy<Value = WitnessOrder> {
        let whom = ("\\PC{0,20}", "\\PC{0,20}", any::<IpAddr>(), any::<u16>());
        let how =
            (any::<Option<String>>(), prop::collection::vec(any::<u16>(), 0..=MAX_ATTEMPTS), any::<u32>());
        (any::<u64>(), whom, how).prop_map(
            |(id, (domain, mirror, address, port), (send, attempts_ms, timeout_ms))| WitnessOrder {
                id,
                domain,
                mirror,
                address,
                port,
                probe: ProbeBody { kind: ProbeKind::Udp, send, ..ProbeBody::default() },
                attempts_ms,
                timeout_ms,
            },
        )
    }

    proptest! {
        #[test]
        fn messages_round_trip(
            orders in prop::collection::vec(any_order(), 0..8),
            results in prop::collection::vec((any::<u64>(), outcome()), 0..8),
        ) {
            let message = ToAgent::Witness { orders };
            let bytes = frame::encode(&message).unwrap();
            prop_assert_eq!(frame::decode::<ToAgent>(&bytes[4..]).unwrap(), message);
            let results = results.into_iter().map(|(id, outcome)| WitnessResult { id, outcome }).collect();
            let message = ToBroker::Witnessed { results };
            let bytes = frame::encode(&message).unwrap();
            prop_assert_eq!(frame::decode::<ToBroker>(&bytes[4..]).unwrap(), message);
        }

        /// Nothing panics.
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in [6u8, 5] {
                let body = [&[frame::VERSION, message][..], &bytes].concat();
                let _ = frame::decode::<ToAgent>(&body);
                let _ = frame::decode::<ToBroker>(&body);
            }
        }
    }
}
