//! One TCP connection to the service for a stream.
//!
//! ```text
//!  header ──▶ place (the hub) ──▶ connect ──▶ opened ──▶ bytes both ways ──▶ ended: FIN both ways
//!     │           │                  │                         │
//!     ▼           ▼                  ▼                         ▼
//!  connection  failed: answered, and the stream ends        broken: RESET, STOP_SENDING and RST
//!  closed
//! ```
//! The TCP connection is one that breaks when it is dropped (RST) until both sides ended it in order, and
//! the stream one that is reset: however this task ends, nobody takes it for the end of the data.

use super::connection::{Attached, Fault};
use super::hub::ToHub;
use super::metrics::{Kind, Way};
use super::{Shared, proxy};
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::ingress::control::MAX_MESSAGE;
use nearmost_wire::ingress::flow::{Break, FlowKind, Open, OpenAnswer, OpenError};
use quinn::{RecvStream, SendStream};
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A stream's header comes within this time.
const HEADER: Duration = Duration::from_secs(10);
/// A standby waits for its promotion, which comes with the client's next beacon.
const PROMOTION: Duration = Duration::from_secs(2);
/// The service is on this machine or near to it.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// The two ends of the client's connection, for the service.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

/// Serves a stream to its end.
///
/// # Errors
/// A header that ends the client's whole connection.
pub(super) async fn serve(
    send: SendStream,
    mut recv: RecvStream,
    to: Attached,
    ends: Ends,
    shared: Shared,
) -> Result<(), Fault> {
    let mut out = Out { send, ended: false };
    let header = frame::read_at_most::<Open>(&mut recv, MAX_MESSAGE);
    let FlowKind::Tcp = match tokio::time::timeout(HEADER, header).await {
        Ok(Ok(open)) => open.kind,
        // Given up before it began.
        Err(_) | Ok(Err(FrameError::Ended | FrameError::Io(_))) => return Ok(()),
        Ok(Err(e)) => return Err(Fault::message(&e)),
    };
    let place = match place(&to).await {
        Ok(place) => place,
        Err(code) => {
            out.fail(code, &shared).await;
            return Ok(());
        }
    };
    match connect(&to, ends).await {
        Ok(tcp) => relay(out, recv, tcp, &shared).await,
        Err(code) => out.fail(code, &shared).await,
    }
    drop(place);
    let _ = to.door.hub.send(ToHub::Closed { at: to.at }).await;
    Ok(())
}

/// A place among all flows, once the session is served here.
async fn place(to: &Attached) -> Result<OwnedSemaphorePermit, OpenError> {
    let (answer, mut place) = oneshot::channel();
    if to.door.hub.send(ToHub::Open { at: to.at, answer }).await.is_err() {
        return Err(OpenError::NotPrimary);
    }
    match tokio::time::timeout(PROMOTION, &mut place).await {
        Ok(answer) => answer.unwrap_or(Err(OpenError::NotPrimary)),
        Err(_) => {
            place.close();
            // One that came in the last moment counts.
            place.try_recv().unwrap_or(Err(OpenError::NotPrimary))
        }
    }
}

async fn connect(to: &Attached, ends: Ends) -> Result<TcpStream, OpenError> {
    let target = to.door.target.tcp.ok_or(OpenError::NotServed)?;
    let connected = async {
        let mut tcp = TcpStream::connect(target).await?;
        tcp.set_nodelay(true)?;
        SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
        if to.door.target.proxy_protocol {
            tcp.write_all(&proxy::header(ends.client, ends.local)).await?;
        }
        Ok::<_, io::Error>(tcp)
    };
    match tokio::time::timeout(CONNECT, connected).await {
        Ok(Ok(tcp)) => Ok(tcp),
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => Err(OpenError::Refused),
        Ok(Err(_)) => Err(OpenError::Unreachable),
        Err(_) => Err(OpenError::Timeout),
    }
}

/// Carries bytes until both directions ended, or the connection broke.
async fn relay(mut out: Out, mut recv: RecvStream, mut tcp: TcpStream, shared: &Shared) {
    let open = shared.metrics.flow(Kind::Tcp);
    let carried = async {
        frame::write(&mut out.send, &OpenAnswer::Opened).await.map_err(io::Error::other)?;
        let (mut from_service, mut to_service) = tcp.split();
        let stopped = out.send.stopped();
        let up = async {
            while let Some(chunk) = recv.read_chunk(CHUNK, true).await? {
                to_service.write_all(&chunk.bytes).await?;
                shared.metrics.bytes(Kind::Tcp, Way::Up, chunk.bytes.len());
            }
            to_service.shutdown().await
        };
        let down = async {
            let mut buffer = vec![0; CHUNK];
            loop {
                let n = from_service.read(&mut buffer).await?;
                if n == 0 {
                    return out.finish();
                }
                out.send.write_all(&buffer[..n]).await?;
                shared.metrics.bytes(Kind::Tcp, Way::Down, n);
            }
        };
        // Ends once the client has all that the service said; before that, it wants no more.
        let taken = async {
            match stopped.await {
                Ok(None) => Ok(()),
                Ok(Some(_)) | Err(_) => Err(io::Error::from(ErrorKind::BrokenPipe)),
            }
        };
        tokio::try_join!(up, down, taken)
    };
    match carried.await {
        Ok(_) => {
            // Both ends are said: what is on its way to the service still goes.
            let _ = SockRef::from(&tcp).set_linger(None);
            open.ended("ended");
        }
        Err(_) => {
            let _ = recv.stop(Break::Aborted.code().into());
            open.ended("broken");
        }
    }
}

/// A stream to the client that is reset when dropped before its end was said: quinn would end it.
struct Out {
    send: SendStream,
    ended: bool,
}

impl Out {
    fn finish(&mut self) -> io::Result<()> {
        self.ended = true;
        self.send.finish().map_err(io::Error::from)
    }

    async fn fail(&mut self, code: OpenError, shared: &Shared) {
        shared.metrics.flow_failed(code);
        if frame::write(&mut self.send, &OpenAnswer::Failed { code }).await.is_ok() {
            let _ = self.finish();
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.send.reset(Break::Aborted.code().into());
        }
    }
}
