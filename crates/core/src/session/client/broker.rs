//! Which broker is asked, and when again. A session goes on without any until its list expires.

use super::Client;
use super::types::{Gaining, Output};
use crate::session::Dice;
use crate::session::list::{Held, ListVersion, SOFT_TTL};
use crate::time::MonoTime;
use std::time::Duration;

/// The most brokers are left alone after failing.
const MOST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Broker {
    count: usize,
    index: usize,
    link: Contact,
    tries: u32,
    /// When it was last asked, for the soft TTL.
    last: Option<MonoTime>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contact {
    /// To be asked then.
    Apart { again: MonoTime },
    /// Asked, with an answer due until then.
    Asked { until: MonoTime },
    /// Connected; changes come by themselves.
    Connected,
}

impl Broker {
    pub fn new(count: usize) -> Broker {
        let link = Contact::Apart { again: MonoTime::ZERO };
        Broker { count: count.max(1), index: 0, link, tries: 0, last: None }
    }

    /// A list was asked for, and has not come yet. It may be whole whatever was held: another broker, or the
    /// same after a restart, knows nothing of that.
    pub fn awaits_list(&self) -> bool {
        matches!(self.link, Contact::Asked { .. })
    }

    /// An answer came: a list, or word that there is none newer.
    pub fn answered(&mut self) {
        (self.link, self.tries) = (Contact::Connected, 0);
    }

    fn ask(&mut self, have: Option<ListVersion>, config: &Gaining, now: MonoTime) -> Output {
        self.link = Contact::Asked { until: now + config.resolve };
        self.last = Some(now);
        Output::Resolve { broker: self.index, have }
    }

    /// The next broker is next; once all were tried, after a while.
    fn lost(&mut self, config: &Gaining, dice: &mut Dice, now: MonoTime) {
        self.index = (self.index + 1) % self.count;
        let round = self.tries / u32::try_from(self.count).unwrap_or(u32::MAX);
        self.tries = self.tries.saturating_add(1);
        let wait = (config.first_rest * (1 << round.min(10))).min(MOST_WAIT);
        self.link = Contact::Apart { again: now + dice.between(wait, 0.5, 1.0) };
    }

    fn refresh_at(&self, held: Option<&Held>) -> Option<MonoTime> {
        let due = held.map_or(MonoTime::ZERO, |held| held.refresh_at());
        Some(self.last.map_or(due, |last| due.max(last + SOFT_TTL)))
    }

    pub fn deadline(&self, held: Option<&Held>) -> Option<MonoTime> {
        match self.link {
            Contact::Apart { again } => Some(again),
            Contact::Asked { until, .. } => Some(until),
            Contact::Connected => self.refresh_at(held),
        }
    }
}

impl Client {
    pub(super) fn drive_broker(&mut self, now: MonoTime) {
        if self.broker.deadline(self.book.held.as_ref()).is_none_or(|at| now < at) {
            return;
        }
        match self.broker.link {
            Contact::Asked { .. } => self.broker_lost(now),
            _ => self.resolve(self.have(), now),
        }
    }

    pub(super) fn have(&self) -> Option<ListVersion> {
        self.book.held.as_ref().map(|held| held.version())
    }

    /// Asks, unless an answer is under way.
    pub(super) fn resolve(&mut self, have: Option<ListVersion>, now: MonoTime) {
        if !matches!(self.broker.link, Contact::Asked { .. }) {
            let ask = self.broker.ask(have, &self.config.gaining, now);
            self.outputs.push_back(ask);
        }
    }

    pub(super) fn broker_lost(&mut self, now: MonoTime) {
        self.broker.lost(&self.config.gaining, &mut self.me.dice, now);
    }

    /// What was missed meanwhile is asked for by version.
    pub(super) fn broker_back(&mut self, now: MonoTime) {
        self.resolve(self.have(), now);
    }
}
