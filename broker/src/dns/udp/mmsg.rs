//! Many datagrams a system call: `recvmmsg(2)` and `sendmmsg(2)`.
//!
//! A [`Batch`] owns everything that the kernel is given pointers to: buffers, addresses, control
//! messages and the headers that point at them. All of it is allocated once, on the heap, and never
//! resized, so the pointers stay good for as long as the batch lives; no query allocates.
//!
//! ```text
//! slot i:  query buffer ◄─ header i ─► address of the sender ─► address that was asked (control)
//!          reply buffer ◄─ header k ─► the same address        ─► the same control message
//! ```
//!
//! A slot without a reply is left out. Replies of one size to one destination leave as one message that
//! the kernel cuts apart (`UDP_SEGMENT`, Linux 4.18): of what a reply costs, the way through the network
//! stack is most, and forwarders that ask through few sockets have several replies in a batch. A resolver
//! that asks each question from another port has one; it neither gains nor loses. Where the kernel or an
//! interface will not do it, replies are sent one by one, and after a few refusals that is all that is
//! tried.

#![expect(unsafe_code, reason = "no safe crate of the house has recvmmsg and sendmmsg")]

use super::control::{CONTROL_ROOM, Control, leave_from, segment_into};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for one query. Larger than any that is asked for: replies advertise at most 1452 bytes.
const QUERY_ROOM: usize = 4096;
/// Room for one reply: beyond what any setting lets a datagram be.
const REPLY_ROOM: usize = 1536;
/// Messages cut apart that may be refused before none is tried any more.
const REFUSALS: u32 = 8;
/// Most bytes of one message that is cut apart: of what a length field of UDP can say.
const MOST_BYTES: usize = 65_000;
/// No slot, no group.
const NONE: u8 = u8::MAX;

/// Queries that came together, and the replies to them.
pub(in crate::dns) struct Batch {
    queries: Box<[[u8; QUERY_ROOM]]>,
    replies: Box<[Vec<u8>]>,
    peers: Box<[libc::sockaddr_in6]>,
    controls: Box<[Control]>,
    /// Pointed at by `headers`, and point at `queries`.
    _read_into: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    out: Out,
    /// Whether the kernel tells the address that was asked, and replies leave from it.
    asked: bool,
    /// Slots that the last read filled.
    filled: usize,
}

/// How to make a batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::dns) struct Shape {
    /// Datagrams of one system call, at most 128.
    pub(in crate::dns) size: usize,
    /// Replies leave from the address that was asked; the socket must have been told to say which
    /// ([`tell_asked`]).
    pub(in crate::dns) asked: bool,
    /// Replies to one destination leave together.
    pub(in crate::dns) segments: bool,
}

/// What the kernel is given to send.
struct Out {
    iovecs: Box<[libc::iovec]>,
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
    groups: Groups,
    /// Refusals left before nothing is sent together any more; 0 from then on.
    patience: u32,
}

/// Which replies leave together: lists of slots.
struct Groups {
    /// First and last slot, how many, of what size.
    lists: Vec<Group>,
    /// Of each slot, the next one of its group.
    next: Box<[u8]>,
    /// Where groups are found by destination: a power of two of them, at least twice the slots.
    table: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Group {
    first: u8,
    last: u8,
    count: u8,
    size: usize,
}

// SAFETY: the raw pointers in the headers point into heap memory that the batch owns alone.
unsafe impl Send for Batch {}

fn header(
    peer: *mut libc::sockaddr_in6,
    iovec: *mut libc::iovec,
    control: *mut libc::c_void,
) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid `mmsghdr`: integers and null pointers.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = peer.cast();
    header.msg_hdr.msg_iov = iovec;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control;
    ready(&mut header, !control.is_null());
    header
}

/// Says how much the kernel may write, as it must be said anew before each read.
fn ready(header: &mut libc::mmsghdr, asked: bool) {
    header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    header.msg_hdr.msg_controllen = if asked { CONTROL_ROOM as _ } else { 0 };
}

impl Batch {
    /// Room for so many datagrams at a time.
    pub(in crate::dns) fn new(shape: Shape) -> Batch {
        let size = shape.size.clamp(1, usize::from(NONE) / 2);
        // SAFETY: all-zero bytes are a valid `sockaddr_in6`.
        let peer: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let mut queries = vec![[0; QUERY_ROOM]; size].into_boxed_slice();
        let mut peers = vec![peer; size].into_boxed_slice();
        let mut controls = vec![Control([0; CONTROL_ROOM]); size].into_boxed_slice();
        let mut read_into: Box<[libc::iovec]> = queries
            .iter_mut()
            .map(|q| libc::iovec { iov_base: q.as_mut_ptr().cast(), iov_len: QUERY_ROOM })
            .collect();
        let headers = (0..size).map(|i| {
            let control = if shape.asked { controls[i].0.as_mut_ptr().cast() } else { std::ptr::null_mut() };
            header(&raw mut peers[i], &raw mut read_into[i], control)
        });
        let headers: Box<[libc::mmsghdr]> = headers.collect();
        Batch {
            queries,
            replies: (0..size).map(|_| Vec::with_capacity(REPLY_ROOM)).collect(),
            peers,
            controls,
            _read_into: read_into,
            headers,
            out: Out::new(size, shape.segments),
            asked: shape.asked,
            filled: 0,
        }
    }

    /// Waits for a datagram, then takes what else is there. How many slots are filled; after the
    /// socket was shut down some of them are nobody's.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when nothing came within the socket's time limit.
    pub(in crate::dns) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // The kernel changed only those that the last read filled.
        for header in &mut self.headers[..self.filled] {
            ready(header, self.asked);
        }
        self.filled = 0;
        let (headers, count) = (self.headers.as_mut_ptr(), self.headers.len());
        // SAFETY: `headers` are `count` headers whose pointers are to memory of this batch, each with
        // its length, and nobody else holds a reference into it while `self` is borrowed mutably.
        let read = unsafe {
            let wait = libc::MSG_WAITFORONE;
            libc::recvmmsg(socket.as_raw_fd(), headers, count as u32, wait as _, std::ptr::null_mut())
        };
        self.filled = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    /// The query of a slot and who sent it, with the buffer for its reply; `None` for a slot that holds
    /// none. A query longer than there is room for is cut, and so malformed.
    pub(in crate::dns) fn slot(&mut self, at: usize) -> Option<(&[u8], SocketAddr, &mut Vec<u8>)> {
        let header = self.headers[..self.filled].get(at)?;
        let length = (header.msg_len as usize).min(QUERY_ROOM);
        let reply = &mut self.replies[at];
        reply.clear();
        let peer = peer(&self.peers[at], header.msg_hdr.msg_namelen)?;
        Some((&self.queries[at][..length], peer, reply))
    }

    /// Sends the replies of the last read's slots. How many could not be sent, and why the last of
    /// them: those are lost, and their clients ask again.
    pub(in crate::dns) fn send(&mut self, socket: BorrowedFd<'_>) -> (usize, Option<io::Error>) {
        self.group();
        let messages = self.lay_out();
        let (mut sent, mut lost, mut why) = (0, 0, None);
        while sent < messages {
            let from = self.out.headers[sent..messages].as_mut_ptr();
            // SAFETY: `from` are headers that were laid out with pointers to memory of this batch.
            let done = unsafe { libc::sendmmsg(socket.as_raw_fd(), from, (messages - sent) as u32, 0) };
            if let Ok(done) = usize::try_from(done) {
                sent += done;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            // The first that is left is the one that was refused.
            match self.out.groups.lists.get(sent).copied() {
                Some(group) if group.count > 1 => {
                    self.out.refused(&error);
                    let (more, last) = self.send_singly(socket, group, sent);
                    (lost, why) = (lost + more, last.or(why));
                }
                _ => (lost, why) = (lost + 1, Some(error)),
            }
            sent += 1;
        }
        (lost, why)
    }

    /// Finds out which replies leave together.
    fn group(&mut self) {
        let together = self.out.patience > 0;
        self.out.groups.clear();
        for at in 0..self.filled {
            let size = self.replies[at].len();
            if size == 0 {
                continue;
            }
            // At most 127 slots.
            let slot = at as u8;
            let Some(entry) = together.then(|| self.entry(at)) else {
                self.out.groups.lists.push(Group { first: slot, last: slot, count: 1, size });
                continue;
            };
            let groups = &mut self.out.groups;
            let known = groups.table[entry];
            match groups.lists.get_mut(usize::from(known)) {
                Some(group) if group.size == size && size * usize::from(group.count) < MOST_BYTES - size => {
                    groups.next[usize::from(group.last)] = slot;
                    (group.last, group.count) = (slot, group.count + 1);
                }
                _ => {
                    groups.table[entry] = groups.lists.len() as u8;
                    groups.lists.push(Group { first: slot, last: slot, count: 1, size });
                }
            }
        }
    }

    /// Where in the table the group of a slot's destination is, or would be.
    fn entry(&self, at: usize) -> usize {
        let groups = &self.out.groups;
        let mask = groups.table.len() - 1;
        let peer = &self.peers[at];
        let words = peer.sin6_addr.s6_addr.as_chunks::<4>().0.iter().map(|w| u32::from_ne_bytes(*w));
        // An IPv4 address is where IPv6 has its flow label; it is no part of an IPv6 destination's hash.
        let start = match i32::from(peer.sin6_family) {
            libc::AF_INET => peer.sin6_flowinfo,
            _ => words.fold(0, |hash, word| hash ^ word),
        };
        let hash = (start ^ u32::from(peer.sin6_port) << 16).wrapping_mul(0x9e37_79b1);
        let mut entry = (hash >> 16) as usize & mask;
        // There are fewer groups than half of the entries, so this ends.
        while let Some(group) = groups.lists.get(usize::from(groups.table[entry])) {
            if self.same_way(usize::from(group.first), at) {
                break;
            }
            entry = (entry + 1) & mask;
        }
        entry
    }

    /// Whether replies to two slots have one destination, and leave from one address.
    fn same_way(&self, a: usize, b: usize) -> bool {
        let (lengths, peers) =
            ([a, b].map(|i| self.headers[i].msg_hdr.msg_namelen), [a, b].map(|i| &self.peers[i]));
        let v4 = i32::from(peers[0].sin6_family) == libc::AF_INET;
        let address = |p: &libc::sockaddr_in6| {
            (p.sin6_family, p.sin6_port, p.sin6_flowinfo, if v4 { [0; 16] } else { p.sin6_addr.s6_addr })
        };
        lengths[0] == lengths[1]
            && address(peers[0]) == address(peers[1])
            && (v4 || peers[0].sin6_scope_id == peers[1].sin6_scope_id)
            && (!self.asked || self.controls[a].0 == self.controls[b].0)
    }

    /// Fills the headers of what is to be sent; how many.
    fn lay_out(&mut self) -> usize {
        let mut iovec = 0;
        for message in 0..self.out.groups.lists.len() {
            let group = self.out.groups.lists[message];
            let begin = iovec;
            let mut slot = group.first;
            for _ in 0..group.count {
                let reply = &mut self.replies[usize::from(slot)];
                self.out.iovecs[iovec] =
                    libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
                iovec += 1;
                slot = self.out.groups.next[usize::from(slot)];
            }
            let segment = (group.count > 1).then_some(group.size);
            self.head(message, usize::from(group.first), begin, usize::from(group.count), segment);
        }
        self.out.groups.lists.len()
    }

    /// Fills one header: a message to the sender of a slot, of these iovecs.
    fn head(&mut self, message: usize, slot: usize, iovec: usize, iovecs: usize, segment: Option<usize>) {
        let received = &self.headers[slot].msg_hdr;
        let told = if self.asked { received.msg_controllen as usize } else { 0 };
        let control = &mut self.out.controls[message];
        let mut length = leave_from(&self.controls[slot], told, control);
        if let Some(size) = segment {
            length += segment_into(control, length, size);
        }
        let out = &mut self.out.headers[message].msg_hdr;
        out.msg_name = (&raw mut self.peers[slot]).cast();
        out.msg_namelen = received.msg_namelen;
        out.msg_iov = &raw mut self.out.iovecs[iovec];
        out.msg_iovlen = iovecs as _;
        out.msg_control = if length > 0 { control.0.as_mut_ptr().cast() } else { std::ptr::null_mut() };
        out.msg_controllen = length as _;
    }

    /// Sends the replies of a group that was refused one by one, in the place of its header.
    fn send_singly(
        &mut self,
        socket: BorrowedFd<'_>,
        group: Group,
        message: usize,
    ) -> (usize, Option<io::Error>) {
        let begin = self.out.groups.lists[..message].iter().map(|g| usize::from(g.count)).sum::<usize>();
        let (mut lost, mut why) = (0, None);
        for (nth, slot) in self.out.groups.slots(group).enumerate().collect::<Vec<_>>() {
            self.head(message, slot, begin + nth, 1, None);
            let one = &raw mut self.out.headers[message];
            // SAFETY: as in `send`.
            if unsafe { libc::sendmmsg(socket.as_raw_fd(), one, 1, 0) } < 0 {
                (lost, why) = (lost + 1, Some(io::Error::last_os_error()));
            }
        }
        (lost, why)
    }
}

impl Out {
    fn new(size: usize, segments: bool) -> Out {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let blank = || header(std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        Out {
            iovecs: vec![empty; size].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_ROOM]); size].into_boxed_slice(),
            headers: (0..size).map(|_| blank()).collect(),
            groups: Groups {
                lists: Vec::with_capacity(size),
                next: vec![NONE; size].into_boxed_slice(),
                table: vec![NONE; (2 * size).next_power_of_two()].into_boxed_slice(),
            },
            patience: if segments { REFUSALS } else { 0 },
        }
    }

    /// A message that was to be cut apart was refused.
    fn refused(&mut self, error: &io::Error) {
        // Too large for the path: another group may not be. Anything else is for good.
        let lasting = !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE));
        self.patience = if lasting { 0 } else { self.patience.saturating_sub(1) };
        if self.patience == 0 {
            tracing::info!(%error, "DNS over UDP: replies are sent one by one from now on");
        }
    }
}

impl Groups {
    fn clear(&mut self) {
        self.lists.clear();
        self.table.fill(NONE);
    }

    /// The slots of a group.
    fn slots(&self, group: Group) -> impl Iterator<Item = usize> {
        let next = |slot: &u8| self.next.get(usize::from(*slot)).copied();
        std::iter::successors(Some(group.first), next).take(group.count.into()).map(usize::from)
    }
}

/// The sender's address as the kernel wrote it.
fn peer(raw: &libc::sockaddr_in6, length: libc::socklen_t) -> Option<SocketAddr> {
    match i32::from(raw.sin6_family) {
        libc::AF_INET if length as usize >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: a `sockaddr_in` is shorter than a `sockaddr_in6` and no more aligned, any bytes are
            // one, and the family and length say that the kernel wrote one.
            let v4 = unsafe { &*(&raw const *raw).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 if length as usize >= size_of::<libc::sockaddr_in6>() => {
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id)))
        }
        _ => None,
    }
}

fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` lives during the call, and `length` is its size.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel say which address each datagram was sent to.
///
/// # Errors
/// What the system says.
pub(in crate::dns) fn tell_asked(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    match v6 {
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        false => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
    }
}

/// Datagrams are sent whole or not at all (RFC 9715 §3.1), and what routers tell of smaller paths is not
/// believed, since anyone can tell it.
///
/// # Errors
/// What the system says.
pub(in crate::dns) fn never_fragment(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    match v6 {
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        false => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
    }
}

#[cfg(test)]
#[path = "mmsg_tests.rs"]
mod tests;
