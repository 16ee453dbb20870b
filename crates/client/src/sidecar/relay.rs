//! Bytes both ways until both ends are said, or it broke.

use crate::session::Stream;
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Carries bytes between a program and the service. An end of the one side is said to the other, which may go
/// on.
///
/// # Errors
/// Either side broke, or this was dropped: then both are broken, not ended, once they are dropped as well.
pub(super) async fn relay(local: &TcpStream, stream: Stream) -> io::Result<()> {
    break_when_dropped(local, true)?;
    let (from_service, to_service) = tokio::io::split(stream);
    let both = async { tokio::try_join!(down(from_service, local), up(local, to_service)) };
    tokio::select! {
        done = both => drop(done?),
        // A program that died is not always noticed by what is read or written.
        error = died(local) => return Err(error),
    }
    break_when_dropped(local, false)
}

async fn up(local: &TcpStream, mut to_service: WriteHalf<Stream>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        local.readable().await?;
        match local.try_read(&mut buffer) {
            Ok(0) => return to_service.shutdown().await,
            Ok(n) => to_service.write_all(&buffer[..n]).await?,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

async fn down(mut from_service: ReadHalf<Stream>, local: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = from_service.read(&mut buffer).await?;
        if n == 0 {
            return SockRef::from(local).shutdown(Shutdown::Write);
        }
        write(local, &buffer[..n]).await?;
    }
}

/// Writes all to a program.
pub(super) async fn write(local: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        local.writable().await?;
        match local.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

async fn died(local: &TcpStream) -> io::Error {
    match local.ready(Interest::ERROR).await.and_then(|_| local.take_error()) {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => ErrorKind::ConnectionReset.into(),
    }
}

/// Whether a connection that is dropped is reset, even while bytes wait to be sent, or ends.
pub(super) fn break_when_dropped(local: &TcpStream, breaks: bool) -> io::Result<()> {
    SockRef::from(local).set_linger(breaks.then_some(Duration::ZERO))
}
