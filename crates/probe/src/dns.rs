//! DNS checks: one query over UDP, again over TCP when the answer is cut short (RFC 7766).

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::{any_address, connect, reason};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use nearmost_core::check::{DnsCheck, ResponseCode};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

/// Without EDNS no answer over UDP is larger (RFC 1035 section 2.3.4); larger ones are read all the same.
const DATAGRAM_BYTES: usize = 4096;

/// Carries out the check. Datagrams that do not answer the query are waited past: they may be forged.
pub async fn run(deadline: &Deadline, target: SocketAddr, check: &DnsCheck) -> Result<(), Failure> {
    let question = Question::new(check, rand::random()).map_err(Failure::silence)?;
    let expected = format!("expected a DNS answer from {target}");
    let mut wrong = None;
    let asking = by_udp(target, &question, &mut wrong);
    let answer = match tokio::time::timeout_at(deadline.at(), asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => return Err(Failure::io(&expected, &e)),
        Err(_) => {
            return Err(match wrong {
                Some(wrong) => Failure::answer(format!("{expected}, found {wrong}")),
                None => Failure::silence(deadline.missed(&expected)),
            });
        }
    };
    let answer = match answer.metadata.truncation {
        false => answer,
        true => by_tcp(deadline, target, &question).await?,
    };
    judge(&answer, check).map_err(Failure::answer)
}

/// A query under way.
pub(crate) struct Question {
    query: Query,
    id: u16,
    bytes: Vec<u8>,
}

impl Question {
    pub(crate) fn new(check: &DnsCheck, id: u16) -> Result<Question, String> {
        let shown = || reason::quote(check.name.as_bytes(), 60);
        let mut name = Name::from_ascii(&check.name)
            .map_err(|e| format!("expected a name to ask for, found {}: {e}", shown()))?;
        name.set_fqdn(true);
        let query = Query::query(name, RecordType::from(check.record_type.0));
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        // Resolvers want it; servers of zones do not mind.
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let bytes = message.to_vec().map_err(|e| format!("the query for {} cannot be made: {e}", shown()))?;
        Ok(Question { query, id, bytes })
    }

    /// The answer in these bytes; else what they are.
    pub(crate) fn answer(&self, bytes: &[u8]) -> Result<Message, String> {
        if !holds_what_it_counts(bytes) {
            return Err(format!(
                "{} bytes that are no DNS message: it counts more than it holds",
                bytes.len()
            ));
        }
        let message = Message::from_vec(bytes)
            .map_err(|e| format!("{} bytes that are no DNS message: {e}", bytes.len()))?;
        let asked = &self.query;
        // Servers that cannot make sense of a query may answer without repeating it.
        let same = message.queries.iter().all(|q| {
            q.name() == asked.name()
                && q.query_type() == asked.query_type()
                && q.query_class() == asked.query_class()
        });
        match message.metadata.message_type == MessageType::Response && message.metadata.id == self.id && same
        {
            true => Ok(message),
            false => Err("a message that does not answer the query".into()),
        }
    }
}

/// Whether a message may hold as many questions and records as its header counts: room is set aside for those
/// before they are read, which a few bytes must not make megabytes of.
fn holds_what_it_counts(bytes: &[u8]) -> bool {
    // Name, type and class of a question; these, TTL and length of a record (RFC 1035 §4.1).
    const LEAST: [usize; 4] = [5, 11, 11, 11];
    let Some((header, rest)) = bytes.split_first_chunk::<12>() else { return false };
    let counts = header[4..].chunks_exact(2).map(|c| usize::from(c[0]) << 8 | usize::from(c[1]));
    counts.zip(LEAST).map(|(count, least)| count * least).sum::<usize>() <= rest.len()
}

async fn by_udp(
    target: SocketAddr,
    question: &Question,
    wrong: &mut Option<String>,
) -> std::io::Result<Message> {
    let socket = UdpSocket::bind(any_address(target)).await?;
    // Connected: only the target's datagrams arrive, and its refusals too.
    socket.connect(target).await?;
    socket.send(&question.bytes).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let n = socket.recv(&mut buffer).await?;
        match question.answer(&buffer[..n]) {
            Ok(answer) => return Ok(answer),
            Err(what) => *wrong = Some(what),
        }
    }
}

async fn by_tcp(deadline: &Deadline, target: SocketAddr, question: &Question) -> Result<Message, Failure> {
    let mut stream = connect(deadline, target).await?;
    let expected = format!("expected a DNS answer from {target} over TCP");
    let talk = async {
        let length = u16::try_from(question.bytes.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes(), question.bytes.as_slice()].concat()).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    match deadline.bound(&expected, talk).await? {
        Ok(bytes) => {
            question.answer(&bytes).map_err(|what| Failure::answer(format!("{expected}, found {what}")))
        }
        Err(e) => Err(Failure::io(&expected, &e)),
    }
}

/// Whether the answer is what the check wants.
pub(crate) fn judge(answer: &Message, check: &DnsCheck) -> Result<(), String> {
    // Extended codes need EDNS, which was not offered: the lower four bits are all there is.
    let rcode = ResponseCode(answer.metadata.response_code.low());
    if rcode != check.rcode {
        return Err(format!("expected response code {}, found {rcode}", check.rcode));
    }
    let Some(wanted) = &check.answer else { return Ok(()) };
    let data: Vec<&RData> = answer.answers.iter().map(|record| &record.data).collect();
    let found = match wanted.parse::<IpAddr>() {
        Ok(ip) => data.iter().any(|data| data.ip_addr() == Some(ip)),
        Err(_) => data.iter().any(|data| data.to_string().contains(wanted.as_str())),
    };
    if found {
        return Ok(());
    }
    let shown: Vec<String> = data.iter().take(8).map(ToString::to_string).collect();
    let shown = if shown.is_empty() { "none".into() } else { reason::quote(shown.join(", ").as_bytes(), 80) };
    Err(format!("expected an answer with {}, found {shown}", reason::quote(wanted.as_bytes(), 60)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::check::RecordType as Type;
    use proptest::prelude::*;

    fn check(name: &str) -> DnsCheck {
        DnsCheck { name: name.into(), record_type: Type::A, rcode: ResponseCode::NOERROR, answer: None }
    }

    #[test]
    fn a_message_that_counts_more_than_it_holds_is_none() {
        let question = Question::new(&check("a.b"), 1).expect("a question");
        let mut bytes = question.bytes.clone();
        bytes[2] |= 0x80;
        assert!(question.answer(&bytes).is_ok());
        for count in [4, 6, 8, 10] {
            let mut many = bytes.clone();
            many[count] = 0xff;
            let why = question.answer(&many).expect_err("refused");
            assert!(why.ends_with("it counts more than it holds"), "{why}");
        }
        assert!(question.answer(&bytes[..11]).is_err());
    }

    #[test]
    fn names_that_cannot_be_asked_for_are_named() {
        for name in ["a..b", &"x".repeat(64)] {
            let error = Question::new(&check(name), 1).err().expect("refused");
            assert!(error.contains("expected a name to ask for"), "{error}");
        }
    }

    #[test]
    fn only_the_answer_to_this_query_counts() {
        let question = Question::new(&check("Play.example"), 7).expect("a query");
        let reply = |id, name: &str| {
            let mut message = Message::response(id, OpCode::Query);
            let name = Name::from_ascii(name).expect("a name");
            message.add_query(Query::query(name, RecordType::A));
            message.to_vec().expect("bytes")
        };
        assert!(question.answer(&reply(7, "play.EXAMPLE.")).is_ok());
        assert!(question.answer(&reply(8, "play.example.")).is_err());
        assert!(question.answer(&reply(7, "other.example.")).is_err());
        assert!(question.answer(&question.bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, answer in prop::option::of("[a-z0-9.]{0,9}")) {
            let check = DnsCheck { answer, ..check("play.example") };
            let question = Question::new(&check, 7).expect("a query");
            if let Ok(message) = question.answer(&bytes) {
                let _ = judge(&message, &check);
            }
        }

        /// As above, of bytes that get past the header.
        #[test]
        fn any_answers_are_survived(count: u8, body: Vec<u8>) {
            let check = DnsCheck { answer: Some("x".into()), ..check("play.example") };
            let question = Question::new(&check, 7).expect("a query");
            let mut bytes = question.bytes.clone();
            bytes[2] |= 0x80;
            bytes[7] = count;
            bytes.extend_from_slice(&body);
            if let Ok(message) = question.answer(&bytes) {
                let _ = judge(&message, &check);
            }
        }
    }
}
