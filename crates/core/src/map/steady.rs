//! Keeping users where they are unless another mirror is clearly better, and for long enough.
//!
//! Predictions change a little with every measurement. A cell whose first mirror would change for
//! that keeps it, until the other one is better by 10 ms or a fifth, whichever is more, and has been
//! for five minutes. A first mirror that was a guess is given up at once for one that the network
//! measured.

use super::cells::CellTable;
use super::ranked::Podium;
use crate::rtt::Model;
use crate::rtt::scale::millis;
use crate::time::UnixMillis;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

/// Least gain of a change, in milliseconds …
const GAIN_MS: f32 = 10.0;
/// … or as a share of the round trip.
const GAIN_SHARE: f32 = 0.2;
/// How long the gain must have been there.
const HOLD: Duration = Duration::from_secs(300);

/// Since when other mirrors are clearly better than those that are kept, by what is told apart.
#[derive(Debug, Default)]
pub(super) struct Steady {
    now: UnixMillis,
    challenged: HashMap<u64, UnixMillis>,
}

impl Steady {
    pub(super) fn new(now: UnixMillis) -> Steady {
        Steady { now, challenged: HashMap::new() }
    }

    /// Puts the mirror that was first before first again, unless it is time for another.
    pub(super) fn settle(
        &mut self,
        (before, model): (&CellTable, &Model),
        key: &impl Hash,
        addr: IpAddr,
        podium: &mut Podium,
    ) {
        let Some(kept) = before.at(addr).and_then(|r| r.slots().first().copied()) else { return };
        let (Some(first), Some(at)) =
            (podium.0.first().copied(), podium.0.iter().position(|c| c.slot == kept))
        else {
            return;
        };
        let incumbent = podium.0[at];
        let was_a_guess = model.measured_at(addr) && !before.set().model().measured_at(addr);
        if at == 0 || incumbent.class != first.class || was_a_guess {
            return;
        }
        let (now_ms, could_ms) = (millis(incumbent.point), millis(first.point));
        if now_ms - could_ms >= GAIN_MS.max(GAIN_SHARE * now_ms) {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let key = hasher.finish();
            let since = before.steady.challenged.get(&key).copied().unwrap_or(self.now);
            if Duration::from_millis(self.now.0.saturating_sub(since.0)) >= HOLD {
                return;
            }
            self.challenged.insert(key, since);
        }
        let incumbent = podium.0.remove(at);
        podium.0.insert(0, incumbent);
    }

    pub(super) fn is_challenged(&self) -> bool {
        !self.challenged.is_empty()
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.now
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.challenged.capacity() * size_of::<(u64, UnixMillis)>()
    }
}
