//! The bytes of `INET_DIAG`, without the socket: what is asked of the kernel, and what it answers.
//!
//! ```text
//! 0        4      6       8     12    16
//! | length | type | flags | seq | pid | body …                 a message; several in a datagram (netlink(7))
//!
//! 0        1       2       4       6       8     24    40     72
//! | family | state | timer | sport | dport | src | dst | … | attributes …         its body (sock_diag(7))
//! ```
//!
//! Integers are in the machine's order, ports and addresses in the network's. Of the attributes only
//! `INET_DIAG_INFO` is looked at: a `struct tcp_info` (linux/tcp.h), which older kernels give shorter,
//! so each of its fields may be absent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a message's head.
const HEAD: usize = 16;
/// Bytes of a connection before its attributes.
const BODY: usize = 72;
/// What is asked (`SOCK_DIAG_BY_FAMILY`), and the type of answers that are connections.
const BY_FAMILY: u16 = 20;
/// Type of a message that says that something went wrong.
const ERROR: u16 = 2;
/// Type of the message that ends a list.
const DONE: u16 = 3;
/// A request for all that fit (`NLM_F_REQUEST | NLM_F_DUMP`).
const DUMP: u16 = 0x301;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;
/// The attribute that holds a `struct tcp_info`.
const INFO: u16 = 2;
/// Where `tcpi_rtt` is in it: the smoothed round trip, in microseconds.
const RTT_AT: usize = 68;
/// Where `tcpi_min_rtt` is: the least of the last minutes; all ones while there is none.
const MIN_RTT_AT: usize = 148;

/// A family of sockets. Those of IPv6 may have IPv4 peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// `AF_INET` or `AF_INET6`.
    fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }
}

/// An established TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our side; never IPv4-mapped.
    pub local: SocketAddr,
    /// The other one; never IPv4-mapped.
    pub peer: IpAddr,
    /// Its round trip in microseconds: the least of the last minutes where the kernel knows it, else
    /// the smoothed one; 0 when nothing was timed yet.
    pub rtt_us: u32,
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The kernel says no.
    #[error("the kernel refused: {0}")]
    Refused(io::Error),
    /// A length that does not fit.
    #[error("{what} of {have} bytes at byte {at} of an answer")]
    Length {
        /// Of what.
        what: &'static str,
        /// The length as it stands there, or what is left of the datagram.
        have: usize,
        /// Where.
        at: usize,
    },
}

/// Whether more of an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// In another datagram.
    More,
    /// That was all.
    Done,
}

/// Asks for the established connections of a local port; `seq` comes back with the answers.
pub fn request(family: Family, port: u16, seq: u32) -> Vec<u8> {
    const LENGTH: u32 = 72;
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family.number(), TCP, 1 << (INFO - 1), 0]);
    bytes.extend((1u32 << ESTABLISHED).to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    // Any peer, any address, any interface; no socket's cookie.
    bytes.extend([0; 2 + 16 + 16 + 4]);
    bytes.extend([0xff; 8]);
    bytes
}

/// Reads one datagram of an answer to the request `seq`; each connection goes to `take`.
///
/// # Errors
/// What is wrong with the datagram, or the kernel's refusal.
pub fn read(datagram: &[u8], seq: u32, mut take: impl FnMut(Connection)) -> Result<Progress, AnswerError> {
    let mut at = 0;
    while at < datagram.len() {
        let rest = &datagram[at..];
        let (Some(length), Some(kind), Some(of)) = (u32_at(rest, 0), u16_at(rest, 4), u32_at(rest, 8)) else {
            return Err(AnswerError::Length { what: "head", have: rest.len(), at });
        };
        let length = length as usize;
        let message = rest.get(HEAD..length);
        let message = message.ok_or(AnswerError::Length { what: "message", have: length, at })?;
        match kind {
            // What is left of an answer that was given up.
            _ if of != seq => {}
            DONE => return result(message).map(|()| Progress::Done),
            ERROR => return result(message).map(|()| Progress::Done),
            BY_FAMILY => connection(message, at + HEAD)?.into_iter().for_each(&mut take),
            _ => {}
        }
        at += length.next_multiple_of(4);
    }
    Ok(Progress::More)
}

/// The number that an error, and in newer kernels an end, begins with.
fn result(message: &[u8]) -> Result<(), AnswerError> {
    match u32_at(message, 0).map(u32::cast_signed).unwrap_or(0) {
        number @ ..0 => Err(AnswerError::Refused(io::Error::from_raw_os_error(number.saturating_neg()))),
        _ => Ok(()),
    }
}

/// The connection of a message's body, if it is one that is established.
fn connection(message: &[u8], at: usize) -> Result<Option<Connection>, AnswerError> {
    let too_short = AnswerError::Length { what: "connection", have: message.len(), at };
    let (Some(head), Some(attributes)) = (message.get(..BODY), message.get(BODY..)) else {
        return Err(too_short);
    };
    let port = u16::from_be_bytes([head[4], head[5]]);
    let (Some(local), Some(peer)) = (address(head[0], &head[8..24]), address(head[0], &head[24..40])) else {
        return Ok(None);
    };
    if head[1] != ESTABLISHED {
        return Ok(None);
    }
    let rtt_us = info(attributes, at + BODY)?.map_or(0, rtt_us);
    Ok(Some(Connection { local: SocketAddr::new(local, port), peer, rtt_us }))
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if family == Family::V4.number() {
        let octets: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets: [u8; 16] = bytes.try_into().ok()?;
    let v6 = (family == Family::V6.number()).then(|| Ipv6Addr::from(octets))?;
    Some(IpAddr::V6(v6).to_canonical())
}

/// The `struct tcp_info` among a connection's attributes.
fn info(attributes: &[u8], begin: usize) -> Result<Option<&[u8]>, AnswerError> {
    let mut at = 0;
    while let Some(rest) = attributes.get(at..).filter(|rest| !rest.is_empty()) {
        let wrong = |have| AnswerError::Length { what: "attribute", have, at: begin + at };
        let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) else {
            return Err(wrong(rest.len()));
        };
        let length = usize::from(length);
        let value = rest.get(4..length).ok_or_else(|| wrong(length))?;
        if kind == INFO {
            return Ok(Some(value));
        }
        at += length.next_multiple_of(4);
    }
    Ok(None)
}

fn rtt_us(info: &[u8]) -> u32 {
    let known = |us: &u32| *us > 0 && *us < u32::MAX;
    let least = u32_at(info, MIN_RTT_AT).filter(known);
    least.or_else(|| u32_at(info, RTT_AT)).unwrap_or(0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
