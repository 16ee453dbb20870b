//! Reasons for people: short, printable, naming what was found.

use std::io;

/// The most characters that a reason has.
pub const MAX_REASON_CHARS: usize = 200;

/// Escapes what is unprintable and cuts to [`MAX_REASON_CHARS`] characters.
pub fn presentable(text: &str) -> String {
    // What lies further back is cut anyway.
    let escaped = harmless(&text.chars().take(MAX_REASON_CHARS + 1).collect::<String>());
    if escaped.chars().count() <= MAX_REASON_CHARS {
        return escaped;
    }
    escaped.chars().take(MAX_REASON_CHARS - 1).chain(['…']).collect()
}

/// Text of any length with everything unprintable escaped, for logs and terminals.
pub fn harmless(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// A character, escaped when it would move a cursor or hide text (bidirectional marks included).
fn printable(c: char) -> String {
    let invisible =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if c.is_control() || invisible { c.escape_default().to_string() } else { c.to_string() }
}

/// At most `max` characters of some bytes, quoted.
pub fn quote(bytes: &[u8], max: usize) -> String {
    // A UTF-8 character has at most four bytes.
    let head = &bytes[..bytes.len().min(max.saturating_mul(4))];
    let text = String::from_utf8_lossy(head);
    let cut: String = text.chars().take(max).collect();
    let more = if cut.len() < text.len() || head.len() < bytes.len() { "…" } else { "" };
    format!("\"{cut}{more}\"")
}

/// In front of errors that say nothing of the service: the way there is broken, or this machine has no
/// room or forbids it.
const NO_ANSWER: &str = "no answer: ";

/// Whether an error on a socket came from the other side. All others, whatever they may be, are of the way
/// there or of this machine: a fault of ours must never look like one of the service.
pub fn is_answer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            // What TLS makes of bytes that it cannot accept.
            | io::ErrorKind::InvalidData
    )
}

/// An I/O error on a socket, which says if it is no answer of the service.
pub fn io(error: &io::Error) -> String {
    let marker = if is_answer(error) { "" } else { NO_ANSWER };
    format!("{marker}{}", plain(error))
}

/// An I/O error without the operating system's number.
pub fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied by this machine".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::NetworkDown => "network down".into(),
        io::ErrorKind::TimedOut => "timed out".into(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => "no local address or port".into(),
        // Out of file descriptors or memory, here.
        _ if matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105)) => {
            "no room on this machine for another connection".into()
        }
        _ => {
            let text = error.to_string();
            match text.split_once(" (os error") {
                Some((text, _)) => text.to_string(),
                None => text,
            }
        }
    }
}

/// Whether `needle` is within `hay`.
pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || hay.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_printable_text_is_left_alone() {
        assert_eq!(presentable("expected 200, found 503: très bien"), "expected 200, found 503: très bien");
    }

    #[test]
    fn long_text_is_cut_to_the_limit() {
        for text in ["x".repeat(500), "é".repeat(500), "\u{1b}".repeat(500), format!("{}\n", "x".repeat(199))]
        {
            let cut = presentable(&text);
            assert!(cut.chars().count() <= MAX_REASON_CHARS, "{} characters", cut.chars().count());
            assert!(cut.ends_with('…'), "{cut}");
        }
        assert_eq!(presentable(&"x".repeat(200)), "x".repeat(200));
    }

    #[test]
    fn nothing_from_outside_reaches_a_terminal_unescaped() {
        let cut = presentable("a\u{1b}[31mred\r\n\u{202e}txt");
        assert_eq!(cut, "a\\u{1b}[31mred\\r\\n\\u{202e}txt");
    }

    #[test]
    fn quotes_are_cut_and_say_so() {
        assert_eq!(quote(b"pong", 10), "\"pong\"");
        assert_eq!(quote(b"0123456789abc", 10), "\"0123456789…\"");
        assert_eq!(quote(&[b'x'; 1000], 3), "\"xxx…\"");
        assert_eq!(quote(&[0xff], 3), "\"\u{fffd}\"");
    }

    #[test]
    fn contains_finds_needles_at_both_ends() {
        assert!(contains(b"abc", b""));
        assert!(contains(b"abc", b"ab") && contains(b"abc", b"bc") && contains(b"abc", b"abc"));
        assert!(!contains(b"abc", b"abcd") && !contains(b"", b"a"));
    }

    #[test]
    fn only_what_comes_from_the_other_side_is_an_answer() {
        // EPERM, EACCES, ENOMEM, ENFILE, EMFILE, ENOBUFS, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EINVAL,
        // EMSGSIZE, ENETDOWN, ENETUNREACH, ETIMEDOUT, EHOSTUNREACH.
        for ours in [1, 13, 12, 23, 24, 105, 98, 99, 11, 22, 90, 100, 101, 110, 113] {
            let error = io::Error::from_raw_os_error(ours);
            assert!(!is_answer(&error) && io(&error).starts_with(NO_ANSWER), "{error}");
        }
        // ECONNREFUSED, ECONNRESET, EPIPE.
        for theirs in [111, 104, 32] {
            let error = io::Error::from_raw_os_error(theirs);
            assert!(is_answer(&error) && !io(&error).contains(NO_ANSWER), "{error}");
        }
    }
}
