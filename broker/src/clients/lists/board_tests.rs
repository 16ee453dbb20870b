//! The board, with snapshots built by hand.

use super::QUEUE;
use super::board::{Ask, Board, Frame};
use super::content::settled;
use crate::api::testing::{DOMAIN, Fixture};
use nearmost_core::health::State;
use nearmost_core::id::NodeId;
use nearmost_core::registry::{RuleEffect, Strategy, Trust, Who};
use nearmost_core::time::UnixMillis;
use nearmost_wire::client::ToClient;
use nearmost_wire::frame;
use nearmost_wire::grant::{Delegation, GRANT_MS};
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::list::{Change, List, Standing, Version, Word};
use tokio::sync::mpsc;

const LONDON: &str = "198.51.100.7";
const SYDNEY: &str = "10.1.2.3";
const SOURCE: u64 = 9;

fn key() -> KeyPair {
    KeyPair::from_seed(Role::Broker, &[1; 32])
}

/// All five take sessions in; 10.0.0.0/8 is in Sydney.
fn fixture() -> Fixture {
    let mut fixture = Fixture::five_mirrors();
    for name in ["lon", "nyc", "sao", "sin", "syd"] {
        fixture.mirror(name, |m| m.ingress = Some(7850));
    }
    let sydney = fixture.place_of("syd");
    fixture.network("10.0.0.0/8", sydney);
    fixture
}

struct Desk {
    fixture: Fixture,
    board: Board,
    last: u64,
}

struct Subscriber {
    id: u64,
    frames: mpsc::Receiver<Frame>,
}

impl Subscriber {
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        while let Ok(bytes) = self.frames.try_recv() {
            let ToClient::List(signed) = frame::decode(&bytes[4..]).unwrap() else { panic!("no list") };
            words.push(signed.open(&key().id().key).unwrap());
        }
        words
    }

    fn list(&mut self) -> List {
        match self.words().as_slice() {
            [Word::List(list)] => list.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self) -> Change {
        match self.words().as_slice() {
            [Word::Change(change)] => change.clone(),
            other => panic!("{other:?}"),
        }
    }
}

impl Desk {
    fn new() -> Desk {
        Desk { fixture: fixture(), board: Board::new(key(), SOURCE), last: 0 }
    }

    fn subscribe(&mut self, client: &str, have: Option<Version>) -> Subscriber {
        let (queue, frames) = mpsc::channel(QUEUE);
        self.last += 1;
        let client = client.parse().unwrap();
        let ask = Ask { id: self.last, domain: DOMAIN.into(), client, have, queue };
        self.board.subscribe(ask, &self.fixture.snapshot(), self.fixture.now());
        Subscriber { id: self.last, frames }
    }

    fn news(&mut self) {
        self.board.news(&self.fixture.snapshot());
    }

    fn push(&mut self) -> usize {
        let mut groups = 0;
        while self.board.step(&self.fixture.snapshot(), self.fixture.now()).is_some() {
            groups += 1;
        }
        groups
    }
}

fn names(list: &List) -> Vec<&str> {
    list.mirrors.iter().map(|m| m.name.as_str()).collect()
}

#[test]
fn a_list_is_nearest_first_and_has_those_that_take_sessions_in() {
    let mut desk = Desk::new();
    desk.fixture.mirror("nyc", |m| m.ingress = None);
    desk.fixture.set_state("sao", State::Down);
    desk.fixture.set_state("sin", State::Suspect);
    let list = desk.subscribe(LONDON, None).list();
    assert_eq!(names(&list), ["lon", "sao", "sin", "syd"]);
    let standings: Vec<Standing> = list.mirrors.iter().map(|m| m.standing).collect();
    use Standing::{Down, Eligible, Endangered};
    assert_eq!(standings, [Eligible, Down, Endangered, Eligible]);
    assert!(list.mirrors[0].at.v4.is_some() && list.mirrors[0].at.port == 7850);
    assert!(list.mirrors.iter().all(|m| m.grant.is_none()) && list.delegations.is_empty());
    assert_eq!(list.mirrors[0].node, [1; 32]);
    assert_eq!((list.domain.as_str(), list.version.source), (DOMAIN, SOURCE));
}

#[test]
fn a_change_is_pushed_and_says_only_what_is_different() {
    let mut desk = Desk::new();
    let mut sydney = desk.subscribe(SYDNEY, None);
    let mut london = desk.subscribe(LONDON, None);
    let mut neighbour = desk.subscribe("198.51.100.200", None);
    let (first, far) = (london.list(), sydney.list());
    assert_eq!(neighbour.list(), first, "one network, one list");
    assert_eq!(desk.board.groups(), 2);
    desk.news();
    assert_eq!(desk.board.due(), 0, "nothing changed");

    desk.fixture.set_state("lon", State::Down);
    desk.news();
    assert_eq!(desk.board.due(), 2);
    let snapshot = desk.fixture.snapshot();
    let steps = || desk.board.step(&snapshot, desk.fixture.now());
    let sent: Vec<_> = std::iter::from_fn(steps).map(|s| (s.taken, s.dropped, s.since)).collect();
    assert!(
        sent.contains(&(2, 0, snapshot.published)) && sent.contains(&(1, 0, snapshot.published)),
        "{sent:?}"
    );
    let change = london.change();
    assert_eq!(neighbour.change(), change);
    assert_eq!((change.from, change.removed.len()), (first.version.number, 0));
    let [put] = change.put.as_slice() else { panic!("{change:?}") };
    assert_eq!(
        (put.name.as_str(), put.standing, put.rtt_us),
        ("lon", Standing::Down, first.mirrors[0].rtt_us)
    );
    let change = sydney.change();
    assert_eq!((change.from, change.put[0].name.as_str()), (far.version.number, "lon"));
}

#[test]
fn new_and_removed_mirrors_are_told() {
    let mut desk = Desk::new();
    desk.fixture.mirror("lon", |m| m.ingress = None);
    let mut london = desk.subscribe(LONDON, None);
    assert_eq!(names(&london.list())[0], "nyc");
    desk.fixture.mirror("lon", |m| m.ingress = Some(1));
    desk.news();
    desk.push();
    let change = london.change();
    assert_eq!((change.put.len(), change.put[0].name.as_str()), (1, "lon"));
    desk.fixture.mirror("nyc", |m| m.ingress = None);
    desk.news();
    desk.push();
    let change = london.change();
    assert_eq!((change.put.len(), change.removed), (0, vec!["nyc".to_owned()]));
}

#[test]
fn who_comes_back_is_told_what_it_missed() {
    let mut desk = Desk::new();
    let mut before = desk.subscribe(LONDON, None);
    let held = before.list().version;
    desk.board.leave(before.id);
    assert_eq!((desk.board.groups(), desk.board.subscribers()), (0, 0));
    desk.fixture.set_state("lon", State::Draining);
    let mut back = desk.subscribe(LONDON, Some(held));
    let change = back.change();
    assert_eq!((change.from, change.put.len(), change.put[0].standing), (held.number, 1, Standing::Draining));

    // Nothing is new, and then it is unknown what it holds.
    let mut same = desk.subscribe(LONDON, Some(change.to));
    let holds = same.change();
    assert_eq!((holds.from, holds.to, holds.put.len()), (change.to.number, change.to, 0));
    let strange = [Version { source: SOURCE + 1, ..change.to }, Version { number: 999, ..change.to }];
    strange.into_iter().for_each(|have| drop(desk.subscribe(LONDON, Some(have)).list()));
}

#[test]
fn asked_again_it_says_that_it_holds_or_what_became_nearer() {
    let mut desk = Desk::new();
    let mut london = desk.subscribe(LONDON, None);
    let mut other = desk.subscribe(LONDON, None);
    let held = london.list().version;
    other.list();
    let at = |ms| UnixMillis(desk.fixture.now().0 + ms);
    let (soon, later) = (at(1000), at(6000));
    desk.board.again(london.id, Some(held), &desk.fixture.snapshot(), soon);
    assert_eq!(london.change().to, held);
    assert!(other.words().is_empty());
    // Learnt: New York is nearer than anybody would have thought.
    desk.fixture.learn(&[(LONDON, "nyc", 1.0), (LONDON, "lon", 80.0)]);
    desk.news();
    assert_eq!(desk.push(), 0, "what is learnt moves nobody by itself");
    desk.board.again(london.id, Some(held), &desk.fixture.snapshot(), soon);
    assert_eq!(london.change().to, held, "it was ranked just now");
    desk.board.again(london.id, Some(held), &desk.fixture.snapshot(), later);
    let change = london.change();
    assert!(change.from == held.number && change.put.iter().any(|m| m.name == "nyc"), "{change:?}");
    assert_eq!(other.change(), change, "to all of the network at once");
}

#[test]
fn a_client_from_another_network_is_told_what_it_takes() {
    let mut desk = Desk::new();
    let mut sydney = desk.subscribe(SYDNEY, None);
    let before = sydney.list().version;
    let held = desk.subscribe(LONDON, None).list().version;
    assert!(held.number > before.number);
    // It roams, and has a higher number than anybody in Sydney.
    let mut roams = desk.subscribe(SYDNEY, Some(held));
    let list = roams.list();
    assert!(list.version.number > held.number && names(&list)[0] == "syd");
    let step = sydney.change();
    assert_eq!((step.from, step.to, step.put.len()), (before.number, list.version, 0));
}

#[test]
fn round_trips_that_are_hardly_different_make_no_version() {
    let mut desk = Desk::new();
    let was = desk.subscribe(LONDON, None).list().mirrors;
    let mut is = was.clone();
    is.iter_mut().for_each(|m| m.rtt_us += (m.rtt_us / 20).max(500));
    assert_eq!(settled(&was, is), was);
    let mut is = was.clone();
    is[0].rtt_us += 100_000;
    assert_ne!(settled(&was, is), was);
}

#[test]
fn who_does_not_keep_up_is_dropped_and_nobody_else() {
    let mut desk = Desk::new();
    let slow = desk.subscribe(LONDON, None);
    let mut quick = desk.subscribe(LONDON, None);
    for turn in 0..QUEUE {
        let state = if turn % 2 == 0 { State::Down } else { State::Up };
        desk.fixture.set_state("lon", state);
        desk.news();
        desk.push();
        quick.words();
    }
    assert_eq!(desk.board.subscribers(), 1, "{}", slow.id);
    drop(quick);
    desk.board.sweep(desk.fixture.now());
    assert_eq!((desk.board.subscribers(), desk.board.groups()), (0, 0));
}

#[test]
fn pins_and_order_come_before_nearness_and_the_excluded_are_not_there() {
    let mut desk = Desk::new();
    desk.fixture.policy(|p| p.strategy = Strategy::Failover(vec!["syd".into(), "nyc".into()]));
    assert_eq!(names(&desk.subscribe(LONDON, None).list())[..3], ["syd", "nyc", "lon"]);
    let rule = |effect, mirror: &str| nearmost_core::registry::Rule {
        who: Who::Prefix("198.51.100.0/24".parse().unwrap()),
        effect,
        mirrors: vec![mirror.into()],
    };
    desk.fixture.policy(|p| {
        p.strategy = Strategy::Balanced;
        p.rules = vec![rule(RuleEffect::Pin, "sin"), rule(RuleEffect::Exclude, "nyc")];
    });
    desk.news();
    desk.push();
    let list = desk.subscribe(LONDON, None).list();
    assert_eq!((list.mirrors[0].name.as_str(), list.mirrors[0].tier), ("sin", 0));
    assert!(list.mirrors.iter().all(|m| m.name != "nyc") && list.mirrors[1].tier == 1);
}

#[test]
fn mirrors_carry_grants_where_the_owner_delegated_that() {
    let mut desk = Desk::new();
    let owner = KeyPair::from_seed(Role::Person, &[5; 32]);
    let now = desk.fixture.now().0;
    let mut trusted = |to: &KeyPair, until| {
        let delegation = Delegation::sign(&owner, DOMAIN, &to.id(), now - 1, until).unwrap();
        let trust = Trust { owner: Some(owner.id().key), delegations: vec![delegation.encode().into()] };
        desk.fixture.trust(trust);
        desk.news();
        desk.push();
        desk.subscribe(LONDON, None).list()
    };
    let list = trusted(&key(), now + 90 * GRANT_MS);
    let [delegation] = list.delegations.as_slice() else { panic!("{list:?}") };
    delegation.verify(&owner.id(), DOMAIN, now).unwrap();
    for mirror in &list.mirrors {
        let grant = mirror.grant.expect("granted");
        grant.verify(mirror.granted(DOMAIN), &list.delegations, now).unwrap();
        assert!(grant.until_ms > now + GRANT_MS / 2);
    }
    let short = trusted(&key(), now + 5);
    assert!(short.mirrors.iter().all(|m| m.grant.is_some_and(|g| g.until_ms == now + 5)));
    let other = KeyPair::from_seed(Role::Broker, &[2; 32]);
    let list = trusted(&other, now + 90 * GRANT_MS);
    assert!(list.delegations.len() == 1 && list.mirrors.iter().all(|m| m.grant.is_none()));
    assert!(trusted(&key(), now).delegations.is_empty(), "over");
}

#[test]
fn a_revoked_node_and_a_domain_that_is_gone_leave_the_list() {
    let mut desk = Desk::new();
    let mut london = desk.subscribe(LONDON, None);
    london.list();
    desk.fixture.revoke(NodeId([1; 32]));
    desk.news();
    desk.push();
    assert_eq!(london.change().removed, ["lon"]);
    desk.fixture.forget_domain();
    desk.news();
    desk.push();
    assert_eq!(london.change().removed.len(), 4);
    let mut nobody = desk.subscribe(LONDON, None);
    assert!(nobody.words().is_empty() && nobody.frames.is_closed());
    assert_eq!(desk.fixture.now(), UnixMillis(1_700_000_003_000));
}
