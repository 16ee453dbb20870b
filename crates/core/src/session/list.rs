//! What a client knows of a domain: its mirrors in order of nearness, and how long that holds.
//!
//! ```text
//!            30 s                      24 h
//!   fresh ─────────▶ to be refreshed ─────────▶ expired (nothing new is attached)
//!     ▲                    │
//!     └── list, change ────┘
//! ```
//!
//! Versions are counted by the broker that answers, so they compare only within one source. A change
//! says from which version it leads to which: an older one is ignored, one that leaves a gap asks for
//! the whole list again. Signatures are checked before.

use super::MirrorKey;
use crate::health::Family;
use crate::time::{MonoTime, Now, UnixMillis};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

/// After so long a list is asked for again.
pub const SOFT_TTL: Duration = Duration::from_secs(30);
/// After so long a list is no longer used.
pub const HARD_TTL: Duration = Duration::from_secs(24 * 3600);
/// How far in the future a list may seem to be issued, in milliseconds.
const SKEW_MS: u64 = 60_000;
/// The most mirrors of one list; those behind are dropped, being the farthest.
pub const MOST_MIRRORS: usize = 64;

/// What fails together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FailureDomain {
    /// A data centre, or what its operator calls one.
    pub site: u64,
    /// Autonomous system.
    pub asn: u32,
    /// A country or a region.
    pub region: u32,
}

impl FailureDomain {
    /// How far apart two domains are: 0 in one site, 3 in different regions.
    pub fn apart(&self, other: &FailureDomain) -> u8 {
        if self.region != other.region {
            3
        } else if self.asn != other.asn {
            2
        } else {
            u8::from(self.site != other.site)
        }
    }
}

/// What the broker says of a mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Take it.
    #[default]
    Eligible,
    /// Take it, but not as a standby where there is another: it may fail soon.
    Endangered,
    /// Leaving in order: attach no more, move away.
    Draining,
    /// Out of service.
    Down,
}

impl Standing {
    /// Whether a client may attach to it.
    pub fn attachable(self) -> bool {
        matches!(self, Standing::Eligible | Standing::Endangered)
    }
}

/// A mirror of the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listed {
    /// Which.
    pub key: MirrorKey,
    /// Its IPv4 address.
    pub v4: Option<SocketAddrV4>,
    /// Its IPv6 address.
    pub v6: Option<SocketAddrV6>,
    /// Round trip that the broker predicts for this client.
    pub predicted: Duration,
    /// Its share of standbys, relative to others.
    pub weight: f64,
    /// Mirrors of a lower tier come before those of a higher one, however near: pins, and orders of failover.
    pub tier: u8,
    /// What it fails together with.
    pub domain: FailureDomain,
    /// What the broker says of it.
    pub standing: Standing,
}

impl Listed {
    /// Its address in a family.
    pub fn address(&self, family: Family) -> Option<SocketAddr> {
        match family {
            Family::V4 => self.v4.map(SocketAddr::V4),
            Family::V6 => self.v6.map(SocketAddr::V6),
        }
    }
}

/// Which state of the registry a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListVersion {
    /// Who counts: a broker and its start.
    pub source: u64,
    /// Its count.
    pub number: u64,
}

/// A whole list.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorList {
    /// Which.
    pub version: ListVersion,
    /// When the broker signed it.
    pub issued: UnixMillis,
    /// When it ends, where that may be before its day is over: with the first of its mirrors' grants.
    pub ends: Option<UnixMillis>,
    /// Nearest first.
    pub mirrors: Vec<Listed>,
}

/// What has changed from one version to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The number that it follows.
    pub from: u64,
    /// The version that it makes.
    pub to: ListVersion,
    /// When the broker signed it.
    pub issued: UnixMillis,
    /// When the list that it makes ends; see [`MirrorList::ends`].
    pub ends: Option<UnixMillis>,
    /// New mirrors and those that changed.
    pub put: Vec<Listed>,
    /// Mirrors that are gone.
    pub removed: Vec<MirrorKey>,
}

/// What became of a list or a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It holds now.
    Applied,
    /// What is held is as new, or newer.
    Stale,
    /// Something between is missing: ask for the whole list.
    Gap,
    /// Past its hard TTL.
    Expired,
}

/// The list that is held.
#[derive(Clone, Debug)]
pub struct Held {
    list: MirrorList,
    refresh: MonoTime,
    expires: MonoTime,
}

impl Held {
    /// Takes a whole list in place of what is `held`. One that was `asked` for, whatever is held, replaces
    /// that of another source even if it says that it is older: clocks of sources differ.
    pub fn take(held: &mut Option<Held>, mut list: MirrorList, asked: bool, now: Now) -> Taken {
        let Some((refresh, expires)) = terms(list.issued, list.ends, now) else { return Taken::Expired };
        list.issued = no_later(list.issued, now);
        let other = |held: &Held| asked && held.list.version.source != list.version.source;
        if held.as_ref().is_some_and(|held| !held.list.older_than(&list) && !other(held)) {
            return Taken::Stale;
        }
        list.arrange();
        *held = Some(Held { list, refresh, expires });
        Taken::Applied
    }

    /// Applies a change. One without content that leads to the version held says that it still holds.
    pub fn apply(&mut self, change: Change, now: Now) -> Taken {
        let have = self.list.version;
        let Some((refresh, expires)) = terms(change.issued, change.ends, now) else { return Taken::Expired };
        if have.source != change.to.source {
            return Taken::Gap;
        }
        let news = !change.put.is_empty() || !change.removed.is_empty();
        let issued = no_later(change.issued, now);
        if change.to.number == have.number && !news && issued > self.list.issued {
            self.renew(issued, refresh, expires, change.ends.is_some());
            return Taken::Applied;
        }
        if change.to.number <= have.number {
            return Taken::Stale;
        }
        if change.from != have.number {
            return Taken::Gap;
        }
        let replaced = |key| change.removed.contains(&key) || change.put.iter().any(|put| put.key == key);
        self.list.mirrors.retain(|m| !replaced(m.key));
        self.list.mirrors.extend(change.put);
        self.list.arrange();
        self.list.version = change.to;
        self.renew(issued, refresh, expires, change.ends.is_some());
        Taken::Applied
    }

    /// An end that is said counts, even if it is sooner than what was said before.
    fn renew(&mut self, issued: UnixMillis, refresh: MonoTime, expires: MonoTime, said: bool) {
        self.list.issued = self.list.issued.max(issued);
        self.refresh = refresh.max(self.refresh);
        self.expires = if said { expires } else { expires.max(self.expires) };
    }

    /// Its mirrors, nearest first.
    pub fn mirrors(&self) -> &[Listed] {
        &self.list.mirrors
    }

    /// One mirror.
    pub fn get(&self, key: MirrorKey) -> Option<&Listed> {
        self.list.mirrors.iter().find(|m| m.key == key)
    }

    /// Which version it is.
    pub fn version(&self) -> ListVersion {
        self.list.version
    }

    /// When it is to be asked for again.
    pub fn refresh_at(&self) -> MonoTime {
        self.refresh
    }

    /// When it ends.
    pub fn expires_at(&self) -> MonoTime {
        self.expires
    }
}

impl MirrorList {
    fn older_than(&self, other: &MirrorList) -> bool {
        let (mine, its) = (self.version, other.version);
        match mine.source == its.source {
            true => (mine.number, self.issued) < (its.number, other.issued),
            false => self.issued < other.issued,
        }
    }

    /// By tier and nearest first, each mirror once, no more than are kept.
    fn arrange(&mut self) {
        self.mirrors.sort_by_key(|m| (m.tier, m.predicted, m.key));
        let mut seen = std::collections::HashSet::new();
        self.mirrors.retain(|m| seen.insert(m.key));
        self.mirrors.truncate(MOST_MIRRORS);
    }
}

/// A time of issue from the future would keep out all that is issued before then.
fn no_later(issued: UnixMillis, now: Now) -> UnixMillis {
    issued.min(UnixMillis(now.unix.0.saturating_add(SKEW_MS)))
}

/// Until when something issued then is fresh, and good; `None` when it no longer is. Wall time is looked
/// at once, on arrival: a clock that is set later ends nothing. What seems to come from the future is new.
fn terms(issued: UnixMillis, ends: Option<UnixMillis>, now: Now) -> Option<(MonoTime, MonoTime)> {
    let age = Duration::from_millis(now.unix.0.saturating_sub(issued.0));
    let day = HARD_TTL.checked_sub(age)?;
    let said = ends.map(|ends| Duration::from_millis(ends.0.saturating_sub(now.unix.0)));
    let left = said.map_or(day, |said| said.min(day));
    (!left.is_zero()).then(|| (now.mono + SOFT_TTL.min(left), now.mono + left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn at(ms: u64) -> Now {
        Now { mono: MonoTime::from_millis(ms), unix: UnixMillis(10 * DAY_MS + ms) }
    }

    fn mirror(key: u64, ms: u64) -> Listed {
        Listed {
            key: MirrorKey(key),
            v4: Some(SocketAddrV4::new([192, 0, 2, key as u8].into(), 7850)),
            v6: None,
            predicted: Duration::from_millis(ms),
            weight: 1.0,
            tier: 0,
            domain: FailureDomain::default(),
            standing: Standing::Eligible,
        }
    }

    fn list(source: u64, number: u64, issued: UnixMillis) -> MirrorList {
        let mirrors = vec![mirror(1, 30), mirror(2, 10), mirror(1, 5)];
        MirrorList { version: ListVersion { source, number }, issued, ends: None, mirrors }
    }

    fn change(from: u64, number: u64) -> Change {
        let to = ListVersion { source: 1, number };
        Change {
            from,
            to,
            issued: at(0).unix,
            ends: None,
            put: vec![mirror(3, 20)],
            removed: vec![MirrorKey(2)],
        }
    }

    #[test]
    fn lists_are_taken_by_version_and_by_time_across_sources() {
        let mut held = None;
        assert_eq!(Held::take(&mut held, list(1, 5, at(0).unix), false, at(0)), Taken::Applied);
        let keys: Vec<u64> = held.as_ref().unwrap().mirrors().iter().map(|m| m.key.0).collect();
        assert_eq!(keys, [1, 2], "nearest first, each once");
        for (source, number, issued, taken) in [
            (1, 4, at(9000).unix, Taken::Stale),
            (1, 5, at(0).unix, Taken::Stale),
            (2, 900, at(0).unix, Taken::Stale),
            (1, 5, at(1).unix, Taken::Applied),
            (2, 1, at(2).unix, Taken::Applied),
            (2, 2, UnixMillis(at(0).unix.0 - DAY_MS), Taken::Expired),
        ] {
            assert_eq!(
                Held::take(&mut held, list(source, number, issued), false, at(0)),
                taken,
                "{source} {number}"
            );
        }
    }

    #[test]
    fn changes_follow_their_version() {
        let mut held = None;
        let _ = Held::take(&mut held, list(1, 5, at(0).unix), false, at(0));
        let held = held.as_mut().unwrap();
        assert_eq!(held.apply(change(4, 5), at(0)), Taken::Stale);
        assert_eq!(held.apply(change(6, 7), at(0)), Taken::Gap);
        let other = Change { to: ListVersion { source: 2, number: 6 }, ..change(5, 6) };
        assert_eq!(held.apply(other, at(0)), Taken::Gap);
        assert_eq!(held.apply(change(5, 6), at(0)), Taken::Applied);
        let keys: Vec<u64> = held.mirrors().iter().map(|m| m.key.0).collect();
        assert_eq!((keys, held.version().number), (vec![1, 3], 6));
    }

    #[test]
    fn word_that_nothing_changed_renews_the_terms() {
        let mut held = None;
        let _ = Held::take(&mut held, list(1, 5, at(0).unix), false, at(0));
        let held = held.as_mut().unwrap();
        let nothing = Change { issued: at(20_000).unix, put: vec![], removed: vec![], ..change(5, 5) };
        assert_eq!(held.apply(nothing.clone(), at(20_000)), Taken::Applied);
        assert_eq!(held.refresh_at(), at(20_000).mono + SOFT_TTL);
        assert_eq!(held.expires_at(), at(20_000).mono + HARD_TTL);
        assert_eq!(held.apply(nothing, at(25_000)), Taken::Stale);
        let news = Change { issued: at(30_000).unix, ..change(5, 5) };
        assert_eq!(held.apply(news, at(30_000)), Taken::Stale);
    }

    #[test]
    fn a_list_from_the_future_does_not_stay_for_ever() {
        let later = UnixMillis(at(0).unix.0 + 100 * DAY_MS);
        let mut held = None;
        let _ = Held::take(&mut held, list(1, 5, later), false, at(0));
        // A minute on, that of a broker with a better clock is the newer one.
        let now = at(SKEW_MS + 1);
        assert_eq!(Held::take(&mut held, list(2, 1, now.unix), false, now), Taken::Applied);
        // One that was asked for is taken at once, but none of the same source that is older.
        let _ = Held::take(&mut held, list(1, 5, later), false, now);
        assert_eq!(Held::take(&mut held, list(2, 1, now.unix), false, now), Taken::Stale);
        assert_eq!(Held::take(&mut held, list(1, 4, now.unix), true, now), Taken::Stale);
        assert_eq!(Held::take(&mut held, list(2, 1, now.unix), true, now), Taken::Applied);
        let nothing = Change {
            ends: None,
            from: 1,
            to: ListVersion { source: 2, number: 1 },
            issued: later,
            put: vec![],
            removed: vec![],
        };
        let held = held.as_mut().unwrap();
        assert_eq!(held.apply(nothing.clone(), now), Taken::Applied);
        let soon = at(3 * SKEW_MS);
        assert_eq!(held.apply(Change { issued: soon.unix, ..nothing }, soon), Taken::Applied);
    }

    #[test]
    fn terms_run_from_the_signature() {
        let mut held = None;
        let issued = UnixMillis(at(0).unix.0 - DAY_MS + 10_000);
        let _ = Held::take(&mut held, list(1, 1, issued), false, at(0));
        let ends = MonoTime::from_millis(10_000);
        assert_eq!(held.as_ref().map(|h| (h.refresh_at(), h.expires_at())), Some((ends, ends)));
        let mut held = None;
        let _ = Held::take(&mut held, list(1, 1, UnixMillis(u64::MAX)), false, at(0));
        assert_eq!(held.unwrap().expires_at(), MonoTime::ZERO + HARD_TTL);
    }

    #[test]
    fn a_list_ends_with_what_it_says_even_if_that_comes_to_be_sooner() {
        let mut held = None;
        let ends = |ms| Some(UnixMillis(at(ms).unix.0));
        let over = MirrorList { ends: ends(0), ..list(1, 1, at(0).unix) };
        assert_eq!(Held::take(&mut held, over, false, at(0)), Taken::Expired);
        let _ =
            Held::take(&mut held, MirrorList { ends: ends(50_000), ..list(1, 1, at(0).unix) }, false, at(0));
        let held = held.as_mut().unwrap();
        assert_eq!(held.expires_at(), at(50_000).mono);
        let sooner = Change { ends: ends(40_000), issued: at(1).unix, ..change(1, 2) };
        assert_eq!(held.apply(sooner, at(1)), Taken::Applied);
        assert_eq!(held.expires_at(), at(40_000).mono);
        let later =
            Change { ends: ends(60_000), issued: at(2).unix, put: vec![], removed: vec![], ..change(2, 2) };
        assert_eq!(held.apply(later, at(2)), Taken::Applied);
        assert_eq!(held.expires_at(), at(60_000).mono);
    }

    proptest! {
        #[test]
        fn changes_add_up_to_the_list_they_lead_to(steps in prop::collection::vec((0u64..90, 0u64..500, any::<bool>()), 0..120)) {
            let mut held = None;
            let first = MirrorList { mirrors: Vec::new(), ..list(1, 0, at(0).unix) };
            let _ = Held::take(&mut held, first, false, at(0));
            let held = held.as_mut().unwrap();
            let mut model = BTreeMap::new();
            for (i, (key, ms, remove)) in steps.into_iter().enumerate() {
                // A model without the bound: stay below it.
                let remove = remove || model.len() >= MOST_MIRRORS;
                let (put, removed) = if remove { (vec![], vec![MirrorKey(key)]) } else { (vec![mirror(key, ms)], vec![]) };
                if remove { model.remove(&key); } else { model.insert(key, ms); }
                let to = ListVersion { source: 1, number: i as u64 + 1 };
                prop_assert_eq!(held.apply(Change { from: i as u64, to, issued: at(0).unix, ends: None, put, removed }, at(0)), Taken::Applied);
            }
            let mut expected: Vec<(u64, u64)> = model.into_iter().map(|(k, ms)| (ms, k)).collect();
            expected.sort_unstable();
            let got: Vec<(u64, u64)> = held.mirrors().iter().map(|m| (m.predicted.as_millis() as u64, m.key.0)).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
