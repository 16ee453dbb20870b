//! A DNS client: one question, one answer.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A query's bytes; with a client subnet when given.
pub fn query(name: &str, kind: RecordType, subnet: Option<IpNet>) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if let Some(net) = subnet {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        let option = ClientSubnet::new(net.trunc().addr(), net.prefix_len(), 0);
        edns.options_mut().insert(EdnsOption::Subnet(option));
        message.edns = Some(edns);
    }
    message.to_vec().expect("encodes")
}

/// Sends bytes over UDP and decodes the reply; `None` when none comes within a second.
pub async fn exchange(server: SocketAddr, query: &[u8]) -> Option<Message> {
    let any = if server.ip().is_loopback() { "127.0.0.1:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await.expect("bind");
    socket.connect(server).await.expect("connect");
    socket.send(query).await.expect("send");
    let mut buffer = vec![0; 4096];
    let n = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(Message::from_vec(&buffer[..n]).expect("a DNS message"))
}

/// The same over TCP.
pub async fn exchange_tcp(server: SocketAddr, query: &[u8]) -> Message {
    let mut stream = TcpStream::connect(server).await.expect("connect");
    stream.write_u16(query.len() as u16).await.expect("write");
    stream.write_all(query).await.expect("write");
    let n = stream.read_u16().await.expect("a reply");
    let mut reply = vec![0; n.into()];
    stream.read_exact(&mut reply).await.expect("all of it");
    Message::from_vec(&reply).expect("a DNS message")
}

/// The addresses of an answer, in its order.
pub fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|r| r.data.ip_addr()).collect()
}

/// The scope of the client subnet echoed, if any.
pub fn scope(message: &Message) -> Option<u8> {
    match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

/// The addresses for a client network.
pub async fn ask(server: SocketAddr, name: &str, subnet: &str) -> Vec<IpAddr> {
    let kind = RecordType::A;
    match exchange(server, &query(name, kind, Some(subnet.parse().expect("a prefix")))).await {
        Some(reply) => addresses(&reply),
        None => Vec::new(),
    }
}

/// The response code for a plain question.
pub async fn code(server: SocketAddr, name: &str, kind: RecordType) -> ResponseCode {
    exchange(server, &query(name, kind, None)).await.expect("a reply").metadata.response_code
}

/// The data of an answer's records.
pub fn data(message: &Message) -> Vec<&RData> {
    message.answers.iter().map(|r| &r.data).collect()
}
