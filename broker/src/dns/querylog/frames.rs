//! Frame Streams, the framing of dnstap, as the side that sends (farsightsec/fstrm).
//!
//! ```text
//!  us                          collector
//!  READY  content types ─────►
//!         ◄───── ACCEPT content types
//!  START  content type  ─────►
//!  data frames          ─────►  …
//!  STOP                 ─────►
//!         ◄───── FINISH
//! ```
//!
//! A data frame is its length, four bytes big endian, and its bytes. A length of 0 is an escape: a control
//! frame follows, with its own length, its type, and fields of a type, a length and bytes each.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What dnstap calls its content.
const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";
/// The field that says the content type.
const FIELD_CONTENT: u32 = 1;
/// Longest control frame (fstrm's `FSTRM_CONTROL_FRAME_LENGTH_MAX`).
const MAX_CONTROL: u32 = 512;

/// Types of control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Accept = 1,
    Start = 2,
    Stop = 3,
    Ready = 4,
    Finish = 5,
}

/// Why a collector cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It says something else than was its turn.
    #[error("expected Frame Streams control frame {expected:?}, got type {got}")]
    Unexpected {
        /// What was its turn.
        expected: &'static str,
        /// The type that came.
        got: u32,
    },
    /// A control frame that cannot be read.
    #[error("a malformed Frame Streams control frame")]
    Malformed,
    /// It takes something else.
    #[error("the collector does not take protobuf:dnstap.Dnstap")]
    Content,
}

/// Opens a stream.
pub(super) async fn begin<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), FrameError> {
    stream.write_all(&control(Control::Ready)).await?;
    let fields = expect(stream, Control::Accept, "ACCEPT").await?;
    // One that names none takes any.
    if !fields.is_empty() && !fields.iter().any(|content| content == CONTENT) {
        return Err(FrameError::Content);
    }
    stream.write_all(&control(Control::Start)).await?;
    Ok(())
}

/// Ends a stream; what was sent has been taken then.
pub(super) async fn end<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), FrameError> {
    stream.write_all(&control(Control::Stop)).await?;
    expect(stream, Control::Finish, "FINISH").await.map(|_| ())
}

/// Appends a data frame, whose bytes `write` appends.
pub(super) fn data(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    // A message is two DNS messages and some dozens of bytes.
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn control(kind: Control) -> Vec<u8> {
    let mut body = (kind as u32).to_be_bytes().to_vec();
    if matches!(kind, Control::Ready | Control::Start) {
        body.extend_from_slice(&FIELD_CONTENT.to_be_bytes());
        body.extend_from_slice(&(CONTENT.len() as u32).to_be_bytes());
        body.extend_from_slice(CONTENT);
    }
    [&[0; 4][..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

/// Reads a control frame of this type; its content types.
async fn expect<S: AsyncRead + Unpin>(
    stream: &mut S,
    kind: Control,
    name: &'static str,
) -> Result<Vec<Vec<u8>>, FrameError> {
    let (escape, length) = (stream.read_u32().await?, stream.read_u32().await?);
    if escape != 0 || !(4..=MAX_CONTROL).contains(&length) {
        return Err(FrameError::Malformed);
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    let (got, fields) = u32_at(&body)?;
    if got != kind as u32 {
        return Err(FrameError::Unexpected { expected: name, got });
    }
    contents(fields)
}

fn contents(mut fields: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut contents = Vec::new();
    while !fields.is_empty() {
        let (field, rest) = u32_at(fields)?;
        let (length, rest) = u32_at(rest)?;
        let (bytes, rest) = rest.split_at_checked(length as usize).ok_or(FrameError::Malformed)?;
        if field == FIELD_CONTENT {
            contents.push(bytes.to_vec());
        }
        fields = rest;
    }
    Ok(contents)
}

fn u32_at(bytes: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(FrameError::Malformed)?;
    Ok((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a collector says: a control frame of a type, with content types.
    fn said(kind: u32, contents: &[&[u8]]) -> Vec<u8> {
        let mut body = kind.to_be_bytes().to_vec();
        for content in contents {
            body.extend(1u32.to_be_bytes());
            body.extend((content.len() as u32).to_be_bytes());
            body.extend_from_slice(content);
        }
        [&[0; 4][..], &(body.len() as u32).to_be_bytes(), &body].concat()
    }

    async fn begun(answer: &[u8]) -> (Result<(), FrameError>, Vec<u8>) {
        let (mut us, mut collector) = tokio::io::duplex(4096);
        collector.write_all(answer).await.unwrap();
        let result = begin(&mut us).await;
        drop(us);
        let mut sent = Vec::new();
        collector.read_to_end(&mut sent).await.unwrap();
        (result, sent)
    }

    #[tokio::test]
    async fn a_stream_begins_when_the_collector_takes_the_content() {
        let (result, sent) = begun(&said(1, &[b"other", CONTENT])).await;
        result.unwrap();
        assert_eq!(sent, [said(4, &[CONTENT]), said(2, &[CONTENT])].concat());
        assert!(begun(&said(1, &[])).await.0.is_ok(), "one that names none takes any");
    }

    #[tokio::test]
    async fn whatever_else_a_collector_says_is_named() {
        let error = |answer: Vec<u8>| async move { begun(&answer).await.0.unwrap_err().to_string() };
        assert!(error(said(1, &[b"other"])).await.contains("does not take"));
        assert!(error(said(5, &[])).await.contains("ACCEPT"));
        assert!(error(vec![0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1]).await.contains("malformed"));
        assert!(error(vec![0, 0, 0, 0, 0, 0, 2, 1]).await.contains("malformed"));
        assert!(error(vec![0, 0, 0, 0, 0, 0, 0, 3]).await.contains("malformed"));
        let mut cut = said(1, &[CONTENT]);
        cut[19] += 1;
        assert!(error(cut).await.contains("malformed"));
    }

    #[test]
    fn a_data_frame_has_its_length() {
        let mut out = vec![9];
        data(&mut out, |out| out.extend_from_slice(b"abc"));
        assert_eq!(out, [9, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    proptest! {
        #[test]
        fn any_fields_are_read_within_their_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(contents) = contents(&bytes) {
                prop_assert!(contents.iter().map(Vec::len).sum::<usize>() <= bytes.len());
            }
        }
    }
}
