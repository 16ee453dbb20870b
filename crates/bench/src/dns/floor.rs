//! The floor: an echo on a UDP socket, with nothing between reading and writing but two bits.
//!
//! Datagrams are read and written in batches, one system call each (recvmmsg(2), sendmmsg(2)). It is
//! what any server on UDP sockets costs at least; what a server costs beyond it is its own. No safe
//! crate reads and writes batches without allocating for each, which would raise the floor.

#![expect(unsafe_code, reason = "recvmmsg and sendmmsg on buffers that live as long as the loop")]

use anyhow::{Context, Result};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams a system call.
const BATCH: usize = 64;
/// The most that a datagram may hold here.
const SIZE: usize = 1500;
/// What waits in the kernel for the echo, in bytes.
const WAITING: usize = 8 << 20;

/// Answers at an address, until the process is killed.
///
/// # Errors
/// When the address cannot be bound, or the socket fails.
pub fn run(at: SocketAddrV4) -> Result<()> {
    let socket = UdpSocket::bind(at).with_context(|| format!("the echo's address {at}"))?;
    // Beyond the system's limit where that is allowed.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, WAITING).is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, WAITING)?;
    }
    echo(&socket)
}

/// One datagram: what the kernel is told of it, and where it is.
#[derive(Clone, Copy)]
struct Place {
    from: libc::sockaddr_in,
    part: libc::iovec,
    buffer: [u8; SIZE],
}

impl Place {
    /// Tells the kernel to use this place, of which so many bytes are meant.
    fn tell(&mut self, message: &mut libc::mmsghdr, length: usize) {
        self.part = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: length };
        message.msg_hdr.msg_iov = &raw mut self.part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_name = (&raw mut self.from).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    }
}

fn echo(socket: &UdpSocket) -> Result<()> {
    // SAFETY: all-zero bytes are a valid value of these plain C structures; null pointers in them are set
    // before they are used.
    let (empty, header): (Place, libc::mmsghdr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let (mut places, mut messages) = (vec![empty; BATCH], [header; BATCH]);
    let fd = socket.as_raw_fd();
    loop {
        for (place, message) in places.iter_mut().zip(&mut messages) {
            place.tell(message, SIZE);
        }
        let all = messages.as_mut_ptr();
        // SAFETY: `all` are BATCH headers, each of which points into a place of its own; the places stay
        // where they are, and nothing else uses them during the call.
        let read =
            unsafe { libc::recvmmsg(fd, all, BATCH as u32, libc::MSG_WAITFORONE, std::ptr::null_mut()) };
        let Ok(read @ 1..) = usize::try_from(read) else {
            let error = std::io::Error::last_os_error();
            match error.kind() {
                std::io::ErrorKind::Interrupted => continue,
                _ => return Err(error).context("the echo reads"),
            }
        };
        for (place, message) in places.iter_mut().zip(&mut messages).take(read) {
            // QR and AA, as an answer has them.
            place.buffer[2] |= 0x84;
            let length = message.msg_len as usize;
            place.tell(message, length);
        }
        // SAFETY: as for reading. What cannot be sent is lost, and counted by who asked.
        unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), read as u32, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_sent_comes_back_as_an_answer() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        // Ends with the test's process: the echo has no other end.
        std::thread::spawn(move || echo(&socket));
        let clients: Vec<UdpSocket> =
            (0..3).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        for round in 0..200_u8 {
            for (i, client) in clients.iter().enumerate() {
                let sent = [round, i as u8, 0, 7].repeat(1 + usize::from(round) % 9);
                client.send_to(&sent, at).unwrap();
            }
            for (i, client) in clients.iter().enumerate() {
                let mut wanted = [round, i as u8, 0, 7].repeat(1 + usize::from(round) % 9);
                wanted[2] = 0x84;
                let mut reply = [0; SIZE];
                let (n, from) = client.recv_from(&mut reply).unwrap();
                assert_eq!((&reply[..n], from), (&wanted[..], at));
            }
        }
    }
}
