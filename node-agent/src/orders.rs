//! How brokers' orders of one kind come in and their answers go back, past the agent's loop.
//!
//! ```text
//! session ─┐
//! session ─┼─▶ room of the session? ─▶ one bounded queue ─▶ whoever carries them out ─▶ the session's answers
//! session ─┘
//! ```
//!
//! Nothing here waits: an order that finds no room comes back at once, and an answer that finds none is
//! lost and said to be.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Where all sessions hand in their orders.
pub struct Intake<O, A> {
    queue: mpsc::Sender<Task<O, A>>,
}

/// Where one session hands in its orders.
pub struct Lane<O, A> {
    queue: mpsc::Sender<Task<O, A>>,
    room: Arc<Semaphore>,
    /// For what is answered at once.
    pub answers: Answers<A>,
    /// Position of the session's broker in the configuration.
    broker: usize,
}

/// An order that waits, or is carried out.
pub struct Task<O, A> {
    /// What is to be done.
    pub order: O,
    /// Position in the configuration of the broker that ordered it.
    pub broker: usize,
    /// Where the answer goes.
    pub answers: Answers<A>,
    /// Given back when it is answered.
    _room: OwnedSemaphorePermit,
}

/// Where answers to one session's orders go.
pub struct Answers<A>(mpsc::Sender<A>);

/// The two ends of a queue for at most `most` orders of all sessions.
pub fn channel<O, A>(most: usize) -> (Intake<O, A>, mpsc::Receiver<Task<O, A>>) {
    let (queue, tasks) = mpsc::channel(most);
    (Intake { queue }, tasks)
}

impl<O, A> Intake<O, A> {
    /// For a session with a broker: at most `room` of its orders wait or are carried out, so that no
    /// broker takes all the room, and `answers` wait to be written. These come out of the receiver.
    pub fn session(&self, broker: usize, room: usize, answers: usize) -> (Lane<O, A>, mpsc::Receiver<A>) {
        let (sender, received) = mpsc::channel(answers);
        let room = Arc::new(Semaphore::new(room));
        (Lane { queue: self.queue.clone(), room, answers: Answers(sender), broker }, received)
    }
}

impl<O, A> Lane<O, A> {
    /// Whether there was room for an order.
    pub fn queue(&self, order: O) -> bool {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return false };
        let task = Task { order, broker: self.broker, answers: self.answers.clone(), _room: room };
        self.queue.try_send(task).is_ok()
    }
}

impl<A> Answers<A> {
    /// Whether the session ended: it waits for no answer.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Hands an answer over; false when a session that is on has no room for it.
    pub fn tell(&self, answer: A) -> bool {
        self.0.try_send(answer).is_ok() || self.0.is_closed()
    }
}

impl<O, A> Clone for Intake<O, A> {
    fn clone(&self) -> Self {
        Intake { queue: self.queue.clone() }
    }
}

impl<A> Clone for Answers<A> {
    fn clone(&self) -> Self {
        Answers(self.0.clone())
    }
}
