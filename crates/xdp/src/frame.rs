//! Frames of Ethernet that carry one UDP datagram, read and turned round in place. Nothing here trusts a byte.

use crate::checksum::{Sum, UDP};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// Ethernet's header: two addresses and a type.
pub const ETHERNET: usize = 14;
/// IPv4's, without options.
pub const IPV4: usize = 20;
/// IPv6's, without extension headers.
pub const IPV6: usize = 40;
/// UDP's.
pub const UDP_HEADER: usize = 8;
/// The least that Ethernet carries, without its checksum: shorter frames are filled up with zeros.
pub const LEAST_FRAME: usize = 60;
/// The longest frame that is looked at, in bytes: Ethernet's usual payload.
pub const MOST_FRAME: usize = ETHERNET + 1500;

/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// A reply's time to live, or hop limit: what hosts usually send.
const HOPS: u8 = 64;
/// "Don't fragment" (RFC 791). With it, the identification may be anything (RFC 6864 §4.1): it is 0.
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// A UDP datagram in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// Whom it was sent to.
    pub destination: SocketAddr,
    /// Where its payload is in the frame.
    pub payload: Range<usize>,
}

/// Why a frame is left without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is no plain IPv4 or IPv6 with UDP: the program lets such frames pass to the kernel.
    Strange,
    /// Its lengths contradict each other, or it ends too early.
    Length,
    /// A checksum is wrong, or one that must be there is missing.
    Checksum,
    /// Nobody can be answered there: a group, loopback, the destination itself, port 0.
    Source,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 4] = [Refusal::Strange, Refusal::Length, Refusal::Checksum, Refusal::Source];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Strange => "strange",
            Refusal::Length => "length",
            Refusal::Checksum => "checksum",
            Refusal::Source => "source",
        }
    }
}

/// `N` bytes at a place.
fn at<const N: usize>(frame: &[u8], place: usize) -> Option<[u8; N]> {
    frame.get(place..)?.first_chunk().copied()
}

/// A number of 16 bits at a place.
fn word(frame: &[u8], place: usize) -> Option<u16> {
    at(frame, place).map(u16::from_be_bytes)
}

/// Reads a frame that carries one UDP datagram. Bytes after it are filling.
///
/// # Errors
/// What keeps it from being answered.
pub fn parse(frame: &[u8]) -> Result<Datagram, Refusal> {
    let kind = word(frame, 12).ok_or(Refusal::Length)?;
    let (source, destination, udp) = match kind {
        TYPE_IPV4 => ipv4(frame)?,
        TYPE_IPV6 => ipv6(frame)?,
        _ => return Err(Refusal::Strange),
    };
    // Its own length field may say less than IP's; what is left over is nobody's, as to the kernel.
    let start = udp.start;
    let length = word(frame, start + 4).ok_or(Refusal::Length)?;
    if !(UDP_HEADER..=udp.len()).contains(&usize::from(length)) {
        return Err(Refusal::Length);
    }
    let end = start + usize::from(length);
    let bytes = frame.get(start..end).ok_or(Refusal::Length)?;
    let checksum = word(bytes, 6).ok_or(Refusal::Length)?;
    if !whole(bytes, checksum, source, Sum::default().pseudo(source, destination, length)) {
        return Err(Refusal::Checksum);
    }
    let port = |place: usize| word(bytes, place).ok_or(Refusal::Length);
    let (source_port, destination_port) = (port(0)?, port(2)?);
    // The lowest bit of the first byte is that of groups.
    let group = at::<1>(frame, 6).is_none_or(|[first]| first & 1 != 0);
    if group || source_port == 0 || source == destination || !can_be_answered(source) {
        return Err(Refusal::Source);
    }
    Ok(Datagram {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
        payload: start + UDP_HEADER..end,
    })
}

/// Addresses, and where the UDP datagram is.
type Carried = (IpAddr, IpAddr, Range<usize>);

fn ipv4(frame: &[u8]) -> Result<Carried, Refusal> {
    let header: [u8; IPV4] = at(frame, ETHERNET).ok_or(Refusal::Length)?;
    let [_, _, high, low, _, _, flags, offset, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    // Version 4, five words, no fragment.
    if header[0] != 0x45 || flags & 0x3f != 0 || offset != 0 || protocol != UDP {
        return Err(Refusal::Strange);
    }
    if Sum::default().bytes(&header).folded() != 0xffff {
        return Err(Refusal::Checksum);
    }
    let end = ETHERNET + usize::from(u16::from_be_bytes([high, low]));
    if end > frame.len() || end < ETHERNET + IPV4 {
        return Err(Refusal::Length);
    }
    let (source, destination) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    Ok((source.into(), destination.into(), ETHERNET + IPV4..end))
}

fn ipv6(frame: &[u8]) -> Result<Carried, Refusal> {
    let header: [u8; 8] = at(frame, ETHERNET).ok_or(Refusal::Length)?;
    let [version, _, _, _, high, low, next, _] = header;
    if version >> 4 != 6 || next != UDP {
        return Err(Refusal::Strange);
    }
    let source: [u8; 16] = at(frame, ETHERNET + 8).ok_or(Refusal::Length)?;
    let destination: [u8; 16] = at(frame, ETHERNET + 24).ok_or(Refusal::Length)?;
    let start = ETHERNET + IPV6;
    let end = start + usize::from(u16::from_be_bytes([high, low]));
    if end > frame.len() {
        return Err(Refusal::Length);
    }
    Ok((Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), start..end))
}

/// Whether a datagram's checksum says that it is whole; or that it was left to hardware; or, over IPv4, that
/// there is none (RFC 768).
fn whole(udp: &[u8], checksum: u16, source: IpAddr, pseudo: Sum) -> bool {
    match checksum {
        0 => source.is_ipv4(),
        _ => pseudo.bytes(udp).folded() == 0xffff || pseudo.folded() == checksum,
    }
}

fn can_be_answered(source: IpAddr) -> bool {
    let broadcast = matches!(source, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    // An IPv4 address within an IPv6 one is never on the wire (RFC 4038 §4.2).
    let mapped = matches!(source, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(broadcast || mapped || source.is_unspecified() || source.is_multicast() || source.is_loopback())
}

impl Datagram {
    /// The longest payload that a reply can have where frames have so many bytes: of the buffer that the frame is
    /// in, and of what the link carries after Ethernet's header.
    pub fn room(&self, buffer: usize, mtu: usize) -> usize {
        buffer.min(mtu.saturating_add(ETHERNET)).saturating_sub(self.payload.start)
    }

    /// Turns the frame that this was read from into the reply to it: `buffer` begins with the frame and goes on as
    /// far as there is room. How long the reply's frame is; `None`, with the buffer in any state, where it does not fit.
    pub fn reply(&self, buffer: &mut [u8], payload: &[u8]) -> Option<usize> {
        let start = self.payload.start;
        let end = start.checked_add(payload.len())?;
        let udp_length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
        // Past a payload that is longer than the frame was, there are bytes of others.
        let whole = end.max(LEAST_FRAME);
        let frame = buffer.get_mut(..whole)?;
        frame.get_mut(start..end)?.copy_from_slice(payload);
        frame.get_mut(end..)?.fill(0);
        let (ethernet, rest) = frame.split_first_chunk_mut::<ETHERNET>()?;
        ethernet[..12].rotate_left(6);
        let (asked, asker) = (self.destination, self.source);
        let udp = match (asked.ip(), asker.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (header, udp) = rest.split_first_chunk_mut()?;
                *header = ipv4_header(from, to, udp_length)?;
                udp
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (header, udp) = rest.split_first_chunk_mut()?;
                *header = ipv6_header(from, to, udp_length);
                udp
            }
            // A frame has addresses of one family.
            _ => return None,
        };
        let udp = udp.get_mut(..usize::from(udp_length))?;
        let (header, _) = udp.split_first_chunk_mut::<UDP_HEADER>()?;
        let words = [asked.port(), asker.port(), udp_length, 0].map(u16::to_be_bytes);
        header.copy_from_slice(words.as_flattened());
        let checksum = Sum::default().pseudo(asked.ip(), asker.ip(), udp_length).bytes(udp).checksum();
        // Zero would say that there is none (RFC 768).
        let checksum = if checksum == 0 { 0xffff } else { checksum };
        udp.get_mut(6..UDP_HEADER)?.copy_from_slice(&checksum.to_be_bytes());
        Some(whole)
    }
}

/// `None` when the whole would be longer than IPv4 can say.
fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr, udp_length: u16) -> Option<[u8; IPV4]> {
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&udp_length.checked_add(IPV4 as u16)?.to_be_bytes());
    header[6..8].copy_from_slice(&DONT_FRAGMENT);
    header[8] = HOPS;
    header[9] = UDP;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let checksum = Sum::default().bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    Some(header)
}

fn ipv6_header(from: Ipv6Addr, to: Ipv6Addr, udp_length: u16) -> [u8; IPV6] {
    let mut header = [0; IPV6];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&udp_length.to_be_bytes());
    header[6] = UDP;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&from.octets());
    header[24..40].copy_from_slice(&to.octets());
    header
}

#[cfg(test)]
mod tests;
