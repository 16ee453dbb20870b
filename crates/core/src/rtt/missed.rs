//! Which mirrors a client network does not reach, as its clients say.
//!
//! A mirror that serves the world may be out of reach for one network: a filter, a broken route. Then
//! it is demoted for that network alone, for as long as more of its clients say that they do not reach
//! it than that they do:
//!
//! ```text
//! failed, by more reporters than reached ──▶ + 500 ms for this network
//!          a word is forgotten after ten minutes, when its reporter says otherwise,
//!          and when the mirror is found to be out for everybody
//! ```
//!
//! It says nothing of how far the mirror is, so no measurement is touched by it and no other network
//! learns of it; and as it passes soon, a restart forgets it. A reporter is an address: who floods has
//! one word, and who lies takes one mirror farther away from his own /24 or /48 until his neighbours say
//! otherwise.

use crate::time::UnixMillis;
use ipnet::IpNet;
use std::collections::HashMap;
use std::time::Duration;

/// By how much farther a mirror counts for a network that does not reach it, in milliseconds.
pub(super) const FARTHER_MS: f32 = 500.0;
/// How long a word counts.
const COUNTS: Duration = Duration::from_secs(600);
/// Most networks that are remembered …
const MAX_NETWORKS: usize = 10_000;
/// … and words of each.
const MAX_WORDS: usize = 32;

/// What one reporter last said of one target.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Word {
    target: u32,
    reporter: u64,
    reached: bool,
    at: UnixMillis,
}

/// What the clients of one network said lately.
#[derive(Clone, Debug, Default)]
struct Said {
    newest: UnixMillis,
    words: Vec<Word>,
}

/// What the clients of all networks said lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Missed {
    by_network: HashMap<IpNet, Said>,
}

impl Missed {
    /// Whether nobody misses anything.
    pub(super) fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }

    /// A reporter does not reach a target.
    pub(super) fn failed(&mut self, network: IpNet, target: u32, reporter: u64, now: UnixMillis) {
        if !self.by_network.contains_key(&network) {
            self.make_room();
        }
        let said = self.by_network.entry(network).or_default();
        said.say(Word { target, reporter, reached: false, at: now });
    }

    /// A reporter reaches it. Where nobody ever said otherwise, that is no news.
    pub(super) fn reached(&mut self, network: IpNet, target: u32, reporter: u64, now: UnixMillis) {
        let Some(said) = self.by_network.get_mut(&network) else { return };
        if said.words.iter().any(|w| w.target == target) {
            said.say(Word { target, reporter, reached: true, at: now });
        }
    }

    /// Forgets what is old, and what is of targets that are not kept.
    pub(super) fn prune(&mut self, keep: impl Fn(u32) -> bool, now: UnixMillis) {
        self.by_network.retain(|_, said| {
            said.words.retain(|w| keep(w.target) && counts(w, now));
            said.words.iter().any(|w| !w.reached)
        });
    }

    /// Forgets what was said of a target.
    pub(super) fn forgive(&mut self, target: u32) {
        self.by_network.retain(|_, said| {
            said.words.retain(|w| w.target != target);
            !said.words.is_empty()
        });
    }

    /// Renumbers targets; words of those that have no new number go.
    pub(super) fn renumber(&mut self, new: impl Fn(u32) -> Option<u32>) {
        for said in self.by_network.values_mut() {
            said.words.retain_mut(|w| new(w.target).map(|t| w.target = t).is_some());
        }
    }

    /// Each network with the targets that most of its clients do not reach, sorted.
    pub(super) fn by_network(&self, now: UnixMillis) -> impl Iterator<Item = (IpNet, Box<[u32]>)> {
        self.by_network.iter().filter_map(move |(network, Said { words, .. })| {
            let mut targets: Vec<u32> = words.iter().filter(|w| !w.reached).map(|w| w.target).collect();
            targets.sort_unstable();
            targets.dedup();
            targets.retain(|t| most_fail(words, *t, now));
            (!targets.is_empty()).then(|| (*network, targets.into_boxed_slice()))
        })
    }

    /// The hundredth of the networks that was heard of longest ago goes, so that looking for it is paid for.
    fn make_room(&mut self) {
        if self.by_network.len() < MAX_NETWORKS {
            return;
        }
        let mut newest: Vec<(UnixMillis, IpNet)> =
            self.by_network.iter().map(|(network, said)| (said.newest, *network)).collect();
        newest.sort_unstable();
        for (_, network) in newest.iter().take(MAX_NETWORKS / 100) {
            self.by_network.remove(network);
        }
    }
}

impl Said {
    /// A reporter's newer word takes the place of the older; a full list loses its oldest.
    fn say(&mut self, word: Word) {
        let words = &mut self.words;
        words.retain(|w| (w.target, w.reporter) != (word.target, word.reporter));
        if words.len() >= MAX_WORDS
            && let Some((oldest, _)) = words.iter().enumerate().min_by_key(|(_, w)| w.at)
        {
            words.swap_remove(oldest);
        }
        words.push(word);
        self.newest = word.at;
    }
}

fn counts(word: &Word, now: UnixMillis) -> bool {
    // A word of the future was said before the clock was put back.
    Duration::from_millis(now.0.abs_diff(word.at.0)) < COUNTS
}

fn most_fail(words: &[Word], target: u32, now: UnixMillis) -> bool {
    let of = |reached: bool| {
        words.iter().filter(|w| w.target == target && w.reached == reached && counts(w, now)).count()
    };
    of(false) > of(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(i: u32) -> IpNet {
        IpNet::V4(ipnet::Ipv4Net::new((0x0a00_0000 + (i << 8)).into(), 24).unwrap())
    }

    fn missed_by(missed: &Missed, i: u32, now: u64) -> Vec<u32> {
        let found = missed.by_network(UnixMillis(now)).find(|(network, _)| *network == net(i));
        found.map_or_else(Vec::new, |(_, targets)| targets.to_vec())
    }

    #[test]
    fn the_majority_of_a_network_decides_for_it_alone() {
        let mut missed = Missed::default();
        missed.failed(net(1), 7, 100, UnixMillis(0));
        missed.failed(net(1), 7, 100, UnixMillis(1));
        assert_eq!(missed_by(&missed, 1, 1), [7]);
        assert_eq!(missed_by(&missed, 2, 1), []);
        missed.reached(net(2), 7, 1, UnixMillis(1));
        assert_eq!(missed.by_network.len(), 1, "nothing to say against");
        missed.reached(net(1), 7, 101, UnixMillis(2));
        assert_eq!(missed_by(&missed, 1, 2), [], "one against one");
        missed.failed(net(1), 7, 102, UnixMillis(3));
        assert_eq!(missed_by(&missed, 1, 3), [7]);
        missed.reached(net(1), 7, 100, UnixMillis(4));
        assert_eq!(missed_by(&missed, 1, 4), [], "who reaches it now takes back his word");
    }

    #[test]
    fn networks_are_bounded_and_the_oldest_go() {
        let mut missed = Missed::default();
        for i in 0..MAX_NETWORKS as u32 + 1 {
            missed.failed(net(i), 7, 1, UnixMillis(i.into()));
            assert!(missed.by_network.len() <= MAX_NETWORKS);
        }
        assert!(!missed.by_network.contains_key(&net(0)) && missed.by_network.contains_key(&net(200)));
    }

    #[test]
    fn words_are_forgotten() {
        let mut missed = Missed::default();
        missed.failed(net(1), 7, 1, UnixMillis(0));
        assert_eq!(missed_by(&missed, 1, 599_999), [7]);
        assert_eq!(missed_by(&missed, 1, 600_000), []);
        missed.prune(|_| true, UnixMillis(600_000));
        assert!(missed.is_empty());
        missed.failed(net(1), 7, 1, UnixMillis(0));
        missed.failed(net(1), 8, 1, UnixMillis(0));
        missed.prune(|t| t == 8, UnixMillis(1));
        missed.renumber(|t| (t == 8).then_some(0));
        assert_eq!(missed_by(&missed, 1, 1), [0]);
    }

    proptest! {
        /// Whatever is said, memory is bounded, and a target that nobody misses is never named.
        #[test]
        fn memory_is_bounded(said in prop::collection::vec((0u32..3, 0u32..50, 0u64..50, any::<bool>()), 0..400)) {
            let mut missed = Missed::default();
            let mut failed = std::collections::HashSet::new();
            for (at, (network, target, reporter, reached)) in said.into_iter().enumerate() {
                let now = UnixMillis(at as u64);
                match reached {
                    true => missed.reached(net(network), target, reporter, now),
                    false => {
                        failed.insert((net(network), target));
                        missed.failed(net(network), target, reporter, now);
                    }
                }
            }
            prop_assert!(missed.by_network.values().all(|said| said.words.len() <= MAX_WORDS));
            for (network, targets) in missed.by_network(UnixMillis(400)) {
                prop_assert!(targets.iter().all(|t| failed.contains(&(network, *t))));
            }
        }
    }
}
