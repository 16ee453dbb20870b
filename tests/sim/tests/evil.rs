//! Honest brokers beside a member that keeps to no rule: they converge, lose nothing that was acknowledged,
//! and let it touch only what it was granted. An honest broker never hangs up on an honest one: the world
//! panics where that happens.

use nearmost_replica::digest::{Prefix, Slot, View};
use nearmost_replica::message::{Answer, Message};
use nearmost_replica::set::Tree;
use nearmost_replica::{Body, Kind, PublicKey, SignedRecord};
use nearmost_sim::federation::evil::{HONEST, Manner, OWN, SHARED, Scene, Signer, some};
use nearmost_sim::federation::oracle::Oracle;
use nearmost_sim::federation::plan::{DAY, Theme};

const MINUTE: u64 = 60_000;

/// Once as a member with its own key, once with an operator's.
fn each(mut scenario: impl FnMut(Scene)) {
    for (seed, signer) in [(1, Signer::Member), (2, Signer::Operator), (3, Signer::Member)] {
        scenario(Scene::new(seed, Theme::Storm, signer));
    }
}

fn bytes(signed: &SignedRecord) -> Vec<u8> {
    signed.bytes().to_vec()
}

fn to_all(scene: &mut Scene, records: &[SignedRecord]) {
    (0..HONEST).for_each(|n| scene.deliver(n, records.iter().map(bytes)));
    scene.pass(5_000);
}

#[test]
fn what_it_was_granted_it_may_do() {
    each(|mut scene| {
        let said = scene.says(SHARED, "mine", 1, scene.unix_ms());
        scene.deliver(0, [bytes(&said)]);
        scene.pass(MINUTE);
        assert_eq!(scene.answers(), [Answer::Applied]);
        scene.finish(MINUTE);
        assert!((0..HONEST).all(|n| scene.shows(n, &said)));
    });
}

#[test]
fn forged_records_and_those_beyond_its_grant_are_refused() {
    each(|mut scene| {
        let honest = scene.mirror(0, OWN, "k", some());
        let mut forged = bytes(&honest);
        let middle = forged.len() - 70;
        forged[middle] ^= 1;
        let now = scene.unix_ms();
        let ban = scene.signs(Kind::BAN, "", "x", 2, now, 8);
        let grant = scene.signs(Kind::GRANT, SHARED, "x", 3, now, 8);
        let beyond =
            [scene.says(OWN, "k", 1, now), ban, grant, scene.signs(Kind::DOMAIN, SHARED, "", 4, now, 8)];
        for to in 0..HONEST {
            scene.deliver(to, [forged.clone(), vec![], vec![0xff; 300]]);
            scene.deliver(to, beyond.iter().map(bytes));
        }
        scene.pass(5_000);
        let answers = scene.answers();
        assert_eq!(answers.len(), HONEST * 7);
        let malformed = answers.iter().filter(|a| matches!(a, Answer::Malformed { .. })).count();
        assert_eq!(malformed, HONEST * 3);
        assert!(!answers.contains(&Answer::Applied), "{answers:?}");
        scene.finish(MINUTE);
    });
}

#[test]
fn replays_of_records_batches_and_answers_change_nothing() {
    each(|mut scene| {
        scene.turn(Manner::Withholding);
        scene.busy(8);
        scene.mirror(1, OWN, "k1", Body::Tombstone);
        let heard = scene.heard.take();
        for to in 0..HONEST {
            for (_, message) in heard.iter().filter(|(_, m)| m.label() == "deliver") {
                scene.world.say(HONEST, to, message.clone());
            }
        }
        scene.pass(MINUTE);
        let answers = scene.answers();
        assert!(!answers.is_empty() && !answers.contains(&Answer::Applied));
        scene.finish(MINUTE);
    });
}

#[test]
fn what_it_takes_and_passes_on_to_nobody_arrives_all_the_same() {
    for manner in [Manner::Withholding, Manner::Retrying, Manner::Silent] {
        each(|mut scene| {
            scene.turn(manner);
            let peers: Vec<PublicKey> = scene.world.brokers.iter().map(|b| b.id()).collect();
            // Nobody needs to be passed anything on to, it says.
            (0..HONEST).for_each(|n| scene.world.say(HONEST, n, Message::Seen { peers: peers.clone() }));
            scene.world.cut(0, 1, true);
            scene.busy(20);
            scene.world.cut(0, 1, false);
            scene.finish(MINUTE);
        });
    }
}

#[test]
fn a_flood_stays_within_bounds() {
    let mut scene = Scene::new(4, Theme::Storm, Signer::Member);
    let mut seq = 0;
    for _ in 0..40 {
        let now = scene.unix_ms();
        let batch: Vec<_> = (0..12)
            .map(|_| {
                seq += 1;
                bytes(&scene.signs(Kind::MIRROR, SHARED, &format!("f{seq}"), seq, now, 3000))
            })
            .collect();
        for to in 0..HONEST {
            // Malformed and repeated ones beside them.
            scene.deliver(to, batch.clone());
            scene.deliver(to, vec![vec![0; 90]; 400]);
        }
    }
    scene.pass(MINUTE);
    scene.finish(MINUTE);
    let counts = scene.world.counts;
    assert!(counts.longest_queue <= 40, "{counts:?}");
    assert!(counts.most_storing <= HONEST * 33_000, "{counts:?}");
}

#[test]
fn what_is_dated_back_after_its_grant_was_revoked_is_refused() {
    each(|mut scene| {
        let before = scene.says(SHARED, "mine", 1, scene.unix_ms());
        to_all(&mut scene, std::slice::from_ref(&before));
        let then = scene.unix_ms();
        scene.pass(MINUTE);
        scene.grant(0, false);
        scene.pass(MINUTE);
        scene.answers();
        let late = [scene.says(SHARED, "late", 2, then), scene.says(SHARED, "mine", 3, then + 1)];
        to_all(&mut scene, &late);
        let answers = scene.answers();
        assert_eq!(answers.len(), 2 * HONEST);
        assert!(answers.iter().all(|a| matches!(a, Answer::Unauthorised { .. })), "{answers:?}");
        scene.finish(MINUTE);
        assert!((0..HONEST).all(|n| !scene.shows(n, &before)));
    });
}

#[test]
fn a_ban_ends_when_it_should_and_not_before() {
    each(|mut scene| {
        let end = scene.unix_ms() + 10 * MINUTE;
        scene.ban(end);
        scene.pass(MINUTE);
        let answers_at = |scene: &mut Scene, at: u64, seq| {
            scene.pass(at - scene.unix_ms());
            let said = scene.says(SHARED, "mine", seq, at);
            scene.deliver(1, [bytes(&said)]);
            scene.pass(1_000);
            (scene.answers(), said)
        };
        let (now, banned) = (scene.unix_ms(), [Answer::Banned { until_unix_ms: end }]);
        assert_eq!(answers_at(&mut scene, now, 1).0, banned);
        assert_eq!(answers_at(&mut scene, end - 1_000, 2).0, banned);
        let (answers, said) = answers_at(&mut scene, end, 3);
        assert_eq!(answers, [Answer::Applied]);
        scene.finish(MINUTE);
        assert!((0..HONEST).all(|n| scene.shows(n, &said)));
    });
}

#[test]
fn what_is_dated_far_ahead_waits_and_what_is_dated_a_little_ahead_stops_nobody() {
    each(|mut scene| {
        let now = scene.unix_ms();
        let far = [scene.says(SHARED, "far", 1, now + 6 * MINUTE), scene.says(SHARED, "end", 2, u64::MAX)];
        to_all(&mut scene, &far);
        let answers = scene.answers();
        assert!(answers.len() == 2 * HONEST && answers.iter().all(|a| matches!(a, Answer::TooNew { .. })));
        let near = scene.says(SHARED, "o1", 3, scene.unix_ms() + 4 * MINUTE + 50_000);
        to_all(&mut scene, std::slice::from_ref(&near));
        assert!((0..HONEST).all(|n| scene.shows(n, &near)));
        // The owner's next word is later all the same.
        let word = scene.mirror(2, SHARED, "o1", some());
        scene.pass(MINUTE);
        assert!((0..HONEST).all(|n| scene.shows(n, &word)));
        scene.finish(MINUTE);
    });
}

#[test]
fn what_was_deleted_and_collected_is_not_brought_back() {
    let mut scene = Scene::new(5, Theme::Away31Days, Signer::Operator);
    let own = scene.mirror(0, OWN, "dead", some());
    let shared = scene.says(SHARED, "dead", 1, scene.unix_ms());
    to_all(&mut scene, std::slice::from_ref(&shared));
    scene.mirror(1, OWN, "dead", Body::Tombstone);
    scene.mirror(2, SHARED, "dead", Body::Tombstone);
    scene.pass(31 * DAY);
    let time = scene.world.time;
    scene.world.brokers.iter_mut().for_each(|b| b.collect(time));
    scene.answers();
    to_all(&mut scene, &[own.clone(), shared.clone()]);
    assert_eq!(scene.answers(), vec![Answer::Gone; 2 * HONEST]);
    scene.finish(DAY / 4);
    assert!((0..HONEST).all(|n| !scene.shows(n, &own) && !scene.shows(n, &shared)));
}

#[test]
fn a_comparison_without_end_keeps_nobody_from_comparing_with_others() {
    each(|mut scene| {
        scene.turn(Manner::Endless);
        // What only comparisons bring.
        scene.world.cut(0, 1, true);
        scene.busy(20);
        scene.world.cut(0, 1, false);
        scene.finish(MINUTE);
        let asked = scene.heard.borrow().iter().filter(|(_, m)| m.label() == "ask").count();
        assert!(asked > 0);
    });
}

#[test]
fn requests_for_deep_and_missing_parts_are_answered_within_bounds() {
    each(|mut scene| {
        let mut part = Prefix::ROOT;
        let mut parts = vec![part];
        while let Some(deeper) = part.child(15) {
            part = deeper;
            parts.push(part);
        }
        let tree = Tree::Rest;
        for to in 0..HONEST {
            scene.world.say(HONEST, to, Message::Ask { tree, parts: parts.clone() });
            scene.world.say(HONEST, to, Message::Take { tree, part });
            scene.world.say(HONEST, to, Message::Fetch { tree, slots: vec![Slot([9; 16]); 1024] });
        }
        scene.pass(MINUTE);
        let heard = scene.heard.take();
        let count = |label| heard.iter().filter(|(_, m)| m.label() == label).count();
        assert_eq!((count("told"), count("records")), (HONEST * 33, HONEST * 2));
        scene.finish(MINUTE);
    });
}

#[test]
fn each_message_beyond_the_bounds_ends_the_connection_and_nothing_else() {
    let tree = Tree::Rest;
    let part = Prefix::ROOT.child(3).unwrap();
    let leaf = View::Leaf((0..17).map(|n| (Slot([n; 16]), [n; 16])).collect());
    let answers = vec![Answer::Applied];
    for message in [
        Message::Deliver { batch: 1, records: vec![vec![]; 513] },
        Message::Proofs { records: vec![vec![]; 513] },
        Message::Answers { batch: 999, answers },
        Message::Answers { batch: 0, answers: vec![Answer::Gone; 513] },
        Message::Ask { tree, parts: vec![part; 65] },
        Message::Fetch { tree, slots: vec![Slot([0; 16]); 1025] },
        Message::Told { tree, part, view: leaf },
        Message::Seen { peers: vec![PublicKey([0; 32]); 513] },
    ] {
        let mut scene = Scene::new(6, Theme::Storm, Signer::Member);
        scene.world.say(HONEST, 2, message.clone());
        scene.pass(1_000);
        assert_eq!(scene.world.counts.hung_up, 1, "{}", message.label());
        scene.finish(MINUTE);
    }
    let mut scene = Scene::new(7, Theme::Storm, Signer::Member);
    (0..5).for_each(|_| scene.world.say(HONEST, 1, Message::Take { tree, part }));
    (0..5).for_each(|_| scene.world.say(HONEST, 2, Message::Ask { tree, parts: vec![part; 64] }));
    scene.finish(MINUTE);
}

#[test]
fn who_states_two_things_under_one_number_counts_no_longer_from_there_on() {
    each(|mut scene| {
        scene.world.allowed.forks = true;
        let now = scene.unix_ms();
        let below = scene.says(SHARED, "below", 1, now);
        to_all(&mut scene, std::slice::from_ref(&below));
        let late = [scene.says(SHARED, "late", 9, now), scene.says(SHARED, "late2", 9, now)];
        let early = [scene.says(SHARED, "early", 5, now), scene.says(SHARED, "early2", 5, now)];
        for to in 0..HONEST {
            scene.deliver(to, [bytes(&late[to / 2])]);
        }
        scene.pass(MINUTE);
        // A second fork at an earlier number, of which one broker alone is told.
        scene.deliver(3, [bytes(&early[0])]);
        scene.world.say(HONEST, 0, Message::Fork { a: bytes(&early[0]), b: bytes(&early[1]) });
        scene.pass(MINUTE);
        scene.finish(MINUTE);
        for n in 0..HONEST {
            let first = scene.disk(n).forks.values().next().map(|(a, _)| a.record().author_seq);
            assert_eq!(first, Some(5), "broker {n}");
            assert!(scene.shows(n, &below));
            assert!(!late.iter().chain(&early).any(|s| scene.shows(n, s)));
        }
    });
}

#[test]
fn what_was_stated_before_a_fork_counts_everywhere_though_some_hold_what_came_after() {
    each(|mut scene| {
        scene.world.allowed.forks = true;
        let now = scene.unix_ms();
        let below = scene.says(SHARED, "x", 1, now);
        to_all(&mut scene, std::slice::from_ref(&below));
        for n in 1..HONEST {
            scene.world.cut(0, n, true);
            scene.world.cut(n, 0, true);
        }
        let (over, other) = (scene.says(SHARED, "x", 9, now + 1), scene.says(SHARED, "y", 9, now + 1));
        scene.deliver(0, [bytes(&over)]);
        scene.deliver(1, [bytes(&other)]);
        scene.pass(MINUTE);
        for n in 1..HONEST {
            scene.world.cut(0, n, false);
            scene.world.cut(n, 0, false);
        }
        scene.finish(MINUTE);
        assert!((0..HONEST).all(|n| scene.shows(n, &below)));
    });
}

#[test]
fn a_removal_whose_author_lost_its_right_after_the_collection_divides_nobody() {
    let mut scene = Scene::new(8, Theme::Away31Days, Signer::Operator);
    let own = scene.mirror(0, SHARED, "x", some());
    scene.pass(MINUTE);
    for n in 0..3 {
        scene.world.cut(3, n, true);
        scene.world.cut(n, 3, true);
    }
    let gone = scene.removes(SHARED, "x", 1, scene.unix_ms());
    (0..3).for_each(|n| scene.deliver(n, [bytes(&gone)]));
    scene.pass(31 * DAY);
    let time = scene.world.time;
    scene.world.brokers.iter_mut().for_each(|b| b.collect(time));
    assert!(!scene.shows(0, &own) && scene.shows(3, &own));
    scene.grant(3, false);
    scene.pass(DAY / 4);
    for n in 0..3 {
        scene.world.cut(3, n, false);
        scene.world.cut(n, 3, false);
    }
    scene.pass(2 * DAY);
    assert!(Oracle::is_equal(&scene.world.brokers));
}
