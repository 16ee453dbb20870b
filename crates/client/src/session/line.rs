//! The line to one broker: asks for the list, hears of its changes, reports what was found, and tells how
//! the session stands.
//!
//! ```text
//!  connecting ──▶ asked ──▶ following: words come by themselves; asked again each 30 s
//!      │            │           │
//!      ▼            ▼           ▼
//!     lost: the driver is told why, and asks another broker
//! ```

use super::find::BrokerAt;
use crate::quic::{QuicError, STEP, Talk, lost};
use nearmost_wire::client::{Rtt, ToBroker, ToClient};
use nearmost_wire::fare::Fare;
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::list::{Signed, Version};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Questions that wait to be written.
const ASKS: usize = 16;

/// What a line tells the driver.
pub(super) struct Heard {
    /// Which line: what an earlier one still has in the queue counts for nothing.
    pub line: u64,
    pub word: Word,
}

pub(super) enum Word {
    /// A list or a change, as it was signed.
    Signed(Signed),
    /// The line ended.
    Lost(QuicError),
}

/// What the driver has of a line. Dropped, it ends.
pub(super) struct Line {
    pub number: u64,
    /// Index of its broker.
    pub broker: usize,
    asks: mpsc::Sender<ToBroker>,
    tells: mpsc::Sender<Fare>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Connects to a broker and asks.
    pub fn open(number: u64, broker: usize, at: BrokerAt, first: ToBroker, to: mpsc::Sender<Heard>) -> Line {
        let (asks, asked) = mpsc::channel(ASKS);
        let (tells, told) = mpsc::channel(1);
        let run = async move {
            let Err(error) = follow(number, &at, first, (asked, told), &to).await else { return };
            // Nobody may be there any more.
            let _ = to.send(Heard { line: number, word: Word::Lost(error) }).await;
        };
        Line { number, broker, asks, tells, task: tokio::spawn(run).abort_handle() }
    }

    /// Asks something more; dropped where too much waits already.
    pub fn ask(&self, message: ToBroker) -> bool {
        self.asks.try_send(message).is_ok()
    }

    /// Tells how the session stands; false where the last such message waits still, as it does for ever
    /// with a broker that does not want to know.
    pub fn tell(&self, fare: Fare) -> bool {
        self.tells.try_send(fare).is_ok()
    }
}

/// The question for a list.
pub(super) fn subscribe(domain: &str, have: Option<Version>) -> ToBroker {
    ToBroker::Subscribe { domain: domain.into(), have }
}

/// A report of what could not be reached, or was measured.
pub(super) fn report(
    domain: &str,
    rtts: Vec<nearmost_wire::client::Measured>,
    failed: Vec<String>,
) -> ToBroker {
    ToBroker::Rtt(Rtt { domain: domain.into(), rtts, nonce: None, tried: Vec::new(), failed })
}

/// Ends without an error only when nobody listens any more.
async fn follow(
    number: u64,
    at: &BrokerAt,
    first: ToBroker,
    (mut asked, told): (mpsc::Receiver<ToBroker>, mpsc::Receiver<Fare>),
    to: &mpsc::Sender<Heard>,
) -> Result<(), QuicError> {
    let mut talk = Talk::open(&at.at, at.id).await?;
    say(&mut talk, &first).await?;
    let telling = tell(talk.connection.clone(), told);
    tokio::pin!(telling);
    loop {
        let Talk { send, receive, connection, .. } = &mut talk;
        let read = frame::read::<ToClient>(receive);
        tokio::pin!(read);
        // Reading goes on where it was while something is asked.
        let heard = loop {
            tokio::select! {
                heard = &mut read => break heard,
                // Beside everything else, and never ending.
                () = &mut telling => {}
                ask = asked.recv() => match ask {
                    Some(ask) => {
                        let written = tokio::time::timeout(STEP, frame::write(send, &ask)).await;
                        let written = written.map_err(|_| QuicError::Slow { at: at.at.clone(), what: "room for a question" })?;
                        written.map_err(|e| ended(at, connection, e))?;
                    }
                    None => return Ok(()),
                },
            }
        };
        match heard.map_err(|e| ended(at, connection, e))? {
            ToClient::List(signed) => {
                if to.send(Heard { line: number, word: Word::Signed(signed) }).await.is_err() {
                    return Ok(());
                }
            }
            // Whether a report was taken changes nothing here.
            ToClient::Taken(_) => {}
            ToClient::Resolved(_) => {
                return Err(QuicError::OutOfOrder { at: at.at.clone(), asked: "Subscribe" });
            }
        }
    }
}

/// Tells how the session stands, on a stream of its own once the broker allows one; never ends. Where that
/// comes to nothing, so does telling, and the line goes on.
async fn tell(connection: quinn::Connection, mut told: mpsc::Receiver<Fare>) {
    if let Ok(mut stream) = connection.open_uni().await {
        while let Some(fare) = told.recv().await {
            if frame::write(&mut stream, &fare).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

async fn say(talk: &mut Talk, message: &ToBroker) -> Result<(), QuicError> {
    match tokio::time::timeout(STEP, frame::write(&mut talk.send, message)).await {
        Ok(written) => written.map_err(|source| QuicError::Frame { at: talk.at.clone(), source }),
        Err(_) => Err(QuicError::Slow { at: talk.at.clone(), what: "room for a question" }),
    }
}

/// The connection's own end says more, if it has ended.
fn ended(at: &BrokerAt, connection: &quinn::Connection, source: FrameError) -> QuicError {
    match connection.close_reason() {
        Some(reason) => lost(&at.at, reason),
        None => QuicError::Frame { at: at.at.clone(), source },
    }
}
