//! Hears what a client tells of its session with mirrors, on a stream of its own.

use crate::clock::mono_now;
use crate::quic::rate::Bucket;
use crate::telemetry::SessionMetrics;
use nearmost_wire::fare::{Fare, MAX_MESSAGE, TELL_EVERY};
use nearmost_wire::frame::{self, FrameError};

/// Messages at once: a session that begins tells more often.
const BURST: u32 = 4;
/// Messages in a row that come too fast, before no more are heard.
const MOST_TOO_FAST: u32 = 32;

/// Hears what the client tells; never ends. What breaks the rules ends the stream, not the session.
pub(super) async fn hear(connection: &quinn::Connection, metrics: &SessionMetrics) {
    let Ok(mut stream) = connection.accept_uni().await else {
        return std::future::pending().await;
    };
    let mut session = metrics.follow();
    let mut rate = Bucket::new(BURST, TELL_EVERY / 2, mono_now());
    let mut too_fast = 0;
    loop {
        let fare = match frame::read_at_most::<Fare>(&mut stream, MAX_MESSAGE).await {
            Ok(fare) => fare,
            Err(FrameError::Ended | FrameError::Io(_)) => break,
            Err(error) => {
                metrics.not_taken("refused");
                tracing::debug!(remote = %connection.remote_address(), %error, "what a client tells of its session cannot be read");
                break;
            }
        };
        if let Err(error) = fare.check() {
            metrics.not_taken("refused");
            tracing::debug!(remote = %connection.remote_address(), %error, "what a client tells of its session cannot be");
            break;
        }
        if rate.take(1, mono_now()) {
            too_fast = 0;
            session.told(&fare);
            continue;
        }
        // It counts nothing, but how the session stands now is not told again before it changes.
        metrics.not_taken("too_fast");
        session.told_standing(&fare);
        too_fast += 1;
        if too_fast == MOST_TOO_FAST {
            tracing::debug!(remote = %connection.remote_address(), "a client tells of its session far too often");
            break;
        }
    }
    // The client may be in the middle of more.
    let _ = stream.stop(0u8.into());
    // How it stood is not known any more; one that ended in order is over.
    drop(session);
    std::future::pending().await
}
