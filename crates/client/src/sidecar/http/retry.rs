//! Whether a request may be sent again (RFC 9110 §9.2.2), and nothing more than that.
//!
//! | what became of it | safe method | any other with a key the service honours | others |
//! |---|---|---|---|
//! | not a byte was written | again | again | again |
//! | written, and no answer came | again | again | **never** |
//! | the answer began | never | never | never |
//!
//! A key is an `Idempotency-Key` header, and counts only where it was said that the service honours it. `PUT`
//! and `DELETE` are idempotent by their definition, but a second one may undo what others did in between, so
//! here they need a key as the others do. What is sent again needs a body that is still here.

use http::{HeaderMap, Method};
use std::time::{Duration, Instant};

/// How often a request is tried: mirrors may die one after the other, each with the request under way.
pub(super) const MOST_TRIES: u32 = 5;
/// No try begins later than this after the request came.
pub(super) const WITHIN: Duration = Duration::from_secs(15);
/// The header by which a program declares that a request is the same one again.
pub(super) const KEY: &str = "idempotency-key";

/// What became of a try that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not a byte was written.
    Unsent,
    /// Something was written: the service may have carried it out.
    Sent,
}

/// Whether carrying a request out twice is as good as once.
pub(super) fn repeatable(method: &Method, headers: &HeaderMap, keys_honoured: bool) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => true,
        _ => keys_honoured && headers.contains_key(KEY),
    }
}

/// The tries of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    came: Instant,
    made: u32,
    repeatable: bool,
}

impl Tries {
    /// A request that came at this time.
    pub fn new(came: Instant, repeatable: bool) -> Tries {
        Tries { came, made: 0, repeatable }
    }

    /// After a try that brought no answer: whether there is another one. `body` is whether the whole body is
    /// still here.
    pub fn again(&mut self, fate: Fate, body: bool, now: Instant) -> bool {
        self.made += 1;
        let harmless = match fate {
            Fate::Unsent => true,
            Fate::Sent => self.repeatable,
        };
        harmless && body && self.made < MOST_TRIES && now.saturating_duration_since(self.came) < WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;
    use http::HeaderValue;

    #[test]
    fn only_what_does_no_harm_is_repeatable() {
        let (none, mut keyed) = (HeaderMap::new(), HeaderMap::new());
        keyed.insert(KEY, HeaderValue::from_static("\"8e03978e\""));
        for (method, plain, with_key, honoured) in [
            (Method::GET, true, true, true),
            (Method::HEAD, true, true, true),
            (Method::OPTIONS, true, true, true),
            (Method::TRACE, true, true, true),
            (Method::PUT, false, false, true),
            (Method::DELETE, false, false, true),
            (Method::POST, false, false, true),
            (Method::PATCH, false, false, true),
            (Method::from_bytes(b"LOCK").unwrap(), false, false, true),
        ] {
            let found = [
                repeatable(&method, &none, false),
                repeatable(&method, &none, true),
                repeatable(&method, &keyed, false),
                repeatable(&method, &keyed, true),
            ];
            assert_eq!(found, [plain, plain, with_key, honoured], "{method}");
        }
    }

    #[test]
    fn tries_are_bounded_and_what_was_sent_is_not_sent_again() {
        let now = mono_now();
        for repeatable in [false, true] {
            for (fate, body) in
                [(Fate::Unsent, true), (Fate::Unsent, false), (Fate::Sent, true), (Fate::Sent, false)]
            {
                let mut tries = Tries::new(now, repeatable);
                let expected = body && (fate == Fate::Unsent || repeatable);
                assert_eq!(tries.again(fate, body, now), expected, "{repeatable} {fate:?} {body}");
                for _ in 2..MOST_TRIES {
                    assert_eq!(tries.again(fate, body, now), expected);
                }
                assert!(!tries.again(fate, body, now), "so many in all");
                assert!(!Tries::new(now, repeatable).again(fate, body, now + WITHIN));
            }
        }
    }
}
