//! A probe: how far a mirror's ingress is, and that it answers.
//!
//! ```text
//! client                                        mirror's ingress
//!   | -- long header, version that nobody has ---> |   1200 bytes, random connection ids
//!   | <-- Version Negotiation, ids swapped ------- |   one datagram, without state or cryptography
//! ```
//!
//! A QUIC server answers a version that it does not speak by naming those that it does (RFC 9000 §6.1),
//! and versions of the form `?a?a?a?a` are kept for this purpose (§15). So a probe takes exactly one round
//! trip over UDP, and costs the mirror one small datagram. Where UDP does not get through, the same goes
//! through a tunnel ([`nearmost_wire::tunnel`]). A handshake would cost it a signature and a place among its connections, for each client and
//! every few seconds; the time of a TCP connection says nothing of UDP, and the kernel answers in place
//! of a process that hangs. Who answers is proved when the session is attached, not here: the answer
//! carries the random ids, so only somebody on the path can make one up.

use crate::clock::mono_now;
use crate::dial::any;
use nearmost_wire::identity::{Id, KeyPair};
use nearmost_wire::tunnel;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// Bytes of a probe; servers do not answer shorter ones (RFC 9000 §14.1).
const SIZE: usize = 1200;
/// A version that no server speaks (RFC 9000 §15).
const VERSION: [u8; 4] = [0x2a, 0x5a, 0x7a, 0x9a];
/// Bytes of each connection id: as many as cannot be guessed.
const ID: usize = 16;
/// Datagrams that are sent, one after another, until one is answered …
const ATTEMPTS: u8 = 3;
/// … and how long each is waited for.
const WAIT: Duration = Duration::from_millis(300);

/// Connection ids of one attempt, the mirror's and the client's.
type Ids = [u8; 2 * ID];

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// There and back.
    pub rtt: Duration,
    /// It went through a tunnel, whose time is no path's.
    pub tunnelled: bool,
}

/// The round trip to the ingress of `node`, over UDP, and where nothing comes back, and `udp` does not say that
/// others answered that way, through a tunnel. An answer that is late counts for the attempt that it answers.
///
/// # Errors
/// No socket, or no answer.
pub(super) async fn round_trip(
    to: SocketAddr,
    key: &KeyPair,
    node: Id,
    udp: &AtomicBool,
) -> io::Result<Answer> {
    let over_udp = async {
        let socket = UdpSocket::bind(any(to)).await?;
        socket.connect(to).await?;
        over(&socket).await
    };
    match over_udp.await {
        Ok(rtt) => Ok(Answer { rtt, tunnelled: false }),
        Err(failed) if udp.load(Ordering::Relaxed) => Err(failed),
        Err(blocked) => {
            let rtt = through_tunnel(to, key, node).await.ok_or(blocked)?;
            Ok(Answer { rtt, tunnelled: true })
        }
    }
}

async fn through_tunnel(to: SocketAddr, key: &KeyPair, node: Id) -> Option<Duration> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    let tunnel = tunnel::open(to, key, node, socket.local_addr().ok()?).await.ok()?;
    socket.connect(tunnel.relay).await.ok()?;
    over(&socket).await.ok()
}

async fn over(socket: &UdpSocket) -> io::Result<Duration> {
    let ids: Ids = random()?;
    let mut sent: Vec<Instant> = Vec::new();
    for attempt in 0..ATTEMPTS {
        sent.push(mono_now());
        socket.send(&probe(&of(ids, attempt))).await?;
        if let Ok(answer) = tokio::time::timeout(WAIT, answer(socket, ids)).await {
            let attempt = usize::from(answer?);
            let at = sent.get(attempt).ok_or(io::ErrorKind::InvalidData)?;
            return Ok(mono_now().saturating_duration_since(*at));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Which attempt the next answer is to; what answers nothing is read over.
async fn answer(socket: &UdpSocket, ids: Ids) -> io::Result<u8> {
    let mut buffer = [0; SIZE];
    loop {
        let n = socket.recv(&mut buffer).await?;
        let found = (0..ATTEMPTS).find(|attempt| answers(&buffer[..n], &of(ids, *attempt)));
        if let Some(attempt) = found {
            return Ok(attempt);
        }
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system's random number generator failed"))?;
    Ok(bytes)
}

/// The ids of an attempt: its number takes the place of the last byte.
fn of(mut ids: Ids, attempt: u8) -> Ids {
    ids[2 * ID - 1] = attempt;
    ids
}

/// Long header (RFC 8999 §5.1): form, version, the two ids with their lengths; the rest means nothing.
fn probe(ids: &Ids) -> [u8; SIZE] {
    let (mirror, client) = ids.split_at(ID);
    let mut out = [0; SIZE];
    out[0] = 0xc0;
    out[1..5].copy_from_slice(&VERSION);
    out[5] = ID as u8;
    out[6..6 + ID].copy_from_slice(mirror);
    out[6 + ID] = ID as u8;
    out[7 + ID..7 + 2 * ID].copy_from_slice(client);
    out
}

/// Whether this is Version Negotiation (RFC 8999 §6) in answer to the probe with these ids.
fn answers(datagram: &[u8], ids: &Ids) -> bool {
    let (mirror, client) = ids.split_at(ID);
    let rest = match datagram {
        [form, 0, 0, 0, 0, rest @ ..] if form & 0x80 != 0 => rest,
        _ => return false,
    };
    let id = |rest: &[u8], id: &[u8]| -> Option<usize> {
        let (length, rest) = rest.split_first()?;
        (usize::from(*length) == ID && rest.starts_with(id)).then_some(1 + ID)
    };
    let Some(first) = id(rest, client) else { return false };
    let Some(second) = id(&rest[first..], mirror) else { return false };
    let versions = &rest[first + second..];
    !versions.is_empty() && versions.len().is_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn negotiation(ids: &Ids) -> Vec<u8> {
        let (mirror, client) = ids.split_at(ID);
        let mut out = vec![0xd5, 0, 0, 0, 0, ID as u8];
        out.extend_from_slice(client);
        out.push(ID as u8);
        out.extend_from_slice(mirror);
        out.extend_from_slice(&[0, 0, 0, 1]);
        out
    }

    #[test]
    fn only_an_answer_to_this_very_probe_counts() {
        let ids: Ids = std::array::from_fn(|i| i as u8);
        let good = negotiation(&ids);
        assert!(answers(&good, &ids));
        assert!(!answers(&good, &of(ids, 1)), "another attempt");
        for cut in 0..good.len() {
            assert!(!answers(&good[..cut], &ids), "{cut} bytes");
        }
        for at in 0..good.len() - 4 {
            let mut other = good.clone();
            other[at] ^= 0x80;
            assert!(!answers(&other, &ids), "byte {at}");
        }
        assert!(!answers(&probe(&ids), &ids), "what is sent back answers nothing");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = gone.local_addr().unwrap();
        drop(gone);
        let key = KeyPair::from_seed(nearmost_wire::identity::Role::Person, &[1; 32]);
        let node = KeyPair::from_seed(nearmost_wire::identity::Role::Node, &[2; 32]).id();
        assert!(round_trip(at, &key, node, &AtomicBool::new(false)).await.is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_answer_nothing(bytes: Vec<u8>, ids: [u8; 2 * ID]) {
            prop_assert!(!answers(&bytes, &ids));
        }
    }
}
