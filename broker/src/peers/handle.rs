//! What others ask of the task that talks with peers.

use crate::admin::AdminError;
use nearmost_wire::api::PeersResponse;
use tokio::sync::{mpsc, oneshot};

/// Questions waiting at most.
pub(super) const QUEUE: usize = 64;

/// What can be asked.
pub(crate) enum Question {
    Peers(oneshot::Sender<PeersResponse>),
}

/// For everything that asks about peers.
#[derive(Clone)]
pub struct PeersHandle {
    pub(super) questions: mpsc::Sender<Question>,
}

impl PeersHandle {
    /// A handle, and what its questions come out of.
    pub(crate) fn channel() -> (PeersHandle, mpsc::Receiver<Question>) {
        let (questions, inbox) = mpsc::channel(QUEUE);
        (PeersHandle { questions }, inbox)
    }

    /// The federation as this broker sees it.
    ///
    /// # Errors
    /// [`AdminError::Stopping`].
    pub async fn peers(&self) -> Result<PeersResponse, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Peers(reply)).await.map_err(|_| AdminError::Stopping)?;
        answer.await.map_err(|_| AdminError::Stopping)
    }
}
