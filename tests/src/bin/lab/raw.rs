//! Packet sockets (packet(7)) of the router: the only place of the lab that speaks to libc itself.
#![expect(unsafe_code, reason = "no safe crate gives addresses of packet sockets and times of arrival")]

use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// IPv4, as Ethernet numbers it.
const IPV4: [u8; 2] = [0x08, 0x00];
/// Of Ethernet, without tags.
pub const LINK_HEADER: usize = 14;
/// Bytes that wait in the kernel; a second of a gigabit.
const WAITS: usize = 8 << 20;

/// All IPv4 packets that come in on one interface. What others send out on it does not show here, since
/// the socket asks for one protocol only.
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// On the interface of this index.
    pub fn open(interface: u32) -> io::Result<PacketSocket> {
        let protocol = u16::from_ne_bytes(IPV4);
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.set_nonblocking(true)?;
        // Less where the system allows no more.
        let _ = socket.set_recv_buffer_size(WAITS);
        let _ = socket.set_send_buffer_size(WAITS);
        socket.bind(&address(protocol, interface))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option's value is an int that lives through the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set == 0 { Ok(PacketSocket(socket)) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame, and how long ago it came. `None`: there is none.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<Option<(usize, Duration)>> {
        // Eight-byte aligned, as control messages must be.
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all zeroes is a valid msghdr: null pointers with lengths of zero.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the message points to one buffer and one control buffer of the lengths given, both
        // borrowed mutably or owned here until after the call.
        let read = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        if read < 0 {
            let error = io::Error::last_os_error();
            let none = error.kind() == io::ErrorKind::WouldBlock;
            // Told once when a link goes down, as all do when the lab ends.
            let down = error.raw_os_error() == Some(libc::ENETDOWN);
            return if none || down { Ok(None) } else { Err(error) };
        }
        Ok(Some((read as usize, age(&message))))
    }

    /// Sends a frame, with its link header. What the kernel has no room for is lost.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self.0.send(frame) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENETDOWN) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The header of a frame to a host, from the router.
pub fn link_header(host: u8) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[..6].copy_from_slice(&[2, 0, 0, 0, 0, host]);
    header[6..12].copy_from_slice(&[2, 0, 0, 0, 1, host]);
    header[12..].copy_from_slice(&IPV4);
    header
}

fn address(protocol: u16, interface: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the kernel's address types, each of which fits a storage and is valid
    // as zeroes.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as _;
    link.sll_protocol = protocol;
    link.sll_ifindex = interface as i32;
    // SAFETY: the family says that it is a sockaddr_ll, whose length this is.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// How long ago the kernel says that the message came; nothing where it does not say.
fn age(message: &libc::msghdr) -> Duration {
    // SAFETY: recvmsg filled the message's control buffer, which is alive and aligned; the macros stay
    // within the length that it set.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !at.is_null() {
        // SAFETY: not null, so it points to a whole header within the control buffer.
        let header = unsafe { &*at };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: a message of this type holds a timespec; it may be unaligned.
            let came = unsafe { libc::CMSG_DATA(at).cast::<libc::timespec>().read_unaligned() };
            let now = clock_gettime(ClockId::Realtime);
            let since = |s: i64, ns: i64| Duration::new(s.max(0) as u64, ns.clamp(0, 999_999_999) as u32);
            return since(now.tv_sec, now.tv_nsec).saturating_sub(since(came.tv_sec, came.tv_nsec));
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(message, at) };
    }
    Duration::ZERO
}
