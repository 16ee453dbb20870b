//! What the broker and its witnesses found of one address.
//!
//! ```text
//! broker reaches it ───────────────────────────────▶ reached
//! broker does not ─┬─ two witnesses do not either ─▶ unreached, corroborated
//!                  ├─ witnesses reach it ──────────▶ reached, by others
//!                  └─ too few could say ───────────▶ the broker alone: it asks again, more slowly
//! ```
//!
//! Witnesses are agents that were asked, and other brokers by what they tell of their own looks.
//! Whoever says nothing in time, or declines, has no voice: a witness that is cut off itself must not
//! count as one that found the mirror dead. Where nothing is urgent, or the network is rough, one witness
//! that reaches it outweighs all that do not, for as many rounds as [`super::inquiry`] says.

use super::types::Witnessed;
use crate::health::machine::Outside;
use crate::id::{BrokerId, NodeId};
use crate::time::MonoTime;
use arrayvec::ArrayVec;

/// Agents that are asked about one suspicion, …
pub(super) const WITNESSES: usize = 3;
/// … and where packets get lost: of four answers two are hardly ever late, of three more often.
pub(super) const WITNESSES_LOSSY: usize = 4;
/// Other brokers that are heard about one suspicion.
pub(super) const PEERS: usize = 16;
/// So many witnesses beside the broker make a conclusion that needs no more asking.
pub(super) const QUORUM: usize = 2;

/// One inquiry among witnesses.
#[derive(Clone, Debug, Default)]
pub(super) struct Panel {
    voices: ArrayVec<(NodeId, Option<Witnessed>), WITNESSES_LOSSY>,
    /// What other brokers found; each has one voice, however often it speaks.
    peers: ArrayVec<(BrokerId, bool), PEERS>,
    /// How many of them are awaited.
    peers_asked: usize,
    /// Which asking their answers belong to.
    serial: u64,
    /// When others were first asked; never, where only the broker was.
    began: Option<MonoTime>,
    /// Whoever has not answered by then has no voice.
    until: MonoTime,
    broker: Option<Broker>,
    /// It is unreached only if nobody at all reaches it.
    unanimous: bool,
}

/// How the broker's own probing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broker {
    /// Nothing came back.
    Silent,
    /// Something came back that was not what a good service says.
    Refused,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is reached.
    Reached(Outside),
    /// It is not.
    Unreached(Outside),
    /// The broker does not reach it, and so many witnesses agree; too few for a conclusion.
    Alone(usize),
}

impl Panel {
    /// Asks these witnesses.
    pub fn convene(
        serial: u64,
        witnesses: impl Iterator<Item = NodeId>,
        until: MonoTime,
        unanimous: bool,
    ) -> Panel {
        let voices = witnesses.take(WITNESSES_LOSSY).map(|w| (w, None)).collect();
        Panel { voices, serial, until, unanimous, ..Panel::default() }
    }

    /// So many other brokers are asked as well, and may answer until then.
    pub fn await_peers(&mut self, asked: usize, until: MonoTime) {
        self.peers_asked = asked.min(PEERS);
        self.until = self.until.max(until);
    }

    /// What another broker found; whether that is news. Its latest word stands.
    pub fn hear_peer(&mut self, broker: BrokerId, reached: bool) -> bool {
        match self.peers.iter_mut().find(|(b, _)| *b == broker) {
            Some((_, before)) => std::mem::replace(before, reached) != reached,
            None => self.peers.try_push((broker, reached)).is_ok(),
        }
    }

    /// Other brokers are heard about what happened from then on.
    pub fn begin(&mut self, now: MonoTime) {
        self.began = Some(now);
    }

    /// When that was.
    pub fn began(&self) -> Option<MonoTime> {
        self.began
    }

    /// How many voices there are, or will be.
    pub fn size(&self) -> usize {
        self.voices.len() + self.peers.len()
    }

    /// The broker's own probing has failed.
    pub fn broker_failed(&mut self, how: Broker) {
        self.broker = Some(how);
    }

    /// Takes an answer; one that was not asked for, or a second one, changes nothing.
    pub fn hear(&mut self, serial: u64, witness: NodeId, said: Witnessed) -> bool {
        let voice = self.voices.iter_mut().find(|(w, answer)| *w == witness && answer.is_none());
        match voice.filter(|_| self.serial == serial) {
            Some((_, answer)) => {
                *answer = Some(said);
                true
            }
            None => false,
        }
    }

    /// How many others reach it, and how many do not.
    pub fn votes(&self) -> (usize, usize) {
        let count = |f: fn(&Witnessed) -> bool| {
            self.voices.iter().filter_map(|v| v.1.as_ref()).filter(|w| f(w)).count()
        };
        let peers = |reached| self.peers.iter().filter(|p| p.1 == reached).count();
        let passed = count(|w| matches!(w, Witnessed::Passed(_))) + peers(true);
        (passed, count(|w| *w == Witnessed::Failed) + peers(false))
    }

    /// When to look again, while anything is awaited.
    pub fn deadline(&self) -> Option<MonoTime> {
        self.broker.is_some().then_some(self.until)
    }

    /// What follows from what is known by now; `None` while something that matters is awaited.
    pub fn settle(&self, now: MonoTime) -> Option<Settled> {
        let broker = self.broker?;
        let (passed, failed) = self.votes();
        let silent = self.voices.iter().any(|v| v.1.is_none()) || self.peers.len() < self.peers_asked;
        let waiting = now < self.until && silent;
        match (failed, passed) {
            (QUORUM.., 1..) if self.unanimous => Some(Settled::Reached(Outside::Witnesses)),
            (QUORUM.., 0) if self.unanimous && waiting => None,
            (QUORUM.., _) if failed > passed => Some(Settled::Unreached(Outside::BrokerAndWitnesses)),
            (_, QUORUM..) => Some(Settled::Reached(Outside::Witnesses)),
            _ if waiting => None,
            (_, 1..) => Some(Settled::Reached(Outside::Witnesses)),
            (1.., 0) if broker == Broker::Refused => Some(Settled::Unreached(Outside::BrokerAndWitnesses)),
            (0, 0) if broker == Broker::Refused => Some(Settled::Unreached(Outside::Refused)),
            (failed, 0) => Some(Settled::Alone(failed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const UNTIL: MonoTime = MonoTime(1000);
    const BEFORE: MonoTime = MonoTime(999);

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    /// `+` passed, `-` failed, `?` declined, `.` no answer.
    fn panel(voices: &str, broker: Option<Broker>) -> Panel {
        let ids: Vec<NodeId> = (0..voices.len() as u8).map(node).collect();
        let mut panel = Panel::convene(7, ids.iter().copied(), UNTIL, false);
        for (id, said) in ids.iter().zip(voices.chars()) {
            let said = match said {
                '+' => Witnessed::Passed(Duration::from_millis(1)),
                '-' => Witnessed::Failed,
                '?' => Witnessed::Declined,
                _ => continue,
            };
            assert!(panel.hear(7, *id, said));
        }
        if let Some(broker) = broker {
            panel.broker_failed(broker);
        }
        panel
    }

    #[test]
    fn every_way_a_panel_ends() {
        use Settled::*;
        let both = Some(Unreached(Outside::BrokerAndWitnesses));
        let others = Some(Reached(Outside::Witnesses));
        let table = [
            // voices, before the deadline, at the deadline, and when the broker was refused
            ("", Some(Alone(0)), Some(Alone(0)), Some(Unreached(Outside::Refused))),
            ("...", None, Some(Alone(0)), Some(Unreached(Outside::Refused))),
            ("-..", None, Some(Alone(1)), both),
            ("--.", both, both, both),
            ("--+", both, both, both),
            ("+-.", None, others, others),
            ("+-?", others, others, others),
            ("+..", None, others, others),
            ("++.", others, others, others),
            ("+++", others, others, others),
            ("???", Some(Alone(0)), Some(Alone(0)), Some(Unreached(Outside::Refused))),
            ("-??", Some(Alone(1)), Some(Alone(1)), both),
            ("+??", others, others, others),
            ("-", Some(Alone(1)), Some(Alone(1)), both),
            ("--..", both, both, both),
            ("--+.", both, both, both),
            ("--++", others, others, others),
            ("---+", both, both, both),
        ];
        for (voices, before, after, refused) in table {
            let silent = panel(voices, Some(Broker::Silent));
            assert_eq!(silent.settle(BEFORE), before, "{voices} before");
            assert_eq!(silent.settle(UNTIL), after, "{voices} after");
            assert_eq!(panel(voices, Some(Broker::Refused)).settle(UNTIL), refused, "{voices} refused");
            // While the broker itself is asking nothing is concluded.
            assert_eq!(panel(voices, None).settle(UNTIL), None, "{voices}");
        }
    }

    #[test]
    fn one_that_reaches_it_is_enough_where_all_must_agree() {
        use Settled::*;
        let both = Some(Unreached(Outside::BrokerAndWitnesses));
        let others = Some(Reached(Outside::Witnesses));
        let table = [
            ("--.", None, both),
            ("---", both, both),
            ("--+", others, others),
            ("--?", both, both),
            ("-+.", None, others),
            ("-..", None, Some(Alone(1))),
        ];
        for (voices, before, after) in table {
            let all = Panel { unanimous: true, ..panel(voices, Some(Broker::Silent)) };
            assert_eq!((all.settle(BEFORE), all.settle(UNTIL)), (before, after), "{voices}");
        }
    }

    #[test]
    fn a_witness_speaks_once_and_only_when_asked() {
        let mut panel = Panel::convene(7, [node(1), node(2)].into_iter(), UNTIL, false);
        assert!(!panel.hear(6, node(1), Witnessed::Failed), "another asking");
        assert!(!panel.hear(7, node(9), Witnessed::Failed), "not asked");
        assert!(panel.hear(7, node(1), Witnessed::Failed));
        assert!(!panel.hear(7, node(1), Witnessed::Failed), "twice");
        panel.broker_failed(Broker::Silent);
        assert_eq!(panel.settle(UNTIL), Some(Settled::Alone(1)));
    }

    #[test]
    fn brokers_that_were_asked_are_waited_for_and_each_has_one_voice() {
        let broker = |n: u8| BrokerId([n; 32]);
        let mut panel = panel("", Some(Broker::Silent));
        panel.await_peers(2, MonoTime(2000));
        assert_eq!(panel.settle(UNTIL), None);
        assert_eq!(panel.settle(MonoTime(2000)), Some(Settled::Alone(0)));
        for _ in 0..9 {
            panel.hear_peer(broker(1), false);
        }
        assert_eq!((panel.votes(), panel.size()), ((0, 1), 1));
        assert_eq!(panel.settle(MonoTime(2000)), Some(Settled::Alone(1)));
        assert!(panel.hear_peer(broker(2), false) && !panel.hear_peer(broker(2), false));
        assert_eq!(panel.settle(UNTIL), Some(Settled::Unreached(Outside::BrokerAndWitnesses)));
        assert!(panel.hear_peer(broker(2), true), "its latest word stands");
        assert_eq!(panel.settle(UNTIL), Some(Settled::Reached(Outside::Witnesses)));
        for n in 0..40 {
            panel.hear_peer(broker(n), false);
        }
        assert_eq!(panel.votes(), (0, PEERS), "no more than there is room for");
    }

    proptest! {
        /// No single witness, whatever it says, takes a mirror out faster than the broker alone would.
        #[test]
        fn one_liar_corroborates_nothing(said in prop::sample::select(vec!['+', '-', '?', '.']), n in 0usize..3) {
            let mut voices = ['?'; 3];
            voices[n] = said;
            let voices: String = voices.iter().collect();
            let settled = panel(&voices, Some(Broker::Silent)).settle(UNTIL);
            prop_assert!(!matches!(settled, Some(Settled::Unreached(_))), "{settled:?}");
        }

        /// Nor does a single broker, whatever it says how often, and whoever else reaches it.
        #[test]
        fn one_lying_broker_corroborates_nothing(said in prop::collection::vec(any::<bool>(), 0..20), others in 0u8..4) {
            let mut panel = panel("?", Some(Broker::Silent));
            for reached in said {
                panel.hear_peer(BrokerId([9; 32]), reached);
            }
            for n in 0..others {
                panel.hear_peer(BrokerId([n; 32]), true);
            }
            let settled = panel.settle(UNTIL);
            prop_assert!(!matches!(settled, Some(Settled::Unreached(_))), "{settled:?}");
        }
    }
}
