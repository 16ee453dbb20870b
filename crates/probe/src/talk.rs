//! Send and expect over TCP or TLS: for line protocols and binary ones.
//!
//! What is expected is looked for in everything said so far that no earlier step has found. A
//! conversation whose answers do not come within the first [`MAX_TALK_BYTES`] has failed, however much
//! more the service would say.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::prober::Prober;
use crate::{connect, reason, tls_check};
use nearmost_core::check::{MAX_TALK_BYTES, TalkCheck, TalkStep};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Read at once.
const CHUNK_BYTES: usize = 4096;

/// Carries out the check.
pub async fn run(
    prober: &Prober,
    deadline: &Deadline,
    target: SocketAddr,
    check: &TalkCheck,
) -> Result<(), Failure> {
    check.check_steps().map_err(Failure::silence)?;
    match &check.tls {
        None => talk(connect(deadline, target).await?, deadline, &check.steps).await,
        Some(tls) => talk(tls_check::run(prober, deadline, target, tls).await?, deadline, &check.steps).await,
    }
}

/// Takes all steps.
async fn talk<S>(mut stream: S, deadline: &Deadline, steps: &[TalkStep]) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut said = Said::default();
    for (step, number) in steps.iter().zip(1..) {
        let at = if steps.len() > 1 { format!("step {number}: ") } else { String::new() };
        if !step.send.is_empty() {
            let expected = format!("{at}expected {} bytes to be taken", step.send.len());
            let sending = async {
                stream.write_all(&step.send).await?;
                stream.flush().await
            };
            // A service that says goodbye and closes may have said what is expected before.
            let sent = deadline.bound(&expected, sending).await?;
            if let Err(e) = sent
                && step.expect.is_empty()
            {
                return Err(Failure::io(&expected, &e));
            }
        }
        if !step.expect.is_empty() {
            let expected = format!("{at}expected {}", reason::quote(&step.expect, 60));
            listen(&mut stream, deadline, &mut said, &step.expect, &expected).await?;
        }
    }
    Ok(())
}

/// Reads until the needle was said.
async fn listen(
    stream: &mut (impl AsyncRead + Unpin),
    deadline: &Deadline,
    said: &mut Said,
    needle: &[u8],
    expected: &str,
) -> Result<(), Failure> {
    let mut chunk = [0; CHUNK_BYTES];
    while !said.find(needle) {
        let room = MAX_TALK_BYTES - said.bytes.len();
        if room == 0 {
            let found = format!("found none in the first {MAX_TALK_BYTES} bytes");
            return Err(Failure::answer(format!("{expected}, {found}")));
        }
        let reading = stream.read(&mut chunk[..room.min(CHUNK_BYTES)]);
        let found = match tokio::time::timeout_at(deadline.at(), reading).await {
            Ok(Ok(0)) => format!("found {} and the end", said.rest()),
            Ok(Ok(n)) => {
                said.bytes.extend_from_slice(&chunk[..n]);
                continue;
            }
            Ok(Err(e)) if said.is_silent() => {
                let found = format!("found nothing and: {}", reason::io(&e));
                return Err(Failure::caused(format!("{expected}, {found}"), &e));
            }
            Ok(Err(e)) => format!("found {} and: {}", said.rest(), reason::io(&e)),
            Err(_) if said.is_silent() => return Err(Failure::silence(deadline.missed(expected))),
            Err(_) => format!("found {} in time", said.rest()),
        };
        return Err(Failure::answer(format!("{expected}, {found}")));
    }
    Ok(())
}

/// What a service said, and how much of it earlier steps found already.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    found: usize,
    /// Up to here the needle that is looked for does not begin.
    searched: usize,
}

impl Said {
    /// Whether the needle was said; what comes after it is for the next one.
    fn find(&mut self, needle: &[u8]) -> bool {
        let from = self.searched.max(self.found);
        let at = self.bytes[from..].windows(needle.len().max(1)).position(|w| w == needle);
        match at {
            Some(at) => {
                self.found = from + at + needle.len();
                self.searched = self.found;
                true
            }
            None => {
                // A needle may begin in the bytes at the end.
                self.searched = from.max((self.bytes.len() + 1).saturating_sub(needle.len().max(1)));
                false
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.bytes.len() == self.found
    }

    /// What nothing has been found in yet, for people.
    fn rest(&self) -> String {
        match &self.bytes[self.found..] {
            [] => "nothing".into(),
            rest => reason::quote(rest, 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(said: &mut Said, text: &str, needle: &str) -> bool {
        said.bytes.extend_from_slice(text.as_bytes());
        said.find(needle.as_bytes())
    }

    #[test]
    fn what_was_found_is_not_found_again() {
        let mut said = Said::default();
        assert!(find(&mut said, "220 a\r\n250 b\r\n", "220"));
        assert!(find(&mut said, "", "250"));
        assert!(!find(&mut said, "25", "250"));
        assert!(find(&mut said, "0", "250"));
        assert_eq!((said.rest().as_str(), said.is_silent()), ("nothing", true));
    }

    proptest! {
        /// However the bytes come, the same steps are found as in one piece.
        #[test]
        fn pieces_do_not_matter(
            pieces in prop::collection::vec("[ab]{0,4}", 0..12),
            needles in prop::collection::vec("[ab]{1,3}", 1..4),
        ) {
            let whole = pieces.concat();
            let mut at = 0;
            let in_one = needles.iter().all(|n| match whole[at..].find(n.as_str()) {
                Some(found) => { at += found + n.len(); true }
                None => false,
            });
            let (mut said, mut next) = (Said::default(), 0);
            for piece in &pieces {
                said.bytes.extend_from_slice(piece.as_bytes());
                while next < needles.len() && said.find(needles[next].as_bytes()) {
                    next += 1;
                }
            }
            prop_assert_eq!(next == needles.len(), in_one);
            if in_one {
                prop_assert_eq!(said.found, at);
            }
        }
    }
}
