//! HTTP/2: how a request goes out by it, over TLS (ALPN `h2`) or by prior knowledge.
//!
//! hyper runs parts of an HTTP/2 connection in tasks; they end with the check.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::http_check::{MAX_HEAD_BYTES, Question, broken, drive, judge};
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use nearmost_core::check::HttpCheck;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Sends the request and judges the response. Dropping this future closes the connection.
pub async fn exchange<S>(
    stream: S,
    request: Question,
    deadline: &Deadline,
    check: &HttpCheck,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = Tasks(CancellationToken::new());
    let _end = tasks.0.clone().drop_guard();
    let head = u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX);
    let handshake = http2::Builder::new(tasks).max_header_list_size(head).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|e| broken(&e))?;
    let talk = async move {
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        judge(response, deadline, check).await
    };
    drive(talk, connection).await
}

/// Starts tasks that end when the token is cancelled, at the latest.
#[derive(Clone)]
struct Tasks(CancellationToken);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let end = self.0.clone();
        tokio::spawn(async move { end.run_until_cancelled(task).await.map(drop) });
    }
}
