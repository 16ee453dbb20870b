//! What a client knows of the mirrors of its list, and whom it would choose.

use crate::hash;
use crate::health::Family;
use crate::session::list::{FailureDomain, Held, Listed, Standing};
use crate::session::rtt::Rtt;
use crate::session::{Dice, MirrorKey, SessionId};
use crate::time::MonoTime;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// IPv6 is preferred unless IPv4 is nearer by more than this (RFC 8305 §4 lets history decide).
const V6_BONUS: Duration = Duration::from_millis(5);
/// A failed mirror is left alone for so long, doubling with each failure, up to …
const FIRST_PENALTY: Duration = Duration::from_secs(1);
const MOST_PENALTY: Duration = Duration::from_secs(60);
/// Failures older than this no longer count.
const FAILURES: Duration = Duration::from_secs(600);
/// A standby is near enough at twice the primary's round trip and this.
const STANDBY_REACH: Duration = Duration::from_millis(60);
/// Standbys this much farther than the nearest share the load with it; or half as far again.
const STANDBY_BAND: Duration = Duration::from_millis(40);

/// The list, and what was learnt of its mirrors.
#[derive(Default)]
pub(super) struct Book {
    pub held: Option<Held>,
    /// Only mirrors of the list.
    known: HashMap<MirrorKey, Known>,
}

#[derive(Default)]
pub(super) struct Known {
    /// Per family, and when.
    rtt: [Option<Rtt>; 2],
    pub answered: Option<MonoTime>,
    /// When it was last tried.
    pub tried: Option<MonoTime>,
    failures: u32,
    failed: Option<MonoTime>,
    shunned: Option<MonoTime>,
    /// A probe that is answered proves nothing against a refusal.
    stands: bool,
}

impl Book {
    /// Mirrors that the list no longer has are forgotten.
    pub fn prune(&mut self) {
        let Some(held) = &self.held else { return self.known.clear() };
        self.known.retain(|key, _| held.get(*key).is_some());
    }

    pub fn mirrors(&self) -> &[Listed] {
        self.held.as_ref().map_or(&[], |held| held.mirrors())
    }

    pub fn get(&self, key: MirrorKey) -> Option<&Listed> {
        self.held.as_ref()?.get(key)
    }

    pub fn known(&self, key: MirrorKey) -> Option<&Known> {
        self.known.get(&key)
    }

    /// `None` for a mirror that is not of the list.
    pub fn entry(&mut self, key: MirrorKey) -> Option<&mut Known> {
        self.held.as_ref()?.get(key)?;
        Some(self.known.entry(key).or_default())
    }

    /// The list lets it be attached, and it has not failed lately.
    pub fn usable(&self, key: MirrorKey, now: MonoTime) -> bool {
        let listed = self.get(key).is_some_and(|m| m.standing.attachable() && self.address(m).is_some());
        let shunned = self.known(key).and_then(|k| k.shunned).is_some_and(|until| now < until);
        listed && !shunned
    }

    pub fn answered(&mut self, key: MirrorKey, family: Family, rtt: Duration, now: MonoTime) -> bool {
        let Some(known) = self.entry(key) else { return false };
        known.rtt[family.index()].get_or_insert(Rtt::predicted(rtt)).sample(rtt);
        known.answered = Some(now);
        if !known.stands {
            known.shunned = None;
        }
        true
    }

    /// A family of a mirror does not work.
    pub fn unanswered(&mut self, key: MirrorKey, family: Family) {
        if let Some(known) = self.entry(key) {
            known.rtt[family.index()] = None;
        }
    }

    /// It failed; `stands` when only time helps, not an answered probe.
    pub fn failed(&mut self, key: MirrorKey, stands: bool, least: Duration, dice: &mut Dice, now: MonoTime) {
        let Some(known) = self.entry(key) else { return };
        let recent = known.failed.is_some_and(|at| now.since(at) < FAILURES);
        known.failures = if recent { known.failures.saturating_add(1) } else { 1 };
        let penalty = FIRST_PENALTY * (1 << (known.failures - 1).min(6));
        let penalty = dice.between(penalty.min(MOST_PENALTY), 0.5, 1.0).max(least.min(MOST_PENALTY));
        known.failed = Some(now);
        known.shunned = Some(now + penalty);
        known.stands = stands;
    }

    /// Failures may have been the old network's.
    pub fn forgive(&mut self) {
        self.known.values_mut().for_each(|known| *known = Known::default());
    }

    /// Measured, else predicted.
    pub fn rtt(&self, mirror: &Listed) -> Duration {
        self.estimate(mirror).smoothed()
    }

    pub fn estimate(&self, mirror: &Listed) -> Rtt {
        let measured = self
            .known(mirror.key)
            .and_then(|known| known.rtt.iter().flatten().min_by_key(|rtt| rtt.smoothed()).copied());
        measured.unwrap_or(Rtt::predicted(mirror.predicted))
    }

    /// Where to attach: the family that answered, the nearer one when both did.
    pub fn address(&self, mirror: &Listed) -> Option<SocketAddr> {
        let measured = |family: Family| {
            self.known(mirror.key).and_then(|k| k.rtt[family.index()]).map(|rtt| rtt.smoothed())
        };
        let v4_first = match (measured(Family::V4), measured(Family::V6)) {
            (Some(v4), Some(v6)) => v4 + V6_BONUS < v6,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let (v4, v6) = (mirror.address(Family::V4), mirror.address(Family::V6));
        if v4_first { v4.or(v6) } else { v6.or(v4) }
    }

    /// Whom it comes before; nobody where it is not of the list.
    pub fn tier(&self, key: MirrorKey) -> u8 {
        self.get(key).map_or(u8::MAX, |m| m.tier)
    }

    /// The usable mirrors but for some, by tier and nearest first.
    pub fn nearest(&self, except: &[MirrorKey], now: MonoTime) -> Vec<&Listed> {
        let fits = |m: &&Listed| !except.contains(&m.key) && self.usable(m.key, now);
        let mut usable: Vec<&Listed> = self.mirrors().iter().filter(fits).collect();
        usable.sort_by_key(|m| (m.tier, self.rtt(m)));
        usable
    }

    /// Whom to keep warm beside a primary: of the lowest tier that there is, as far apart as is near enough, and among those by a hash
    /// of the session weighted by capacity (rendezvous hashing), so that the sessions of one primary
    /// do not all fall upon one neighbour.
    pub fn standby(
        &self,
        session: SessionId,
        primary: (FailureDomain, Duration),
        except: &[MirrorKey],
        now: MonoTime,
    ) -> Option<MirrorKey> {
        let mut found = self.nearest(except, now);
        if found.iter().any(|m| m.standing == Standing::Eligible) {
            found.retain(|m| m.standing == Standing::Eligible);
        }
        let tier = found.first()?.tier;
        found.retain(|m| m.tier == tier);
        let nearest = found.first().map(|m| self.rtt(m))?;
        let reach = (primary.1 * 2 + STANDBY_REACH).max(nearest);
        found.retain(|m| self.rtt(m) <= reach);
        let apart = found.iter().map(|m| m.domain.apart(&primary.0)).max()?;
        found.retain(|m| m.domain.apart(&primary.0) == apart);
        let nearest = found.first().map(|m| self.rtt(m))?;
        let band = nearest + STANDBY_BAND.max(nearest / 2);
        let near = found.into_iter().filter(|m| self.rtt(m) <= band);
        near.max_by(|a, b| draw(session, a).total_cmp(&draw(session, b))).map(|m| m.key)
    }
}

/// The weighted draw of a session for a mirror: the highest wins, in proportion to the weights.
fn draw(session: SessionId, mirror: &Listed) -> f64 {
    let unit = hash::unit(hash::mix(hash::mix(session.0) ^ mirror.key.0));
    // A logarithm of what lies between 0 and 1 is negative. A weight of nothing still has a chance.
    -mirror.weight.max(1e-6) / unit.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::client::tests::listed;
    use crate::session::list::{ListVersion, MirrorList};
    use crate::time::{Now, UnixMillis};

    #[test]
    fn a_lower_tier_comes_first_however_far() {
        let of = |key, ms, tier| Listed { tier, ..listed(key, ms) };
        let mirrors = vec![of(1, 5, 1), of(2, 80, 0), of(3, 120, 0), of(4, 6, 2)];
        let version = ListVersion { source: 1, number: 1 };
        let mut book = Book::default();
        let now = Now { mono: MonoTime::ZERO, unix: UnixMillis(0) };
        let _ = Held::take(
            &mut book.held,
            MirrorList { version, issued: UnixMillis(0), ends: None, mirrors },
            false,
            now,
        );
        let order: Vec<u64> = book.nearest(&[], now.mono).iter().map(|m| m.key.0).collect();
        assert_eq!(order, [2, 3, 1, 4]);
        let primary = (FailureDomain::default(), Duration::from_millis(80));
        let beside = |except: &[u64]| {
            let except: Vec<MirrorKey> = except.iter().map(|key| MirrorKey(*key)).collect();
            book.standby(SessionId(1), primary, &except, now.mono).map(|key| key.0)
        };
        assert_eq!((beside(&[2]), beside(&[2, 3])), (Some(3), Some(1)));
    }
}
