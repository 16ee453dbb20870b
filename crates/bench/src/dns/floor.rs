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

fn echo(socket: &UdpSocket) -> Result<()> {
    let mut buffers = vec![[0_u8; SIZE]; BATCH];
    // SAFETY: all-zero bytes are a valid value of these plain C structures.
    let mut from: [libc::sockaddr_in; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: the same; null pointers in them are set before use.
    let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    for i in 0..BATCH {
        parts[i].iov_base = buffers[i].as_mut_ptr().cast();
        messages[i].msg_hdr.msg_name = (&raw mut from[i]).cast();
        messages[i].msg_hdr.msg_iov = &raw mut parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    let (fd, all) = (socket.as_raw_fd(), messages.as_mut_ptr());
    loop {
        for i in 0..BATCH {
            parts[i].iov_len = SIZE;
            // SAFETY: `all` points to BATCH headers.
            unsafe { (*all.add(i)).msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32 };
        }
        // SAFETY: each header points to a buffer, an address and a part of its own, which outlive the loop.
        let read =
            unsafe { libc::recvmmsg(fd, all, BATCH as u32, libc::MSG_WAITFORONE, std::ptr::null_mut()) };
        let Ok(read @ 1..) = usize::try_from(read) else {
            let error = std::io::Error::last_os_error();
            match error.kind() {
                std::io::ErrorKind::Interrupted => continue,
                _ => return Err(error).context("the echo reads"),
            }
        };
        for i in 0..read {
            // SAFETY: as above; the kernel wrote the length of what it read.
            parts[i].iov_len = unsafe { (*all.add(i)).msg_len } as usize;
            // SAFETY: the buffer is ours while the kernel is not reading; QR and AA, as an answer has them.
            unsafe { *parts[i].iov_base.cast::<u8>().add(2) |= 0x84 };
        }
        // SAFETY: as for reading. What cannot be sent is lost, and counted by who asked.
        unsafe { libc::sendmmsg(fd, all, read as u32, 0) };
    }
}
