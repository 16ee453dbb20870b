//! Which packets of a flow were seen: a window of the last 1024 numbers.
//!
//! A ring of words with one spare, as RFC 6479 proposes for the window of RFC 4303 §3.4.3: moving the
//! window on clears whole words and shifts nothing.

/// Numbers the window covers, the highest included.
pub const WINDOW: u64 = 1024;

const WORD: u64 = u64::BITS as u64;
/// One word more than the window needs, so that a word is cleared before it is needed again.
const WORDS: u64 = WINDOW / WORD + 1;

/// What a number was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// New: take the packet.
    Fresh,
    /// It was here before.
    Duplicate,
    /// So far behind the highest that nobody knows.
    TooOld,
}

/// The numbers that were seen.
#[derive(Clone, Debug)]
pub struct DuplicateWindow {
    highest: Option<u64>,
    words: [u64; WORDS as usize],
}

impl Default for DuplicateWindow {
    fn default() -> Self {
        DuplicateWindow { highest: None, words: [0; WORDS as usize] }
    }
}

impl DuplicateWindow {
    /// Notes that a packet came, and says whether it is the first of its number.
    pub fn accept(&mut self, seq: u64) -> Seen {
        match self.highest {
            Some(highest) if seq <= highest && highest - seq >= WINDOW => return Seen::TooOld,
            Some(highest) if seq <= highest => {}
            highest => self.advance(highest, seq),
        }
        let (word, bit) = place(seq);
        if self.words[word] & bit != 0 {
            return Seen::Duplicate;
        }
        self.words[word] |= bit;
        Seen::Fresh
    }

    /// The highest number seen.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn advance(&mut self, from: Option<u64>, to: u64) {
        match from.map(|from| to / WORD - from / WORD) {
            Some(words) if words < WORDS => {
                for step in 0..words {
                    self.words[((to / WORD - step) % WORDS) as usize] = 0;
                }
            }
            _ => self.words = [0; WORDS as usize],
        }
        self.highest = Some(to);
    }
}

fn place(seq: u64) -> (usize, u64) {
    ((seq / WORD % WORDS) as usize, 1 << (seq % WORD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_ends_of_the_window() {
        let mut window = DuplicateWindow::default();
        assert_eq!(window.accept(5000), Seen::Fresh);
        assert_eq!(window.accept(5000 - WINDOW + 1), Seen::Fresh);
        assert_eq!(window.accept(5000 - WINDOW), Seen::TooOld);
        assert_eq!(window.accept(5000 - WINDOW + 1), Seen::Duplicate);
        assert_eq!(window.accept(u64::MAX), Seen::Fresh);
        assert_eq!(window.accept(5000), Seen::TooOld);
        assert_eq!(window.accept(u64::MAX - 1), Seen::Fresh);
        assert_eq!(window.highest(), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((0u64..4000, 0u64..2), 1..600), start in 0u64..10_000) {
            let (mut window, mut set, mut highest) = (DuplicateWindow::default(), HashSet::new(), None);
            for (step, jump) in steps {
                let seq = start + step + jump * 1500;
                let expected = match highest {
                    Some(h) if seq + WINDOW <= h => Seen::TooOld,
                    _ if set.contains(&seq) => Seen::Duplicate,
                    _ => Seen::Fresh,
                };
                prop_assert_eq!(window.accept(seq), expected);
                set.insert(seq);
                highest = highest.max(Some(seq));
            }
        }
    }
}
