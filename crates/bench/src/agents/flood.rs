//! Beacons at a given rate, from a thread of their own, so that only the broker's cost is measured.

use nearmost_wire::beacon::{Beacon, BeaconSecret};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beacons between two looks at the clock.
const AT_ONCE: u64 = 50;

/// One agent's beacons.
#[derive(Clone)]
pub struct Sender {
    /// Key and tag.
    pub secret: BeaconSecret,
    /// The prepared key.
    pub key: ring::hmac::Key,
    /// The next number, shared with whoever else sends for this agent.
    pub seq: Arc<AtomicU64>,
    /// Where to.
    pub target: SocketAddr,
}

impl Sender {
    /// The next beacon.
    pub fn next(&self) -> [u8; nearmost_wire::beacon::LEN] {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let secret = &self.secret;
        Beacon { flags: 0, key_epoch: secret.key_epoch, tag: secret.tag, boot: 1, seq, sent_us: 0 }
            .encode(&self.key)
    }
}

/// Sends `rate` beacons a second for `time`, from each sender in turn; how many were sent.
#[expect(clippy::disallowed_methods, reason = "the rate is kept by the clock")]
pub fn run(senders: &[Sender], rate: u64, time: Duration) -> std::io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let began = clock();
    let mut sent = 0;
    while began.elapsed() < time {
        for sender in
            senders.iter().cycle().skip((sent % senders.len() as u64) as usize).take(AT_ONCE as usize)
        {
            socket.send_to(&sender.next(), sender.target)?;
        }
        sent += AT_ONCE;
        let due = Duration::from_secs_f64(sent as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(sent)
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn clock() -> Instant {
    Instant::now()
}
