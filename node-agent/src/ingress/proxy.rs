//! The header of the PROXY protocol, version 2 (HAProxy's `proxy-protocol.txt` §2.2).

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and: a connection that is relayed for somebody.
const VERSION_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header of a TCP connection for `client`, who connected to `local`. Addresses of two families are
/// told as IPv6, the IPv4 one mapped.
pub fn header(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut header = Vec::with_capacity(16 + 36);
    header.extend(SIGNATURE);
    header.push(VERSION_PROXY);
    match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP_OVER_IPV4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            header.extend([TCP_OVER_IPV6, 0, 36]);
            header.extend(v6(from));
            header.extend(v6(to));
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(local.port().to_be_bytes());
    header
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(client: &str, local: &str) -> Vec<u8> {
        header(client.parse().expect("an address"), local.parse().expect("an address"))
    }

    #[test]
    fn headers_are_as_the_protocol_says() {
        let start = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21";
        let v4 = [&start[..], &[0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 0x12, 0x34, 0x1e, 0xaa]].concat();
        assert_eq!(of("192.0.2.1:4660", "198.51.100.7:7850"), v4);
        assert_eq!(of("[::ffff:192.0.2.1]:4660", "[::ffff:198.51.100.7]:7850"), v4);
        let v6 = of("[2001:db8::1]:1", "[2001:db8::2]:2");
        assert_eq!(v6.len(), 16 + 36);
        assert_eq!((v6[13], &v6[14..16], &v6[48..]), (0x21, &[0, 36][..], &[0, 1, 0, 2][..]));
        assert_eq!(of("192.0.2.1:1", "[::]:2")[13], 0x21);
    }
}
