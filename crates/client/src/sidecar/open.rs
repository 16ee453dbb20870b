//! A stream to the service, tried again while nothing was sent.

use crate::clock::mono_now;
use crate::session::{Session, Stream, StreamError};
use nearmost_wire::identity::Id;
use nearmost_wire::ingress::flow::OpenError;
use std::time::Duration;

/// For how long a way to the service is looked for.
pub(super) const WITHIN: Duration = Duration::from_secs(8);
/// Rest before a mirror is asked once more, doubled each time; a move of the session ends it.
const REST: Duration = Duration::from_millis(50);
const MOST_REST: Duration = Duration::from_secs(1);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    /// The last error, when time was up or another try would have been no use.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Somebody did not answer.
    #[error("no mirror and its service answered within {} s", WITHIN.as_secs())]
    Time,
    /// The session is over.
    #[error("the session has ended")]
    Ended,
}

/// Opens a stream at the primary. As long as none came about, nothing was sent to the service and the next
/// try does no harm: at once where the session moved, else after a rest. A mirror whose service does not take
/// connections, or that has none for them, is left.
pub(super) async fn stream(session: &Session) -> Result<Stream, Unreached> {
    let until = tokio::time::Instant::from_std(mono_now() + WITHIN);
    let mut last = None;
    match tokio::time::timeout_at(until, attempts(session, &mut last)).await {
        Ok(opened) => opened,
        Err(_) => Err(last.map_or(Unreached::Time, Unreached::Stream)),
    }
}

async fn attempts(session: &Session, last: &mut Option<StreamError>) -> Result<Stream, Unreached> {
    let mut rest = REST;
    loop {
        let error = match session.open_stream().await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let at = mirror(&error);
        // It serves, and its service does not.
        if let StreamError::NotServed(at)
        | StreamError::Failed {
            at,
            code: OpenError::Refused | OpenError::Unreachable | OpenError::Timeout,
        } = error
        {
            session.leave(at).await;
        }
        // What a mirror said tells more than that it was left meanwhile.
        if !matches!(
            (&*last, &error),
            (Some(StreamError::Failed { .. } | StreamError::NotServed(_)), StreamError::Broken { .. })
        ) {
            *last = Some(error);
        }
        let elsewhere = async {
            match at {
                Some(at) => session.attached_beside(at).await,
                None => session.attached().await,
            }
        };
        if let Ok(None) = tokio::time::timeout(rest, elsewhere).await {
            return Err(Unreached::Ended);
        }
        rest = (rest * 2).min(MOST_REST);
    }
}

fn mirror(error: &StreamError) -> Option<Id> {
    match error {
        StreamError::NotAttached => None,
        StreamError::NotServed(at) | StreamError::Failed { at, .. } | StreamError::Broken { at, .. } => {
            Some(*at)
        }
    }
}
