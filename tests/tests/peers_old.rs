//! A broker of an older minor version, its bytes spelled out as that version says them: it is understood, and told
//! nothing that it does not know.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use nearmost_tests::eventually;
use nearmost_tests::process::{Broker, broker_config, directory};
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::peer::{ALPN_PEER, Hello, MAX_HELLO};
use nearmost_wire::tls::{SERVER_NAME, client_config};
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// `Hello` of protocol 1.0, software "nearmost 0.0", no join.
const HELLO: &str = "00000011 01 0100 0c 6e6561726d6f737420302e30 00";
/// `Deliver`, batch 0, one record: the domain old.example with the body `{}`, by the key of the seed 77…77,
/// its first of epoch 1, at 1790000000000.0 on the hybrid clock.
const DELIVER: &str = include_str!("peers_old.hex");
/// Numbers of messages that came with a later minor version.
const LATER: [u8; 2] = [12, 13];
/// Number of the answers to a delivery.
const ANSWERS: u8 = 1;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    HEX.decode(digits.as_bytes()).expect("hexadecimal")
}

#[tokio::test]
async fn a_recorded_peer_of_an_older_minor_version_is_understood() {
    let dir = directory();
    let key = KeyPair::from_seed(Role::Broker, &[77; 32]);
    let known = format!("[[peers.peer]]\nid = \"{}\"\nname = \"old\"\nadmin = true\n", key.id());
    std::fs::write(dir.path().join("broker.toml"), broker_config(dir.path(), &known)).expect("write");
    let broker = Broker::restart(dir.path()).await;
    let id = Id::parse(&broker.at.broker, Role::Broker).expect("an id");

    let crypto = client_config(&key, id, ALPN_PEER).expect("TLS");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let connecting = || async {
        let connected =
            endpoint.connect_with(config.clone(), broker.at.peers[0], SERVER_NAME).expect("connect").await;
        let connection = connected.ok()?;
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(&bytes(HELLO)).await.ok()?;
        let hello: Hello = frame::read_at_most(&mut receive, MAX_HELLO).await.ok()?;
        Some((connection, send, receive, hello))
    };
    // The member is stated a moment after the start.
    let talk = eventually("the old one is let in", connecting, Option::is_some).await;
    let (_connection, mut send, mut receive, hello) = talk.expect("let in");
    assert_eq!((hello.protocol.major, hello.protocol.minor), (1, 1));
    send.write_all(&bytes(DELIVER)).await.expect("deliver");

    // What it is sent until its delivery is answered.
    let mut heard = Vec::new();
    while heard.last() != Some(&ANSWERS) {
        let length = receive.read_u32().await.expect("a length");
        let mut frame = vec![0; length as usize];
        receive.read_exact(&mut frame).await.expect("a frame");
        assert_eq!(frame[0], 1, "the frame's version");
        heard.push(frame[1]);
        if frame[1] == ANSWERS {
            assert_eq!(frame[2..], [0, 1, 0], "batch 0, one answer: applied");
        }
    }
    assert!(!heard.iter().any(|number| LATER.contains(number)), "{heard:?}");
    let exported = || broker.ok(&["export"]);
    eventually("the domain is there", exported, |all| all.contains("old.example")).await;
}
