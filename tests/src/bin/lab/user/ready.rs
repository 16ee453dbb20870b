//! Waits until a mirror takes sessions in: its tripwire is held and not closed at once.

use super::Mirror;
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest wait for one mirror.
const WITHIN: Duration = Duration::from_secs(20);
/// A tripwire that is still there so much after it could have been closed is held.
const HELD: Duration = Duration::from_millis(50);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for one.
pub async fn until_ready(mirror: &Mirror) -> Result<()> {
    let waiting = async {
        while !is_ready(mirror).await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(WITHIN, waiting).await;
    waited.with_context(|| format!("m{} takes no sessions in within {WITHIN:?}", mirror.host))
}

async fn is_ready(mirror: &Mirror) -> bool {
    let connecting = TcpStream::connect((mirror.ip, mirror.port));
    let round_trip = Duration::from_millis(mirror.rtt_ms.into());
    let Ok(Ok(mut stream)) = tokio::time::timeout(round_trip + Duration::from_secs(1), connecting).await
    else {
        return false;
    };
    let mut nothing = [0; 1];
    tokio::time::timeout(round_trip + HELD, stream.read(&mut nothing)).await.is_err()
}
