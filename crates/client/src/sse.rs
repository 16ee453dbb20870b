//! Server-sent events (WHATWG HTML §9.2), as far as brokers send them: bytes in, events out.
//!
//! A line ends with LF or CRLF; an empty line dispatches what `id:`, `event:` and `data:` lines gathered;
//! comments keep the connection alive. Without I/O.

/// Longest event in bytes; a broker's are a few hundred.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// A dispatched event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Last `id:` line.
    pub id: Option<String>,
    /// Last `event:` line: the event's name.
    pub name: Option<String>,
    /// `data:` lines, joined by LF.
    pub data: String,
}

/// The stream sends an event longer than [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

/// Gathers events from pieces of a stream.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Takes the next piece and appends the events it completes to `out`.
    ///
    /// # Errors
    /// [`TooLong`]; the stream is then of no more use.
    pub fn feed(&mut self, bytes: &[u8], out: &mut impl Extend<Event>) -> Result<(), TooLong> {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() + self.event.data.len() >= MAX_EVENT_BYTES {
                    return Err(TooLong);
                }
                self.line.push(byte);
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            out.extend(self.take_line(&String::from_utf8_lossy(&line)));
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" => self.event.id = Some(value.into()),
            "event" => self.event.name = Some(value.into()),
            // Comments and `retry` mean nothing here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        for piece in pieces {
            parser.feed(piece, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn events_are_dispatched_by_empty_lines() {
        let text =
            b": hello\nid: 7\r\ndata: {\"a\":1}\n\n\n:\n\ndata:x\ndata: y\nevent: z\n\ndata: unfinished\n";
        assert_eq!(
            parse(&[text]),
            [
                Event { id: Some("7".into()), name: None, data: "{\"a\":1}".into() },
                Event { id: None, name: Some("z".into()), data: "x\ny".into() }
            ]
        );
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        assert_eq!(parser.feed(&vec![b'x'; MAX_EVENT_BYTES + 1], &mut out), Err(TooLong));
        let mut parser = Parser::default();
        let lines = b"data: 0123456789\n".repeat(MAX_EVENT_BYTES / 10);
        assert_eq!(parser.feed(&lines, &mut out), Err(TooLong));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_does_not_matter(text in "(id: [0-9]{1,3}\n|data: [a-zé]{0,5}\n|\n|:\n|\r\n){0,40}", cut: prop::sample::Index) {
            let bytes = text.as_bytes();
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(parse(&[a, b]), parse(&[bytes]));
        }
    }
}
