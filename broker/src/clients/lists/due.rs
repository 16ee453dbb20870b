//! Which groups are to be told of something, those that are endangered first.

use super::board::GroupKey;
use nearmost_core::time::UnixMillis;
use std::collections::{HashMap, VecDeque};

/// How soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It can wait a moment.
    Rest,
    /// Its clients may be attached to what became worse.
    Urgent,
}

/// Groups that are due, each once; one that becomes urgent stands in both queues until its turn.
#[derive(Default)]
pub struct Due {
    urgent: VecDeque<GroupKey>,
    rest: VecDeque<GroupKey>,
    queued: HashMap<GroupKey, (Urgency, UnixMillis)>,
}

impl Due {
    /// Groups that are due.
    pub fn count(&self) -> usize {
        self.queued.len()
    }

    /// Whether a group is due.
    pub fn has(&self, key: &GroupKey) -> bool {
        self.queued.contains_key(key)
    }

    /// Queues a group because of something that was published then. What it waits for is the oldest of all.
    pub fn push(&mut self, key: &GroupKey, urgency: Urgency, since: UnixMillis) {
        match self.queued.get_mut(key) {
            Some((was, _)) if *was >= urgency => return,
            Some((was, _)) => *was = urgency,
            None => drop(self.queued.insert(key.clone(), (urgency, since))),
        }
        match urgency {
            Urgency::Urgent => self.urgent.push_back(key.clone()),
            Urgency::Rest => self.rest.push_back(key.clone()),
        }
    }

    /// The next group, and since when it waits.
    pub fn pop(&mut self) -> Option<(GroupKey, UnixMillis)> {
        while let Some(key) = self.urgent.pop_front().or_else(|| self.rest.pop_front()) {
            // One that was told as urgent stands among the rest still.
            if let Some((_, since)) = self.queued.remove(&key) {
                return Some((key, since));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_the_urgent_first_and_since_the_oldest_reason() {
        let key = |n: u8| GroupKey { domain: "d".into(), network: [10, n, 0, 0].into() };
        let mut due = Due::default();
        due.push(&key(1), Urgency::Rest, UnixMillis(1));
        due.push(&key(2), Urgency::Rest, UnixMillis(2));
        for at in 3..1000 {
            due.push(&key(2), Urgency::Urgent, UnixMillis(at));
            due.push(&key(1), Urgency::Rest, UnixMillis(at));
        }
        assert_eq!((due.count(), due.urgent.len(), due.rest.len()), (2, 1, 2));
        let order: Vec<_> = std::iter::from_fn(|| due.pop()).collect();
        assert_eq!(order, [(key(2), UnixMillis(2)), (key(1), UnixMillis(1))]);
        assert_eq!(due.count(), 0);
    }
}
