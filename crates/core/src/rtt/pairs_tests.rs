use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn id(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn node(n: u8) -> PairNode {
    PairNode { id: id(n), position: None }
}

fn nodes(numbers: impl IntoIterator<Item = u8>) -> Vec<PairNode> {
    numbers.into_iter().map(node).collect()
}

fn of_nodes(numbers: impl IntoIterator<Item = u8>) -> Vec<PairTarget> {
    numbers.into_iter().map(|n| PairTarget { target: Target::Node(id(n)), position: None }).collect()
}

fn mirror(n: u8) -> PairTarget {
    let (domain, mirror) = ("play.example".into(), format!("m{n}").into());
    PairTarget { target: Target::Mirror { domain, mirror }, position: None }
}

/// A node may measure every `gap` seconds; the broker ten times as often.
fn pairs(gap: u64) -> Pairs {
    Pairs::new(PairConfig { interval: HOUR, node_gap: SECOND * gap as u32, gap: SECOND / 100 }, 7)
}

fn at(seconds: u64) -> MonoTime {
    MonoTime::ZERO + Duration::from_secs(seconds)
}

type Given = Vec<(MonoTime, PairOrder)>;

/// All orders from one moment until another, each polled when it is due.
fn run(pairs: &mut Pairs, until: MonoTime) -> Given {
    let mut given = Given::new();
    while let Some(now) = pairs.next_deadline().filter(|d| *d < until) {
        given.extend(std::iter::from_fn(|| pairs.poll(now)).map(|order| (now, order)));
    }
    given
}

/// When each pair was measured.
fn by_pair(given: &Given) -> BTreeMap<(NodeId, Target), Vec<MonoTime>> {
    let mut times: BTreeMap<_, Vec<MonoTime>> = BTreeMap::new();
    for (at, order) in given {
        times.entry((order.node, order.target.clone())).or_default().push(*at);
    }
    times
}

/// The shortest time between two orders to one node.
fn shortest_gap(given: &Given) -> Duration {
    let mut last: BTreeMap<NodeId, MonoTime> = BTreeMap::new();
    let gaps = given.iter().filter_map(|(at, o)| last.insert(o.node, *at).map(|last| at.since(last)));
    gaps.min().unwrap_or(Duration::MAX)
}

/// The longest time that any pair was left alone, from `from` until `until`.
fn longest_wait(given: &Given, from: MonoTime, until: MonoTime) -> Duration {
    let waits = |times: &Vec<MonoTime>| {
        let inner = times.iter().copied().filter(|t| *t >= from);
        let all: Vec<_> = std::iter::once(from).chain(inner).chain([until]).collect();
        all.windows(2).map(|w| w[1].since(w[0])).max().unwrap_or_default()
    };
    by_pair(given).values().map(waits).max().unwrap_or(Duration::MAX)
}

fn distinct(given: &Given) -> HashSet<&Target> {
    given.iter().map(|(_, o)| &o.target).collect()
}

#[test]
fn every_pair_but_a_node_with_itself_is_measured_within_the_interval() {
    let mut pairs = pairs(6);
    let mut targets = of_nodes(0..5);
    targets.push(mirror(1));
    pairs.set_targets(targets, at(0));
    pairs.set_nodes(nodes(0..5), at(0));
    assert_eq!(pairs.pairs(), 5 * 6 - 5);
    let until = at(5 * 3600);
    let given = run(&mut pairs, until);
    assert_eq!(by_pair(&given).len(), 25);
    assert!(given.iter().all(|(_, o)| o.target != Target::Node(o.node)));
    assert!(longest_wait(&given, at(0), until) <= HOUR, "{:?}", longest_wait(&given, at(0), until));
    assert!(shortest_gap(&given) >= SECOND * 6);
    // Not much more often than needed, either: six turns an hour each, and a first round.
    assert!(given.len() <= 5 * (5 * 7 + 7), "{}", given.len());
}

#[test]
fn without_anything_to_measure_nothing_is_due() {
    let mut pairs = pairs(6);
    assert_eq!(pairs.next_deadline(), None);
    pairs.set_nodes(nodes([1]), at(0));
    assert_eq!((pairs.next_deadline(), pairs.pairs()), (None, 0));
    pairs.set_targets(of_nodes([1]), at(1));
    assert_eq!((pairs.next_deadline(), pairs.pairs()), (None, 0), "a node does not measure itself");
    pairs.set_targets(of_nodes([1, 2]), at(2));
    assert_eq!(pairs.pairs(), 1);
    let due = pairs.next_deadline().expect("a turn");
    assert!(due <= at(8));
    pairs.set_nodes([], at(3));
    assert_eq!((pairs.poll(at(60)), pairs.pairs()), (None, 0));
}

#[test]
fn a_first_round_is_in_haste_and_so_is_one_after_a_target_came() {
    let mut pairs = pairs(6);
    pairs.set_targets(of_nodes(0..10), at(0));
    pairs.set_nodes(nodes([0, 1]), at(0));
    let first = run(&mut pairs, at(6 * 11));
    assert_eq!(by_pair(&first).len(), 18);
    let quiet = run(&mut pairs, at(3600));
    assert!(quiet.len() <= 2 * 12, "{}", quiet.len());
    pairs.set_targets(of_nodes(0..11), at(3600));
    let new = run(&mut pairs, at(3600 + 75));
    assert!(by_pair(&new).contains_key(&(id(0), Target::Node(id(10)))));
    // One that goes brings no haste.
    pairs.set_targets(of_nodes(0..9), at(4000));
    assert!(run(&mut pairs, at(4100)).len() <= 4);
}

#[test]
fn turns_are_spread() {
    let mut pairs = pairs(6);
    pairs.set_targets((0..100).map(mirror).collect(), at(0));
    pairs.set_nodes(nodes(0..100), at(0));
    let given = run(&mut pairs, at(60));
    // A hundred nodes at one turn in six seconds each make about 17 a second.
    for second in 0..60 {
        let during: Vec<_> = given.iter().filter(|(t, _)| *t >= at(second) && *t < at(second + 1)).collect();
        assert!(during.len() <= 40, "{} in second {second}", during.len());
        let mut of_one: BTreeMap<&Target, usize> = BTreeMap::new();
        during.iter().for_each(|(_, o)| *of_one.entry(&o.target).or_default() += 1);
        assert!(of_one.values().all(|n| *n <= 6), "many measure one at once: {of_one:?}");
    }
}

#[test]
fn the_whole_broker_has_a_rate_too() {
    let config = PairConfig { interval: HOUR, node_gap: SECOND, gap: SECOND / 10 };
    let mut pairs = Pairs::new(config, 7);
    pairs.set_targets((0..50).map(mirror).collect(), at(0));
    pairs.set_nodes(nodes(0..200), at(0));
    let given = run(&mut pairs, at(600));
    let most = 600 * 10 + 200;
    assert!(given.len() <= most && given.len() > most * 8 / 10, "{}", given.len());
}

/// Four turns an hour, twelve targets: the nearest two, and a walk through all.
#[test]
fn a_sample_prefers_the_near_half_of_the_time_and_covers_all_in_the_end() {
    let place = |degrees: u8| Position::from_degrees(0.0, f64::from(degrees));
    let mut pairs = pairs(900);
    let target = |n: u8| PairTarget { position: place(n * 10), ..mirror(n) };
    pairs.set_targets((0..12).map(target).collect(), at(0));
    pairs.set_nodes([PairNode { position: place(1), ..node(1) }], at(0));
    let given = run(&mut pairs, at(12 * 3600));
    assert!((44..=48).contains(&given.len()), "{}", given.len());
    assert_eq!(distinct(&given).len(), 12);
    let near = [mirror(0).target, mirror(1).target];
    let often = given.iter().filter(|(_, o)| near.contains(&o.target)).count();
    assert!(often >= given.len() / 2, "{often} of {}", given.len());
    // What is measured differs from hour to hour.
    let hour = |h: u64| -> HashSet<Target> {
        let within = given.iter().filter(|(t, _)| *t >= at(h * 3600) && *t < at((h + 1) * 3600));
        within.map(|(_, o)| o.target.clone()).filter(|t| !near.contains(t)).collect()
    };
    assert_ne!(hour(1), hour(2));
}

#[test]
fn without_places_a_sample_is_the_walk_alone() {
    let mut pairs = pairs(900);
    pairs.set_targets((0..12).map(mirror).collect(), at(0));
    pairs.set_nodes(nodes([1]), at(0));
    let given = run(&mut pairs, at(3 * 3600 + 900));
    assert_eq!(distinct(&given).len(), 12);
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_another() {
    let with = |seed| {
        let config = PairConfig { interval: HOUR, node_gap: SECOND * 6, gap: SECOND };
        let mut pairs = Pairs::new(config, seed);
        pairs.set_targets(of_nodes(0..6), at(0));
        pairs.set_nodes(nodes(0..6), at(0));
        run(&mut pairs, at(3600))
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn a_node_that_comes_back_soon_goes_on_where_it_was() {
    let mut pairs = pairs(60);
    pairs.set_targets(of_nodes(0..30), at(0));
    pairs.set_nodes(nodes([0]), at(0));
    let before = run(&mut pairs, at(600));
    pairs.set_nodes([], at(600));
    assert_eq!(run(&mut pairs, at(1200)), []);
    pairs.set_nodes(nodes([0]), at(1200));
    let after = run(&mut pairs, at(1200 + 900));
    assert!(distinct(&before).is_disjoint(&distinct(&after)), "measured again before its turn");
    // Away for longer than the interval it is a stranger again.
    pairs.set_nodes([], at(2400));
    pairs.set_nodes([], at(2400 + 3600));
    assert!(pairs.nodes.is_empty());
}

#[test]
fn no_rate_is_broken_by_coming_and_going() {
    let mut pairs = pairs(60);
    pairs.set_targets(of_nodes(0..30), at(0));
    let mut given = Given::new();
    for minute in 0..200 {
        pairs.set_nodes(nodes(if minute % 2 == 0 { 0..3 } else { 1..3 }), at(minute * 20));
        given.extend(run(&mut pairs, at(minute * 20 + 20)));
    }
    assert!(shortest_gap(&given) >= SECOND * 60);
    assert!(given.iter().filter(|(_, o)| o.node == id(0)).count() >= 8);
}

#[test]
fn what_a_paused_driver_missed_is_not_made_up_for() {
    let mut pairs = pairs(6);
    pairs.set_targets((0..50).map(mirror).collect(), at(0));
    pairs.set_nodes(nodes(0..50), at(0));
    run(&mut pairs, at(60));
    let late = at(6000);
    assert_eq!(pairs.poll(late), None, "all were due at once");
    let given = run(&mut pairs, at(6030));
    for second in 6000..6030 {
        let during = given.iter().filter(|(t, _)| *t >= at(second) && *t < at(second + 1)).count();
        assert!(during <= 25, "{during} in second {second}");
    }
    assert!(!given.is_empty());
}

#[test]
fn a_mirror_given_twice_and_a_node_given_twice_count_once() {
    let mut pairs = pairs(6);
    let place = Position::from_degrees(1.0, 1.0);
    let twice = vec![PairTarget { position: place, ..mirror(1) }, mirror(1), mirror(2)];
    pairs.set_targets(twice, at(0));
    pairs.set_nodes(nodes([1, 1]), at(0));
    assert_eq!((pairs.pairs(), pairs.targets.len(), pairs.targets[0].position), (2, 2, place));
}

#[test]
fn turns_that_were_brought_forward_do_not_pile_up() {
    let mut pairs = pairs(6);
    pairs.set_nodes(nodes(0..10), at(0));
    for round in 0..100 {
        pairs.set_targets(of_nodes([0, 1]), at(round * 3600));
        run(&mut pairs, at(round * 3600 + 1800));
        pairs.set_targets((0..40).map(mirror).collect(), at(round * 3600 + 1800));
        pairs.set_nodes(nodes([]), at(round * 3600 + 1801));
        pairs.set_nodes(nodes(0..10), at(round * 3600 + 1802));
    }
    assert!(pairs.turns.len() <= 2 * 10 + 16 + 10, "{}", pairs.turns.len());
}

/// What may happen to a schedule.
#[derive(Clone, Debug)]
enum Step {
    Nodes(Vec<u8>),
    Targets(Vec<u8>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::vec(0u8..12, 0..12);
    let step = prop_oneof![
        some().prop_map(Step::Nodes),
        some().prop_map(Step::Targets),
        (1u64..3000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #[test]
    fn each_pair_is_covered_if_the_budget_allows_and_the_rate_is_never_broken(
        node_count in 1u8..12, own in 0u8..12, others in 0u8..12, gap in 1u64..1200, seed: u64,
    ) {
        let config = PairConfig { interval: HOUR, node_gap: SECOND * gap as u32, gap: SECOND / 10 };
        let mut pairs = Pairs::new(config, seed);
        let targets: Vec<_> = of_nodes(0..own).into_iter().chain((0..others).map(mirror)).collect();
        let count = targets.len();
        pairs.set_targets(targets, at(0));
        pairs.set_nodes(nodes(0..node_count), at(0));
        let until = at(4 * 3600);
        let given = run(&mut pairs, until);
        prop_assert!(shortest_gap(&given) >= SECOND * gap as u32);
        prop_assert!(given.iter().all(|(_, o)| o.target != Target::Node(o.node)));
        let budget = 3600 / gap;
        if count as u64 + 2 <= budget {
            prop_assert_eq!(by_pair(&given).len(), pairs.pairs());
            if pairs.pairs() > 0 {
                let wait = longest_wait(&given, at(0), until);
                prop_assert!(wait <= HOUR, "a pair waited {:?}", wait);
            }
        }
    }

    #[test]
    fn whatever_comes_and_goes_orders_are_for_those_who_are_there(steps in steps(), gap in 1u64..100, seed: u64) {
        let config = PairConfig { interval: HOUR, node_gap: SECOND * gap as u32, gap: SECOND / 10 };
        let mut pairs = Pairs::new(config, seed);
        let (mut now, mut there, mut wanted, mut all) = (at(0), vec![], vec![], Given::new());
        for step in steps {
            match step {
                Step::Nodes(numbers) => {
                    pairs.set_nodes(nodes(numbers.clone()), now);
                    there = numbers;
                }
                Step::Targets(numbers) => {
                    pairs.set_targets(of_nodes(numbers.clone()), now);
                    wanted = numbers;
                }
                Step::Wait(seconds) => {
                    now = now + SECOND * seconds as u32;
                    let given = run(&mut pairs, now);
                    for (_, order) in &given {
                        prop_assert!(there.iter().any(|n| id(*n) == order.node));
                        prop_assert!(wanted.iter().any(|n| Target::Node(id(*n)) == order.target));
                        prop_assert!(Target::Node(order.node) != order.target);
                    }
                    all.extend(given);
                }
            }
        }
        prop_assert!(shortest_gap(&all) >= SECOND * gap as u32);
    }
}
