//! Users come, go, and are not there twice.

use super::*;
use proptest::prelude::*;

fn mirror(name: &str) -> MirrorName {
    MirrorName { domain: "play.test".into(), mirror: name.into() }
}

fn seen(name: &str, network: [u8; 4], country: &str, users: f32, seen: Seen) -> Sighting {
    let country = CountryCode::new(country);
    Sighting {
        mirror: mirror(name),
        network: network.into(),
        country,
        users,
        rtt_ms: Some(20.0),
        basis: Basis::Measured,
        seen,
    }
}

fn at(seconds: u64) -> MonoTime {
    MonoTime::from_millis(seconds * 1000)
}

fn users(traffic: &mut Traffic, now: MonoTime) -> Vec<(String, Option<CountryCode>, f64)> {
    traffic.flows(now).into_iter().map(|f| (f.mirror.mirror.to_string(), f.country, f.users)).collect()
}

#[test]
fn answers_stand_for_users_for_a_while() {
    let mut traffic = Traffic::default();
    traffic.see(seen("lon", [192, 0, 2, 1], "GB", 3.0, Seen::Query), at(100));
    traffic.see(seen("lon", [192, 0, 2, 9], "GB", 1.0, Seen::Query), at(109));
    traffic.see(seen("lon", [192, 0, 2, 9], "", 1.0, Seen::Query), at(115));
    let gb = CountryCode::new("GB");
    assert_eq!(users(&mut traffic, at(119)), [("lon".to_owned(), None, 1.0), ("lon".to_owned(), gb, 4.0)]);
    assert_eq!(users(&mut traffic, at(135)), [("lon".to_owned(), None, 1.0), ("lon".to_owned(), gb, 2.0)]);
    assert_eq!(users(&mut traffic, at(140)), [("lon".to_owned(), None, 1.0)]);
    assert_eq!(users(&mut traffic, at(150)), []);
    assert!(traffic.asked.is_empty());
}

#[test]
fn a_reading_replaces_the_one_before() {
    let mut traffic = Traffic::default();
    traffic.see(seen("lon", [192, 0, 2, 0], "GB", 5.0, Seen::Connections), at(100));
    traffic.see(seen("lon", [198, 51, 100, 0], "FR", 2.0, Seen::Connections), at(101));
    assert_eq!(traffic.mirrors(at(125))[&mirror("lon")].users, 7.0);
    // The network in France is gone.
    traffic.see(seen("lon", [192, 0, 2, 0], "GB", 6.0, Seen::Connections), at(130));
    assert_eq!(traffic.mirrors(at(131))[&mirror("lon")].users, 8.0, "it may still be told of");
    assert_eq!(users(&mut traffic, at(136)), [("lon".to_owned(), CountryCode::new("GB"), 6.0)]);
    assert_eq!(users(&mut traffic, at(174)), [("lon".to_owned(), CountryCode::new("GB"), 6.0)]);
    assert_eq!(users(&mut traffic, at(176)), []);
    assert!(traffic.counted.is_empty() && traffic.readings.is_empty());
}

#[test]
fn as_many_who_ask_all_the_time_are_as_many() {
    let mut traffic = Traffic::default();
    for second in 0..120 {
        traffic.see(seen("lon", [192, 0, 2, 1], "GB", 2.0, Seen::Query), at(second));
        if second >= 30 {
            let now = traffic.mirrors(at(second))[&mirror("lon")].users;
            assert!((now - 60.0).abs() <= 2.0, "{now} at {second} s");
        }
    }
}

#[test]
fn agents_that_read_often_replace_their_readings_often() {
    let mut traffic = Traffic::default();
    for half in 0..20_u64 {
        let now = MonoTime::from_millis(half * 500);
        traffic.see(seen("lon", [192, 0, 2, 0], "GB", 1.0, Seen::Connections), now);
        traffic.see(seen("lon", [10, 0, u8::try_from(half).unwrap(), 0], "GB", 1.0, Seen::Connections), now);
    }
    let users = traffic.mirrors(MonoTime::from_millis(9_600))[&mirror("lon")].users;
    assert!(users <= 3.0, "{users} of those who are gone are still told of");
}

#[test]
fn nobody_is_told_of_twice() {
    let mut traffic = Traffic::default();
    traffic.see(seen("lon", [192, 0, 2, 1], "GB", 50.0, Seen::Query), at(100));
    traffic.see(seen("lon", [192, 0, 2, 0], "GB", 2.0, Seen::Connections), at(101));
    traffic.see(seen("lon", [192, 0, 2, 1], "GB", 50.0, Seen::Query), at(102));
    traffic.see(seen("nyc", [192, 0, 2, 1], "GB", 4.0, Seen::Query), at(102));
    traffic.see(seen("nyc", [192, 0, 2, 0], "FR", 6.0, Seen::Connections), at(102));
    let all = traffic.mirrors(at(103));
    assert_eq!((all[&mirror("lon")].users, all[&mirror("nyc")].users), (100.0, 6.0));
    let countries: Vec<_> =
        traffic.flows(at(103)).into_iter().map(|f| f.country.unwrap().to_string()).collect();
    assert_eq!(countries, ["GB", "FR"]);
    // With the answers gone, there is what is counted.
    assert_eq!(traffic.mirrors(at(141))[&mirror("lon")].users, 2.0);
}

#[test]
fn regions_have_their_own_round_trips() {
    let mut traffic = Traffic::default();
    for (network, country, rtt_ms) in [(1, "GB", 10.0), (2, "US", 90.0), (3, "", 200.0)] {
        let sighting = seen("lon", [192, 0, network, 0], country, 1.0, Seen::Query);
        traffic.see(Sighting { rtt_ms: Some(rtt_ms), ..sighting }, at(1));
    }
    let guess = Sighting {
        rtt_ms: Some(40.0),
        basis: Basis::Predicted,
        ..seen("lon", [192, 0, 4, 0], "GB", 0.1, Seen::Query)
    };
    traffic.see(guess, at(1));
    let lon = &traffic.mirrors(at(2))[&mirror("lon")];
    let (measured, predicted) = (Basis::Measured, Basis::Predicted);
    assert_eq!(
        lon.rtts.keys().copied().collect::<Vec<_>>(),
        [("EU", measured), ("EU", predicted), ("NA", measured), ("unknown", measured)]
    );
    // What was measured is not blurred by what was not.
    let eu = |basis| lon.rtts[&("EU", basis)].quantiles().unwrap().p50_ms;
    assert!((8.0..=12.5).contains(&eu(measured)) && (32.0..=50.0).contains(&eu(predicted)), "{lon:?}");
    let all = lon.quantiles().unwrap();
    assert!((72.0..=113.0).contains(&all.p50_ms) && all.p95_ms > 150.0, "{all:?}");
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut traffic = Traffic::default();
    for n in 0..MOST_FLOWS + 3 {
        traffic.see(seen(&format!("m{n}"), [192, 0, 2, 1], "GB", 1.0, Seen::Query), at(1));
    }
    assert_eq!((traffic.asked.len(), traffic.left_out()), (MOST_FLOWS, 3));
    for n in 0..u32::try_from(MOST_NETWORKS).unwrap() + 2 {
        traffic.see(seen("big", n.to_be_bytes(), "GB", 1.0, Seen::Connections), at(1));
    }
    assert_eq!((traffic.counted.len(), traffic.left_out()), (MOST_NETWORKS, 5));
    // One that is there already is not kept out.
    traffic.see(seen("big", [0, 0, 0, 7], "GB", 9.0, Seen::Connections), at(2));
    assert_eq!(traffic.left_out(), 5);
}

#[test]
fn nobody_is_not_seen() {
    let mut traffic = Traffic::default();
    for users in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        traffic.see(seen("lon", [192, 0, 2, 1], "GB", users, Seen::Query), at(1));
    }
    assert!(traffic.flows(at(1)).is_empty());
}

proptest! {
    #[test]
    fn flows_and_mirrors_count_the_same_users(
        sightings in prop::collection::vec((0_u8..3, 0_u8..4, 0_usize..3, 1_u8..20, any::<bool>(), 0_u64..200), 0..60),
        later in 0_u64..60,
    ) {
        let mut sightings = sightings;
        sightings.sort_by_key(|s| s.5);
        let mut traffic = Traffic::default();
        let mut now = at(0);
        for (name, network, country, users, counted, when) in sightings {
            now = at(when);
            let how = if counted { Seen::Connections } else { Seen::Query };
            let country = ["GB", "US", ""][country];
            traffic.see(seen(&name.to_string(), [10, 0, network, 0], country, users.into(), how), now);
        }
        let now = at(now.0 / 1_000_000 + later);
        let flows: f64 = traffic.flows(now).iter().map(|f| f.users).sum();
        let mirrors: f64 = traffic.mirrors(now).values().map(|m| m.users).sum();
        prop_assert!((flows - mirrors).abs() < 1e-6, "{} {}", flows, mirrors);
        if later > 50 {
            prop_assert!(traffic.asked.is_empty());
        }
        prop_assert!(traffic.flows(now + LONGEST_READING).is_empty());
    }
}
