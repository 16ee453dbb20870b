//! Queries as resolvers send them, and answers to those of checks.

use super::ID;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

fn message(id: u16, name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message encodes")
}

/// One of each sort of question, with and without what EDNS adds.
pub(super) fn queries() -> Vec<(String, Vec<u8>)> {
    use RecordType::{A, AAAA, ANY, CAA, CDS, CNAME, DNSKEY, DS, HTTPS, MX, NS, NSEC, SOA, SRV, SVCB, TXT};
    let mut all = Vec::new();
    for (name, rtype) in [
        ("a.b.", A),
        ("A.b.", AAAA),
        ("a.b.", TXT),
        ("a.b.", MX),
        ("a.b.", ANY),
        ("a.b.", CAA),
        ("a.b.", HTTPS),
        ("a.b.", SVCB),
        ("b.", SOA),
        ("b.", NS),
        ("s.", A),
        ("s.", AAAA),
        ("s.", DNSKEY),
        ("s.", CDS),
        ("s.", NSEC),
        ("x.s.", A),
        ("c.a.b.", CNAME),
        ("l.a.b.", A),
        ("x.d.a.b.", A),
        ("d.a.b.", DS),
        ("q.w.a.b.", A),
        ("m0.a.b.", A),
        ("_https._tcp.a.b.", SRV),
        ("abcdefghij234567.probe.a.b.", A),
        ("nothing.example.", A),
        (".", NS),
    ] {
        let mut query = message(0x0001, name, rtype);
        let label = format!("{}{rtype}", name.replace('.', "-"));
        // Every other one without EDNS, and of those with it every other one signed.
        if all.len() % 3 > 0 {
            query.set_edns(edns(all.len() % 3 == 2, &[]));
        }
        all.push((label, bytes(&query)));
    }
    let options: [(&str, u16, Vec<u8>); 8] = [
        ("subnet4", 8, vec![0, 1, 24, 0, 198, 51, 100]),
        ("subnet6", 8, vec![0, 2, 48, 0, 0x20, 1, 0xd, 0xb8, 0, 7]),
        ("subnet0", 8, vec![0, 1, 0, 0]),
        ("subnet-none", 8, vec![0, 0, 0, 0]),
        ("cookie", 10, vec![7; 8]),
        ("cookie-both", 10, vec![7; 24]),
        ("nsid", 3, Vec::new()),
        ("keepalive-padding", 11, Vec::new()),
    ];
    for (label, code, data) in options {
        for (name, signed) in [("a.b.", false), ("s.", true)] {
            let mut query = message(0x8001, name, RecordType::A);
            query.set_edns(edns(signed, &[(code, data.clone()), (12, vec![0; 4])]));
            all.push((format!("{label}-{}", &name[..1]), bytes(&query)));
        }
    }
    // Compact answers are asked for beside DO, and alone, where it means nothing (RFC 9824 §5.1).
    for (label, flags) in [("compact", 0xc0), ("compact-unsigned", 0x40)] {
        for name in ["x.s.", "s."] {
            let mut query = message(0x0001, name, RecordType::AAAA);
            query.set_edns(edns(true, &[]));
            let mut query = bytes(&query);
            // The flags of OPT, behind which stands only the length of no data.
            let at = query.len() - 4;
            query[at] = flags;
            all.push((format!("{label}-{}", &name[..1]), query));
        }
    }
    let mut chaos = bytes(&message(1, "version.bind.", RecordType::TXT));
    let class = chaos.len() - 1;
    chaos[class] = 3;
    all.push(("chaos".into(), chaos));
    all
}

fn edns(signed: bool, options: &[(u16, Vec<u8>)]) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.set_dnssec_ok(signed);
    for (code, data) in options {
        edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::from(*code).into(), data.clone()));
    }
    edns
}

/// Answers to a check's query for `a.b`.
pub(super) fn answers() -> Vec<(String, Vec<u8>)> {
    let answer = |data: Vec<RData>| {
        let mut message = message(ID, "a.b.", RecordType::A);
        message.metadata.message_type = MessageType::Response;
        for data in data {
            message.add_answer(Record::from_rdata(Name::from_ascii("a.b.").expect("a name"), 60, data));
        }
        bytes(&message)
    };
    let alias = || CNAME(Name::from_ascii("c.a.b.").expect("a name"));
    vec![
        ("address".into(), answer(vec![RData::A(A::new(192, 0, 2, 1))])),
        ("other".into(), answer(vec![RData::A(A::new(192, 0, 2, 2))])),
        ("alias".into(), answer(vec![RData::CNAME(alias()), RData::TXT(TXT::new(vec!["\u{1b}[2J".into()]))])),
        ("none".into(), answer(Vec::new())),
        ("query".into(), bytes(&message(ID, "a.b.", RecordType::A))),
    ]
}
