//! Messages, datagrams and frames.

use super::{broker, named, person, records, version};
use nearmost_core::id::NodeId;
use nearmost_replica::PublicKey;
use nearmost_replica::digest::{Prefix, Slot, View};
use nearmost_replica::message::{Answer, Message};
use nearmost_replica::set::Tree;
use nearmost_wire::agent::{self, BeaconGrant, Report, ServiceDecl, ServiceReport};
use nearmost_wire::beacon::{Beacon, FLAG_DRAINING, SiteKey};
use nearmost_wire::client::{self, Declined, Measured, Mirror, Resolved, Rtt, Taken};
use nearmost_wire::facts::{
    Fact, FactAsk, FactFamily, FactLoad, FactLook, FactMessage, FactSet, FactState, FactWord,
};
use nearmost_wire::fare::{Cause, Fare, Move};
use nearmost_wire::frame::encode;
use nearmost_wire::grant::{Delegation, Grant, Granted};
use nearmost_wire::ingress::control::{self, Accepted, Attach, RefuseReason, Refused, Role};
use nearmost_wire::ingress::datagram::{Ack, FromClient, FromMirror, Packet};
use nearmost_wire::ingress::flow::{FlowKind, Open, OpenAnswer, OpenError};
use nearmost_wire::list::{Change, Entry, Fate, List, Reach, Signed, Standing as Stands, Version, Word};
use nearmost_wire::paths::{MeasureOrder, Measurement, PathSample};
use nearmost_wire::peer::{Hello, Join, PROTOCOL};
use nearmost_wire::registry::ProbeBody;
use nearmost_wire::standing::{MirrorStanding, Standing};
use nearmost_wire::witness::{Decline, WitnessOrder, WitnessOutcome, WitnessResult};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Seeds = Vec<(String, Vec<u8>)>;

/// Version and body, as decoders get them.
fn body(message: &impl Serialize) -> Vec<u8> {
    encode(message).expect("it encodes")[4..].to_vec()
}

fn address() -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1).into()
}

fn secret() -> nearmost_wire::beacon::BeaconSecret {
    SiteKey::new(&[1; 32]).beacon_secret(&NodeId([2; 32]), 1)
}

pub(super) fn agent() -> Seeds {
    let service = ServiceDecl {
        domain: "a.b".into(),
        mirror: "c".into(),
        addresses: vec![address()],
        hostname: Some("h.a.b".into()),
        port: 443,
        weight: 100,
        probe: ProbeBody::default(),
        url: Some("https://c.a.b/x".into()),
        ingress: Some(7850),
    };
    let report = ServiceReport {
        domain: "a.b".into(),
        mirror: "c".into(),
        healthy: true,
        ready: true,
        stopped: false,
        problem: Some("http: expected 200, found 500".into()),
        connections: 3,
        capacity: 100,
    };
    let sample = |network: &str| PathSample {
        network: network.parse().expect("a prefix"),
        rtt_us: 20_000,
        connections: 2,
    };
    let hello = agent::Hello { version: "1".into(), boot: 1, services: vec![service], place: None };
    let results = vec![
        WitnessResult { id: 1, outcome: WitnessOutcome::Passed { rtt_us: 900 } },
        WitnessResult { id: 2, outcome: WitnessOutcome::Failed { reason: "refused".into() } },
        WitnessResult { id: 3, outcome: WitnessOutcome::Declined(Decline::TooFast) },
    ];
    let order = WitnessOrder {
        id: 1,
        domain: "a.b".into(),
        mirror: "c".into(),
        address: address(),
        port: 443,
        probe: ProbeBody::default(),
        attempts_ms: vec![0, 20, 40],
        timeout_ms: 300,
    };
    let standing = MirrorStanding {
        domain: "a.b".into(),
        mirror: "c".into(),
        family: "v4".into(),
        state: "up".into(),
        reason: "probe_passed".into(),
        vantage: "broker".into(),
        since_unix_ms: 1,
        eligible: true,
    };
    let grant = || BeaconGrant { secret: secret(), port: 7842, period_ms: 200 };
    let paths = vec![sample("192.0.2.0/24"), sample("2001:db8::/48")];
    named([
        body(&agent::ToBroker::Join { secret: [3; 16], name: Some("n".into()) }),
        body(&agent::ToBroker::Hello(hello)),
        body(&agent::ToBroker::Report(Report {
            seq: 1,
            draining: true,
            cpu: 0.5,
            memory: 0.25,
            services: vec![report],
        })),
        body(&agent::ToBroker::Goodbye),
        body(&agent::ToBroker::Paths { domain: "a.b".into(), mirror: "c".into(), samples: paths }),
        body(&agent::ToBroker::Measured { results: vec![Measurement { id: 1, rtt_us: Some(1) }] }),
        body(&agent::ToBroker::Witnessed { results }),
        body(&agent::ToAgent::Joined { name: "n".into(), domains: vec!["a.b".into()] }),
        body(&agent::ToAgent::Welcome { beacon: grant(), observed: address(), warnings: vec!["w".into()] }),
        body(&agent::ToAgent::Beacon(grant())),
        body(&agent::ToAgent::Ack { seq: 1 }),
        body(&agent::ToAgent::Measure {
            orders: vec![MeasureOrder { id: 1, address: address(), port: 443 }],
        }),
        body(&agent::ToAgent::Witness { orders: vec![order] }),
        body(&Standing { verdicts: vec![standing] }),
    ])
}

pub(super) fn client() -> Seeds {
    let mirror =
        || Mirror { name: "c".into(), addresses: vec![address()], port: 443, rtt_ms: 1.5, eligible: true };
    let rtt = Rtt {
        domain: "a.b".into(),
        rtts: vec![Measured { mirror: "c".into(), rtt_ms: 1.5 }],
        nonce: Some("abcdefghij234567".into()),
        tried: vec!["d".into()],
        failed: vec!["e".into()],
    };
    let resolved = Resolved {
        domain: "a.b".into(),
        observed: address(),
        ttl_s: 20,
        mirrors: vec![mirror()],
        measure: vec!["c".into()],
    };
    let refused = Some(Declined { code: "too_many".into(), message: "too many".into() });
    let version = Version { source: 1, number: 2 };
    named([
        body(&client::ToBroker::Resolve { domain: "a.b".into() }),
        body(&client::ToBroker::Rtt(rtt)),
        body(&client::ToBroker::Subscribe { domain: "a.b".into(), have: Some(version) }),
        body(&client::ToClient::Resolved(resolved)),
        body(&client::ToClient::Taken(Taken { accepted: 1, tied: true, measure: vec![mirror()], refused })),
        body(&client::ToClient::List(Signed::sign(&broker(), &word()))),
    ])
}

const UNTIL: u64 = 1_700_086_400_000;

fn entry() -> Entry {
    let node = [7; 32];
    let granted = Granted { domain: "a.b", mirror: "c", node: &node };
    Entry {
        name: "c".into(),
        node,
        at: Reach { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), v6: Some(Ipv6Addr::LOCALHOST), port: 7850 },
        rtt_us: 20_000,
        weight: 100,
        tier: 1,
        fate: Fate { site: 1, asn: 64_500, region: 3 },
        standing: Stands::Endangered,
        grant: Some(Grant::sign(&broker(), granted, UNTIL)),
    }
}

fn delegation() -> Delegation {
    Delegation::sign(&person(), "a.b", &broker().id(), 0, UNTIL).expect("a domain")
}

fn word() -> Word {
    Word::List(List {
        domain: "a.b".into(),
        version: Version { source: 1, number: 2 },
        issued_ms: 1_700_000_000_000,
        delegations: vec![delegation()],
        mirrors: vec![entry(), Entry { grant: None, ..entry() }],
    })
}

pub(super) fn list() -> Seeds {
    let change = Word::Change(Change {
        domain: "a.b".into(),
        from: 2,
        to: Version { source: 1, number: 3 },
        issued_ms: 1_700_000_000_000,
        put: vec![entry()],
        removed: vec!["d".into()],
    });
    named([word(), change].map(|word| postcard::to_allocvec(&word).expect("it encodes")))
}

pub(super) fn ingress() -> Seeds {
    let packet = Packet { flow: 1, number: 300, payload: b"hello" };
    let ack = Some(Ack { seq: 70_000, held_us: 5_000_000_000 });
    let from_client = [
        FromClient::Beacon { seq: 1, ask: true, role: Role::Primary, period_ms: 50 },
        FromClient::Beacon { seq: 20_000, ask: false, role: Role::Standby, period_ms: 1000 },
        FromClient::Data { seq: 2, packet },
    ];
    let from_mirror = [
        FromMirror::Beacon { seq: 1, ack: None },
        FromMirror::Beacon { seq: 1, ack },
        FromMirror::Data { seq: 1 << 40, ack, packet },
    ];
    let up = from_client.map(|datagram| datagram.encode().expect("within its bounds"));
    let down = from_mirror.map(|datagram| datagram.encode().expect("within its bounds"));
    let attach = Attach { domain: "a.b".into(), session: 9, role: Role::Primary };
    let refused = Refused { reason: RefuseReason::Full, retry_after_ms: 5, go_to: Some("d".into()) };
    let moves = vec![Move { cause: Cause::ALL[0], gap_ms: 80 }];
    let rest = [
        body(&control::ToMirror::Attach(attach)),
        body(&control::ToMirror::Retired),
        body(&control::ToClient::Accepted(Accepted {
            role: Role::Standby,
            udp: true,
            tcp: true,
            max_flows: 9,
        })),
        body(&control::ToClient::Refused(refused)),
        body(&control::ToClient::Drain { go_to: None, within_ms: 30_000 }),
        body(&Open { kind: FlowKind::Tcp }),
        body(&OpenAnswer::Opened),
        body(&OpenAnswer::Failed { code: OpenError::Timeout }),
        body(&Fare { attached: true, standby: true, moves, left_out: 1, lost: 2 }),
    ];
    named(up.into_iter().chain(down).chain(rest))
}

pub(super) fn peer() -> Seeds {
    let bytes = || records().iter().map(|record| record.bytes().to_vec()).collect::<Vec<_>>();
    let fact = Fact {
        domain: "a.b".into(),
        mirror: "c".into(),
        family: FactFamily::V4,
        outside: Some(FactLook { reached: true, rtt_us: Some(900), age_us: 5 }),
        agent: Some(FactWord { word: FactState::Failing, age_us: 7 }),
        load: Some(FactLoad { cpu: 0.5, memory: 0.25, connections: 3, capacity: 100 }),
    };
    let ask = FactAsk { domain: "a.b".into(), mirror: "c".into(), family: FactFamily::V6 };
    let root = Prefix::ROOT;
    let part = root.child(3).expect("it has parts");
    let leaf = View::Leaf(vec![(Slot([0x30; 16]), version(1)), (Slot([0x31; 16]), version(2))]);
    let tree = Tree::Rest;
    let messages: [Message; 13] = [
        Message::Deliver { batch: 1, records: bytes() },
        Message::Answers { batch: 1, answers: vec![Answer::Applied, Answer::Gone, Answer::MissingGrant] },
        Message::Compare { tree: Tree::Rights, root: version(1) },
        Message::Told { tree, part: root, view: View::Inner(Box::new([version(1); 16])) },
        Message::Told { tree, part, view: leaf },
        Message::Take { tree, part },
        Message::Fetch { tree, slots: vec![Slot([1; 16])] },
        Message::Records { tree, records: bytes(), done: true },
        Message::Finished { tree },
        Message::Announce { boot: 1 },
        Message::Fork { a: bytes().swap_remove(0), b: bytes().swap_remove(1) },
        Message::Seen { peers: vec![PublicKey([1; 32])] },
        Message::Proofs { records: bytes() },
    ];
    let join = Some(Join { secret: [3; 16], addresses: vec!["b.example:7843".into()] });
    let others = [
        body(&Hello { protocol: PROTOCOL, software: "nearmost".into(), join }),
        body(&FactMessage::Facts(FactSet { facts: vec![fact] })),
        body(&FactMessage::Ask(ask)),
    ];
    named(messages.iter().map(body).chain(others))
}

pub(super) fn frames() -> Seeds {
    let attach = Attach { domain: "a.b".into(), session: 9, role: Role::Primary };
    let one = encode(&control::ToMirror::Attach(attach)).expect("it encodes");
    let two = encode(&control::ToMirror::Retired).expect("it encodes");
    named([[&one[..], &two].concat(), two, vec![0; 4], vec![0, 0, 2, 0, 1], vec![0xff; 8], Vec::new()])
}

pub(super) fn beacons() -> Seeds {
    let secret = secret();
    let beacon = Beacon {
        flags: FLAG_DRAINING,
        key_epoch: secret.key_epoch,
        tag: secret.tag,
        boot: 1_700_000_000_000,
        seq: 7,
        sent_us: 1_400_000,
    };
    let mut forged = beacon.encode(&secret.prepare());
    forged[20] ^= 1;
    named([beacon.encode(&secret.prepare()).to_vec(), forged.to_vec()])
}
