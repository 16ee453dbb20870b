//! Whom the policies of a domain choose.

use super::*;
use crate::geo::{PlaceSource, Position};
use crate::health::{Reason, State, Verdict};
use crate::live::LiveMirror;
use crate::map::Map;
use crate::registry::{Domain, HealthMode, MirrorAddress, Orders};
use std::time::Duration;

/// A domain with mirrors of these weights, all up in both families, with the first nearest to
/// [`client`].
fn world(all_down: AllDown, weights: &[u32]) -> (Registry, Live) {
    let policy = Policy {
        answers: 2,
        ttl: Duration::ZERO,
        negative_ttl: Duration::ZERO,
        tie_band_ms: 1.0,
        tie_band_share: 0.0,
        all_down,
        alpn: Vec::new(),
        ..Policy::default()
    };
    let domain = Domain {
        name: "a.test".into(),
        mirrors: 0..weights.len() as u32,
        policy,
        records: Vec::new(),
        redirect_hosts: Vec::new(),
    };
    let mirror = |(i, weight): (usize, &u32)| Mirror {
        name: format!("m{i}").into(),
        domain: DomainIndex(0),
        node: None,
        address: MirrorAddress::Observed,
        port: 80,
        weight: *weight,
        place: Place { position: Position::from_degrees(10.0 * i as f64, 0.0), ..Place::default() },
        place_source: PlaceSource::Given,
        health: HealthMode::Probe,
        probe: None,
        url: None,
        orders: Orders::default(),
    };
    let live = |i: usize| LiveMirror {
        v4: Some([192, 0, 2, i as u8].into()),
        v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, i as u16].into()),
        verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
        last_known: [true; 2],
        ..LiveMirror::default()
    };
    let mirrors = weights.iter().enumerate().map(mirror).collect();
    let registry = Registry { domains: vec![domain], mirrors, ..Registry::default() };
    (registry, Live { mirrors: (0..weights.len()).map(live).collect() })
}

fn client() -> Place {
    Place { position: Position::from_degrees(1.0, 0.0), ..Place::default() }
}

fn chosen(registry: &Registry, live: &Live, family: Family) -> (Basis, Vec<u32>) {
    let choice = choose(registry, live, DomainIndex(0), &client(), family);
    (choice.basis, choice.mirrors.iter().map(|c| c.mirror.0).collect())
}

#[test]
fn one_broken_family_is_not_all_down() {
    let (registry, mut live) = world(AllDown::LastKnown, &[100, 100]);
    for mirror in &mut live.mirrors {
        mirror.verdicts[1].state = State::Down;
    }
    assert_eq!(chosen(&registry, &live, Family::V6), (Basis::Empty, vec![]));
    assert_eq!(chosen(&registry, &live, Family::V4), (Basis::Eligible, vec![0]));
    for mirror in &mut live.mirrors {
        mirror.verdicts[0].state = State::Down;
    }
    assert_eq!(chosen(&registry, &live, Family::V6), (Basis::AllDownLastKnown, vec![0]));
}

#[test]
fn all_does_not_bring_back_what_was_withdrawn() {
    let (registry, mut live) = world(AllDown::All, &[100, 100, 100, 100, 100]);
    let verdicts = [
        (State::Down, Reason::Revoked),
        (State::Down, Reason::Forced),
        (State::Down, Reason::Manual),
        (State::Draining, Reason::DrainedByOrder),
        (State::Down, Reason::ProbeFailed),
    ];
    for (mirror, (state, reason)) in live.mirrors.iter_mut().zip(verdicts) {
        mirror.verdicts = [Verdict { state, reason, ..Verdict::default() }; 2];
    }
    assert_eq!(chosen(&registry, &live, Family::V4), (Basis::AllDownAll, vec![4]));
    live.mirrors[4].verdicts = [Verdict { state: State::Draining, ..Verdict::default() }; 2];
    assert_eq!(chosen(&registry, &live, Family::V4), (Basis::Empty, vec![]));
}

/// Which mirror each of 4 096 networks of unknown position gets.
fn by_network(registry: &Registry, live: &Live) -> Vec<u32> {
    let map = Map::default();
    let of = |n: u32| {
        let located = map.locate(std::net::Ipv4Addr::from_bits(0x0a00_0007 + (n << 8)).into());
        let choice = choose(registry, live, DomainIndex(0), &located, Family::V4);
        assert_eq!((choice.mirrors.len(), choice.basis), (1, Basis::Eligible));
        choice.mirrors[0].mirror.0
    };
    (0..4096).map(of).collect()
}

#[test]
fn users_of_unknown_place_share_out_by_weight_and_stay() {
    let (registry, mut live) = world(AllDown::NoAnswer, &[100, 100, 200]);
    let before = by_network(&registry, &live);
    for (mirror, share) in [(0, 1024), (1, 1024), (2, 2048)] {
        let got = before.iter().filter(|m| **m == mirror).count();
        assert!(got.abs_diff(share) < 160, "mirror {mirror} has {got} of 4096, expected about {share}");
    }
    live.mirrors[2].verdicts[0].state = State::Down;
    let after = by_network(&registry, &live);
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a).all(|(b, _)| *b == 2);
    assert!(moved && !after.contains(&2), "only the lost mirror's users move");
}

#[test]
fn the_order_of_users_of_unknown_place_begins_with_their_own_mirror() {
    let (registry, mut live) = world(AllDown::NoAnswer, &[100, 100, 200, 1]);
    let map = Map::default();
    let mut firsts = std::collections::BTreeSet::new();
    for down in [None, Some(2), Some(0)] {
        for mirror in &mut live.mirrors {
            mirror.verdicts[0].state = State::Up;
        }
        if let Some(down) = down {
            live.mirrors[down].verdicts[0].state = State::Down;
        }
        for n in 0..512 {
            let located = map.locate(std::net::Ipv4Addr::from_bits(0x0a00_0007 + (n << 8)).into());
            let order = rank(&registry, DomainIndex(0), &located);
            assert_eq!(order.len(), 4);
            firsts.insert(order[0].mirror);
            let first = order.iter().find(|c| live.mirror(c.mirror).eligible(Family::V4));
            let own = choose(&registry, &live, DomainIndex(0), &located, Family::V4);
            assert_eq!(first, own.mirrors.first(), "{}", located.cell);
        }
    }
    assert!(firsts.len() >= 3, "{firsts:?}");
    // Where the position is known, the cell changes nothing.
    let near = client();
    let order: Vec<u32> = rank(&registry, DomainIndex(0), &near).iter().map(|c| c.mirror.0).collect();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn every_hash_is_between_zero_and_one() {
    for hash in [0, 1, u64::MAX >> 1, u64::MAX - 1, u64::MAX] {
        assert!(unit(hash) > 0.0 && unit(hash) < 1.0, "{hash:x}");
    }
}
