//! Whether the broker's QUIC ports answer: a packet of a version that nobody speaks must be answered with the
//! versions that are spoken (RFC 9000 §6.1).

use super::Findings;
use super::answers::Host;
use super::ask::no_way;
use nearmost_client::api::CheckupResponse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_millis(1000);
const ATTEMPTS: usize = 2;
/// Shorter ones are dropped (RFC 9000 §14.1).
const LENGTH: usize = 1200;
/// Reserved for this: every server answers that it does not speak it (RFC 9000 §15).
const VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// Asks the port of each kind.
pub async fn look(host: &Host, checkup: &CheckupResponse, findings: &mut Findings) {
    for (kind, whom) in [("clients", "clients"), ("agents", "node agents"), ("peers", "other brokers")] {
        let Some(at) = checkup.listeners.iter().find(|l| l.kind == kind).and_then(|l| l.address.parse().ok())
        else {
            continue;
        };
        for at in host.reached(at) {
            if let Some(why) = no_way(at) {
                findings.ok("quic", format!("{at} is not testable from here: {why}"));
                continue;
            }
            match answers(at).await {
                Ok(()) => findings.ok("quic", format!("{at} answers {whom}")),
                Err(why) => findings.fail(
                    "quic",
                    format!("{at}, where {whom} connect, does not answer: {why}"),
                    format!("open udp/{} in every firewall on the way", at.port()),
                ),
            }
        }
    }
}

async fn answers(at: SocketAddr) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(PATIENCE, once(at)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => last = e.to_string(),
            Err(_) => last = format!("nothing within {} s", PATIENCE.as_secs()),
        }
    }
    Err(last)
}

async fn once(at: SocketAddr) -> std::io::Result<()> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(at).await?;
    socket.send(&packet()).await?;
    let mut buffer = [0; 1500];
    loop {
        let n = socket.recv(&mut buffer).await?;
        if is_negotiation(&buffer[..n]) {
            return Ok(());
        }
    }
}

/// A long header with two connection ids, padded.
fn packet() -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(VERSION);
    for id in [b"nearmost", b"doctor01"] {
        packet.push(8);
        packet.extend(id);
    }
    packet.resize(LENGTH, 0);
    packet
}

/// A long header of version 0, with our connection ids the other way round (RFC 8999 §6).
fn is_negotiation(packet: &[u8]) -> bool {
    packet.len() > 23
        && packet[0] & 0x80 != 0
        && packet[1..5] == [0; 4]
        && packet[5] == 8
        && packet[6..14] == *b"doctor01"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_ids() {
        let mut answer = vec![0x80, 0, 0, 0, 0, 8];
        answer.extend(b"doctor01");
        answer.push(8);
        answer.extend(b"nearmost");
        answer.extend([0, 0, 0, 1]);
        assert!(is_negotiation(&answer) && packet().len() == LENGTH);
        assert!(!is_negotiation(&answer[..20]) && !is_negotiation(&packet()));
    }
}
