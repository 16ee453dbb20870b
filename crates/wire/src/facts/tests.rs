use super::*;
use crate::frame::{self, MAX_FRAME};
use proptest::prelude::*;

fn view() -> impl Strategy<Value = PeerView> {
    let us = || (0..=MAX_US).prop_map(Duration::from_micros);
    let look = (any::<bool>(), prop::option::of(us()), us()).prop_map(|(reached, rtt, age)| OutsideLook {
        reached,
        rtt,
        age,
    });
    const WORDS: [Word; 7] = [
        Word::Healthy,
        Word::Silent,
        Word::NotReady,
        Word::Failing,
        Word::Stopped,
        Word::Draining,
        Word::Left,
    ];
    let said = (prop::sample::select(&WORDS[..]), us()).prop_map(|(word, age)| AgentWord { word, age });
    let load = (0.0f32..=1.0, 0.0f32..=1.0, any::<u32>(), any::<u32>())
        .prop_map(|(cpu, memory, connections, capacity)| Load { cpu, memory, connections, capacity });
    (prop::option::of(look), prop::option::of(said), prop::option::of(load))
        .prop_map(|(outside, agent, load)| PeerView { outside, agent, load })
}

fn fact() -> impl Strategy<Value = PeerFact> {
    let family = prop::sample::select(&Family::ALL[..]);
    ("[a-z]{1,60}\\.[a-z]{2,60}", "[a-z][a-z0-9]{0,60}", family, view()).prop_map(
        |(domain, mirror, family, view)| PeerFact {
            domain: domain.into(),
            mirror: mirror.into(),
            family,
            view,
        },
    )
}

fn read(set: &FactSet) -> (Vec<PeerFact>, Vec<FactError>) {
    let bytes = frame::encode(set).unwrap();
    assert!(bytes.len() <= MAX_FRAME);
    frame::decode::<FactSet>(&bytes[4..]).unwrap().read()
}

proptest! {
    #[test]
    fn facts_come_back_whole_and_in_order(facts in prop::collection::vec(fact(), 0..40)) {
        let mut back = Vec::new();
        for set in chunks(&facts) {
            let (good, bad) = read(&set);
            prop_assert!(bad.is_empty(), "{:?}", bad);
            back.extend(good);
        }
        prop_assert_eq!(back, facts);
    }

    /// Nothing panics, and what is read is within bounds.
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let body = [&[frame::VERSION][..], &bytes].concat();
        if let Ok(set) = frame::decode::<FactSet>(&body) {
            for fact in set.read().0 {
                prop_assert!(fact.view.outside.is_none_or(|look| look.age.as_micros() <= u128::from(MAX_US)));
            }
        }
        let _ = frame::decode::<FactAsk>(&body);
    }

    #[test]
    fn no_fact_is_larger_than_was_thought(fact in fact()) {
        let fact = Fact::from(&fact);
        prop_assert!(postcard::to_stdvec(&fact).unwrap().len() <= fact.size());
    }
}

fn plain(i: u32) -> PeerFact {
    let outside = OutsideLook { reached: true, rtt: Some(Duration::from_millis(20)), age: Duration::ZERO };
    PeerFact {
        domain: "play.example".into(),
        mirror: format!("m{i}").into(),
        family: Family::V4,
        view: PeerView { outside: Some(outside), ..PeerView::default() },
    }
}

#[test]
fn many_are_cut_into_messages_that_each_fit() {
    let facts: Vec<PeerFact> = (0..20_000).map(plain).collect();
    let sets = chunks(&facts);
    assert!(sets.len() < 60, "{}", sets.len());
    assert_eq!(sets.iter().map(|s| s.facts.len()).sum::<usize>(), 20_000);
    for set in &sets {
        assert!(postcard::to_stdvec(set).unwrap().len() <= MAX_FACTS_BYTES);
        assert!(read(set).1.is_empty());
    }
}

#[test]
fn what_is_out_of_bounds_is_named_and_takes_nothing_else_with_it() {
    let good = Fact::from(&plain(1));
    let look = |rtt_us, age_us| Some(FactLook { reached: true, rtt_us, age_us });
    let load = |cpu, memory| Some(FactLoad { cpu, memory, connections: 0, capacity: 0 });
    let word = Some(FactWord { word: FactState::Healthy, age_us: u64::MAX });
    let cases = [
        (Fact { domain: "a..b".into(), ..good.clone() }, "a..b"),
        (Fact { mirror: "a.b".into(), ..good.clone() }, "a.b"),
        (Fact { outside: look(Some(MAX_US + 1), 0), ..good.clone() }, "round trip of 3600000001"),
        (Fact { outside: look(None, MAX_US + 1), ..good.clone() }, "age of a look"),
        (Fact { agent: word, ..good.clone() }, "age of a word"),
        (Fact { load: load(f32::NAN, 0.0), ..good.clone() }, "cpu NaN"),
        (Fact { load: load(0.5, f32::INFINITY), ..good.clone() }, "memory inf"),
    ];
    for (fact, part) in cases {
        let (kept, bad) = read(&FactSet { facts: vec![good.clone(), fact, good.clone()] });
        assert_eq!((kept.len(), bad.len()), (2, 1));
        assert!(bad[0].to_string().contains(part), "{part:?} is not in {:?}", bad[0].to_string());
    }
}

#[test]
fn longer_names_and_lists_are_refused_as_they_are_read() {
    let good = Fact::from(&plain(1));
    let reads = |set: &FactSet| postcard::from_bytes::<FactSet>(&postcard::to_stdvec(set).unwrap()).is_ok();
    for (more, fits) in [(0, true), (1, false)] {
        let long = Fact { domain: "x".repeat(MAX_NAME + more), ..good.clone() };
        assert_eq!(reads(&FactSet { facts: vec![long] }), fits);
        assert_eq!(reads(&FactSet { facts: vec![good.clone(); MAX_FACTS + more] }), fits);
    }
}

#[test]
fn asks_come_back_whole() {
    let ask = PeerAsk { domain: "play.example".into(), mirror: "lon".into(), family: Family::V6 };
    assert_eq!(PeerAsk::try_from(FactAsk::from(&ask)), Ok(ask.clone()));
    let bad = FactAsk { domain: String::new(), ..FactAsk::from(&ask) };
    assert!(PeerAsk::try_from(bad).is_err_and(|e| e.label() == "domain"));
}
