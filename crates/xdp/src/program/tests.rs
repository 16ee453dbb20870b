//! The program on a machine of our own: what it diverts, and that what it diverts can be read.

use super::*;
use crate::frame::{Refusal, parse};
use proptest::prelude::*;
use std::collections::HashSet;

const FRAME: u64 = 0x1000_0000;
const STACK: u64 = 0x2000_0000;
const CONTEXT: u64 = 0x3000_0000;
const STACK_SIZE: u64 = 512;
const DIVERTED: u64 = 4;
const MAPS: (i32, i32) = (5, 6);

/// As much of the machine of RFC 9669 as the program uses. It panics where the kernel's verifier would refuse.
struct Machine<'m> {
    registers: [u64; 11],
    frame: &'m [u8],
    stack: [u8; STACK_SIZE as usize],
    map: &'m HashSet<[u8; KEY]>,
    queue: u32,
}

impl Machine<'_> {
    fn read(&self, at: u64, size: usize) -> u64 {
        let bytes: Vec<u8> = match at {
            FRAME..STACK => self.frame[(at - FRAME) as usize..][..size].to_vec(),
            STACK..CONTEXT => self.stack[(at - STACK) as usize..][..size].to_vec(),
            _ => {
                let end = FRAME + self.frame.len() as u64;
                let of = [FRAME as u32, end as u32, 0, 0, self.queue];
                assert_eq!(size, 4);
                of[(at - CONTEXT) as usize / 4].to_ne_bytes().to_vec()
            }
        };
        match size {
            1 => bytes[0].into(),
            2 => u16::from_ne_bytes(bytes.try_into().unwrap()).into(),
            _ => u32::from_ne_bytes(bytes.try_into().unwrap()).into(),
        }
    }

    fn write(&mut self, at: u64, size: usize, value: u64) {
        let to = &mut self.stack[(at - STACK) as usize..][..size];
        match size {
            1 => to.copy_from_slice(&[value as u8]),
            2 => to.copy_from_slice(&(value as u16).to_ne_bytes()),
            _ => to.copy_from_slice(&(value as u32).to_ne_bytes()),
        }
    }

    fn call(&mut self, function: i32) {
        let [_, r1, r2, r3, ..] = self.registers;
        self.registers[0] = match function {
            MAP_LOOKUP => {
                assert_eq!(r1, MAPS.0 as u64);
                let key: [u8; KEY] = self.stack[(r2 - STACK) as usize..][..KEY].try_into().unwrap();
                self.map.contains(&key).into()
            }
            REDIRECT_MAP => {
                assert_eq!((r1, r2, r3), (MAPS.1 as u64, self.queue.into(), XDP_PASS as u64));
                DIVERTED
            }
            other => panic!("function {other}"),
        };
        // Arguments are lost.
        self.registers[1..6].fill(u64::MAX);
    }

    fn run(&mut self, program: &[Instruction]) -> u64 {
        let mut next = 0;
        loop {
            let at = program[next];
            let (to, from) = at.registers();
            let (to, from) = (usize::from(to), usize::from(from));
            let number = at.immediate as i64 as u64;
            let size = match at.opcode & 0x18 {
                0x10 => 1,
                0x08 => 2,
                _ => 4,
            };
            let place = |register: u64| register.wrapping_add(at.offset as i64 as u64);
            let second = if at.opcode & 0x08 == 0 { number } else { self.registers[from] };
            next += 1;
            match at.opcode {
                0x95 => return self.registers[0],
                0x85 => self.call(at.immediate),
                0x18 => {
                    (self.registers[to], next) = (number, next + 1);
                    assert_eq!(from, 1);
                }
                0x61 | 0x69 | 0x71 => self.registers[to] = self.read(place(self.registers[from]), size),
                0x62 | 0x6a | 0x72 => self.write(place(self.registers[to]), size, number),
                0x63 | 0x6b | 0x73 => self.write(place(self.registers[to]), size, self.registers[from]),
                0x07 => self.registers[to] = self.registers[to].wrapping_add(number),
                0x57 => self.registers[to] &= number,
                0xb7 => self.registers[to] = number,
                0xbf => self.registers[to] = self.registers[from],
                _ => {
                    let first = self.registers[to];
                    let jumps = match at.opcode & 0xf7 {
                        0x05 => true,
                        0x15 => first == second,
                        0x25 => first > second,
                        0x55 => first != second,
                        0xa5 => first < second,
                        other => panic!("opcode {other:#x}"),
                    };
                    if jumps {
                        next = next.checked_add_signed(at.offset.into()).unwrap();
                    }
                }
            }
        }
    }
}

/// Whether it diverts a frame where these are served.
fn diverts(frame: &[u8], served: &[&str]) -> bool {
    let map = served.iter().map(|a| key(a.parse().unwrap())).collect();
    let mut registers = [u64::MAX; 11];
    registers[1] = CONTEXT;
    registers[10] = STACK + STACK_SIZE;
    let mut machine = Machine { registers, frame, stack: [0xaa; 512], map: &map, queue: 3 };
    match machine.run(&program(MAPS.0, MAPS.1).unwrap()) {
        DIVERTED => true,
        said => {
            assert_eq!(said, XDP_PASS as u64);
            false
        }
    }
}

const SERVED: [&str; 2] = ["198.51.100.7:53", "[2001:db8::7]:53"];

/// A query over IPv4 or IPv6; checksums are of no interest here.
fn query(v6: bool, payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let udp = (UDP_HEADER + payload) as u16;
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(udp.to_be_bytes());
        frame.extend([17, 60]);
        for last in [1, 7] {
            frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((udp + 20).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 60, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
    }
    frame.extend([0x10, 0, 0, 53]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + payload, 0);
    frame
}

#[test]
fn what_is_for_served_addresses_is_diverted() {
    for v6 in [false, true] {
        let frame = query(v6, 30);
        assert!(diverts(&frame, &SERVED));
        assert!(!diverts(&frame, &[]));
        assert!(!diverts(&frame, &["198.51.100.7:54", "[2001:db8::7]:54", "198.51.100.8:53", "[::7]:53"]));
        assert_eq!(diverts(&frame, &SERVED[..1]), !v6);
    }
}

#[test]
fn the_unusual_goes_on_to_the_kernel() {
    let pass = |v6: bool, at: usize, to: u8| {
        let mut frame = query(v6, 30);
        frame[at] = to;
        assert!(!diverts(&frame, &SERVED), "{v6} {at} {to}");
    };
    for v6 in [false, true] {
        pass(v6, 0, 0xff);
        pass(v6, 0, 0x33);
        pass(v6, 12, 0x81);
        pass(v6, 14, 0x55);
    }
    pass(false, 14, 0x46);
    pass(false, 20, 0x20);
    pass(false, 21, 1);
    pass(false, 23, 6);
    pass(true, 20, 44);
    pass(true, 20, 0);
    for v6 in [false, true] {
        let header = if v6 { IPV6 } else { IPV4 };
        let most = MOST_FRAME - ETHERNET - header - UDP_HEADER;
        assert!(diverts(&query(v6, most), &SERVED));
        assert!(!diverts(&query(v6, most + 1), &SERVED));
    }
}

proptest! {
    /// Nothing that the parser finds strange is diverted: it would be lost. And no frame leads the program astray.
    #[test]
    fn what_is_diverted_is_not_strange(
        v6: bool,
        changes in proptest::collection::vec((0_usize..70, any::<u8>()), 0..4),
        end in 0_usize..100,
    ) {
        let mut frame = query(v6, 20);
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(end);
        if diverts(&frame, &SERVED) {
            prop_assert_ne!(parse(&frame), Err(Refusal::Strange));
        }
    }

    #[test]
    fn no_bytes_lead_it_astray(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
        diverts(&frame, &SERVED);
    }
}
