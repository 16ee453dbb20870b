//! Requests one after the other, each over a stream of its own; every other one is a POST with an id that
//! is used once. A GET is asked again until it is answered. A POST is asked again only while nothing of it
//! was sent; after that nobody can tell, and it is left.

use super::log::Log;
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// After a stream that could not be opened.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest answer.
const MOST: u64 = 16_384;

/// Until the process ends. `open` gives a stream to the service, to which nothing was sent.
pub async fn use_it<S, E, F>(open: impl Fn() -> F, log: Log)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<S, E>>,
{
    let mut tick = super::rhythm();
    loop {
        tick.tick().await;
        let (seq, what, told) = next(&log);
        loop {
            let Ok(stream) = open().await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            match ask(stream, &what, &told).await {
                Ok(Some(by)) => break log.answered(seq, by),
                Ok(None) => break log.corrupt(),
                Err(_) if is_safe(seq) => {}
                Err(_) => break log.unsure(seq),
            }
        }
    }
}

/// The next request: its number, method and path, and what the answer must hold.
pub fn next(log: &Log) -> (u64, String, String) {
    let (seq, told) = log.next_request();
    let what = if is_safe(seq) { format!("GET /page/{told}") } else { format!("POST /buy/{told}") };
    (seq, what, told)
}

/// Whether it may be asked again though nobody can tell whether it was carried out.
pub fn is_safe(seq: u64) -> bool {
    seq.is_multiple_of(2)
}

/// Who answered, or nobody if it is no answer to this.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, what: &str, told: &str) -> Result<Option<u8>> {
    let request = format!("{what} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream).take(MOST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    ensure!(!answer.is_empty(), "the stream ended without an answer");
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(None) };
    // A proxy lost its service; nobody can tell what that did.
    ensure!(!head.starts_with("HTTP/1.1 5"), "{head}");
    Ok(whose(body, told).filter(|_| head.contains(" 200 ")))
}

/// Whose answer it is, if it is one to this.
pub fn whose(body: &str, told: &str) -> Option<u8> {
    body.split_once(' ').filter(|(_, said)| *said == told).and_then(|(by, _)| by.parse().ok())
}
