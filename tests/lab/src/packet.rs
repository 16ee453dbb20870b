//! IPv4 packets (RFC 791) as the router needs them: addresses, ports, checksums, and the one thing it says
//! itself, that a packet is too long (RFC 792, RFC 1191).

use std::net::Ipv4Addr;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of an IPv4 header without options.
const HEADER: usize = 20;

/// A well-formed IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    /// Of the IP header.
    header: usize,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// TCP or UDP, as IP numbers them.
    pub protocol: u8,
    /// The address.
    pub ip: Ipv4Addr,
    /// The port.
    pub port: u16,
}

impl Packet {
    /// From the bytes behind the link's header, of which padding is cut off. `None`: it is none.
    pub fn read(bytes: &[u8]) -> Option<Packet> {
        let header = usize::from(bytes.first()? & 0xf) * 4;
        let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let well = bytes[0] >> 4 == 4 && header >= HEADER && length >= header && length <= bytes.len();
        well.then(|| Packet { bytes: bytes[..length].to_vec(), header })
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where it comes from.
    pub fn source(&self) -> Ipv4Addr {
        self.address(12)
    }

    /// Where it goes.
    pub fn destination(&self) -> Ipv4Addr {
        self.address(16)
    }

    /// Whether it must not be fragmented; what TCP and QUIC send must not.
    pub fn is_whole(&self) -> bool {
        self.bytes[6] & 0x40 != 0
    }

    /// Its source, where it has ports.
    pub fn source_end(&self) -> Option<End> {
        self.end(self.source(), 0)
    }

    /// Its destination, where it has ports.
    pub fn destination_end(&self) -> Option<End> {
        self.end(self.destination(), 2)
    }

    /// Comes from elsewhere.
    pub fn set_source(&mut self, ip: Ipv4Addr, port: u16) {
        self.rewrite(12, ip, 0, port);
    }

    /// Goes elsewhere.
    pub fn set_destination(&mut self, ip: Ipv4Addr, port: u16) {
        self.rewrite(16, ip, 2, port);
    }

    /// Computes all checksums anew: packets of virtual links come with theirs unfinished, since their
    /// kernel takes them for never having left the machine.
    pub fn finish(&mut self) {
        self.bytes[10..12].fill(0);
        let sum = checksum(&self.bytes[..self.header], 0);
        self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        let protocol = self.bytes[9];
        let at = match protocol {
            TCP => 16,
            UDP => 6,
            _ => return,
        };
        let length = self.bytes.len() - self.header;
        if self.is_fragment() || length < at + 2 {
            return;
        }
        let start = self.header + at;
        // A UDP packet may go without (RFC 768).
        if protocol == UDP && self.bytes[start..start + 2] == [0, 0] {
            return;
        }
        self.bytes[start..start + 2].fill(0);
        let pseudo = ones(&self.bytes[12..20], u32::from(protocol) + length as u32);
        let sum = match checksum(&self.bytes[self.header..], pseudo) {
            0 if protocol == UDP => 0xffff,
            sum => sum,
        };
        self.bytes[start..start + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// What a router at `router` says to the sender of a packet that is longer than `mtu`.
    pub fn too_long(&self, router: Ipv4Addr, mtu: u16) -> Packet {
        let quoted = &self.bytes[..self.bytes.len().min(self.header + 8)];
        let mut icmp = vec![3, 4, 0, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(quoted);
        let sum = checksum(&icmp, 0);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = (HEADER + icmp.len()) as u16;
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, ICMP, 0, 0]);
        bytes.extend(router.octets());
        bytes.extend(self.source().octets());
        bytes.extend(icmp);
        let mut packet = Packet { bytes, header: HEADER };
        packet.finish();
        packet
    }

    fn is_fragment(&self) -> bool {
        self.bytes[6] & 0x3f != 0 || self.bytes[7] != 0
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        let b = &self.bytes[at..at + 4];
        Ipv4Addr::new(b[0], b[1], b[2], b[3])
    }

    fn end(&self, ip: Ipv4Addr, at: usize) -> Option<End> {
        let protocol = self.bytes[9];
        let ports = self.bytes.get(self.header + at..self.header + at + 2)?;
        let has = matches!(protocol, TCP | UDP) && !self.is_fragment();
        has.then(|| End { protocol, ip, port: u16::from_be_bytes([ports[0], ports[1]]) })
    }

    fn rewrite(&mut self, ip_at: usize, ip: Ipv4Addr, port_at: usize, port: u16) {
        self.bytes[ip_at..ip_at + 4].copy_from_slice(&ip.octets());
        let at = self.header + port_at;
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&port.to_be_bytes());
        }
        self.finish();
    }
}

/// The sum of 16-bit words (RFC 1071), not folded.
fn ones(bytes: &[u8], start: u32) -> u32 {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    bytes.chunks(2).fold(start, |sum, pair| sum + word(pair))
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = ones(bytes, start);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A UDP packet without checksums.
    pub(crate) fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Packet {
        let length = (28 + payload.len()) as u16;
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 1, 0x40, 0, 64, UDP, 0, 0]);
        bytes.extend(from.0.octets());
        bytes.extend(to.0.octets());
        bytes.extend(from.1.to_be_bytes());
        bytes.extend(to.1.to_be_bytes());
        bytes.extend((length - 20).to_be_bytes());
        bytes.extend([0xab, 0xcd]);
        bytes.extend(payload);
        Packet::read(&bytes).unwrap()
    }

    const A: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 1, 0, 2), 4000);
    const B: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 2, 0, 2), 53);

    fn sums_are_right(packet: &Packet) -> bool {
        let bytes = packet.bytes();
        let pseudo = ones(&bytes[12..20], u32::from(bytes[9]) + bytes.len() as u32 - 20);
        checksum(&bytes[..20], 0) == 0 && checksum(&bytes[20..], pseudo) == 0
    }

    #[test]
    fn a_header_of_rfc_1071_arithmetic_sums_up() {
        // The example of the header checksum that many texts use.
        let header: [u8; 20] =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&header, 0), 0xb861);
    }

    #[test]
    fn ends_are_read_and_rewritten() {
        let mut packet = udp(A, B, b"hello");
        assert_eq!(packet.source_end().unwrap(), End { protocol: UDP, ip: A.0, port: A.1 });
        assert_eq!(packet.destination_end().unwrap(), End { protocol: UDP, ip: B.0, port: B.1 });
        packet.set_source(Ipv4Addr::new(192, 0, 2, 1), 9);
        packet.set_destination(Ipv4Addr::new(192, 0, 2, 2), 8);
        assert!(sums_are_right(&packet));
        assert_eq!(packet.source_end().map(|e| e.port), Some(9));
        assert_eq!(packet.destination(), Ipv4Addr::new(192, 0, 2, 2));
    }

    #[test]
    fn too_long_is_told_to_the_sender() {
        let said = udp(A, B, &[0; 100]).too_long(Ipv4Addr::new(10, 1, 0, 1), 1280);
        assert_eq!((said.destination(), said.bytes()[9]), (A.0, ICMP));
        assert_eq!(checksum(&said.bytes()[20..], 0), 0);
        assert_eq!((said.bytes()[20], said.bytes()[21], &said.bytes()[26..28]), (3, 4, &[5, 0][..]));
    }

    proptest! {
        #[test]
        fn nothing_read_breaks(bytes: Vec<u8>) {
            if let Some(mut packet) = Packet::read(&bytes) {
                packet.finish();
                let _ = (packet.source_end(), packet.destination_end());
                packet.set_source(Ipv4Addr::LOCALHOST, 1);
                let _ = packet.too_long(Ipv4Addr::LOCALHOST, 1280);
            }
        }

        #[test]
        fn finished_packets_sum_up(payload: Vec<u8>) {
            let mut packet = udp(A, B, &payload);
            packet.finish();
            prop_assert!(sums_are_right(&packet));
        }
    }
}
