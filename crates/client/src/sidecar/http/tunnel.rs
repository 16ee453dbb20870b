//! A connection that changed its protocol: bytes both ways from then on.

use super::super::count::Count;
use super::super::relay;
use super::local::Local;
use super::upstream::Metered;
use hyper::body::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use std::io::{self, ErrorKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Both ends of a tunnel to be, once the program has the answer that says so.
pub(super) struct Tunnel {
    pub program: OnUpgrade,
    pub service: OnUpgrade,
}

impl Tunnel {
    /// Carries bytes to the end, and says how it ended.
    pub async fn run(self, local: &TcpStream) -> Count {
        // Whatever goes wrong from here on is a break.
        let _ = relay::break_when_dropped(local, true);
        match self.carry(local).await {
            Ok(()) => Count::Ended,
            Err(_) => Count::Broken,
        }
    }

    async fn carry(self, local: &TcpStream) -> io::Result<()> {
        let (program, service) = tokio::try_join!(self.program, self.service).map_err(io::Error::other)?;
        let early = early(program)?;
        let other = |_| io::Error::from(ErrorKind::InvalidData);
        let service = service.downcast::<TokioIo<Metered>>().map_err(other)?;
        let (mut stream, first) = (service.io.into_inner().stream, service.read_buf);
        // What was read along with the heads.
        stream.write_all(&early).await?;
        relay::write(local, &first).await?;
        relay::relay(local, stream).await
    }
}

fn early(program: Upgraded) -> io::Result<Bytes> {
    let parts = downcast::<TokioIo<Local>>(program).map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
    Ok(parts.read_buf)
}
