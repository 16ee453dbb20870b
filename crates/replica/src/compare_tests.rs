//! Tests of [`super`]: every message in every state, and peers that never come to an end.

use super::*;
use crate::digest::EMPTY;
use crate::digest::LEAF;

fn ours(slots: u8) -> DigestTree {
    let mut tree = DigestTree::default();
    (0..slots).for_each(|n| tree.insert(Slot([n * (250 / slots); 16]), [n; 16]));
    tree.refresh();
    tree
}

/// What may be told by a peer.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Same,
    Root,
    OtherPart,
    Outside,
    Records { done: bool },
}

#[derive(Clone, Copy, Debug)]
enum State {
    Fresh,
    Asking,
    Fetching,
    Finished,
}

const STATES: [State; 4] = [State::Fresh, State::Asking, State::Fetching, State::Finished];

fn part(nibble: u8) -> Prefix {
    Prefix::ROOT.child(nibble).unwrap()
}

fn inner(hash: impl Fn(usize) -> [u8; 16]) -> View {
    View::Inner(Box::new(std::array::from_fn(hash)))
}

/// Parts 1 and following differ, part 0 is equal.
fn in_state(state: State, tree: &DigestTree) -> Comparison {
    let mut comparison = Comparison::new(Tree::Rest, 0);
    assert!(comparison.begin() && !comparison.begin());
    match state {
        State::Fresh => {}
        State::Asking => {
            let view = inner(|n| if n == 1 { [1; 16] } else { tree.hash(part(n as u8)) });
            comparison.told(tree, Prefix::ROOT, &view).unwrap();
            assert!(matches!(comparison.next_request(), Some(Message::Ask { .. })));
        }
        State::Fetching => {
            comparison.told(tree, Prefix::ROOT, &View::Leaf(vec![(Slot([1; 16]), [1; 16])])).unwrap();
            assert!(matches!(comparison.next_request(), Some(Message::Fetch { .. })));
        }
        State::Finished => comparison.same().unwrap(),
    }
    comparison
}

#[test]
fn each_message_in_each_state_is_taken_or_a_breach() {
    let tree = ours(40);
    assert!(tree.count(part(1)) <= LEAF && tree.hash(part(1)) != EMPTY);
    let hear = |comparison: &mut Comparison, heard| match heard {
        Heard::Same => comparison.same(),
        Heard::Root => comparison.told(&tree, Prefix::ROOT, &View::Leaf(vec![])).map(drop),
        Heard::OtherPart => comparison.told(&tree, part(1), &View::Leaf(vec![])).map(drop),
        Heard::Outside => {
            let wrong = View::Leaf(vec![(Slot([0xff; 16]), [1; 16]), (Slot([2; 16]), [1; 16])]);
            let open = if comparison.open.contains(&part(1)) { part(1) } else { Prefix::ROOT };
            comparison.told(&tree, open, &wrong).map(drop)
        }
        Heard::Records { done } => comparison.received(3, done),
    };
    for heard in [
        Heard::Same,
        Heard::Root,
        Heard::OtherPart,
        Heard::Outside,
        Heard::Records { done: true },
        Heard::Records { done: false },
    ] {
        for state in STATES {
            let mut comparison = in_state(state, &tree);
            let result = hear(&mut comparison, heard);
            let taken = matches!(
                (heard, state),
                (Heard::Same | Heard::Root, State::Fresh)
                    | (Heard::OtherPart, State::Asking)
                    | (Heard::Records { .. }, State::Fetching)
            );
            assert_eq!(result.is_ok(), taken, "{heard:?} while {state:?}: {result:?}");
            let wrong = matches!((heard, state), (Heard::Outside, State::Fresh | State::Asking));
            assert_eq!(result == Err(Breach::View), wrong, "{heard:?} while {state:?}");
        }
    }
}

#[test]
fn it_is_over_once_nothing_is_open_and_all_is_stored() {
    let tree = ours(40);
    let over = |state| in_state(state, &tree).is_finished();
    assert_eq!(STATES.map(over), [false, false, false, true]);
    let mut comparison = in_state(State::Fetching, &tree);
    comparison.received(2, false).unwrap();
    comparison.received(1, true).unwrap();
    assert!(!comparison.is_finished());
    comparison.stored(2, 1, 1);
    assert!(!comparison.is_finished());
    comparison.stored(1, 1, 0);
    assert!(comparison.is_finished());
    let Found { received, applied, missing_grants, offered, .. } = comparison.found;
    assert_eq!((received, applied, missing_grants, offered), (3, 2, 1, 40));
}

/// A peer that tells of hashes that nobody has for every part, and answers what is asked of it never.
fn endless(tree: &DigestTree, most_told: usize) -> (Comparison, usize) {
    let mut comparison = Comparison::new(Tree::Rest, 0);
    comparison.begin();
    let made_up = inner(|n| [n as u8 + 1; 16]);
    comparison.told(tree, Prefix::ROOT, &made_up).unwrap();
    let mut told = 1;
    while let Some(request) = comparison.next_request() {
        if let Message::Ask { parts, .. } = request {
            assert!(parts.len() <= MAX_ASKED);
            for part in parts {
                told += 1;
                // A part of one slot has no parts: to say otherwise is a breach.
                if comparison.told(tree, part, &made_up).is_err() {
                    assert_eq!(part.len(), Prefix::MAX_NIBBLES);
                    comparison.open.remove(&part);
                }
            }
        }
        assert!(comparison.open.len() <= MAX_OPEN_PARTS && comparison.requests <= MAX_OPEN_REQUESTS);
        assert!(told < most_told, "it asks without end");
    }
    (comparison, told)
}

#[test]
fn a_tree_without_end_is_asked_about_no_further_than_ours_goes() {
    let tree = ours(4);
    let (comparison, told) = endless(&tree, 10_000);
    assert!(told <= 4 * Prefix::MAX_NIBBLES + 1);
    assert_eq!(comparison.requests, MAX_OPEN_REQUESTS);
}

#[test]
fn what_a_peer_makes_up_is_not_remembered_without_end() {
    let tree = ours(250);
    let (comparison, _) = endless(&tree, 100_000);
    let most = MANY_TO_TAKE + 16 * MAX_OPEN_PARTS;
    assert!(comparison.take.len() <= most, "{} parts to take", comparison.take.len());
    assert!(comparison.ask.len() <= 16 * MAX_OPEN_PARTS * Prefix::MAX_NIBBLES);
}
