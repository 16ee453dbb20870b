//! Frames as another makes them.

use etherparse::PacketBuilder;

/// Of both families, with and without a payload, and what is no datagram for us.
pub(super) fn all() -> Vec<(String, Vec<u8>)> {
    let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let v4 = || ethernet().ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64);
    let v6 = || {
        let net = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let of = |host: u8| std::array::from_fn(|at| net.get(at).copied().unwrap_or(host));
        ethernet().ipv6(of(1), of(2), 64)
    };
    let mut all = Vec::new();
    let mut add = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        all.push((name.to_owned(), frame));
    };
    add("v4", &|out| v4().udp(53, 4053).write(out, b"a query").expect("it fits"));
    add("v6", &|out| v6().udp(53, 4053).write(out, b"a query").expect("it fits"));
    add("v4-empty", &|out| v4().udp(53, 53).write(out, b"").expect("it fits"));
    add("v4-filled", &|out| {
        v4().udp(53, 53).write(out, b"?").expect("it fits");
        out.resize(60, 0);
    });
    add("v4-no-checksum", &|out| {
        v4().udp(53, 53).write(out, b"?").expect("it fits");
        // Over IPv4 there need be none (RFC 768): Ethernet's and IP's headers, two ports, a length.
        out[14 + 20 + 6..14 + 20 + 8].fill(0);
    });
    add("vlan", &|out| {
        let tagged = ethernet().single_vlan(etherparse::VlanId::ZERO);
        tagged.ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64).udp(53, 53).write(out, b"?").expect("it fits");
    });
    add("tcp", &|out| v4().tcp(53, 53, 1, 1024).write(out, b"?").expect("it fits"));
    all
}
