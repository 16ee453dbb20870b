//! Tests of [`super`]: every input in every state of a link, and what a peer cannot bring about.

use super::*;
use crate::authority::Open;
use crate::key::SigningKey;
use crate::message::Message;
use crate::peer::Link;
use crate::record::{Body, Kind, Record};
use crate::set::{StatementSet, slot_of_record};

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn at(ms: u64) -> Now {
    Now { mono_ms: ms, unix_ms: ms }
}

fn signed(by: u8, seq: u64, id: &str) -> SignedRecord {
    let record = Record {
        kind: Kind::MIRROR,
        scope: "play.example".into(),
        id: id.into(),
        body: Body::Tombstone,
        hlc: crate::Hlc { millis: 1, counter: 0 },
        author: key(by).public(),
        author_epoch: 1,
        author_seq: seq,
        grants: vec![],
    };
    SignedRecord::sign(record, &key(by)).unwrap()
}

fn set() -> StatementSet<Open> {
    StatementSet::new(Open, [], [], Duration::from_secs(300))
}

/// A machine with two peers, 1 and 2.
fn machine(config: FederationConfig) -> Federation {
    let mut machine = Federation::new(key(9).public(), config, LogHead::default(), 1, 1, at(0));
    [1, 2].into_iter().for_each(|n| machine.add_peer(key(n).public(), None, [], at(0)));
    machine
}

fn outputs(machine: &mut Federation) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Down,
    Dialling,
    Up,
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Up,
    Down,
    DialFailed,
    Knock,
    Due,
    Message,
    Removed,
}

fn state(machine: &Federation, n: u8) -> Option<State> {
    Some(match machine.peers.get(&key(n).public())?.link {
        Link::Down { .. } => State::Down,
        Link::Dialling => State::Dialling,
        Link::Up { .. } => State::Up,
    })
}

/// A pause of this machine's is over long before this.
const LATER: u64 = 1_000_000;

fn in_state(wanted: State) -> Federation {
    let mut machine = machine(FederationConfig::default());
    if wanted != State::Down {
        machine.on_deadline(at(0));
    }
    if wanted == State::Up {
        machine.on_up(key(1).public(), at(0));
    }
    outputs(&mut machine);
    assert_eq!(state(&machine, 1), Some(wanted));
    machine
}

#[test]
fn each_input_in_each_state_of_a_link() {
    use Input as I;
    use State::{Dialling, Down, Up};
    let peer = key(1).public();
    for (input, after) in [
        // What follows from down, dialling and up.
        (I::Up, [Some(Up); 3]),
        (I::Down, [Some(Down), Some(Dialling), Some(Down)]),
        (I::DialFailed, [Some(Down), Some(Down), Some(Up)]),
        (I::Knock, [Some(Down), Some(Dialling), Some(Up)]),
        (I::Due, [Some(Dialling), Some(Dialling), Some(Up)]),
        (I::Message, [Some(Down), Some(Dialling), Some(Up)]),
        (I::Removed, [None; 3]),
    ] {
        for (before, after) in [Down, Dialling, Up].into_iter().zip(after) {
            let mut machine = in_state(before);
            let breach = Message::Answers { batch: 1, answers: vec![] };
            match input {
                I::Up => machine.on_up(peer, at(LATER)),
                I::Down => machine.on_down(peer, "lost", at(LATER)),
                I::DialFailed => machine.on_dial_failed(peer, "refused", at(LATER)),
                I::Knock => machine.on_knock(peer, at(LATER)),
                I::Due => machine.on_deadline(at(LATER)),
                // Even one that would be a breach: the connection that it came by is over.
                I::Message => {
                    let result = machine.on_message(peer, breach, &set(), at(LATER));
                    assert_eq!(result.is_err(), before == Up);
                }
                I::Removed => machine.remove_peer(&peer),
            }
            assert_eq!(state(&machine, 1), after, "{input:?} while {before:?}");
            let says_something = machine.poll_message(peer, &set(), at(LATER)).is_some();
            assert_eq!(says_something, after == Some(Up), "{input:?} while {before:?}");
            let outputs = outputs(&mut machine);
            let dials = outputs.iter().filter(|o| **o == Output::Dial(peer)).count();
            assert_eq!(dials, usize::from(before == Down && after == Some(Dialling)));
            let told = |e: &Event| {
                outputs.iter().any(|o| matches!(o, Output::Event(p, of) if *p == peer && of == e))
            };
            assert_eq!(told(&Event::Up), matches!(input, I::Up));
            assert_eq!(told(&Event::Down("lost".into())), before == Up && matches!(input, I::Down));
            let state_of_other = state(&machine, 2);
            let dialled = before != Down || matches!(input, I::Due);
            assert_eq!(
                state_of_other,
                Some(if dialled { Dialling } else { Down }),
                "the other is not touched"
            );
        }
    }
}

#[test]
fn failures_count_until_it_is_connected_and_a_knock_dials_at_once() {
    let mut machine = machine(FederationConfig::default());
    let peer = key(1).public();
    let attempts = |machine: &Federation| machine.peers[&peer].dialling.attempts;
    for n in 1..=20 {
        machine.on_dial_failed(peer, "refused", at(0));
        assert_eq!(attempts(&machine), n);
    }
    machine.on_knock(peer, at(5));
    machine.on_deadline(at(5));
    assert!(outputs(&mut machine).contains(&Output::Dial(peer)));
    assert_eq!(attempts(&machine), 20);
    machine.on_up(peer, at(6));
    assert_eq!(attempts(&machine), 0);
}

#[test]
fn nothing_of_the_queue_is_sent_to_a_peer_that_is_behind() {
    let mut machine = machine(FederationConfig::default());
    let (peer, mut set) = (key(1).public(), set());
    let write = signed(9, 1, "a");
    set.apply([&write]);
    machine.on_up(peer, at(0));
    machine.on_local(1, slot_of_record(write.record()), at(0));
    let said = |machine: &mut Federation| -> Vec<&'static str> {
        std::iter::from_fn(|| machine.poll_message(peer, &set, at(0))).map(|m| m.label()).collect()
    };
    assert_eq!(said(&mut machine), ["announce", "seen", "compare"]);
    machine.on_message(peer, Message::Same { tree: Tree::Rights }, &set, at(0)).unwrap();
    assert_eq!(said(&mut machine), ["finished", "compare"]);
    machine.on_message(peer, Message::Same { tree: Tree::Rest }, &set, at(0)).unwrap();
    assert_eq!(said(&mut machine), ["finished", "deliver"]);
}

#[test]
fn a_peer_whose_records_pile_up_is_not_read_from_and_then_told_to_wait() {
    let mut machine = machine(FederationConfig::default());
    let (peer, set) = (key(1).public(), set());
    machine.on_up(peer, at(0));
    let record = signed(1, 1, "a");
    let mut batch = 0;
    let mut deliver = |machine: &mut Federation| {
        batch += 1;
        let message = Message::Deliver { batch, records: vec![Ok(record.clone()); 512] };
        machine.on_message(peer, message, &set, at(0)).unwrap();
    };
    while machine.wants_input(&peer) {
        deliver(&mut machine);
    }
    assert_eq!(machine.peers[&peer].talk.storing, 16 * 1024);
    assert!(machine.wants_input(&key(2).public()));
    // A driver that reads on all the same: what is too much is to be sent again.
    (0..64).for_each(|_| deliver(&mut machine));
    assert_eq!(machine.peers[&peer].talk.storing, 32 * 1024);
    let control = &machine.peers[&peer].talk.control;
    assert!(
        matches!(control.back(), Some(Message::Answers { answers, .. }) if answers[0] == Answer::Overloaded)
    );
}

#[test]
fn forks_are_told_on_and_earlier_ones_again() {
    let mut machine = machine(FederationConfig::default());
    let (one, other) = (key(1).public(), key(2).public());
    machine.on_up(one, at(0));
    machine.on_up(other, at(0));
    let told = |machine: &mut Federation, peer| {
        let said = std::iter::from_fn(|| machine.poll_message(peer, &set(), at(0)));
        said.filter(|m| m.label() == "fork").count()
    };
    let fork = |seq| (signed(3, seq, "a"), signed(3, seq, "b"));
    // Nobody listens to forks of those who have stated nothing here.
    let (a, b) = fork(7);
    machine.on_message(one, Message::Fork { a: Ok(a), b: Ok(b) }, &set(), at(0)).unwrap();
    assert!(outputs(&mut machine).iter().all(|o| !matches!(o, Output::Forked { .. })));
    let known = StatementSet::new(Open, [signed(3, 1, "c"), signed(4, 9, "c")], [], Duration::from_secs(300));
    for (seq, new) in [(7, true), (7, false), (9, false), (4, true), (7, false)] {
        let (a, b) = fork(seq);
        machine.on_message(one, Message::Fork { a: Ok(a.clone()), b: Ok(b.clone()) }, &known, at(0)).unwrap();
        let found = outputs(&mut machine).into_iter().filter(|o| matches!(o, Output::Forked { .. })).count();
        assert_eq!(found, usize::from(new), "at {seq}");
        machine.on_forked(a, b);
        assert_eq!(told(&mut machine, other), usize::from(new), "at {seq}");
    }
    // No proof: one record twice, two numbers, two authors.
    for (a, b) in [
        (signed(4, 1, "a"), signed(4, 1, "a")),
        (signed(4, 1, "a"), signed(4, 2, "b")),
        (signed(4, 1, "a"), signed(5, 1, "b")),
    ] {
        machine.on_message(one, Message::Fork { a: Ok(a), b: Ok(b) }, &known, at(0)).unwrap();
        assert!(outputs(&mut machine).iter().all(|o| !matches!(o, Output::Forked { .. })));
    }
}

#[test]
fn answers_to_a_queue_that_ran_over_do_not_end_the_connection() {
    let mut machine = machine(FederationConfig { queue_items: 1, ..FederationConfig::default() });
    let (peer, mut set) = (key(1).public(), set());
    machine.on_up(peer, at(0));
    machine.peers.get_mut(&peer).unwrap().state.behind = None;
    let writes = [signed(9, 1, "a"), signed(9, 2, "b")];
    set.apply(&writes);
    machine.on_local(1, slot_of_record(writes[0].record()), at(0));
    let batch = std::iter::from_fn(|| machine.poll_message(peer, &set, at(0))).find_map(|m| match m {
        Message::Deliver { batch, .. } => Some(batch),
        _ => None,
    });
    machine.on_local(2, slot_of_record(writes[1].record()), at(0));
    assert_eq!(machine.peers[&peer].state.behind, Some(Behind::Overflowed));
    let answers = Message::Answers { batch: batch.unwrap(), answers: vec![Answer::Applied] };
    assert_eq!(machine.on_message(peer, answers, &set, at(0)), Ok(()));
}
