//! Messages on a stream: length, version, body.
//!
//! ```text
//! 0        4        5                    4 + length
//! | length | version | postcard body ... |
//! ```
//! `length` is big-endian and counts the version byte and the body; at most [`MAX_FRAME`], or less
//! where the reader says so. A frame of an unknown version, one that is too large or cut short, or a body that does not decode or
//! leaves bytes over, ends the stream with a named error and nothing else.

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame: version and body, 64 KiB.
pub const MAX_FRAME: usize = 64 * 1024;
/// The version that this build speaks.
pub const VERSION: u8 = 1;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended between two messages.
    #[error("the stream ended")]
    Ended,
    /// The stream ended inside a message.
    #[error("message cut short: {have} of {want} bytes")]
    Truncated {
        /// Bytes read.
        have: usize,
        /// Bytes announced.
        want: usize,
    },
    /// The announced length is more than a message may have.
    #[error("message of {have} bytes; at most {most} are allowed")]
    TooLarge {
        /// Bytes announced, or to be written.
        have: usize,
        /// The bound.
        most: usize,
    },
    /// The announced length leaves no room for a version.
    #[error("empty message")]
    Empty,
    /// A version this build does not speak.
    #[error("message version {0}; this build speaks {VERSION}")]
    Version(u8),
    /// The body is not a message of the expected kind.
    #[error("message body: {0}")]
    Body(String),
    /// The transport failed.
    #[error("transport: {0}")]
    Io(#[from] std::io::Error),
}

impl FrameError {
    /// A snake-case label for logs and counters.
    pub fn label(&self) -> &'static str {
        match self {
            FrameError::Ended => "ended",
            FrameError::Truncated { .. } => "truncated",
            FrameError::TooLarge { .. } => "too_large",
            FrameError::Empty => "empty",
            FrameError::Version(_) => "version",
            FrameError::Body(_) => "body",
            FrameError::Io(_) => "transport",
        }
    }
}

/// The bytes of one message.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let bytes = vec![0, 0, 0, 0, VERSION];
    let mut bytes = postcard::to_extend(message, bytes).map_err(|e| FrameError::Body(e.to_string()))?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge { have: length, most: MAX_FRAME });
    }
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(bytes)
}

/// One message from its version and body (without the length).
pub fn decode<M: DeserializeOwned>(frame: &[u8]) -> Result<M, FrameError> {
    match frame.split_first() {
        None => Err(FrameError::Empty),
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            Ok((_, rest)) => Err(FrameError::Body(format!("{} bytes left over", rest.len()))),
            Err(e) => Err(FrameError::Body(e.to_string())),
        },
        Some((&other, _)) => Err(FrameError::Version(other)),
    }
}

/// Reads one message. Not cancel-safe: a reader that stops in the middle drops the stream.
pub async fn read<M: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<M, FrameError> {
    read_at_most(stream, MAX_FRAME).await
}

/// The same for messages whose version and body have at most `most` bytes, which bounds what a
/// stranger can make us set aside.
pub async fn read_at_most<M: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<M, FrameError> {
    let mut head = [0; 4];
    fill(stream, &mut head, true).await?;
    let length = u32::from_be_bytes(head) as usize;
    match length {
        0 => return Err(FrameError::Empty),
        have if have > most => return Err(FrameError::TooLarge { have, most }),
        _ => {}
    }
    let mut frame = vec![0; length];
    fill(stream, &mut frame, false).await?;
    decode(&frame)
}

/// Writes one message.
pub async fn write<M: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?).await?;
    stream.flush().await?;
    Ok(())
}

/// Fills `buffer`; an end before its first byte is clean only where `may_end`.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    may_end: bool,
) -> Result<(), FrameError> {
    let mut have = 0;
    while have < buffer.len() {
        match stream.read(&mut buffer[have..]).await? {
            0 if have == 0 && may_end => return Err(FrameError::Ended),
            0 => return Err(FrameError::Truncated { have, want: buffer.len() }),
            n => have += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Message = (u32, String, Vec<u8>);

    proptest! {
        #[test]
        fn round_trip(message: Message) {
            let bytes = encode(&message).unwrap();
            prop_assert_eq!(decode::<Message>(&bytes[4..]).unwrap(), message);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<Message>(&bytes);
        }

        #[test]
        fn a_cut_message_is_refused(message: Message, cut in 5usize..40) {
            let bytes = encode(&message).unwrap();
            let end = cut.min(bytes.len() - 1);
            prop_assert!(decode::<Message>(&bytes[4..end]).is_err());
        }
    }

    #[tokio::test]
    async fn every_bad_stream_has_its_own_error() {
        async fn read_all(bytes: &[u8]) -> FrameError {
            read::<Message>(&mut &bytes[..]).await.unwrap_err()
        }
        assert!(matches!(read_all(&[]).await, FrameError::Ended));
        assert!(matches!(read_all(&[0, 0]).await, FrameError::Truncated { have: 2, want: 4 }));
        assert!(matches!(read_all(&[0, 0, 0, 0]).await, FrameError::Empty));
        assert!(matches!(read_all(&[0, 0, 0, 9, 1]).await, FrameError::Truncated { have: 1, want: 9 }));
        assert!(matches!(read_all(&[0, 1, 0, 1]).await, FrameError::TooLarge { have: 65537, .. }));
        let mut small = &[0, 0, 0, 9, 1][..];
        let refused = read_at_most::<Message>(&mut small, 8).await.unwrap_err();
        assert_eq!(refused.to_string(), "message of 9 bytes; at most 8 are allowed");
        assert!(matches!(read_all(&[0, 0, 0, 1, 2]).await, FrameError::Version(2)));
        let mut long = encode(&(1u32, String::new(), Vec::<u8>::new())).unwrap();
        long.push(0);
        long[3] += 1;
        assert!(matches!(read_all(&long).await, FrameError::Body(_)));
    }

    #[tokio::test]
    async fn a_message_too_large_is_not_sent() {
        let huge = vec![0u8; MAX_FRAME];
        assert!(matches!(write(&mut Vec::new(), &huge).await, Err(FrameError::TooLarge { .. })));
    }
}
