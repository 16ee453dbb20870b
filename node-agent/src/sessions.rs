//! The sessions with all brokers, and their tasks.
//!
//! A session declares services once, at its beginning, so a changed declaration needs a new session.
//! It is begun before the old one ends: the broker then has an agent's session throughout, and the
//! mirrors' health stands still. The broker ends the older of two sessions of one node; whatever
//! becomes of a session that has a successor is not listened to.
//!
//! ```text
//!         begin            attached            begin                       attached
//!  none ───────▶ beginning ───────▶ on ──────────────────▶ on + beginning ─────────▶ on
//!    ▲              │ ended         │ ended  ▲ old one retired   │ new one ended
//!    └──────────────┴───────────────┘        └───────────────────┘
//! ```

use crate::backoff::Backoff;
use crate::dial::LinkError;
use crate::link::{End, Event, Link};
use crate::slots::Slots;
use nearmost_config::AgentConfig;
use nearmost_core::time::MonoTime;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Events that sessions may have waiting; a session waits when it is full.
const EVENTS: usize = 64;

/// One session among all that this agent ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    /// Position of the broker in the configuration.
    pub broker: usize,
    /// Counts up over all brokers.
    pub number: u64,
}

/// What a session holds of the agent's loop.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Which session it is.
    pub session: SessionId,
    /// Where its events go.
    pub events: mpsc::Sender<(SessionId, Event)>,
    /// Cancelled to say goodbye and end.
    pub leave: CancellationToken,
    /// Cancelled to end without a word, because a newer session goes on.
    pub retire: CancellationToken,
}

/// How a session's task ended.
pub(crate) type Ended = Result<(tokio::task::Id, Result<End, LinkError>), JoinError>;

/// What the end of a session means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: a newer one goes on.
    Replaced,
    /// It should have replaced one that is on. That one is ended too, to begin anew.
    NotReplacing,
    /// There is no session with the broker any more; we ended it ourselves to begin anew.
    Anew,
    /// There is no session with the broker any more.
    Over,
}

/// All sessions.
pub(crate) struct Sessions {
    /// Which broker to try when.
    pub(crate) slots: Slots,
    /// What sessions say.
    pub(crate) events: mpsc::Receiver<(SessionId, Event)>,
    /// Their tasks.
    pub(crate) tasks: JoinSet<Result<End, LinkError>>,
    running: HashMap<tokio::task::Id, SessionId>,
    /// By position of the broker.
    lanes: Vec<Lane>,
    sender: mpsc::Sender<(SessionId, Event)>,
    leave: CancellationToken,
    count: u64,
}

/// The sessions with one broker.
#[derive(Debug, Default)]
struct Lane {
    newest: Option<Live>,
    /// What `newest` is to replace once it is on.
    older: Option<Live>,
}

#[derive(Debug)]
struct Live {
    number: u64,
    /// What it declared, once it is on.
    generation: Option<u64>,
    retire: CancellationToken,
}

impl Sessions {
    /// None yet.
    pub(crate) fn new(config: &AgentConfig) -> Sessions {
        let (sender, events) = mpsc::channel(EVENTS);
        let addresses: Vec<usize> = config.brokers.iter().map(|b| b.addresses.len()).collect();
        let backoff = Backoff { first: config.reconnect.min, cap: config.reconnect.max };
        Sessions {
            slots: Slots::new(&addresses, config.node.max_sessions, backoff),
            events,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            lanes: addresses.iter().map(|_| Lane::default()).collect(),
            sender,
            leave: CancellationToken::new(),
            count: 0,
        }
    }

    /// A new session with a broker; one that there is already is to be replaced. Nothing without
    /// such a broker.
    pub(crate) fn begin(&mut self, broker: usize) -> Option<Ticket> {
        let lane = self.lanes.get_mut(broker)?;
        self.count += 1;
        let retire = CancellationToken::new();
        let live = Live { number: self.count, generation: None, retire: retire.clone() };
        if let Some(older) = lane.newest.replace(live)
            && let Some(oldest) = lane.older.replace(older)
        {
            oldest.retire.cancel();
        }
        let session = SessionId { broker, number: self.count };
        Some(Ticket { session, events: self.sender.clone(), leave: self.leave.clone(), retire })
    }

    /// Runs a session that was begun.
    pub(crate) fn spawn(&mut self, link: Link) {
        let session = link.ticket.session;
        let task = self.tasks.spawn(link.run());
        self.running.insert(task.id(), session);
    }

    /// A session is on, having declared what was current at `generation`. Whether it is the newest
    /// with its broker; the one before it then ends.
    pub(crate) fn attached(&mut self, session: SessionId, generation: u64, now: MonoTime) -> bool {
        let Some(lane) = self.lanes.get_mut(session.broker) else { return false };
        let Some(newest) = lane.newest.as_mut().filter(|n| n.number == session.number) else { return false };
        newest.generation = Some(generation);
        if let Some(older) = lane.older.take() {
            older.retire.cancel();
        }
        self.slots.attached(session.broker, now);
        true
    }

    /// Brokers whose session is on and declared something else than what is current, and is not
    /// being replaced yet.
    pub(crate) fn outdated(&self, generation: u64) -> Vec<usize> {
        let outdated = |lane: &Lane| {
            let declared = lane.newest.as_ref().and_then(|n| n.generation);
            declared.is_some_and(|g| g != generation)
        };
        self.lanes.iter().enumerate().filter(|(_, lane)| outdated(lane)).map(|(i, _)| i).collect()
    }

    /// Which session a task was.
    pub(crate) fn of_task(&mut self, task: tokio::task::Id) -> Option<SessionId> {
        self.running.remove(&task)
    }

    /// A session ended.
    pub(crate) fn ended(&mut self, session: SessionId) -> Fate {
        let Some(lane) = self.lanes.get_mut(session.broker) else { return Fate::Replaced };
        let is = |live: &mut Live| live.number == session.number;
        if lane.older.take_if(is).is_some() {
            return Fate::Replaced;
        }
        let Some(ended) = lane.newest.take_if(is) else { return Fate::Replaced };
        match lane.older.take() {
            Some(older) => {
                older.retire.cancel();
                lane.newest = Some(older);
                Fate::NotReplacing
            }
            None if ended.retire.is_cancelled() => Fate::Anew,
            None => Fate::Over,
        }
    }

    /// Has all sessions say goodbye, and waits for them.
    pub(crate) async fn farewell(&mut self) {
        self.leave.cancel();
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => if ended.is_none() { return },
                // Nobody listens any more, but no session must wait for room to speak.
                Some(_) = self.events.recv() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_config::Broker;
    use std::time::Duration;

    const NOW: MonoTime = MonoTime::ZERO;

    fn sessions() -> Sessions {
        let broker = Broker { id: String::new(), addresses: vec!["192.0.2.1:7841".into()] };
        Sessions::new(&AgentConfig { brokers: vec![broker], ..AgentConfig::default() })
    }

    fn begin(sessions: &mut Sessions) -> Ticket {
        sessions.begin(0).expect("a broker")
    }

    #[test]
    fn the_old_session_is_retired_when_the_new_one_is_on_and_not_before() {
        let mut sessions = sessions();
        let old = begin(&mut sessions);
        assert!(sessions.attached(old.session, 0, NOW));
        assert_eq!((sessions.outdated(0), sessions.outdated(1)), (vec![], vec![0]));
        let new = begin(&mut sessions);
        assert_eq!(sessions.outdated(1), Vec::<usize>::new());
        assert!(!old.retire.is_cancelled());
        assert!(sessions.attached(new.session, 1, NOW));
        assert!(old.retire.is_cancelled() && !new.retire.is_cancelled());
        // It says it is on after that: too late.
        assert!(!sessions.attached(old.session, 0, NOW));
        assert_eq!(sessions.ended(old.session), Fate::Replaced);
        assert_eq!(sessions.ended(new.session), Fate::Over);
    }

    #[test]
    fn a_broker_may_end_the_old_session_first() {
        let mut sessions = sessions();
        let old = begin(&mut sessions);
        sessions.attached(old.session, 0, NOW);
        let new = begin(&mut sessions);
        assert_eq!(sessions.ended(old.session), Fate::Replaced);
        assert!(sessions.attached(new.session, 0, NOW));
        // The declaration changed while it began.
        assert_eq!(sessions.outdated(1), [0]);
    }

    #[test]
    fn without_a_successor_the_old_session_ends_to_begin_anew() {
        let mut sessions = sessions();
        let old = begin(&mut sessions);
        sessions.attached(old.session, 0, NOW);
        let new = begin(&mut sessions);
        assert_eq!(sessions.ended(new.session), Fate::NotReplacing);
        assert!(old.retire.is_cancelled());
        assert_eq!(sessions.ended(old.session), Fate::Anew);
        assert!(sessions.begin(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn farewell_makes_room_for_what_sessions_still_say() {
        let mut sessions = sessions();
        let Ticket { session, events, .. } = begin(&mut sessions);
        sessions.tasks.spawn(async move {
            for _ in 0..3 * EVENTS {
                events.send((session, Event::Reported)).await.expect("the loop lives");
            }
            Ok(End::Left)
        });
        tokio::time::timeout(Duration::from_secs(1), sessions.farewell()).await.expect("nobody waits");
    }
}
