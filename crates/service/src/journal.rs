//! Lines for the journal of systemd.
//!
//! The journal notes times itself and takes the importance of a line from its beginning, `<3>` for an error
//! (sd-daemon(3)). Whether standard error goes there says `JOURNAL_STREAM`, `device:inode` of its socket
//! (systemd.exec(5)).

use std::io::{self, Stderr, Write};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error is the journal, given the value of `JOURNAL_STREAM`.
pub fn is_journal(stream: Option<&str>) -> bool {
    let numbers = stream.and_then(|text| text.split_once(':'));
    let parsed = numbers.and_then(|(dev, ino)| Some((dev.parse::<u64>().ok()?, ino.parse::<u64>().ok()?)));
    let found = rustix::fs::fstat(io::stderr());
    matches!((parsed, found), (Some((dev, ino)), Ok(found)) if found.st_dev == dev && found.st_ino == ino)
}

/// Standard error, with the importance of each line before it where that is the journal.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// Whether it is.
    pub journal: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { importance: None, out: io::stderr() }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        Line { importance: self.journal.then(|| importance(*meta.level())), out: io::stderr() }
    }
}

/// As syslog(3) counts them.
fn importance(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// One line on its way out.
pub struct Line<W = Stderr> {
    importance: Option<&'static str>,
    out: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.write_all(text).map(|()| text.len())
    }

    /// A line comes in one piece, and goes out in one, so that lines of several threads do not mix.
    /// What a value has of line ends is written as `\n` and `\r`: what others sent begins no line of ours.
    fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        let (inner, end) = match text.strip_suffix(b"\n") {
            Some(inner) => (inner, &b"\n"[..]),
            None => (text, &b""[..]),
        };
        let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let importance = self.importance.unwrap_or_default();
        if importance.is_empty() && !inner.iter().any(breaks) {
            return self.out.write_all(text);
        }
        let mut all = Vec::with_capacity(text.len() + importance.len());
        all.extend_from_slice(importance.as_bytes());
        for byte in inner {
            match byte {
                b'\n' => all.extend_from_slice(b"\\n"),
                b'\r' => all.extend_from_slice(b"\\r"),
                other => all.push(*other),
            }
        }
        all.extend_from_slice(end);
        self.out.write_all(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_journal_begins_with_its_importance() {
        let mut written = Vec::new();
        let mut line = Line { importance: Some(importance(Level::WARN)), out: &mut written };
        line.write_all(b"a fault\n").unwrap();
        Line { importance: None, out: &mut written }.write_all(b"plain\n").unwrap();
        Line { importance: None, out: &mut written }.write_all(b"a=x\n<3>y\r\n").unwrap();
        let told = "<4>a fault\nplain\na=x\\n<3>y\\r\n";
        assert_eq!(String::from_utf8(written).unwrap(), told);
    }

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        let found = rustix::fs::fstat(io::stderr()).unwrap();
        let (dev, ino) = (found.st_dev, found.st_ino);
        assert!(is_journal(Some(&format!("{dev}:{ino}"))));
        for other in [None, Some(""), Some("1"), Some("a:b"), Some(&*format!("{dev}:{}", ino + 1))] {
            assert!(!is_journal(other), "{other:?}");
        }
    }
}
