//! A DNS client for questions to one server: over UDP, and over TCP where the answer is cut short.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Attempts over UDP.
const ATTEMPTS: usize = 2;
/// Largest answer over UDP.
const PAYLOAD: u16 = 1232;

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// UDP, then TCP where the answer is cut short.
    Udp,
    /// TCP alone.
    Tcp,
}

/// Asks one server; `recurse` asks it to look elsewhere.
///
/// # Errors
/// A sentence that says what happened.
pub async fn ask(
    at: SocketAddr,
    name: &Name,
    kind: RecordType,
    recurse: bool,
    by: By,
) -> Result<Message, String> {
    let id = number();
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = recurse;
    query.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.edns = Some(edns);
    let bytes = query.to_vec().map_err(|e| e.to_string())?;
    if by == By::Udp {
        let answer = over_udp(at, &bytes, &query).await?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
    }
    over_tcp(at, &bytes, &query).await
}

/// One that nobody can guess: the standard library keys each of these hashes by the system's random bytes.
fn number() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u16
}

/// Whether it answers this question, and no other.
fn belongs(answer: &Message, question: &Message) -> bool {
    let same = |(a, b): (&Query, &Query)| {
        a.name == b.name && a.query_type == b.query_type && a.query_class == b.query_class
    };
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        // A server that does not understand a question need not repeat it.
        && (answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError
            || answer.queries.len() == 1 && answer.queries.iter().zip(&question.queries).all(same))
}

/// Why this machine can send nothing to an address: it has no route, or not the family. Nothing is sent.
pub fn no_way(at: SocketAddr) -> Option<String> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // To connect a datagram socket looks for a route, and nothing else.
    let tried = std::net::UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(at));
    tried.err().map(|e| e.to_string())
}

async fn over_udp(at: SocketAddr, query: &[u8], asked: &Message) -> Result<Message, String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(PATIENCE, udp_once(at, query, asked)).await {
            Ok(Ok(message)) => return Ok(message),
            Ok(Err(e)) => last = e,
            Err(_) => last = "no answer over UDP".into(),
        }
    }
    Err(last)
}

async fn udp_once(at: SocketAddr, query: &[u8], asked: &Message) -> Result<Message, String> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let failed = |e: std::io::Error| format!("UDP: {e}");
    // Connected: nobody else's packet is taken, and a closed port is heard of.
    let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
    socket.connect(at).await.map_err(failed)?;
    socket.send(query).await.map_err(failed)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let n = socket.recv(&mut buffer).await.map_err(failed)?;
        match Message::from_vec(&buffer[..n]) {
            Ok(message) if belongs(&message, asked) => return Ok(message),
            Ok(_) => {}
            Err(e) => return Err(format!("the answer over UDP is no DNS message: {e}")),
        }
    }
}

async fn over_tcp(at: SocketAddr, query: &[u8], asked: &Message) -> Result<Message, String> {
    let failed = |e: std::io::Error| format!("TCP: {e}");
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.map_err(failed)?;
        let length = u16::try_from(query.len()).map_err(|e| e.to_string())?;
        let framed = [&length.to_be_bytes()[..], query].concat();
        stream.write_all(&framed).await.map_err(failed)?;
        let n = stream.read_u16().await.map_err(failed)?;
        let mut reply = vec![0; n.into()];
        stream.read_exact(&mut reply).await.map_err(failed)?;
        let answer =
            Message::from_vec(&reply).map_err(|e| format!("the answer over TCP is no DNS message: {e}"))?;
        match belongs(&answer, asked) {
            true => Ok(answer),
            false => Err("the answer over TCP is to another question".to_owned()),
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("no answer over TCP".into()))
}

/// `NOERROR`, `REFUSED`, …
pub fn code(message: &Message) -> String {
    match message.metadata.response_code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        other => format!("{other}"),
    }
}

/// Whether the server answered for itself and without an error.
pub fn authoritative(message: &Message) -> bool {
    message.metadata.authoritative && message.metadata.response_code == ResponseCode::NoError
}

/// Names of the name servers of `zone` among records.
pub fn servers<'a>(records: impl IntoIterator<Item = &'a Record>, zone: &Name) -> Vec<Name> {
    let ns = |r: &Record| match &r.data {
        RData::NS(ns) if r.name == *zone => Some(ns.0.to_lowercase()),
        _ => None,
    };
    let mut all: Vec<Name> = records.into_iter().filter_map(ns).collect();
    all.sort();
    all.dedup();
    all
}

/// Addresses of `name` among records.
pub fn addresses<'a>(records: impl IntoIterator<Item = &'a Record>, name: &Name) -> Vec<IpAddr> {
    records.into_iter().filter(|r| r.name == *name).filter_map(|r| r.data.ip_addr()).collect()
}

/// The serial number of `zone`'s SOA among an answer's records.
pub fn serial(message: &Message, zone: &Name) -> Option<u32> {
    message.answers.iter().find_map(|r| match &r.data {
        RData::SOA(soa) if r.name == *zone => Some(soa.serial),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_be_to_the_question() {
        let message = |id, kind, name: &str| {
            let mut message = Message::new(id, kind, OpCode::Query);
            message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
            message
        };
        let asked = message(7, MessageType::Query, "a.test.");
        assert!(belongs(&message(7, MessageType::Response, "A.test."), &asked));
        assert!(!belongs(&message(8, MessageType::Response, "a.test."), &asked));
        assert!(!belongs(&message(7, MessageType::Response, "b.test."), &asked));
        assert!(!belongs(&message(7, MessageType::Query, "a.test."), &asked));
        let mut bare = Message::new(7, MessageType::Response, OpCode::Query);
        assert!(!belongs(&bare, &asked));
        bare.metadata.response_code = ResponseCode::FormErr;
        assert!(belongs(&bare, &asked));
    }

    #[test]
    fn this_machine_has_a_way_to_itself() {
        assert_eq!(no_way(SocketAddr::from((Ipv4Addr::LOCALHOST, 53))), None);
    }
}
