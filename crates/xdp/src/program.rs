//! The program that diverts datagrams to the sockets of the queues that they came by.
//!
//! ```text
//!  group address? longer than a frame of ours? ─ yes ─► pass
//!  IPv4, 5 words, no fragment, UDP ─► key = ::ffff:destination, port ┐
//!  IPv6, UDP next                  ─► key = destination, port        ├─► in the map? ─► the queue's socket, if any
//!  anything else ─► pass                                             ┘        └ no ─► pass
//! ```

use crate::assembler::{Assembler, Instruction, Register::*, When::*, Width::*};
use crate::checksum::UDP;
use crate::frame::{ETHERNET, IPV4, IPV6, MOST_FRAME, TYPE_IPV4, TYPE_IPV6, UDP_HEADER};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a key of the map of addresses.
pub const KEY: usize = 20;
/// Addresses that the map has room for.
pub const MOST_ADDRESSES: u32 = 256;
/// "Go on to the kernel": what the program says, and what it has the diversion say where no socket is.
pub const XDP_PASS: i32 = 2;

/// The kernel's functions by their numbers (`linux/bpf.h`).
pub(crate) const MAP_LOOKUP: i32 = 1;
pub(crate) const REDIRECT_MAP: i32 = 51;
/// `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE: i16 = 16;
/// Where the key is on the stack.
const KEY_AT: i16 = -24;

/// What an address is in the map: 16 bytes of address, IPv4 as an IPv6 address, then the port in network order,
/// then nothing.
pub fn key(address: SocketAddr) -> [u8; KEY] {
    let mut key = [0; KEY];
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    key[..16].copy_from_slice(&ip.octets());
    key[16..18].copy_from_slice(&address.port().to_be_bytes());
    key
}

/// A number in network order as the machine loads it.
const fn network(number: u16) -> i32 {
    number.to_be() as i32
}

/// The place of a byte of the frame. Frames are short.
const fn place(at: usize) -> i16 {
    at as i16
}

/// The program, by the file descriptors of the map of addresses and the map of sockets.
pub fn program(addresses: i32, sockets: i32) -> Option<Vec<Instruction>> {
    let mut a = Assembler::default();
    // R6: the context; R2: the frame; R3: its end.
    a.copy(R6, R1).load(Word, R2, R1, DATA).load(Word, R3, R1, DATA_END);
    a.copy(R4, R2).add(R4, (ETHERNET + IPV4 + UDP_HEADER) as i32).jump_by(Greater, R4, R3, "pass");
    a.copy(R4, R2).add(R4, MOST_FRAME as i32).jump_by(Less, R4, R3, "pass");
    a.load(Byte, R0, R2, 0).and(R0, 1).jump(NotEqual, R0, 0, "pass");
    a.load(Half, R0, R2, 12);
    a.jump(Equal, R0, network(TYPE_IPV4), "ipv4");
    a.jump(NotEqual, R0, network(TYPE_IPV6), "pass");
    ipv6(&mut a);
    ipv4(&mut a);
    a.label("look").store(Half, R10, KEY_AT + 16, R0).store_number(Half, R10, KEY_AT + 18, 0);
    a.map(R1, addresses).copy(R2, R10).add(R2, i32::from(KEY_AT)).call(MAP_LOOKUP);
    a.jump(Equal, R0, 0, "pass");
    a.map(R1, sockets).load(Word, R2, R6, RX_QUEUE).set(R3, XDP_PASS).call(REDIRECT_MAP).exit();
    a.label("pass").set(R0, XDP_PASS).exit();
    a.finish()
}

/// Leaves the port in R0 and the address in the key.
fn ipv6(a: &mut Assembler) {
    let udp = ETHERNET + IPV6;
    a.copy(R4, R2).add(R4, (udp + UDP_HEADER) as i32).jump_by(Greater, R4, R3, "pass");
    a.load(Byte, R0, R2, place(ETHERNET)).and(R0, 0xf0).jump(NotEqual, R0, 0x60, "pass");
    a.load(Byte, R0, R2, place(ETHERNET + 6)).jump(NotEqual, R0, i32::from(UDP), "pass");
    for part in 0..4 {
        a.load(Word, R0, R2, place(ETHERNET + 24) + 4 * part).store(Word, R10, KEY_AT + 4 * part, R0);
    }
    a.load(Half, R0, R2, place(udp + 2)).go("look");
}

/// The same.
fn ipv4(a: &mut Assembler) {
    let udp = ETHERNET + IPV4;
    a.label("ipv4").load(Byte, R0, R2, place(ETHERNET)).jump(NotEqual, R0, 0x45, "pass");
    a.load(Half, R0, R2, place(ETHERNET + 6)).and(R0, network(0x3fff)).jump(NotEqual, R0, 0, "pass");
    a.load(Byte, R0, R2, place(ETHERNET + 9)).jump(NotEqual, R0, i32::from(UDP), "pass");
    // ::ffff:a.b.c.d
    a.store_number(Word, R10, KEY_AT, 0).store_number(Word, R10, KEY_AT + 4, 0);
    a.store_number(Word, R10, KEY_AT + 8, 0x0000_ffff_u32.to_be().cast_signed());
    a.load(Word, R0, R2, place(ETHERNET + 16)).store(Word, R10, KEY_AT + 12, R0);
    a.load(Half, R0, R2, place(udp + 2));
}

#[cfg(test)]
mod tests;
