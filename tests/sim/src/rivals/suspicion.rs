//! SWIM's suspicion as memberlist times it: min = mult × max(1, log₁₀ n) × probe interval, six times
//! that at first, and down to it as other members confirm the suspicion (Lifeguard).

/// Suspicion multiplier of the LAN figures.
const MULT: f64 = 4.0;
/// The longest timeout is so many times the shortest.
const MAX_MULT: f64 = 6.0;

/// Shortest suspicion among `n` members, in microseconds.
pub fn least_us(n: usize, interval_us: u64) -> u64 {
    let scale = (n.max(1) as f64).log10().max(1.0);
    (MULT * scale * interval_us as f64) as u64
}

/// One member that is suspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    began: u64,
    least_us: u64,
    /// Confirmations that are wanted.
    wanted: u32,
    /// Who suspects it; the first one does not count as a confirmation.
    from: Vec<u32>,
}

impl Suspicion {
    /// `from` suspects a member, in a group of `n`.
    pub fn new(from: u32, n: usize, interval_us: u64, now: u64) -> Suspicion {
        // Fewer members than could confirm: none are waited for.
        let wanted = MULT as u32 - 2;
        let wanted = if n < wanted as usize + 2 { 0 } else { wanted };
        Suspicion { began: now, least_us: least_us(n, interval_us), wanted, from: vec![from] }
    }

    /// `from` suspects it too; whether that is news.
    pub fn confirm(&mut self, from: u32) -> bool {
        let enough = self.from.len() as u32 > self.wanted;
        if enough || self.from.contains(&from) {
            return false;
        }
        self.from.push(from);
        true
    }

    /// When the member is dead, unless it is heard of before.
    pub fn until(&self) -> u64 {
        let (least, confirmed) = (self.least_us as f64, self.from.len() as f64 - 1.0);
        let most = if self.wanted == 0 { least } else { MAX_MULT * least };
        let share = match self.wanted {
            0 => 1.0,
            wanted => (confirmed + 1.0).ln() / (f64::from(wanted) + 1.0).ln(),
        };
        let wait = (most - share * (most - least)).max(least);
        self.began + wait as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_shorten_it() {
        let second = 1_000_000;
        assert_eq!(least_us(5, second), 4 * second);
        assert_eq!(least_us(100, second), 8 * second);
        let mut suspicion = Suspicion::new(1, 100, second, 10);
        assert_eq!(suspicion.until(), 10 + 48 * second);
        assert!(!suspicion.confirm(1));
        assert!(suspicion.confirm(2));
        // 48 − ln 2 ÷ ln 3 × 40.
        assert!((22..23).contains(&(suspicion.until() / second)), "{}", suspicion.until());
        assert!(suspicion.confirm(3) && !suspicion.confirm(4));
        assert_eq!(suspicion.until(), 10 + 8 * second);
        assert_eq!(Suspicion::new(1, 3, second, 0).until(), 4 * second);
    }
}
