//! Lines for standard output and error, each written by a thread of its own: a reader that stops reading must
//! not stop what is served, and one that went away must not end it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Lines that wait to be written.
const WAIT: usize = 256;

/// Where lines go; what finds no room is dropped and counted.
pub struct Lines {
    to: SyncSender<String>,
    dropped: AtomicU64,
    done: oneshot::Receiver<()>,
}

impl Lines {
    /// Begins to write there.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new(out: impl Write + Send + 'static) -> io::Result<Lines> {
        let (to, lines) = sync_channel(WAIT);
        let (finished, done) = oneshot::channel();
        std::thread::Builder::new().name("lines".into()).spawn(move || {
            write(&lines, out);
            // Nobody may wait for it.
            let _ = finished.send(());
        })?;
        Ok(Lines { to, dropped: AtomicU64::new(0), done })
    }

    /// Writes a line, which brings its end, once it may.
    pub fn say(&self, line: String) {
        if self.to.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all is written, but no longer than this.
    pub async fn finish(self, within: Duration) {
        let Lines { to, done, .. } = self;
        drop(to);
        // Who does not read by then gets no more.
        let _ = tokio::time::timeout(within, done).await;
    }
}

fn write(lines: &Receiver<String>, mut out: impl Write) {
    let mut is_open = true;
    for line in lines {
        // Each in one piece, as others may write there too. Who closed it does not want what comes.
        is_open = is_open && out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn what_is_read_is_whole_and_in_order() {
        let (mut read, out) = io::pipe().unwrap();
        let lines = Lines::new(out).unwrap();
        (0..100).for_each(|n| lines.say(format!("{n}\n")));
        lines.finish(Duration::from_secs(30)).await;
        let mut heard = String::new();
        read.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, (0..100).map(|n| format!("{n}\n")).collect::<String>());
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_holds_nothing_up() {
        let (read, out) = io::pipe().unwrap();
        let lines = Lines::new(out).unwrap();
        let line = "x".repeat(4096);
        (0..10_000).for_each(|_| lines.say(line.clone()));
        assert!(lines.dropped() >= 9_000, "{} were dropped", lines.dropped());
        lines.finish(Duration::from_millis(10)).await;
        drop(read);
    }

    #[tokio::test]
    async fn a_pipe_that_was_closed_ends_nothing() {
        let (read, out) = io::pipe().unwrap();
        drop(read);
        let lines = Lines::new(out).unwrap();
        lines.say("nobody hears it\n".into());
        lines.finish(Duration::from_secs(30)).await;
    }
}
