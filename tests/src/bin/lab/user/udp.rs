//! A game: a packet each 10 ms, each answered by one.

use super::log::Log;
use nearmost_client::session::Session;

/// The flow of its packets.
const FLOW: u64 = 1;

/// Until the session ends.
pub async fn use_it(session: Session, log: Log, bytes: usize) {
    let mut tick = super::rhythm();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let mut packet = vec![0; bytes.max(8)];
                packet[..8].copy_from_slice(&log.next().to_be_bytes());
                // What is not taken is lost, and shows as that.
                let _ = session.send(FLOW, &packet);
            }
            heard = session.recv() => {
                let Some(heard) = heard else { return };
                match heard.payload.split_first_chunk::<8>() {
                    Some((seq, &[by])) => log.answered(u64::from_be_bytes(*seq), by),
                    _ => log.corrupt(),
                }
            }
        }
    }
}
