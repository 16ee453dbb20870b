//! The sessions with all brokers, and their tasks.
//!
//! A session declares services once, at its beginning, so a changed declaration needs a new session.
//! It is begun before the old one ends: the broker then has an agent's session throughout, and the
//! mirrors' health stands still. The broker ends the older of two sessions of one node; whatever
//! becomes of a session that has a successor is not listened to. When the new one does not come
//! about, the old one goes on and the replacement is tried again after a [`Backoff`]; only a refusal
//! that will not change with time retires the old one.
//!
//! ```text
//!         begin            attached            begin                       attached
//!  none ───────▶ beginning ───────▶ on ──────────────────▶ on + beginning ─────────▶ on
//!    ▲              │ ended         │ ended  ▲   new one ended   │
//!    └──────────────┴───────────────┘        └───────────────────┘
//! ```

use crate::backoff::Backoff;
use crate::dial::LinkError;
use crate::link::{End, Event, Link};
use crate::slots::Slots;
use nearmost_config::AgentConfig;
use nearmost_core::time::MonoTime;
use nearmost_wire::agent::Refusal;
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
    /// It should have replaced one that is on. That one goes on, and the replacement is tried again.
    Kept,
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
    /// Between attempts to replace a session.
    backoff: Backoff,
}

/// The sessions with one broker.
#[derive(Debug, Default)]
struct Lane {
    newest: Option<Live>,
    /// What `newest` is to replace once it is on.
    older: Option<Live>,
    /// When to try again to replace `newest`, after that failed.
    retry: Option<MonoTime>,
    /// Replacements that failed in a row.
    failures: u32,
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
            backoff,
        }
    }

    /// A new session with a broker; one that there is already is to be replaced. Nothing without
    /// such a broker.
    pub(crate) fn begin(&mut self, broker: usize) -> Option<Ticket> {
        let lane = self.lanes.get_mut(broker)?;
        lane.retry = None;
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
        lane.failures = 0;
        if let Some(older) = lane.older.take() {
            older.retire.cancel();
        }
        self.slots.attached(session.broker, now);
        true
    }

    /// Brokers whose session is on and declared something else than what is current, and is not
    /// being replaced yet, nor waiting after a replacement that failed.
    pub(crate) fn outdated(&self, generation: u64, now: MonoTime) -> Vec<usize> {
        let outdated = |lane: &Lane| {
            let declared = lane.newest.as_ref().and_then(|n| n.generation);
            declared.is_some_and(|g| g != generation) && lane.retry.is_none_or(|at| at <= now)
        };
        self.lanes.iter().enumerate().filter(|(_, lane)| outdated(lane)).map(|(i, _)| i).collect()
    }

    /// When [`Sessions::outdated`] may have something because a pause is over.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.lanes.iter().filter_map(|lane| lane.retry).min()
    }

    /// Which session a task was.
    pub(crate) fn of_task(&mut self, task: tokio::task::Id) -> Option<SessionId> {
        self.running.remove(&task)
    }

    /// A session ended, by the broker's refusal if it is one. `uniform` in `0..1` is the jitter's
    /// randomness.
    pub(crate) fn ended(
        &mut self,
        session: SessionId,
        refusal: Option<Refusal>,
        now: MonoTime,
        uniform: f64,
    ) -> Fate {
        let Some(lane) = self.lanes.get_mut(session.broker) else { return Fate::Replaced };
        let is = |live: &mut Live| live.number == session.number;
        if lane.older.take_if(is).is_some() {
            return Fate::Replaced;
        }
        let Some(ended) = lane.newest.take_if(is) else { return Fate::Replaced };
        if let Some(older) = lane.older.take() {
            let hopeless = refusal.is_some_and(|r| !r.retryable());
            if hopeless {
                older.retire.cancel();
            } else {
                lane.retry = Some(now + self.backoff.delay(lane.failures, uniform));
                lane.failures = lane.failures.saturating_add(1);
            }
            lane.newest = Some(older);
            return if hopeless { Fate::NotReplacing } else { Fate::Kept };
        }
        lane.failures = 0;
        // A replacement that failed after its greeting may have taken the session over: then it was
        // us, and no double with our key.
        let by_ourselves = lane.retry.take().is_some() && refusal == Some(Refusal::Superseded);
        match ended.retire.is_cancelled() || by_ourselves {
            true => Fate::Anew,
            false => Fate::Over,
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

    fn ended(sessions: &mut Sessions, ticket: &Ticket, refusal: Option<Refusal>) -> Fate {
        sessions.ended(ticket.session, refusal, NOW, 0.5)
    }

    #[test]
    fn the_old_session_is_retired_when_the_new_one_is_on_and_not_before() {
        let mut sessions = sessions();
        let old = begin(&mut sessions);
        assert!(sessions.attached(old.session, 0, NOW));
        assert_eq!((sessions.outdated(0, NOW), sessions.outdated(1, NOW)), (vec![], vec![0]));
        let new = begin(&mut sessions);
        assert_eq!(sessions.outdated(1, NOW), Vec::<usize>::new());
        assert!(!old.retire.is_cancelled());
        assert!(sessions.attached(new.session, 1, NOW));
        assert!(old.retire.is_cancelled() && !new.retire.is_cancelled());
        // It says it is on after that: too late.
        assert!(!sessions.attached(old.session, 0, NOW));
        assert_eq!(ended(&mut sessions, &old, None), Fate::Replaced);
        assert_eq!(ended(&mut sessions, &new, None), Fate::Over);
    }

    #[test]
    fn a_broker_may_end_the_old_session_first() {
        let mut sessions = sessions();
        let old = begin(&mut sessions);
        sessions.attached(old.session, 0, NOW);
        let new = begin(&mut sessions);
        assert_eq!(ended(&mut sessions, &old, None), Fate::Replaced);
        assert!(sessions.attached(new.session, 0, NOW));
        // The declaration changed while it began.
        assert_eq!(sessions.outdated(1, NOW), [0]);
    }

    #[test]
    fn a_successor_that_will_never_be_taken_ends_the_old_session_to_begin_anew() {
        let mut sessions = sessions();
        let old = begin(&mut sessions);
        sessions.attached(old.session, 0, NOW);
        let new = begin(&mut sessions);
        assert_eq!(ended(&mut sessions, &new, Some(Refusal::Revoked)), Fate::NotReplacing);
        assert!(old.retire.is_cancelled());
        assert_eq!(ended(&mut sessions, &old, None), Fate::Anew);
        assert_eq!(sessions.deadline(), None);
        assert!(sessions.begin(1).is_none());
    }

    #[test]
    fn a_successor_that_fails_leaves_the_old_session_and_is_tried_again_later_each_time() {
        let mut sessions = sessions();
        let first = sessions.backoff.first;
        let old = begin(&mut sessions);
        sessions.attached(old.session, 0, NOW);
        let mut now = NOW;
        for (refusal, pause) in [(Some(Refusal::Overloaded), first), (None, 2 * first)] {
            let new = begin(&mut sessions);
            assert_eq!(sessions.ended(new.session, refusal, now, 1.0), Fate::Kept);
            assert!(!old.retire.is_cancelled());
            assert_eq!(sessions.deadline(), Some(now + pause));
            assert_eq!(sessions.outdated(1, now), Vec::<usize>::new());
            now = now + pause;
            assert_eq!((sessions.outdated(0, now), sessions.outdated(1, now)), (vec![], vec![0]));
        }
        let new = begin(&mut sessions);
        assert_eq!(sessions.deadline(), None);
        assert!(sessions.attached(new.session, 1, now));
        assert!(old.retire.is_cancelled());
        assert_eq!(ended(&mut sessions, &old, None), Fate::Replaced);
        // Success begins the pauses anew.
        let third = begin(&mut sessions);
        assert_eq!(sessions.ended(third.session, None, now, 1.0), Fate::Kept);
        assert_eq!(sessions.deadline(), Some(now + first));
    }

    #[test]
    fn a_session_that_our_own_failed_successor_took_over_was_not_lost_to_a_double() {
        let overtaken = |refusal| {
            let mut sessions = sessions();
            let old = begin(&mut sessions);
            sessions.attached(old.session, 0, NOW);
            let new = begin(&mut sessions);
            assert_eq!(ended(&mut sessions, &new, None), Fate::Kept);
            let fate = ended(&mut sessions, &old, refusal);
            assert_eq!(sessions.deadline(), None);
            fate
        };
        assert_eq!(overtaken(Some(Refusal::Superseded)), Fate::Anew);
        assert_eq!(overtaken(Some(Refusal::Leaving)), Fate::Over);
        let mut sessions = sessions();
        let only = begin(&mut sessions);
        sessions.attached(only.session, 0, NOW);
        assert_eq!(ended(&mut sessions, &only, Some(Refusal::Superseded)), Fate::Over);
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
