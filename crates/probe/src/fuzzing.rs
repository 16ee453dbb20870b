//! Decoders that are nobody else's business, as the fuzz targets (`fuzz/`) call them. No feature opens
//! them: what is built with one more would be what is linted and tested, and not what is shipped.

use crate::dns::{self, Question};
use nearmost_core::check::DnsCheck;

/// What a check makes of bytes that came as the answer to its query, whose id was `id`.
///
/// # Errors
/// What is wrong with the check's name, with the bytes, or with the answer.
pub fn dns_answer(check: &DnsCheck, id: u16, bytes: &[u8]) -> Result<(), String> {
    let answer = Question::new(check, id)?.answer(bytes)?;
    dns::judge(&answer, check)
}
