//! What is left of a reply that is held back: header, question and OPT record.

use crate::cookie::CookieState;
use crate::outcome::{Outcome, Rcode};
use crate::query::HEADER_LEN;

/// The type of OPT records (RFC 6891 §6.1.1).
const TYPE_OPT: u16 = 41;
/// Bytes of a record after its name and before its data.
const FIELDS: usize = 10;

/// Where things are in a reply of ours.
struct Parts {
    /// The end of the question.
    question: usize,
    /// The start of the OPT record, which is the last.
    opt: Option<usize>,
}

/// Shortens a reply of [`Responder::answer`](crate::Responder::answer): no records but OPT, and the TC bit;
/// or, where the client sent a cookie that was not valid, BADCOOKIE beside the valid one that is in the
/// reply. Nothing is left of what is no such reply. The outcome becomes that of the short one.
pub fn slip(reply: &mut Vec<u8>, outcome: &mut Outcome) {
    let length = shorten(reply, outcome);
    reply.truncate(length);
    // It was no longer before than such a number holds.
    outcome.account.reply_bytes = length as u16;
}

/// The length of what is left.
fn shorten(reply: &mut [u8], outcome: &mut Outcome) -> usize {
    let Some(Parts { question, opt }) = parts(reply) else { return 0 };
    let length = reply.len();
    let end = match opt {
        Some(opt) => {
            reply.copy_within(opt.., question);
            question + length - opt
        }
        None => question,
    };
    let [_, _, flags, codes, _, _, counts @ ..] = reply else { return 0 };
    counts[..6].copy_from_slice(&[0, 0, 0, 0, 0, u8::from(opt.is_some())]);
    match (outcome.account.cookie, opt) {
        (CookieState::ClientOnly | CookieState::Bad, Some(_)) => {
            let code = Rcode::BadCookie.code();
            // It is to ask again over UDP, not over TCP.
            *flags &= !2;
            *codes = *codes & 0xf0 | (code & 15) as u8;
            // The TTL's first byte is the code's upper half.
            reply[question + 5] = (code >> 4) as u8;
            (outcome.rcode, outcome.truncated) = (Rcode::BadCookie, false);
        }
        _ => {
            *flags |= 2;
            outcome.truncated = true;
        }
    }
    end
}

/// How long [`slip()`] would leave a reply.
pub(super) fn length(reply: &[u8]) -> usize {
    match parts(reply) {
        Some(Parts { question, opt }) => question + opt.map_or(0, |opt| reply.len() - opt),
        None => 0,
    }
}

fn parts(reply: &[u8]) -> Option<Parts> {
    let &[_, _, _, _, q0, q1, a0, a1, n0, n1, r0, r1] = reply.first_chunk::<HEADER_LEN>()?;
    let mut at = HEADER_LEN;
    for _ in 0..u16::from_be_bytes([q0, q1]) {
        at = after_name(reply, at)? + 4;
    }
    let question = at;
    let records: u32 = [[a0, a1], [n0, n1], [r0, r1]].map(|c| u32::from(u16::from_be_bytes(c))).iter().sum();
    let mut opt = None;
    for _ in 0..records {
        let fields = after_name(reply, at)?;
        let &[t0, t1, .., l0, l1] = reply.get(fields..fields + FIELDS)?.first_chunk::<FIELDS>()?;
        opt = (u16::from_be_bytes([t0, t1]) == TYPE_OPT).then_some(at);
        at = fields + FIELDS + usize::from(u16::from_be_bytes([l0, l1]));
    }
    (at == reply.len()).then_some(Parts { question, opt })
}

/// The offset after a name, which may be compressed.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length => at += 1 + length,
        }
    }
}
