//! The OPT record of a reply (RFC 6891 §6.1.2), its options in one order, whatever the query's was:
//!
//! ```text
//! client subnet ─ cookie ─ name of the server ─ keepalive ─ extended error ─ padding
//! └──────── their length is known before the records ─────┘ └ what room is left ┘
//! ```
//!
//! [`Opt::len`] is what truncation leaves room for. An extended error is known only with the answer: it
//! is left out, or its text is, where it does not fit. Padding is last, as it depends on the rest.

use crate::cookie;
use crate::ecs::Ecs;
use crate::outcome::{Outcome, Rcode};
use crate::query::{KEEPALIVE, NSID, PADDING};
use nearmost_core::ranking::Basis;

/// Bytes of an OPT record without options.
const OPT_LEN: usize = 11;
/// Bytes of an option without data.
const OPTION: usize = 4;
/// The option for extended errors (RFC 8914 §2).
const ERROR: u16 = 15;
/// Encrypted replies are as long as a multiple of this (RFC 8467 §4.1).
const BLOCK: usize = 468;

/// The OPT record of a reply, as far as it does not depend on the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opt<'a> {
    /// The largest datagram taken here.
    pub(crate) payload: u16,
    /// Echoed (RFC 3225 §3).
    pub(crate) dnssec_ok: bool,
    /// Told that it was understood (RFC 9824 §5.1).
    pub(crate) compact_ok: bool,
    /// The client subnet to echo.
    pub(crate) ecs: Option<Ecs>,
    /// The client's cookie and the server's.
    pub(crate) cookie: Option<[u8; cookie::WHOLE]>,
    /// The server's name (RFC 5001), if it was asked for and has one.
    pub(crate) nsid: Option<&'a [u8]>,
    /// How long a connection may idle, in units of 100 ms (RFC 7828).
    pub(crate) keepalive: Option<u16>,
    /// Whether the reply is padded: the query was, and nobody can read it (RFC 7830 §6).
    pub(crate) padded: bool,
}

/// What is known with the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// The reply's code; its upper bits stand in the OPT record.
    pub(crate) rcode: Rcode,
    /// The scope of the client subnet.
    pub(crate) scope: u8,
    /// What else there is to say.
    pub(crate) error: Option<Extended>,
    /// Bytes that the whole reply may have.
    pub(crate) most: usize,
}

/// An extended error (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extended {
    /// INFO-CODE.
    code: u16,
    /// EXTRA-TEXT, for people; may be empty.
    text: &'static str,
}

impl Extended {
    /// The name is in no zone of ours (§4.21).
    pub(crate) const NOT_AUTHORITATIVE: Extended = Extended { code: 20, text: "" };
    /// The type or class is not served (§4.22).
    pub(crate) const NOT_SUPPORTED: Extended = Extended { code: 21, text: "" };
    /// The parent has no DS of the keys that this site signs with (§4.10: DNSKEY Missing).
    pub(crate) const NO_DS: Extended = Extended { code: 9, text: "no DS of this server's keys; ask another" };
    /// Zones are not transferred.
    pub(crate) const NO_TRANSFER: Extended = Extended { code: 21, text: "no zone transfers" };
    /// A record cannot be put on the wire, or aliases go in circles.
    pub(crate) const UNANSWERABLE: Extended = Extended::other("the records of this name make no answer");

    /// What no code is for (§4.1).
    pub(crate) const fn other(text: &'static str) -> Extended {
        Extended { code: 0, text }
    }

    /// What a resolver's operator should know of an answer that is right as far as is known.
    pub(crate) fn of(outcome: &Outcome) -> Option<Extended> {
        match outcome.chosen?.basis {
            // Stale Answer (§4.4).
            Basis::AllDownLastKnown => Some(Extended { code: 3, text: "no mirror is up" }),
            Basis::AllDownAll | Basis::AllDownFallback => Some(Extended::other("no mirror is up")),
            Basis::Eligible | Basis::Empty => None,
        }
    }
}

impl Opt<'_> {
    /// Bytes that the records must leave: all but an extended error and the padding's data.
    pub(crate) fn len(&self) -> usize {
        let cookie = self.cookie.map_or(0, |c| OPTION + c.len());
        let nsid = self.nsid.map_or(0, |n| OPTION + n.len());
        let keepalive = self.keepalive.map_or(0, |_| OPTION + 2);
        let padding = if self.padded { OPTION } else { 0 };
        OPT_LEN + self.ecs.map_or(0, |e| e.encoded_len()) + cookie + nsid + keepalive + padding
    }

    /// Appends the record to a reply that has room for [`len`](Opt::len) bytes.
    pub(crate) fn encode(&self, ending: &Ending, out: &mut Vec<u8>) {
        let Ending { rcode, scope, most, .. } = *ending;
        out.extend_from_slice(&[0, 0, 41]);
        out.extend_from_slice(&self.payload.to_be_bytes());
        let flags = u8::from(self.dnssec_ok) << 7 | u8::from(self.compact_ok) << 6;
        out.extend_from_slice(&[(rcode.code() >> 4) as u8, 0, flags, 0]);
        let options = out.len() + 2;
        out.extend_from_slice(&[0; 2]);
        if let Some(ecs) = self.ecs {
            ecs.encode(scope, out);
        }
        if let Some(cookie) = &self.cookie {
            option(cookie::OPTION_CODE, cookie, out);
        }
        if let Some(name) = self.nsid {
            option(NSID, name, out);
        }
        if let Some(timeout) = self.keepalive {
            option(KEEPALIVE, &timeout.to_be_bytes(), out);
        }
        if let Some(error) = ending.error {
            let room = most.saturating_sub(out.len() + if self.padded { OPTION } else { 0 });
            error.encode(room, out);
        }
        if self.padded {
            pad(most, out);
        }
        // A reply has at most 65 535 bytes.
        let length = ((out.len() - options) as u16).to_be_bytes();
        out[options - 2..options].copy_from_slice(&length);
    }
}

impl Extended {
    /// Appends the option as far as there is room.
    fn encode(self, room: usize, out: &mut Vec<u8>) {
        let bare = OPTION + 2;
        let text = if bare + self.text.len() <= room { self.text } else { "" };
        if bare <= room {
            head(ERROR, 2 + text.len(), out);
            out.extend_from_slice(&self.code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Appends the padding option, so that the message is as long as a multiple of [`BLOCK`], or as it may be.
fn pad(most: usize, out: &mut Vec<u8>) {
    let bare = out.len() + OPTION;
    let zeros = bare.next_multiple_of(BLOCK).min(most).saturating_sub(bare);
    head(PADDING, zeros, out);
    out.resize(bare + zeros, 0);
}

/// Appends an option.
fn option(code: u16, data: &[u8], out: &mut Vec<u8>) {
    head(code, data.len(), out);
    out.extend_from_slice(data);
}

/// Appends an option's code and length.
fn head(code: u16, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&code.to_be_bytes());
    // No option is longer than the message that it is in.
    out.extend_from_slice(&(length as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full<'a>(nsid: &'a [u8], padded: bool) -> Opt<'a> {
        let ecs = Ecs { family: 1, source: 24, address: [192, 0, 2, 0].into() };
        Opt {
            payload: 1232,
            dnssec_ok: true,
            compact_ok: true,
            ecs: Some(ecs),
            cookie: Some([7; 24]),
            nsid: Some(nsid),
            keepalive: Some(100),
            padded,
        }
    }

    fn encoded(opt: &Opt<'_>, before: usize, error: Option<Extended>, most: usize) -> Vec<u8> {
        let mut out = vec![0xee; before];
        opt.encode(&Ending { rcode: Rcode::BadCookie, scope: 20, error, most }, &mut out);
        out.split_off(before)
    }

    #[test]
    fn options_stand_in_one_order() {
        let wanted = [
            &[0, 0, 41, 4, 208, 1, 0, 0xc0, 0, 0, 69][..],
            &[0, 8, 0, 7, 0, 1, 24, 20, 192, 0, 2],
            &[0, 10, 0, 24],
            &[7; 24],
            &[0, 3, 0, 2, b'n', b's'],
            &[0, 11, 0, 2, 0, 100],
            &[0, 15, 0, 4, 0, 3, b'o', b'h'],
            &[0, 12, 0, 6, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let error = Extended { code: 3, text: "oh" };
        assert_eq!(encoded(&full(b"ns", true), BLOCK - wanted.len(), Some(error), 65_535), wanted);
    }

    #[test]
    fn bare() {
        let opt = Opt { payload: 512, ..Opt::default() };
        assert_eq!(encoded(&opt, 0, None, 512), [0, 0, 41, 2, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(opt.len(), 11);
    }

    #[test]
    fn an_extended_error_takes_only_what_room_is_left() {
        let (opt, error) = (full(b"ns", false), Extended { code: 20, text: "why" });
        for (spare, more) in [(0, 0), (5, 0), (6, 6), (8, 6), (9, 9), (100, 9)] {
            let most = 300 + opt.len() + spare;
            assert_eq!(encoded(&opt, 300, Some(error), most).len(), opt.len() + more, "{spare} bytes left");
        }
    }

    proptest! {
        #[test]
        fn the_length_is_as_told_and_never_too_long(
            before in 12usize..65_300,
            nsid in prop::collection::vec(any::<u8>(), 0..128),
            padded: bool,
            errs: bool,
            spare in 0usize..1000,
        ) {
            let opt = full(&nsid, padded);
            let most = (before + opt.len() + spare).min(65_535);
            prop_assume!(before + opt.len() <= most);
            let error = errs.then_some(Extended::UNANSWERABLE);
            let bytes = encoded(&opt, before, error, most);
            let whole = before + bytes.len();
            prop_assert!(whole <= most);
            prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[9], bytes[10]])), bytes.len() - 11);
            if padded {
                prop_assert!(whole.is_multiple_of(BLOCK) || whole == most);
            } else if !errs {
                prop_assert_eq!(bytes.len(), opt.len());
            }
        }
    }
}
