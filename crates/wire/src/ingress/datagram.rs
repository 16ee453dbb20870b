//! Beacons and the packets of UDP flows.
//!
//! ```text
//! from the client   01 seq period_ms       beacon; 02 when it asks; 03, 04 the same from a primary's client
//!                   08 seq flow number payload
//! from the mirror   10 seq                 beacon
//!                   11 seq acked held_us   beacon that acknowledges
//!                   18 seq flow number payload
//!                   19 seq acked held_us flow number payload
//! ```
//! The kind is one byte, every number one of QUIC's variable length in its shortest form, and the payload
//! is what is left, perhaps nothing. Each datagram so has one encoding. The direction is in the kind: a
//! datagram that is sent back to its sender is not read.

use super::control::Role;
use super::varint::{put, take};
use nearmost_core::session;
use nearmost_core::session::mirror;
use std::time::Duration;

/// Bytes that a packet of a flow has besides its payload, at most.
pub const MAX_OVERHEAD: usize = 1 + 5 * 8;
/// Longest time that a client may ask for between two beacons, in milliseconds.
pub const MAX_PERIOD_MS: u64 = 60_000;

const ASK: u8 = 0x01;
const PRIMARY: u8 = 0x02;
const BEACON_UP: u8 = 0x01;
const BEACON_UP_LAST: u8 = BEACON_UP + (ASK | PRIMARY);
const DATA_UP: u8 = 0x08;
const BEACON_DOWN: u8 = 0x10;
const DATA_DOWN: u8 = 0x18;
/// Added to the kinds of a mirror that acknowledge.
const ACKS: u8 = 0x01;

/// Why a datagram could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// It has no bytes.
    #[error("empty datagram")]
    Empty,
    /// Its first byte says nothing that this side is told.
    #[error("datagram of unknown kind {0:#04x}")]
    Kind(u8),
    /// It ends inside a number.
    #[error("datagram cut short in {0}")]
    Truncated(&'static str),
    /// A number that is not in its shortest form.
    #[error("{0} is not in its shortest form")]
    Overlong(&'static str),
    /// A beacon with bytes left over.
    #[error("{0} bytes left over after a beacon")]
    Trailing(usize),
    /// A number outside of its bounds.
    #[error("{field} of {value}; at most {most} and, of a period, at least 1")]
    Range {
        /// Which number.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The bound.
        most: u64,
    },
}

impl DatagramError {
    /// A snake-case label for logs and counters.
    pub fn label(&self) -> &'static str {
        match self {
            DatagramError::Empty => "empty",
            DatagramError::Kind(_) => "kind",
            DatagramError::Truncated(_) => "truncated",
            DatagramError::Overlong(_) => "overlong",
            DatagramError::Trailing(_) => "trailing",
            DatagramError::Range { .. } => "range",
        }
    }
}

/// A packet of a UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The flow, by the client's number for it.
    pub flow: u64,
    /// The packet's number within the flow and direction; copies have the same.
    pub number: u64,
    /// What the service, or the program at the client, gets.
    pub payload: &'a [u8],
}

/// From a client to a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// It is there.
    Beacon {
        /// The datagram's number.
        seq: u64,
        /// Answer at once.
        ask: bool,
        /// What the mirror is to the session.
        role: Role,
        /// How often it wants to hear, in milliseconds: 1 to [`MAX_PERIOD_MS`].
        period_ms: u32,
    },
    /// A packet for the service.
    Data {
        /// The datagram's number.
        seq: u64,
        /// The packet.
        packet: Packet<'a>,
    },
}

/// What a mirror has of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The highest number that came.
    pub seq: u64,
    /// How long before this datagram left, in microseconds.
    pub held_us: u64,
}

/// From a mirror to a client. Without an acknowledgement nothing has come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromMirror<'a> {
    /// It is there.
    Beacon {
        /// The datagram's number.
        seq: u64,
        /// What came from the client.
        ack: Option<Ack>,
    },
    /// A packet of the service.
    Data {
        /// The datagram's number.
        seq: u64,
        /// What came from the client.
        ack: Option<Ack>,
        /// The packet.
        packet: Packet<'a>,
    },
}

impl FromClient<'_> {
    /// The datagram's bytes.
    ///
    /// # Errors
    /// A number beyond its bounds.
    pub fn encode(&self) -> Result<Vec<u8>, DatagramError> {
        let mut out = Vec::with_capacity(self.room());
        match self {
            FromClient::Beacon { seq, ask, role, period_ms } => {
                let primary = if *role == Role::Primary { PRIMARY } else { 0 };
                out.push(BEACON_UP + u8::from(*ask) * ASK + primary);
                put(&mut out, "seq", *seq)?;
                put(&mut out, "period_ms", period((*period_ms).into())?.into())?;
            }
            FromClient::Data { seq, packet } => {
                out.push(DATA_UP);
                put(&mut out, "seq", *seq)?;
                packet.put(&mut out)?;
            }
        }
        Ok(out)
    }

    fn room(&self) -> usize {
        match self {
            FromClient::Beacon { .. } => MAX_OVERHEAD,
            FromClient::Data { packet, .. } => MAX_OVERHEAD + packet.payload.len(),
        }
    }

    /// The datagram of these bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<FromClient<'_>, DatagramError> {
        let (kind, mut rest) = kind(bytes)?;
        if !matches!(kind, BEACON_UP..=BEACON_UP_LAST | DATA_UP) {
            return Err(DatagramError::Kind(kind));
        }
        let seq = take(&mut rest, "seq")?;
        if kind == DATA_UP {
            return Ok(FromClient::Data { seq, packet: Packet::take(rest)? });
        }
        let flags = kind - BEACON_UP;
        let period_ms = period(take(&mut rest, "period_ms")?)?;
        ended(rest)?;
        let role = if flags & PRIMARY != 0 { Role::Primary } else { Role::Standby };
        Ok(FromClient::Beacon { seq, ask: flags & ASK != 0, role, period_ms })
    }
}

impl FromMirror<'_> {
    /// The datagram's bytes.
    ///
    /// # Errors
    /// A number beyond its bounds.
    pub fn encode(&self) -> Result<Vec<u8>, DatagramError> {
        let (kind, seq, ack, packet) = match self {
            FromMirror::Beacon { seq, ack } => (BEACON_DOWN, *seq, ack, None),
            FromMirror::Data { seq, ack, packet } => (DATA_DOWN, *seq, ack, Some(packet)),
        };
        let mut out = Vec::with_capacity(MAX_OVERHEAD + packet.map_or(0, |p| p.payload.len()));
        out.push(kind + if ack.is_some() { ACKS } else { 0 });
        put(&mut out, "seq", seq)?;
        if let Some(ack) = ack {
            put(&mut out, "acked", ack.seq)?;
            put(&mut out, "held_us", ack.held_us)?;
        }
        if let Some(packet) = packet {
            packet.put(&mut out)?;
        }
        Ok(out)
    }

    /// The datagram of these bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<FromMirror<'_>, DatagramError> {
        let (kind, mut rest) = kind(bytes)?;
        let plain = kind & !ACKS;
        if !matches!(plain, BEACON_DOWN | DATA_DOWN) {
            return Err(DatagramError::Kind(kind));
        }
        let seq = take(&mut rest, "seq")?;
        let ack = match kind & ACKS {
            0 => None,
            _ => Some(Ack { seq: take(&mut rest, "acked")?, held_us: take(&mut rest, "held_us")? }),
        };
        if plain == DATA_DOWN {
            return Ok(FromMirror::Data { seq, ack, packet: Packet::take(rest)? });
        }
        ended(rest)?;
        Ok(FromMirror::Beacon { seq, ack })
    }
}

impl Packet<'_> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), DatagramError> {
        put(out, "flow", self.flow)?;
        put(out, "number", self.number)?;
        out.extend_from_slice(self.payload);
        Ok(())
    }

    fn take(mut rest: &[u8]) -> Result<Packet<'_>, DatagramError> {
        let flow = take(&mut rest, "flow")?;
        let number = take(&mut rest, "number")?;
        Ok(Packet { flow, number, payload: rest })
    }
}

impl From<session::Ack> for Ack {
    fn from(ack: session::Ack) -> Ack {
        Ack { seq: ack.seq, held_us: u64::try_from(ack.held.as_micros()).unwrap_or(u64::MAX) }
    }
}

impl From<Ack> for session::Ack {
    fn from(ack: Ack) -> session::Ack {
        session::Ack { seq: ack.seq, held: Duration::from_micros(ack.held_us) }
    }
}

/// What a client's beacon says to the machine of the mirror's sessions.
pub fn beacon(ask: bool, role: Role, period_ms: u32) -> mirror::Beacon {
    mirror::Beacon { ask, role: role.into(), period: Duration::from_millis(period_ms.into()) }
}

fn kind(bytes: &[u8]) -> Result<(u8, &[u8]), DatagramError> {
    bytes.split_first().map(|(kind, rest)| (*kind, rest)).ok_or(DatagramError::Empty)
}

fn ended(rest: &[u8]) -> Result<(), DatagramError> {
    if rest.is_empty() { Ok(()) } else { Err(DatagramError::Trailing(rest.len())) }
}

fn period(value: u64) -> Result<u32, DatagramError> {
    let wrong = DatagramError::Range { field: "period_ms", value, most: MAX_PERIOD_MS };
    match value {
        1..=MAX_PERIOD_MS => u32::try_from(value).map_err(|_| wrong),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::super::varint::MAX;
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..200, 16_000u64..17_000, 0..=MAX]
    }

    fn ack() -> impl Strategy<Value = Option<Ack>> {
        prop::option::of((number(), number()).prop_map(|(seq, held_us)| Ack { seq, held_us }))
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let beacon = FromClient::Beacon { seq: 7, ask: true, role: Role::Primary, period_ms: 50 };
        assert_eq!(beacon.encode().unwrap(), [0x04, 7, 50]);
        let beacon = FromClient::Beacon { seq: 7, ask: false, role: Role::Standby, period_ms: 250 };
        assert_eq!(beacon.encode().unwrap(), [0x01, 7, 0x40, 250]);
        let packet = Packet { flow: 1, number: 2, payload: b"hi" };
        assert_eq!(FromClient::Data { seq: 3, packet }.encode().unwrap(), [0x08, 3, 1, 2, b'h', b'i']);
        let ack = Some(Ack { seq: 9, held_us: 5 });
        assert_eq!(FromMirror::Beacon { seq: 3, ack: None }.encode().unwrap(), [0x10, 3]);
        assert_eq!(FromMirror::Beacon { seq: 3, ack }.encode().unwrap(), [0x11, 3, 9, 5]);
        let data = FromMirror::Data { seq: 3, ack, packet: Packet { payload: b"", ..packet } };
        assert_eq!(data.encode().unwrap(), [0x19, 3, 9, 5, 1, 2]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        use DatagramError::{Empty, Kind, Overlong, Range, Trailing, Truncated};
        let up: [(&[u8], DatagramError); 9] = [
            (&[], Empty),
            (&[0x00], Kind(0)),
            (&[0x05, 1, 1], Kind(5)),
            (&[0x10, 1], Kind(0x10)),
            (&[0x01], Truncated("seq")),
            (&[0x01, 0x40, 1, 1], Overlong("seq")),
            (&[0x01, 1, 1, 0, 0], Trailing(2)),
            (&[0x01, 1, 0], Range { field: "period_ms", value: 0, most: MAX_PERIOD_MS }),
            (&[0x08, 1, 1], Truncated("number")),
        ];
        for (bytes, error) in up {
            assert_eq!(FromClient::decode(bytes), Err(error), "{bytes:?}");
        }
        let down: [(&[u8], DatagramError); 5] = [
            (&[], Empty),
            (&[0x08, 1, 1, 1], Kind(8)),
            (&[0x12, 1], Kind(0x12)),
            (&[0x11, 1, 1], Truncated("held_us")),
            (&[0x10, 1, 1], Trailing(1)),
        ];
        for (bytes, error) in down {
            assert_eq!(FromMirror::decode(bytes), Err(error), "{bytes:?}");
        }
        let packet = Packet { flow: MAX + 1, number: 0, payload: b"" };
        assert!(matches!(FromClient::Data { seq: 0, packet }.encode(), Err(Range { field: "flow", .. })));
    }

    proptest! {
        #[test]
        fn what_clients_send_round_trips(
            seq in number(), ask: bool, primary: bool, period_ms in 1..=MAX_PERIOD_MS as u32,
            flow in number(), number in number(), payload: Vec<u8>,
        ) {
            let role = if primary { Role::Primary } else { Role::Standby };
            let packet = Packet { flow, number, payload: &payload };
            for datagram in [FromClient::Beacon { seq, ask, role, period_ms }, FromClient::Data { seq, packet }] {
                let bytes = datagram.encode().unwrap();
                prop_assert!(bytes.len() <= MAX_OVERHEAD + payload.len());
                prop_assert_eq!(FromClient::decode(&bytes), Ok(datagram));
                prop_assert!(matches!(FromMirror::decode(&bytes), Err(DatagramError::Kind(_))));
            }
        }

        #[test]
        fn what_mirrors_send_round_trips(
            seq in number(), ack in ack(), flow in number(), number in number(), payload: Vec<u8>,
        ) {
            let packet = Packet { flow, number, payload: &payload };
            for datagram in [FromMirror::Beacon { seq, ack }, FromMirror::Data { seq, ack, packet }] {
                let bytes = datagram.encode().unwrap();
                prop_assert!(bytes.len() <= MAX_OVERHEAD + payload.len());
                prop_assert_eq!(FromMirror::decode(&bytes), Ok(datagram));
                prop_assert!(matches!(FromClient::decode(&bytes), Err(DatagramError::Kind(_))));
            }
        }

        /// Nothing panics, and what is read has one encoding.
        #[test]
        fn arbitrary_bytes(kind in prop_oneof![0u8..0x20, any::<u8>()], rest: Vec<u8>) {
            let bytes = [&[kind][..], &rest].concat();
            if let Ok(datagram) = FromClient::decode(&bytes) {
                prop_assert_eq!(datagram.encode().unwrap(), bytes.clone());
            }
            if let Ok(datagram) = FromMirror::decode(&bytes) {
                prop_assert_eq!(datagram.encode().unwrap(), bytes);
            }
        }
    }
}
