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

/// Room for one query. Larger than any that is asked for: replies advertise at most 1452 bytes. No power of
/// two: buffers at such a distance have the same few places in a cache, and push each other out.
const QUERY_ROOM: usize = 4096 + 64;
/// What is left of a query that there was no room for: its header.
const CUT: usize = 12;
/// Slots that are always ready to be filled.
const LEAST: usize = 8;
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
    read_into: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    out: Out,
    /// Whether the kernel tells the address that was asked, and replies leave from it.
    asked: bool,
    /// Slots that the last read filled.
    filled: usize,
    /// Slots that the next read may fill. Each has to be got ready, so where few come at a time few are: twice
    /// what came last, or little less than before, since queries come in bursts.
    wanted: usize,
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

fn blank() -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid `mmsghdr`: integers and null pointers.
    unsafe { std::mem::zeroed() }
}

/// Says where the kernel may write, and how much.
fn ready(
    header: &mut libc::mmsghdr,
    peer: *mut libc::sockaddr_in6,
    iovec: *mut libc::iovec,
    told: *mut libc::c_void,
) {
    let header = &mut header.msg_hdr;
    header.msg_name = peer.cast();
    header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    header.msg_iov = iovec;
    header.msg_iovlen = 1;
    header.msg_control = told;
    header.msg_controllen = if told.is_null() { 0 } else { CONTROL_ROOM as _ };
}

impl Batch {
    /// Room for so many datagrams at a time.
    pub(in crate::dns) fn new(shape: Shape) -> Batch {
        let size = shape.size.clamp(1, usize::from(NONE) / 2);
        // SAFETY: all-zero bytes are a valid `sockaddr_in6`.
        let peer: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let read = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: QUERY_ROOM };
        Batch {
            queries: vec![[0; QUERY_ROOM]; size].into_boxed_slice(),
            replies: (0..size).map(|_| Vec::with_capacity(REPLY_ROOM)).collect(),
            peers: vec![peer; size].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_ROOM]); size].into_boxed_slice(),
            read_into: vec![read; size].into_boxed_slice(),
            headers: (0..size).map(|_| blank()).collect(),
            out: Out::new(size, shape.segments),
            asked: shape.asked,
            filled: 0,
            wanted: LEAST,
        }
    }

    /// Waits for a datagram, then takes what else is there. How many slots are filled; after the
    /// socket was shut down some of them are nobody's.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when nothing came within the socket's time limit.
    pub(in crate::dns) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // Pointers are made anew each time: none outlives a borrow of what it points to.
        let slots = self.queries.iter_mut().zip(&mut self.peers).zip(&mut self.controls);
        let heads = self.read_into.iter_mut().zip(&mut self.headers);
        let wanted = self.wanted.min(slots.len());
        for (((query, peer), control), (iovec, header)) in slots.zip(heads).take(wanted) {
            iovec.iov_base = query.as_mut_ptr().cast();
            let told = if self.asked { control.0.as_mut_ptr().cast() } else { std::ptr::null_mut() };
            ready(header, peer, iovec, told);
        }
        self.filled = 0;
        let (headers, count) = (self.headers.as_mut_ptr(), wanted);
        // SAFETY: `headers` are `count` headers whose pointers are to memory of this batch, each with
        // its length, and nobody else holds a reference into it while `self` is borrowed mutably.
        let read = unsafe {
            let wait = libc::MSG_WAITFORONE;
            libc::recvmmsg(socket.as_raw_fd(), headers, count as u32, wait as _, std::ptr::null_mut())
        };
        self.filled = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        self.wanted = (2 * self.filled).max(wanted - wanted / 8).max(LEAST);
        Ok(self.filled)
    }

    /// The query of a slot and who sent it, with the buffer for its reply; `None` for a slot that holds
    /// none. A query longer than there is room for is cut, and so malformed.
    pub(in crate::dns) fn slot(&mut self, at: usize) -> Option<(&[u8], SocketAddr, &mut Vec<u8>)> {
        let header = self.headers[..self.filled].get(at)?;
        // What was cut is no query, whatever its beginning looks like: a header says that there is more.
        let most = if header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0 { QUERY_ROOM } else { CUT };
        let length = (header.msg_len as usize).min(most);
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
            match self.out.send(socket, sent..messages) {
                Ok(done) => {
                    sent += done;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // No room: what waits to be sent goes nowhere (nobody answers for its destination), and
                // neither would the rest. Those who wait for an answer would wait for all of them.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let rest = &self.out.groups.lists[sent..];
                    lost += rest.iter().map(|g| usize::from(g.count)).sum::<usize>();
                    return (lost, Some(error));
                }
                // The first that is left is the one that was refused.
                Err(error) => match self.out.groups.lists.get(sent).copied() {
                    Some(group) if group.count > 1 => {
                        let (more, last) = self.send_singly(socket, group, sent);
                        if more == 0 {
                            self.out.refused(&error);
                        }
                        (lost, why) = (lost + more, last.or(why));
                    }
                    _ => (lost, why) = (lost + 1, Some(error)),
                },
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
                Some(group) if group.size == size && size * (usize::from(group.count) + 1) < MOST_BYTES => {
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
        let told = if self.asked { received.msg_controllen } else { 0 };
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
        let mut slot = usize::from(group.first);
        for nth in 0..usize::from(group.count) {
            self.head(message, slot, begin + nth, 1, None);
            if let Err(error) = self.out.send(socket, message..message + 1) {
                (lost, why) = (lost + 1, Some(error));
            }
            slot = self.out.groups.next.get(slot).copied().map_or(0, usize::from);
        }
        (lost, why)
    }
}

impl Out {
    fn new(size: usize, segments: bool) -> Out {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
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

    /// Sends some of the messages that were laid out; how many. Never waits.
    fn send(&mut self, socket: BorrowedFd<'_>, which: std::ops::Range<usize>) -> io::Result<usize> {
        let from = &mut self.headers[which];
        let (from, count) = (from.as_mut_ptr(), from.len() as u32);
        // SAFETY: `from` are `count` headers that were laid out with pointers to memory of the batch, whose
        // borrows have ended and which nothing has touched since.
        let done = unsafe { libc::sendmmsg(socket.as_raw_fd(), from, count, libc::MSG_DONTWAIT as _) };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// A message that was to be cut apart was refused, and what it was made of was not. So it is not the
    /// destination, which anyone can choose.
    fn refused(&mut self, error: &io::Error) {
        self.patience = self.patience.saturating_sub(1);
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
}

/// The sender's address as the kernel wrote it.
fn peer(raw: &libc::sockaddr_in6, length: libc::socklen_t) -> Option<SocketAddr> {
    // Nobody can be answered at port 0. It stands at the same place in both families.
    if raw.sin6_port == 0 {
        return None;
    }
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
