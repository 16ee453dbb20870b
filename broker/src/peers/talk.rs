//! One connection with a peer.
//!
//! The reader reads messages and has their signatures checked on other threads, several at once, in order.
//! The writer takes from a short queue, so that the task makes messages only when the line has room. Facts
//! have a stream of their own, so that no delivery delays them.

use super::task::{Event, LineId};
use crate::admin::{AdminError, AdminHandle};
use crate::clock::mono_now;
use crate::driver::DriverHandle;
use crate::quic::rate::Bucket;
use crate::registrar::Followed;
use crate::telemetry::PeerMetrics;
use nearmost_replica::message::{Checked, Message};
use nearmost_replica::{PublicKey, SignedRecord};
use nearmost_wire::facts::{FactMessage, chunks};
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::peer::{Join, Protocol};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Looks that one peer may ask for at once, and the time in which it earns one more.
const ASKS: u32 = 200;
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Name and version of this program.
pub(super) const SOFTWARE: &str = concat!("nearmost ", env!("CARGO_PKG_VERSION"));
/// Messages that wait for the line.
pub(super) const WRITE_QUEUE: usize = 4;
/// Messages of one connection whose signatures are checked at once.
const CHECKS: usize = 4;
/// So few records are checked where they are read: handing them over costs as much.
const FEW: usize = 4;

/// A connection on which both have said hello.
pub(super) struct Established {
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
    pub protocol: Protocol,
    pub software: String,
}

/// Says who may come in.
#[derive(Clone)]
pub(super) struct Doorman {
    pub admin: AdminHandle,
    pub followed: Followed,
    pub metrics: PeerMetrics,
}

impl Doorman {
    /// Makes the holder of a token a member.
    pub async fn admit(&self, (key, source): (PublicKey, IpAddr), join: Join) -> Result<(), AdminError> {
        self.admin.admit_peer((key, source), join).await
    }

    /// Whether a key is a member's.
    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.followed.members.borrow().iter().any(|member| member.key == *key)
    }
}

/// Where a connection's parts meet the rest.
pub(super) struct Ends {
    pub peer: PublicKey,
    pub line: LineId,
    pub events: mpsc::Sender<Event>,
    /// Whether to read on.
    pub reading: watch::Receiver<bool>,
    pub driver: DriverHandle,
}

/// Serves a connection until it ends.
pub(super) async fn talk(established: Established, outgoing: mpsc::Receiver<Message>, ends: Ends) {
    let Established { connection, send, receive, .. } = established;
    let (peer, line, events) = (ends.peer, ends.line, ends.events.clone());
    let why = tokio::select! {
        why = write(send, outgoing, events.clone()) => why,
        why = read(receive, &ends) => why,
        why = tell_facts(&connection, &ends.driver) => why,
        why = hear_facts(&connection, &ends) => why,
        error = connection.closed() => error.to_string(),
    };
    let why = super::dial::refused(&connection).map_or(why, |refused| refused.to_string());
    connection.close(0u8.into(), b"");
    // It fails when the broker stops.
    let _ = events.send(Event::Ended { peer, line, why }).await;
}

async fn write(
    mut send: quinn::SendStream,
    mut outgoing: mpsc::Receiver<Message>,
    events: mpsc::Sender<Event>,
) -> String {
    while let Some(message) = outgoing.recv().await {
        if let Err(error) = frame::write(&mut send, &message).await {
            return error.to_string();
        }
        // Where there is no room, the task is awake anyway.
        let _ = events.try_send(Event::Room);
    }
    std::future::pending().await
}

async fn read(mut receive: quinn::RecvStream, ends: &Ends) -> String {
    let mut checks: VecDeque<JoinHandle<Message<Checked>>> = VecDeque::new();
    let mut reading = ends.reading.clone();
    let (frames, mut arriving) = mpsc::channel::<Result<Message, FrameError>>(1);
    // Reading a frame must not be cut short, so it has a task of its own.
    let reader = tokio::spawn(async move {
        loop {
            if reading.wait_for(|reading| *reading).await.is_err() {
                return;
            }
            let message = frame::read::<Message>(&mut receive).await;
            let ended = message.is_err();
            if frames.send(message).await.is_err() || ended {
                return;
            }
        }
    });
    let _stop = AbortOnDrop(reader);
    loop {
        tokio::select! {
            biased;
            checked = next(&mut checks), if !checks.is_empty() => {
                let Some(message) = checked else { return "a check of signatures failed".into() };
                let event = Event::Message { peer: ends.peer, line: ends.line, message };
                if ends.events.send(event).await.is_err() {
                    return "the broker is stopping".into();
                }
            }
            message = arriving.recv(), if checks.len() < CHECKS => match message {
                Some(Ok(message)) => checks.push_back(check(message)),
                Some(Err(error)) => {
                    // What came before is heard first.
                    while let Some(message) = next(&mut checks).await {
                        let event = Event::Message { peer: ends.peer, line: ends.line, message };
                        if ends.events.send(event).await.is_err() {
                            break;
                        }
                    }
                    return error.to_string();
                }
                None => return "the reader ended".into(),
            },
        }
    }
}

fn check(message: Message) -> JoinHandle<Message<Checked>> {
    match message.records() {
        0..=FEW => tokio::spawn(std::future::ready(message.check())),
        _ => tokio::task::spawn_blocking(move || message.map(|bytes| SignedRecord::decode_verified(&bytes))),
    }
}

/// The first check's result; it stays in the queue until it is there.
async fn next(checks: &mut VecDeque<JoinHandle<Message<Checked>>>) -> Option<Message<Checked>> {
    let checked = checks.front_mut()?.await;
    checks.pop_front();
    checked.ok()
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells what this broker sees of mirrors, and asks for looks at them.
async fn tell_facts(connection: &quinn::Connection, driver: &DriverHandle) -> String {
    let (mut facts, mut asks) = (driver.own_facts(), driver.peer_asks());
    let mut stream = match connection.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    loop {
        let messages: Vec<FactMessage> = tokio::select! {
            told = facts.recv() => match told {
                Ok(told) => chunks(told.iter()).into_iter().map(FactMessage::Facts).collect(),
                // All is told again soon.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return "the broker is stopping".into(),
            },
            ask = asks.recv() => match ask {
                Ok(ask) => vec![FactMessage::Ask((&ask).into())],
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return "the broker is stopping".into(),
            },
        };
        for message in &messages {
            if let Err(error) = frame::write(&mut stream, message).await {
                return error.to_string();
            }
        }
    }
}

/// Hears what the peer sees.
async fn hear_facts(connection: &quinn::Connection, ends: &Ends) -> String {
    let mut stream = match connection.accept_uni().await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let mut asks = Bucket::new(ASKS, ASK_EVERY, mono_now());
    loop {
        match frame::read::<FactMessage>(&mut stream).await {
            Ok(FactMessage::Facts(set)) => {
                let (facts, wrong) = set.read();
                if let Some(error) = wrong.first() {
                    tracing::debug!(peer = %ends.peer, count = wrong.len(), %error, "facts that make no sense");
                }
                ends.driver.peer_facts(ends.peer.0, facts).await;
            }
            // More than anybody has reason for; what matters is asked again.
            Ok(FactMessage::Ask(_)) if !asks.take(1, mono_now()) => {}
            Ok(FactMessage::Ask(ask)) => match ask.try_into() {
                // One that finds no room is asked again.
                Ok(ask) => drop(ends.driver.asked_to_probe(ask)),
                Err(error) => {
                    let error: nearmost_wire::facts::FactError = error;
                    tracing::debug!(peer = %ends.peer, %error, "asked for a look that makes no sense");
                }
            },
            Err(error) => return error.to_string(),
        }
    }
}
