//! Send and expect: a conversation in a few steps.

use super::HandshakeCheck;

/// Most steps of one conversation.
const MAX_STEPS: usize = 16;
/// Most that one step sends, in bytes.
const MAX_SEND: usize = 4096;
/// Most that one step expects, in bytes.
const MAX_EXPECT: usize = 1024;
/// How much of what a service says in one conversation is looked at, in bytes.
pub const MAX_TALK_BYTES: usize = 64 * 1024;

/// A conversation over TCP, or over TLS where there is a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TalkCheck {
    /// Speak TLS first.
    pub tls: Option<HandshakeCheck>,
    /// Taken one after another; see [`TalkCheck::check_steps`].
    pub steps: Vec<TalkStep>,
}

/// Sends, then waits for an answer; either may be empty. What is expected must come after everything
/// that earlier steps found, and within the first [`MAX_TALK_BYTES`] that the service says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TalkStep {
    /// Bytes sent.
    pub send: Vec<u8>,
    /// Bytes waited for.
    pub expect: Vec<u8>,
}

impl TalkCheck {
    /// Whether the steps can be taken.
    ///
    /// # Errors
    /// What is wrong with how many of them, or with which.
    pub fn check_steps(&self) -> Result<(), String> {
        if !(1..=MAX_STEPS).contains(&self.steps.len()) {
            return Err(format!("expected 1 to {MAX_STEPS} steps, found {}", self.steps.len()));
        }
        for (step, number) in self.steps.iter().zip(1..) {
            let (send, expect) = (step.send.len(), step.expect.len());
            if send == 0 && expect == 0 {
                return Err(format!("step {number} neither sends nor expects anything"));
            }
            if send > MAX_SEND {
                return Err(format!(
                    "step {number}: expected at most {MAX_SEND} bytes to send, found {send}"
                ));
            }
            if expect > MAX_EXPECT {
                return Err(format!(
                    "step {number}: expected at most {MAX_EXPECT} bytes to expect, found {expect}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_bounded_in_number_and_size() {
        let step = |send, expect| TalkStep { send: vec![b'x'; send], expect: vec![b'x'; expect] };
        let check = |steps| TalkCheck { tls: None, steps }.check_steps();
        assert_eq!(check(vec![step(MAX_SEND, MAX_EXPECT); MAX_STEPS]), Ok(()));
        assert_eq!(check(vec![]), Err("expected 1 to 16 steps, found 0".into()));
        assert_eq!(check(vec![step(1, 0); 17]), Err("expected 1 to 16 steps, found 17".into()));
        assert_eq!(
            check(vec![step(1, 0), step(0, 0)]),
            Err("step 2 neither sends nor expects anything".into())
        );
        let long = check(vec![step(MAX_SEND + 1, 0)]).expect_err("too long");
        assert_eq!(long, "step 1: expected at most 4096 bytes to send, found 4097");
        assert!(check(vec![step(0, MAX_EXPECT + 1)]).expect_err("too long").contains("bytes to expect"));
    }
}
