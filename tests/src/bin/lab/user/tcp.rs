//! Streams: a block each 10 ms, each answered with the hash of all that went before on its stream. What was
//! not answered when a stream broke goes over the next one again. When the session moves in order, new
//! blocks go over a new stream, and the old one is read to its end.

use super::log::Log;
use nearmost_client::session::{Session, Stream};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};

/// After a stream that could not be opened.
const AGAIN: Duration = Duration::from_millis(5);

/// Numbers and hashes that the answers of one stream are held to.
type Expected = Arc<Mutex<VecDeque<(u64, [u8; 32])>>>;
/// Numbers that were not answered, and whether they are on a stream that still lives.
type Open = Arc<Mutex<BTreeMap<u64, bool>>>;

/// Until the process ends.
pub async fn use_it(session: Session, log: Log, bytes: usize) {
    let open = Open::default();
    let mut next = None;
    loop {
        let stream = match next.take() {
            Some(stream) => stream,
            None => opened(&session).await,
        };
        next = over(&session, stream, &log, &open, bytes).await;
    }
}

async fn opened(session: &Session) -> Stream {
    loop {
        match session.open_stream().await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Over one stream, until it breaks, or the session has moved and the next stream is there.
async fn over(session: &Session, stream: Stream, log: &Log, open: &Open, bytes: usize) -> Option<Stream> {
    let at = stream.mirror();
    let (read, mut write) = tokio::io::split(stream);
    let expected = Expected::default();
    let mut answers = tokio::spawn(answers(read, expected.clone(), log.clone(), open.clone()));
    let mut all = Sha256::new();
    let writing = async {
        write.write_all(b"BLOCKS\n").await?;
        for seq in left(open) {
            put(&mut write, &mut all, &block(seq, bytes), seq, &expected).await?;
        }
        let mut tick = super::rhythm();
        loop {
            tick.tick().await;
            let seq = log.next();
            lock(open).insert(seq, true);
            put(&mut write, &mut all, &block(seq, bytes), seq, &expected).await?;
        }
    };
    let next = async {
        let mut tick = super::rhythm();
        while session.primary() == Some(at) {
            tick.tick().await;
        }
        opened(session).await
    };
    let broken = async {
        tokio::select! {
            written = writing => { let _: std::io::Result<()> = written; }
            _ = &mut answers => {}
        }
    };
    let next = tokio::select! {
        next = next => next,
        () = broken => {
            answers.abort();
            broke(&expected, open);
            return None;
        }
    };
    // What the old mirror still answers is taken; it may also die.
    let (expected, open) = (expected.clone(), open.clone());
    tokio::spawn(async move {
        let _ = write.shutdown().await;
        let _ = answers.await;
        broke(&expected, &open);
    });
    Some(next)
}

/// What earlier streams did not bring; it is under way from now on.
fn left(open: &Open) -> Vec<u64> {
    let mut open = lock(open);
    let waits =
        open.iter_mut().filter_map(|(n, under_way)| (!std::mem::replace(under_way, true)).then_some(*n));
    waits.collect()
}

/// What a stream did not bring goes over another.
fn broke(expected: &Expected, open: &Open) {
    let mut open = lock(open);
    for (seq, _) in lock(expected).drain(..) {
        open.entry(seq).and_modify(|under_way| *under_way = false);
    }
}

/// What a block of this number holds.
fn block(seq: u64, bytes: usize) -> Vec<u8> {
    (seq..).take(bytes).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 8) as u8).collect()
}

async fn put(
    write: &mut WriteHalf<Stream>,
    all: &mut Sha256,
    block: &[u8],
    seq: u64,
    expected: &Expected,
) -> std::io::Result<()> {
    all.update(block);
    lock(expected).push_back((seq, all.clone().finalize().into()));
    let header = [&(block.len() as u32).to_be_bytes()[..], &seq.to_be_bytes()[..], block].concat();
    write.write_all(&header).await
}

async fn answers(read: ReadHalf<Stream>, expected: Expected, log: Log, open: Open) {
    let mut read = BufReader::new(read);
    let mut answer = [0; 41];
    while read.read_exact(&mut answer).await.is_ok() {
        let Some((seq, hash)) = lock(&expected).pop_front() else { return log.corrupt() };
        if answer[..8] != seq.to_be_bytes() || answer[9..] != hash {
            log.corrupt();
        }
        lock(&open).remove(&seq);
        log.answered(seq, answer[8]);
    }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
