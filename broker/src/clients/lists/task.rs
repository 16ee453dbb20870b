//! The task around the board, and what sessions hold of it.

use super::QUEUE;
use super::board::{Ask, Board, Frame};
use crate::clock::unix_now;
use crate::publish::{News, SnapshotReader};
use crate::telemetry::ListMetrics;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::list::Version;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What sessions ask that waits for the task.
const COMMANDS: usize = 4096;
/// Groups that are told before the task looks up from it.
const AT_ONCE: usize = 32;
/// How often subscribers that are gone are forgotten.
const SWEEP: Duration = Duration::from_secs(30);

enum Command {
    Subscribe(Ask),
    Again { id: u64, have: Option<Version> },
    Leave { id: u64 },
}

/// For sessions.
#[derive(Clone)]
pub struct ListHandle {
    commands: mpsc::Sender<Command>,
    last: Arc<AtomicU64>,
}

/// A subscriber's end. Dropped, it is forgotten.
pub struct Subscription {
    id: u64,
    domain: Arc<str>,
    handle: ListHandle,
    frames: mpsc::Receiver<Frame>,
}

impl ListHandle {
    /// Subscribes a client to a domain; the first frame is the answer.
    pub async fn subscribe(&self, domain: Arc<str>, client: IpAddr, have: Option<Version>) -> Subscription {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (queue, frames) = mpsc::channel(QUEUE);
        let ask = Ask { id, domain: domain.clone(), client, have, queue };
        // Where the task ended, the frames end at once.
        let _ = self.commands.send(Command::Subscribe(ask)).await;
        Subscription { id, domain, handle: self.clone(), frames }
    }
}

impl Subscription {
    /// Asks once more; the answer is one of the next frames.
    pub async fn again(&self, have: Option<Version>) {
        let _ = self.handle.commands.send(Command::Again { id: self.id, have }).await;
    }

    /// Which domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The next frame; `None` when the session did not keep up, or the broker stops. May be cancelled.
    pub async fn next(&mut self) -> Option<Frame> {
        self.frames.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Where there is no room for it now, the board finds out by itself.
        let _ = self.handle.commands.try_send(Command::Leave { id: self.id });
    }
}

/// Keeps everybody's lists.
pub struct ListTask {
    board: Board,
    commands: mpsc::Receiver<Command>,
    snapshot: SnapshotReader,
    news: watch::Receiver<News>,
    metrics: ListMetrics,
}

impl ListTask {
    /// Signs with the broker's key; `source` is of this run of the broker.
    pub fn new(
        key: KeyPair,
        source: u64,
        snapshot: SnapshotReader,
        news: watch::Receiver<News>,
        metrics: ListMetrics,
    ) -> (ListTask, ListHandle) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let handle = ListHandle { commands: sender, last: Arc::default() };
        (ListTask { board: Board::new(key, source), commands, snapshot, news, metrics }, handle)
    }

    /// Until every handle is gone.
    pub async fn run(mut self) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                // The publisher may be gone; then there is no news.
                Ok(()) = self.news.changed() => {
                    self.news.mark_unchanged();
                    self.board.news(&self.snapshot.load_full());
                }
                _ = sweep.tick() => self.board.sweep(unix_now()),
                () = std::future::ready(()), if self.board.due() > 0 => {
                    self.push();
                    tokio::task::yield_now().await;
                }
            }
            self.metrics.subscribers.set(i64::try_from(self.board.subscribers()).unwrap_or(i64::MAX));
            self.metrics.groups.set(i64::try_from(self.board.groups()).unwrap_or(i64::MAX));
        }
    }

    fn command(&mut self, command: Command) {
        let (snapshot, now) = (self.snapshot.load_full(), unix_now());
        match command {
            Command::Subscribe(ask) => self.board.subscribe(ask, &snapshot, now),
            Command::Again { id, have } => self.board.again(id, have, &snapshot, now),
            Command::Leave { id } => self.board.leave(id),
        }
    }

    fn push(&mut self) {
        let snapshot = self.snapshot.load_full();
        for _ in 0..AT_ONCE {
            let Some(sent) = self.board.step(&snapshot, unix_now()) else { return };
            self.metrics.pushed.inc_by(sent.taken as u64);
            self.metrics.dropped.inc_by(sent.dropped as u64);
            if sent.taken > 0 {
                let waited = unix_now().0.saturating_sub(sent.since.0);
                self.metrics.delay.observe(Duration::from_millis(waited).as_secs_f64());
            }
        }
    }
}
