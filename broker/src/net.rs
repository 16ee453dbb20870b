//! Sockets as the broker wants them.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// A non-blocking UDP socket. `[::]` takes IPv4 too; `receive_buffer` bytes are asked for and what
/// the system grants is taken.
pub fn udp_socket(address: SocketAddr, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    let _ = socket.set_recv_buffer_size(receive_buffer);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
