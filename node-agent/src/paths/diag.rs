//! Asks the kernel for established connections: a netlink socket and nothing else. It blocks, so it
//! belongs on a blocking thread.

use super::message::{AnswerError, Connection, Family, Progress, read, request};
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long the kernel may take for one datagram.
const PATIENCE: Duration = Duration::from_secs(2);
/// Larger than any datagram that the kernel makes of such an answer.
const BUFFER: usize = 64 * 1024;

/// Why connections cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The system gives no such socket, or takes no request on it: a sandbox, most likely.
    #[error("no netlink socket for connections: {0}")]
    Socket(#[source] io::Error),
    /// No answer came.
    #[error("no answer of the kernel about connections: {0}")]
    Silent(#[source] io::Error),
    /// An answer that is larger than what was made ready for it.
    #[error("an answer of {0} bytes about connections; at most {BUFFER} are expected")]
    TooLarge(usize),
    /// An answer that cannot be read.
    #[error("connections: {0}")]
    Answer(#[from] AnswerError),
}

/// A socket to ask on.
pub struct Diag {
    socket: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

impl Diag {
    /// Opens it.
    ///
    /// # Errors
    /// [`DiagError::Socket`] with what the system said.
    pub fn open() -> Result<Diag, DiagError> {
        let refused = |e: Errno| DiagError::Socket(e.into());
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(SOCK_DIAG));
        let socket = socket.map_err(refused)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).map_err(refused)?;
        Ok(Diag { socket, seq: 0, buffer: vec![0; BUFFER] })
    }

    /// Hands each established connection on a local port to `take`. A machine without IPv6 has none
    /// of that family.
    ///
    /// # Errors
    /// Where it went wrong; what was handed over until then is right.
    pub fn established(&mut self, port: u16, mut take: impl FnMut(Connection)) -> Result<(), DiagError> {
        for family in Family::ALL {
            match self.dump(family, port, &mut take) {
                Err(DiagError::Answer(AnswerError::Refused(e)))
                    if family == Family::V6 && e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn dump(&mut self, family: Family, port: u16, take: &mut dyn FnMut(Connection)) -> Result<(), DiagError> {
        self.seq = self.seq.wrapping_add(1);
        let kernel = SocketAddrNetlink::new(0, 0);
        let asked = request(family, port, self.seq);
        rustix::net::sendto(&self.socket, &asked, SendFlags::empty(), &kernel)
            .map_err(|e| DiagError::Socket(e.into()))?;
        loop {
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC)
            });
            let (_, length) = received.map_err(|e| DiagError::Silent(e.into()))?;
            let datagram = self.buffer.get(..length).ok_or(DiagError::TooLarge(length))?;
            if read(datagram, self.seq, &mut *take)? == Progress::Done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// What was timed of connections to a listener, as our side sees them.
    fn timed(listen: &str) -> Vec<Connection> {
        let listener = TcpListener::bind(listen).expect("a port");
        let address = listener.local_addr().expect("its address");
        let target: std::net::SocketAddr = (std::net::Ipv4Addr::LOCALHOST, address.port()).into();
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(target).expect("connected");
            let (mut server, _) = listener.accept().expect("accepted");
            server.write_all(b"hello").expect("written");
            client.read_exact(&mut [0; 5]).expect("read");
            held.push((client, server));
        }
        let mut seen = Vec::new();
        let mut diag = Diag::open().expect("a netlink socket");
        diag.established(address.port(), |c| seen.push(c)).expect("read");
        // The clients' sides have other local ports, and are not asked for.
        assert!(seen.iter().all(|c| c.local.port() == address.port()), "{seen:?}");
        seen
    }

    #[test]
    fn connections_of_a_port_are_seen_with_their_round_trips() {
        let mut listens = vec!["127.0.0.1:0"];
        // Where there is IPv6, a socket of that family sees IPv4 peers too.
        if TcpListener::bind("[::]:0").is_ok() {
            listens.push("[::]:0");
        }
        for listen in listens {
            let seen = timed(listen);
            assert_eq!(seen.len(), 3, "{listen}: {seen:?}");
            for c in seen {
                assert_eq!((c.local.ip().to_string().as_str(), c.peer.is_loopback()), ("127.0.0.1", true));
                assert!((1..1_000_000).contains(&c.rtt_us), "{c:?}");
            }
        }
    }

    #[test]
    fn a_port_without_connections_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        Diag::open().expect("a socket").established(port, |c| panic!("{c:?}")).expect("read");
    }
}
