//! Sockets of one address: a TCP listener and several UDP sockets on the same port.

use super::{DnsError, udp::Socket as UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 512;
/// Queries that wait to be read, in bytes for each socket: a burst while a worker is busy.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Free TCP ports tried until one is free for UDP too.
const PORT_ATTEMPTS: usize = 32;

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    pub(super) tcp: TcpListener,
    pub(super) udp: Vec<UdpSocket>,
}

impl Sockets {
    /// Binds TCP first, since it tells whether anyone has the port, then UDP on its port.
    pub(super) fn bind(asked: SocketAddr, workers: usize) -> Result<Sockets, DnsError> {
        let mut attempts = if asked.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            let tcp = tcp(asked).map_err(|source| bind_error(asked, "DNS over TCP", source))?;
            let address = tcp.local_addr().map_err(|source| bind_error(asked, "DNS over TCP", source))?;
            match udp(address, workers.max(1)) {
                Ok(udp) => return Ok(Sockets { address, tcp, udp }),
                Err(e) if attempts > 0 && e.kind() == io::ErrorKind::AddrInUse => {}
                Err(source) => return Err(bind_error(address, "DNS over UDP", source)),
            }
        }
    }
}

pub(super) fn bind_error(address: SocketAddr, what: &'static str, source: io::Error) -> DnsError {
    DnsError::Bind { address, what, source }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // IPv4 has its own sockets; else `0.0.0.0` and `::` could not both be served.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A listener for connections.
pub(super) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(tcp_alone(address)?.into())
}

/// The TCP port of an address, listening.
///
/// # Errors
/// When anyone else listens there, or it may not be had.
pub(crate) fn tcp_alone(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of a predecessor that linger do not hold the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The UDP port of an address, with nobody else.
///
/// # Errors
/// When anyone else is there, or it may not be had.
pub(crate) fn udp_alone(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket for DNS over QUIC.
pub(super) fn quic(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = udp_alone(address)?;
    // The system may cap it.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket.into())
}

fn udp(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    // Sockets with SO_REUSEPORT would quietly share the port with another server's. One without it
    // is refused when anyone is there.
    drop(udp_alone(address)?);
    (0..workers)
        .map(|number| {
            let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
            socket.set_reuse_port(true)?;
            // The system may cap it; a smaller buffer only means losing sooner in a burst.
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            socket.bind(&address.into())?;
            UdpSocket::new(socket, number)
        })
        .collect()
}
