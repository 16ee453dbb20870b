//! Requests one after the other, each over a stream of its own; every other one is a POST with an id that
//! is used once. A GET is asked again until it is answered. A POST is asked again only while nothing of it
//! was sent; after that nobody can tell, and it is left.

use super::log::Log;
use anyhow::{Result, ensure};
use nearmost_client::session::{Session, Stream};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// After a stream that could not be opened.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest answer.
const MOST: u64 = 16_384;

/// Until the process ends.
pub async fn use_it(session: Session, log: Log, prefix: String) {
    let mut tick = super::rhythm();
    loop {
        tick.tick().await;
        let seq = log.next();
        let what = match seq % 2 {
            0 => format!("GET /page/{prefix}-{seq}"),
            _ => format!("POST /buy/{prefix}-{seq}"),
        };
        let told = format!("{prefix}-{seq}");
        loop {
            let Ok(stream) = session.open_stream().await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            match ask(stream, &what, &told).await {
                Ok(Some(by)) => break log.answered(seq, by),
                Ok(None) => break log.corrupt(),
                Err(_) if seq % 2 == 0 => {}
                Err(_) => break log.unsure(seq),
            }
        }
    }
}

/// Who answered, or nobody if it is no answer to this.
async fn ask(mut stream: Stream, what: &str, told: &str) -> Result<Option<u8>> {
    let request = format!("{what} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream).take(MOST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    ensure!(!answer.is_empty(), "the stream ended without an answer");
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(None) };
    let by = body.split_once(' ').filter(|(_, said)| *said == told && head.contains(" 200 "));
    Ok(by.and_then(|(by, _)| by.parse().ok()))
}
