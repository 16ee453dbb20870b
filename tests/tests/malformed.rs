//! Malformed packets of every kind on every port leave the broker serving.

use hickory_proto::rr::RecordType;
use nearmost_tests::dns;
use nearmost_tests::process::{Broker, directory};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

const DOMAIN: &str = "play.example.com";

/// Packets from nothing to noise; the noise is the same in every run.
fn garbage() -> Vec<Vec<u8>> {
    let mut packets = vec![vec![], vec![0], vec![0xff; 12], vec![0; 512], vec![0xff; 1400]];
    let good = dns::query(DOMAIN, RecordType::A, Some("212.58.224.0/24".parse().expect("a prefix")));
    packets.extend((1..good.len()).map(|n| good[..n].to_vec()));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for i in 0..400 {
        let mut packet = good.clone();
        for _ in 0..=(i % 7) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % packet.len();
            packet[at] = (state >> 32) as u8;
        }
        packets.push(packet);
    }
    packets
}

async fn throw_udp(at: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    for packet in garbage() {
        // A closed port would answer ICMP, which shows as an error of a later send.
        socket.send_to(&packet, at).await.expect("the port is open");
    }
}

async fn throw_tcp(at: SocketAddr) {
    for packet in garbage().into_iter().step_by(9) {
        let Ok(mut stream) = TcpStream::connect(at).await else { continue };
        // The other side may close at any time; that is what it is for.
        let _ = stream.write_all(&packet).await;
        let _ = stream.shutdown().await;
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), stream.read(&mut [0; 64])).await;
    }
}

#[tokio::test]
async fn every_port_survives_garbage() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply("version = 1\n[[domain]]\nname = \"play.example.com\"\n", &[]).await;
    let at = broker.at.clone();
    throw_udp(at.dns[0]).await;
    throw_udp(at.agents[0]).await;
    throw_udp(at.beacons[0]).await;
    throw_tcp(at.dns[0]).await;
    throw_tcp(at.http[0]).await;
    for packet in garbage().into_iter().step_by(40) {
        let mut stream = UnixStream::connect(&at.admin).await.expect("connect");
        let _ = stream.write_all(&packet).await;
    }
    // It still serves on every port, and counted what it saw.
    assert_eq!(dns::code(at.dns[0], DOMAIN, RecordType::SOA).await, hickory_proto::op::ResponseCode::NoError);
    let soa = dns::query(DOMAIN, RecordType::SOA, None);
    assert_eq!(dns::exchange_tcp(at.dns[0], &soa).await.answers.len(), 1);
    broker.ok(&["status"]).await;
    let metrics = metrics(at.http[0]).await;
    for counter in ["nearmost_dns_malformed_total", "nearmost_beacons_rejected_total"] {
        let sum: f64 = metrics
            .lines()
            .filter(|l| l.starts_with(counter))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!(sum > 0.0, "{counter} counted nothing:\n{metrics}");
    }
    broker.stop().await;
}

async fn metrics(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connect");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")
        .await
        .expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("read");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    reply
}
