//! Control messages (`cmsg(3)`) of a query and its reply, as bytes: which address was asked and which one
//! the reply leaves from (`IP_PKTINFO`; RFC 3542 §6 for IPv6), and the size into which the kernel cuts a
//! message (`UDP_SEGMENT`).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Room for control messages, a multiple of their alignment: an `in6_pktinfo` and a segment size.
pub(super) const CONTROL_ROOM: usize = 64;

/// Control messages must be aligned as their headers are.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control(pub(super) [u8; CONTROL_ROOM]);

/// Turns what the kernel told of a query's destination into what it is told of a reply's source, and
/// how long that is: nothing when a reply cannot leave from there (the query was sent to many), or when
/// nothing was told.
pub(super) fn leave_from(told: &Control, length: usize, out: &mut Control) -> usize {
    // A `cmsghdr`: its length as a `size_t`, its level, its type.
    let level_at = size_of::<usize>();
    let data = level_at + 8;
    let read = |at: usize| i32::from_ne_bytes(told.0[at..at + 4].try_into().unwrap_or_default());
    let end = match (length > data).then(|| (read(level_at), read(level_at + 4))) {
        Some((libc::IPPROTO_IP, libc::IP_PKTINFO)) => data + size_of::<libc::in_pktinfo>(),
        Some((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)) => data + size_of::<libc::in6_pktinfo>(),
        _ => return 0,
    };
    let space = end.next_multiple_of(level_at);
    if length < end || space > CONTROL_ROOM {
        return 0;
    }
    out.0[..space].copy_from_slice(&told.0[..space]);
    if end == data + size_of::<libc::in_pktinfo>() {
        // `in_pktinfo`: interface, source of a reply, destination of the packet. The kernel has filled in the
        // source that fits the destination: itself, or our own address where many were asked.
        let [a, b, c, d] = told.0[data + 4..data + 8].try_into().unwrap_or_default();
        let source = Ipv4Addr::new(a, b, c, d);
        // Whichever way the reply takes.
        out.0[data..data + 4].fill(0);
        let none = source.is_multicast() || source.is_broadcast() || source.is_unspecified();
        return if none { 0 } else { space };
    }
    // `in6_pktinfo`: address, interface. A link's own address means nothing without the link.
    let asked: [u8; 16] = told.0[data..data + 16].try_into().unwrap_or_default();
    let asked = Ipv6Addr::from(asked);
    if !asked.is_unicast_link_local() {
        out.0[data + 16..data + 20].fill(0);
    }
    if asked.is_multicast() || asked.is_unspecified() { 0 } else { space }
}

/// Appends the control message that has a message cut into replies of a size; how long it is.
pub(super) fn segment_into(control: &mut Control, at: usize, size: usize) -> usize {
    let word = size_of::<usize>();
    let length = word + 8 + 2;
    let space = length.next_multiple_of(word);
    let Some(room) = control.0.get_mut(at..at + space) else { return 0 };
    room[..word].copy_from_slice(&length.to_ne_bytes());
    room[word..word + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    room[word + 4..word + 8].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    // Replies are shorter than a datagram can be.
    room[word + 8..word + 10].copy_from_slice(&(size as u16).to_ne_bytes());
    space
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A control message as the kernel writes it.
    fn told(level: i32, kind: i32, data: &[u8]) -> (Control, usize) {
        let mut control = Control([0xaa; CONTROL_ROOM]);
        let word = size_of::<usize>();
        let length = word + 8 + data.len();
        control.0[..word].copy_from_slice(&length.to_ne_bytes());
        control.0[word..word + 4].copy_from_slice(&level.to_ne_bytes());
        control.0[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
        control.0[word + 8..length].copy_from_slice(data);
        (control, length.next_multiple_of(word))
    }

    fn v4(asked: [u8; 4]) -> (Control, usize) {
        let data = [&[2, 0, 0, 0][..], &asked, &[10, 0, 0, 1]].concat();
        told(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
    }

    #[test]
    fn replies_leave_from_what_was_asked_and_by_any_interface() {
        let (control, length) = v4([192, 0, 2, 7]);
        let mut out = Control([0; CONTROL_ROOM]);
        assert_eq!(leave_from(&control, length, &mut out), length);
        let data = size_of::<usize>() + 8;
        assert_eq!(out.0[data..data + 8], [0, 0, 0, 0, 192, 0, 2, 7]);
        for many in [[224, 0, 0, 1], [255; 4], [0; 4]] {
            let (control, length) = v4(many);
            assert_eq!(leave_from(&control, length, &mut out), 0);
        }
    }

    #[test]
    fn a_link_s_own_address_keeps_its_link() {
        let v6 = |asked: &str| {
            let asked: Ipv6Addr = asked.parse().unwrap();
            told(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&asked.octets()[..], &[3, 0, 0, 0]].concat())
        };
        let data = size_of::<usize>() + 8;
        for (asked, link) in [("fe80::1", 3), ("2001:db8::1", 0)] {
            let (control, length) = v6(asked);
            let mut out = Control([0; CONTROL_ROOM]);
            assert_eq!(leave_from(&control, length, &mut out), length);
            assert_eq!(out.0[data + 16], link, "{asked}");
        }
        let (control, length) = v6("ff02::1");
        assert_eq!(leave_from(&control, length, &mut Control([0; CONTROL_ROOM])), 0);
    }

    #[test]
    fn both_messages_fit() {
        let mut control = Control([0; CONTROL_ROOM]);
        let longest =
            (size_of::<usize>() + 8 + size_of::<libc::in6_pktinfo>()).next_multiple_of(size_of::<usize>());
        assert!(segment_into(&mut control, longest, 1232) > 0);
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_told_is_no_harm(bytes: [u8; CONTROL_ROOM / 2], length in 0_usize..=CONTROL_ROOM) {
            let mut control = Control([0; CONTROL_ROOM]);
            control.0[..bytes.len()].copy_from_slice(&bytes);
            let used = leave_from(&control, length, &mut Control([0; CONTROL_ROOM]));
            prop_assert!(used <= length);
        }
    }
}
