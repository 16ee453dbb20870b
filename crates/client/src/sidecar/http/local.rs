//! A program's connection, which can be broken by whoever hands an answer on.

use super::super::relay;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that hyper reads and writes. Clones are the same one.
#[derive(Clone)]
pub(super) struct Local(Arc<Socket>);

struct Socket {
    tcp: TcpStream,
    broken: AtomicBool,
}

impl Local {
    pub fn new(tcp: TcpStream) -> Local {
        Local(Arc::new(Socket { tcp, broken: AtomicBool::new(false) }))
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.0.tcp
    }

    /// An answer of the service begins: until hyper ends the connection in order, or [`Local::ends`], its end
    /// is a reset. Whoever drops it with the last bytes of an answer still in a buffer says so.
    pub fn holds(&self) {
        // Fails where the connection is gone.
        let _ = relay::break_when_dropped(&self.0.tcp, true);
    }

    /// Nothing is under way: its end is an end, unless an answer was cut.
    pub fn ends(&self) {
        if !self.0.broken.load(Ordering::Relaxed) {
            let _ = relay::break_when_dropped(&self.0.tcp, false);
        }
    }

    /// From now on its end is a reset: an answer that lasts to the end of the connection would be taken for
    /// a whole one otherwise.
    pub fn cut(&self) {
        self.0.broken.store(true, Ordering::Relaxed);
        self.holds();
    }
}

impl AsyncRead for Local {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.tcp.poll_read_ready(cx))?;
            match self.0.tcp.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Local {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.tcp.poll_write_ready(cx))?;
            match self.0.tcp.try_write(buf) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        self.ends();
        Poll::Ready(socket2::SockRef::from(&self.0.tcp).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What the program reads once the connection was dropped after this.
    async fn heard(after: impl AsyncFnOnce(&mut Local)) -> io::Result<usize> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut local = Local::new(listener.accept().await.unwrap().0);
        after(&mut local).await;
        drop(local);
        program.read(&mut [0]).await
    }

    #[tokio::test]
    async fn only_what_ended_in_order_ends() {
        let reset = |end: io::Result<usize>| assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(heard(async |_| {}).await.unwrap(), 0, "nothing was under way");
        reset(heard(async |local| local.holds()).await);
        let in_order = async |local: &mut Local| {
            local.holds();
            local.shutdown().await.unwrap();
        };
        assert_eq!(heard(in_order).await.unwrap(), 0);
        let cut = async |local: &mut Local| {
            local.cut();
            local.ends();
            assert!(local.shutdown().await.is_err());
        };
        reset(heard(cut).await);
    }
}
