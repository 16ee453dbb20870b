//! Domain names in the forms that the query path needs: lower-cased wire bytes of a question, wire
//! bytes of a reply, and lower-case dotted text to look up in the registry. None of them allocates.

use crate::error::{ErrorKind, QueryError};
use arrayvec::ArrayVec;
use hickory_proto::rr::Name;

/// Most bytes of a name on the wire, root label included (RFC 1035 §2.3.4).
pub const MAX_WIRE: usize = 255;
/// Most bytes of a label.
const MAX_LABEL: usize = 63;
/// Stands in for bytes that no registered name contains: a dot inside a label, control characters,
/// non-ASCII. A name that has one equals no registered name.
const FOREIGN: u8 = 0;

/// A question's name: lower-cased wire bytes, the final root label included.
#[derive(Clone, PartialEq, Eq)]
pub struct QueryName {
    wire: [u8; MAX_WIRE],
    len: u8,
}

impl QueryName {
    /// Reads an uncompressed name at `start` of a message and tells where it ends.
    ///
    /// # Errors
    /// [`ErrorKind::Pointer`], [`ErrorKind::Label`], [`ErrorKind::NameLength`] and
    /// [`ErrorKind::Truncated`].
    pub fn parse(message: &[u8], start: usize) -> Result<(QueryName, usize), QueryError> {
        let mut at = start;
        loop {
            let length = *message.get(at).ok_or(ErrorKind::Truncated.at(at))?;
            let next = match length {
                0xc0.. => return Err(ErrorKind::Pointer.at(at)),
                64.. => return Err(ErrorKind::Label.at(at)),
                0 => break,
                _ => at + 1 + usize::from(length),
            };
            if next + 1 - start > MAX_WIRE {
                return Err(ErrorKind::NameLength.at(start));
            }
            if next > message.len() {
                return Err(ErrorKind::Truncated.at(at));
            }
            at = next;
        }
        let end = at + 1;
        let mut name = QueryName { wire: [0; MAX_WIRE], len: (end - start) as u8 };
        for (to, from) in name.wire.iter_mut().zip(&message[start..end]) {
            // Length bytes are below 64, so they are no upper-case letters.
            *to = from.to_ascii_lowercase();
        }
        Ok((name, end))
    }

    /// The root.
    pub(crate) fn root() -> QueryName {
        QueryName { wire: [0; MAX_WIRE], len: 1 }
    }

    /// The lower-cased wire bytes.
    pub fn wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for QueryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LookupName::from_wire(self.wire()).as_str())
    }
}

/// The labels of uncompressed wire bytes.
pub(crate) fn labels(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = wire.split_first()?;
        let (label, after) = rest.split_at_checked(usize::from(length))?;
        wire = after;
        (!label.is_empty()).then_some(label)
    })
}

/// A name as a reply has it: uncompressed wire bytes, case kept, the final root label included.
#[derive(Clone)]
pub(crate) struct WireName {
    wire: [u8; MAX_WIRE],
    len: u8,
}

impl WireName {
    /// The name of labels; `None` when one of them is empty or too long, or all are.
    pub(crate) fn from_labels<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Option<WireName> {
        let mut name = WireName { wire: [0; MAX_WIRE], len: 0 };
        let mut at = 0;
        for label in labels {
            let end = at + 1 + label.len();
            // What is left must hold the root label, which is there already.
            if !(1..=MAX_LABEL).contains(&label.len()) || end >= MAX_WIRE {
                return None;
            }
            name.wire[at] = label.len() as u8;
            name.wire[at + 1..end].copy_from_slice(label);
            at = end;
        }
        name.len = (at + 1) as u8;
        Some(name)
    }

    /// The name of uncompressed wire bytes.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<WireName> {
        WireName::from_labels(labels(wire))
    }

    /// The name of dotted text, with or without the final dot; no escapes. `None` when it is no name.
    pub(crate) fn from_text(text: &str) -> Option<WireName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        WireName::from_labels(text.split('.').filter(|_| !text.is_empty()).map(str::as_bytes))
    }

    /// The name with one more label before it.
    pub(crate) fn below(&self, label: &str) -> Option<WireName> {
        WireName::from_labels(std::iter::once(label.as_bytes()).chain(labels(self.wire())))
    }

    /// The wire bytes.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.len)]
    }

    /// The same as a name of record data that hickory-proto encodes.
    pub(crate) fn to_name(&self) -> Option<Name> {
        Name::from_labels(labels(self.wire())).ok()
    }
}

impl std::fmt::Debug for WireName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LookupName::from_wire(self.wire()).as_str())
    }
}

/// Whether dotted text (no final dot) has labels and a length that a name may have.
pub(crate) fn fits(text: &str) -> bool {
    text.len() <= MAX_WIRE - 2 && text.split('.').all(|l| (1..=MAX_LABEL).contains(&l.len()))
}

/// What stands before `parent` in `name`: empty when they are equal, `None` when `name` is not at or
/// below `parent`. Both in lower case without the final dot.
pub(crate) fn below<'n>(name: &'n str, parent: &str) -> Option<&'n str> {
    let rest = name.strip_suffix(parent)?;
    if rest.is_empty() || parent.is_empty() {
        return Some(rest);
    }
    rest.strip_suffix('.').filter(|r| !r.is_empty())
}

/// Whether `name` is strictly below `parent`.
pub(crate) fn strictly_below(name: &str, parent: &str) -> bool {
    below(name, parent).is_some_and(|rest| !rest.is_empty())
}

/// A name as lower-case dotted text with the starts of its labels.
#[derive(Clone)]
pub(crate) struct LookupName {
    text: [u8; MAX_WIRE],
    len: u8,
    starts: ArrayVec<u8, 128>,
}

impl LookupName {
    /// From lower-cased wire bytes.
    pub(crate) fn from_wire(wire: &[u8]) -> LookupName {
        let mut name = LookupName { text: [0; MAX_WIRE], len: 0, starts: ArrayVec::new() };
        for label in labels(wire) {
            name.push(label);
        }
        name
    }

    /// From dotted text of any case, with or without the final dot.
    pub(crate) fn from_text(text: &str) -> Option<LookupName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if !fits(text) {
            return None;
        }
        let mut name = LookupName { text: [0; MAX_WIRE], len: 0, starts: ArrayVec::new() };
        for label in text.split('.') {
            name.push(label.as_bytes());
        }
        Some(name)
    }

    fn push(&mut self, label: &[u8]) {
        let mut at = usize::from(self.len);
        if at != 0 {
            self.text[at] = b'.';
            at += 1;
        }
        if self.starts.try_push(at as u8).is_err() {
            return;
        }
        for (to, from) in self.text[at..].iter_mut().zip(label) {
            *to = if from.is_ascii_graphic() && *from != b'.' { from.to_ascii_lowercase() } else { FOREIGN };
            at += 1;
        }
        self.len = at as u8;
    }

    /// The whole text.
    pub(crate) fn as_str(&self) -> &str {
        // Only ASCII gets in through `push`.
        std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or("")
    }

    /// The name and each name above it, longest first, without the root.
    pub(crate) fn suffixes(&self) -> impl Iterator<Item = &str> {
        let text = self.as_str();
        self.starts.iter().filter_map(move |s| text.get(usize::from(*s)..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_whole_labels() {
        let name = LookupName::from_text("A.bc.Example.").unwrap();
        assert_eq!(name.suffixes().collect::<Vec<_>>(), ["a.bc.example", "bc.example", "example"]);
        assert!(LookupName::from_wire(&[0]).suffixes().next().is_none());
    }

    #[test]
    fn a_dot_inside_a_label_separates_nothing() {
        let name = LookupName::from_wire(b"\x03a.b\x07example\x00");
        assert_eq!(name.as_str(), "a\0b.example");
    }

    #[test]
    fn longest_names_fit() {
        let mut wire = vec![];
        for _ in 0..127 {
            wire.extend_from_slice(b"\x01x");
        }
        wire.push(0);
        let (name, end) = QueryName::parse(&wire, 0).unwrap();
        assert_eq!(end, 255);
        assert_eq!(LookupName::from_wire(name.wire()).suffixes().count(), 127);
        assert_eq!(WireName::from_wire(name.wire()).unwrap().wire(), &wire[..]);
        wire.insert(0, b'y');
        wire.insert(0, 1);
        assert_eq!(QueryName::parse(&wire, 0).unwrap_err(), ErrorKind::NameLength.at(0));
    }

    #[test]
    fn below_needs_a_dot() {
        assert_eq!(below("a.example.com", "example.com"), Some("a"));
        assert_eq!(below("example.com", "example.com"), Some(""));
        assert_eq!(below("aexample.com", "example.com"), None);
        assert_eq!(below(".example.com", "example.com"), None);
        assert!(!strictly_below("example.com", "example.com"));
    }

    #[test]
    fn text_that_is_no_name() {
        for bad in ["a..b", &"x".repeat(64), &"x.".repeat(128), ".a"] {
            assert!(WireName::from_text(bad).is_none(), "{bad}");
        }
        assert!(WireName::from_text("_sip._udp.example").is_some());
        assert!(["", "."].iter().all(|root| WireName::from_text(root).unwrap().wire() == [0]));
        let name = WireName::from_text("B.example.").unwrap().below("a").unwrap();
        assert_eq!(name.wire(), b"\x01a\x01B\x07example\x00");
    }
}
