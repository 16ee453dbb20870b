//! What holds whatever happens: one primary, only mirrors that the list allows, bounds, no busy loop.

use super::tests::{at, list, listed, ms};
use super::{Client, ClientConfig, Event, Input, Output};
use crate::health::Family;
use crate::session::list::{Listed, Standing};
use crate::session::{Ack, Duplicate, MirrorKey, Mode, SessionId};
use crate::time::MonoTime;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const MIRRORS: u64 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// The broker's next list: a standing a mirror, `None` for one that is gone.
    List(Vec<Option<Standing>>),
    Give(Input),
    /// The mirrors do what they were asked: answer probes, accept, send beacons.
    Obey,
    Wait(u64),
}

fn any_input() -> impl Strategy<Value = Input> {
    let key = || (1..=MIRRORS + 1).prop_map(MirrorKey);
    let ack = prop::option::of((0u64..300, 0u64..100).prop_map(|(seq, held)| Ack { seq, held: ms(held) }));
    prop_oneof![
        1 => Just(Input::BrokerLost),
        1 => Just(Input::BrokerBack),
        3 => (key(), 1u64..400).prop_map(|(mirror, rtt)| Input::ProbeAnswered { mirror, family: Family::V4, rtt: ms(rtt) }),
        1 => key().prop_map(|mirror| Input::ProbeFailed { mirror, family: Family::V4 }),
        3 => key().prop_map(Input::Accepted),
        1 => (key(), prop::option::of(key()), 0u64..5000)
            .prop_map(|(mirror, go_to, ms_)| Input::Refused { mirror, retry_after: ms(ms_), go_to }),
        1 => key().prop_map(Input::Failed),
        4 => (key(), 0u64..300, ack).prop_map(|(mirror, seq, ack)| Input::Heard { mirror, seq, ack }),
        1 => key().prop_map(Input::TripwireClosed),
        1 => key().prop_map(Input::TripwireRefused),
        1 => (key(), prop::option::of(key())).prop_map(|(mirror, go_to)| Input::Drains { mirror, go_to }),
        1 => key().prop_map(Input::Unserved),
        1 => key().prop_map(Input::Finished),
        1 => Just(Input::NetworkChanged),
        2 => Just(Input::Tick),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let standing = prop::sample::select(vec![
        Some(Standing::Eligible),
        Some(Standing::Eligible),
        Some(Standing::Endangered),
        Some(Standing::Draining),
        Some(Standing::Down),
        None,
    ]);
    prop_oneof![
        1 => prop::collection::vec(standing, MIRRORS as usize).prop_map(Step::List),
        8 => any_input().prop_map(Step::Give),
        8 => Just(Step::Obey),
        6 => (0u64..2000).prop_map(Step::Wait),
    ]
}

/// The session as its outputs show it, and mirrors that do what they are asked.
struct Watcher {
    client: Client,
    now: MonoTime,
    listed: HashMap<MirrorKey, Standing>,
    ever: HashSet<MirrorKey>,
    primary: Option<MirrorKey>,
    /// Who knows that it is left.
    told: HashSet<MirrorKey>,
    /// Connections, and whether the mirror has accepted.
    open: HashMap<MirrorKey, bool>,
    asked: Vec<Output>,
    seqs: HashMap<MirrorKey, u64>,
    version: u64,
    wakes: u32,
}

impl Watcher {
    fn give(&mut self, input: Input) -> Result<(), TestCaseError> {
        let accepted = match &input {
            Input::Accepted(mirror) => Some(*mirror),
            _ => None,
        };
        if let Some(joined) = accepted.and_then(|mirror| self.open.get_mut(&mirror)) {
            *joined = true;
        }
        self.client.handle(input, at(self.now));
        let mut outputs = 0;
        while let Some(output) = self.client.poll_output() {
            outputs += 1;
            self.see(output)?;
        }
        prop_assert!(outputs < 200, "{} outputs at once", outputs);
        // A race that was won makes a primary without a word of promotion.
        if accepted.is_some() && accepted == self.client.primary() && self.primary.is_none() {
            self.primary = accepted;
        }
        prop_assert_eq!(self.primary, self.client.primary());
        prop_assert!(self.client.primary().is_none() || self.client.primary() != self.client.standby());
        prop_assert!(self.open.len() <= 10, "{:?}", self.open);
        prop_assert!(self.client.next_deadline().is_some_and(|due| due > self.now));
        Ok(())
    }

    fn see(&mut self, output: Output) -> Result<(), TestCaseError> {
        match output {
            Output::Attach { mirror, .. } => {
                let standing = self.listed.get(&mirror);
                prop_assert!(standing.is_some_and(|s| s.attachable()), "{:?} is {:?}", mirror, standing);
                prop_assert!(self.open.insert(mirror, false).is_none(), "{:?} attached twice", mirror);
                self.seqs.insert(mirror, 0);
                self.asked.push(output);
            }
            Output::Promote(mirror) => {
                prop_assert!(self.primary != Some(mirror), "{:?} is primary", mirror);
                prop_assert!(self.open.contains_key(&mirror));
                prop_assert!(!self.told.contains(&mirror), "{:?} was told that it is left", mirror);
                self.primary = Some(mirror);
            }
            Output::Retire(mirror) => {
                prop_assert!(self.primary != Some(mirror), "the primary was told that it is left");
                prop_assert!(self.open.contains_key(&mirror) && self.told.insert(mirror));
                self.asked.push(output);
            }
            Output::Detach { mirror, .. } => {
                prop_assert!(self.open.remove(&mirror).is_some(), "{:?} is not attached", mirror);
                self.told.remove(&mirror);
                self.primary.take_if(|primary| *primary == mirror);
            }
            Output::Beacon { mirror, .. } => {
                prop_assert!(self.open.contains_key(&mirror), "a beacon to {:?}", mirror);
                self.asked.push(output);
            }
            Output::Duplicate(Some(mirror)) => prop_assert_eq!(self.client.standby(), Some(mirror)),
            Output::Probe { mirror, .. } => {
                prop_assert!(self.listed.contains_key(&mirror));
                self.asked.push(output);
            }
            Output::ReportFailed(mirror) => prop_assert!(self.ever.contains(&mirror)),
            Output::Resolve { broker, .. } => prop_assert!(broker < 2),
            Output::Event(Event::Lost(mirror)) => drop(self.primary.take_if(|primary| *primary == mirror)),
            Output::Duplicate(None) | Output::Event(_) => {}
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::List(standings) => self.list(&standings),
            // An attempt that was refused or failed is over for the shell too.
            Step::Give(input @ (Input::Refused { mirror, .. } | Input::Failed(mirror))) => {
                if self.open.get(&mirror) == Some(&false) {
                    self.open.remove(&mirror);
                }
                self.give(input)
            }
            Step::Give(input) => self.give(input),
            Step::Obey => self.obey(),
            Step::Wait(millis) => self.wait(ms(millis)),
        }
    }

    fn list(&mut self, standings: &[Option<Standing>]) -> Result<(), TestCaseError> {
        let mirrors: Vec<Listed> = (1..=MIRRORS)
            .zip(standings)
            .filter_map(|(key, standing)| Some(Listed { standing: (*standing)?, ..listed(key, key * 20) }))
            .collect();
        self.listed = mirrors.iter().map(|m| (m.key, m.standing)).collect();
        self.ever.extend(self.listed.keys());
        self.version += 1;
        self.give(Input::ListArrived(list(self.version, mirrors)))
    }

    fn obey(&mut self) -> Result<(), TestCaseError> {
        for asked in std::mem::take(&mut self.asked) {
            match asked {
                Output::Probe { mirror, .. } => {
                    self.give(Input::ProbeAnswered { mirror, family: Family::V4, rtt: ms(mirror.0 * 20) })?;
                }
                Output::Attach { mirror, .. } if self.open.contains_key(&mirror) => {
                    self.give(Input::Accepted(mirror))?;
                }
                Output::Retire(mirror) => self.give(Input::Finished(mirror))?,
                Output::Beacon { mirror, seq, .. } => {
                    let next = self.seqs.entry(mirror).or_default();
                    *next += 1;
                    let ack = Some(Ack { seq, held: Duration::ZERO });
                    let heard = Input::Heard { mirror, seq: *next, ack };
                    self.give(heard)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let end = self.now + time;
        self.wakes = 0;
        while let Some(due) = self.client.next_deadline().filter(|due| *due <= end) {
            self.now = due;
            self.wakes += 1;
            self.give(Input::Tick)?;
        }
        self.now = end;
        // The quickest that anything repeats is a beacon each 10 ms to either of two mirrors.
        let most = time.as_millis() / 4 + 40;
        prop_assert!(u128::from(self.wakes) <= most, "{} wakes in {:?}", self.wakes, time);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn whatever_happens(steps in prop::collection::vec(any_step(), 0..120), seed: u64, stream: bool) {
        let mode = if stream { Mode::Stream } else { Mode::Datagram(Duplicate::WhileDegraded) };
        let mut watcher = Watcher {
            client: Client::new(ClientConfig::default(), SessionId(seed), mode, 2, seed),
            now: MonoTime::from_millis(1000),
            listed: HashMap::new(),
            ever: HashSet::new(),
            primary: None,
            told: HashSet::new(),
            open: HashMap::new(),
            asked: Vec::new(),
            seqs: HashMap::new(),
            version: 0,
            wakes: 0,
        };
        watcher.give(Input::Tick)?;
        watcher.list(&[Some(Standing::Eligible); MIRRORS as usize])?;
        for step in steps {
            watcher.step(step)?;
        }
        watcher.client.handle(Input::Close, at(watcher.now));
        while let Some(output) = watcher.client.poll_output() {
            watcher.see(output)?;
        }
        prop_assert!(watcher.open.is_empty(), "left attached: {:?}", watcher.open);
        prop_assert_eq!(watcher.client.next_deadline(), None);
    }
}
