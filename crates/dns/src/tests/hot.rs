//! The hot path says what the general path says, byte for byte, whatever it is asked.

use crate::dnssec::{KeyDerivation, SignTimes, Signer};
use crate::testing::{Ask, Fixture, LONDON, NEW_YORK, SYDNEY, ask, mirror};
use crate::{Client, CookieKey, DnsConfig, HotPath, Responder, Transport};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::{AllDown, KeyLife, KeyStage, StaticData, ZoneKey};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Messages of the short form, and of the long one.
const MESSAGES: [usize; 2] = [150_000, 4_000_000];
/// Changes what is asked from run to run, and repeats one: the seed is printed when anything differs.
const SEED: &str = "NEARMOST_DNS_SEED";

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    fn address(&mut self) -> IpAddr {
        match self.below(6) {
            0 => IpAddr::from((u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()),
            1 => IpAddr::from([0x2a, 0, 1, self.next() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            2 => IpAddr::from([81, 2, self.next() as u8, 1]),
            3 => IpAddr::from([3, self.next() as u8, 7, 1]),
            _ => IpAddr::from((self.next() as u32).to_be_bytes()),
        }
    }
}

/// When it is asked, in seconds: around the moments at which keys come to another stage, and a day on in steps
/// of an hour, so that windows of signatures end in between.
fn moment(random: &mut Random) -> UnixMillis {
    let offset = match random.below(4) {
        0 => 0,
        1 => random.below(4) as u64,
        _ => random.below(25) as u64 * 3600,
    };
    UnixMillis((NOW_S + offset) * 1000)
}

/// The site that the paths sign for, and another.
const SITES: [u8; 2] = [1, 2];
const NOW_S: u64 = 1_790_000_000;

/// A key that was in the stage long before, or comes out of it a second after [`NOW_S`].
fn key(site: u8, zone: &str, generation: u32, stage: KeyStage, hold_s: u64) -> ZoneKey {
    let derivation = KeyDerivation::new(&[site; 32]);
    let public = derivation.key(zone, generation).unwrap().public();
    let hold = Duration::from_secs(hold_s);
    ZoneKey {
        site: derivation.site().into(),
        generation,
        public: public.dnskey()[4..].try_into().unwrap(),
        life: KeyLife { stage, since: UnixMillis(NOW_S * 1000), publish_hold: hold, retire_hold: hold },
    }
}

/// Gives zones keys: own ones, a new one beside, only others', and others' that will be gone.
fn sign(snapshot: &mut Snapshot) {
    use KeyStage::{Active, Left, Published, Retiring};
    let [own, other] = SITES;
    let registry = Arc::get_mut(&mut snapshot.registry).unwrap();
    for (zone, keys) in [
        ("play.example.com", vec![(own, Active, 0)]),
        ("twins.example.org", vec![(own, Active, 0), (own, Published, 2), (other, Active, 0)]),
        ("one.example.org", vec![(other, Active, 0), (own, Published, 2)]),
        ("down.example.org", vec![(other, Left, 2)]),
        ("many.example.org", vec![(own, Retiring, 7200), (own, Active, 0)]),
        ("a.play.example.com", vec![(own, Published, 1)]),
        ("fixed.example.org", vec![(own, Left, 2), (other, Active, 0)]),
    ] {
        let Some(&domain) = registry.domain_by_name.get(zone) else { continue };
        let keys =
            keys.iter().zip(1..).map(|((site, stage, hold_s), n)| key(*site, zone, n, *stage, *hold_s));
        registry.zone_keys.insert(domain, keys.collect());
    }
}

/// What can stand at names, in registries whose versions differ.
fn snapshots() -> Vec<Snapshot> {
    let mut fixture = Fixture::three();
    // Shared out between equals; of one family; of none that is up; with a name of its own addresses.
    fixture.domain(
        "twins.example.org",
        vec![
            mirror("a", "192.0.2.10", "2001:db8::a", LONDON),
            mirror("b", "192.0.2.11", "2001:db8::b", LONDON),
        ],
    );
    fixture.domain("one.example.org", vec![mirror("m", "192.0.2.20", "", SYDNEY)]);
    let mut down = mirror("d", "192.0.2.30", "2001:db8::30", NEW_YORK);
    down.up = false;
    fixture.domain("down.example.org", vec![down]).policy.failover.all_down =
        AllDown::Fallback(vec![IpAddr::from([198, 51, 100, 1])]);
    let fixed = fixture.domain("fixed.example.org", vec![mirror("m", "192.0.2.40", "2001:db8::40", LONDON)]);
    fixed.records.push(nearmost_core::registry::StaticRecord {
        name: "fixed.example.org".into(),
        ttl_s: 60,
        data: StaticData::A([203, 0, 113, 9].into()),
    });
    fixture.domain("a.play.example.com", vec![mirror("m", "192.0.2.50", "2001:db8::50", LONDON)]);
    fixture.domain("empty.example.org", vec![]);
    fixture.record("part.play.example.com", StaticData::Ns("ns.part.play.example.com".into()));
    fixture.record("www.play.example.com", StaticData::Cname("play.example.com".into()));
    let long = format!("{0}.{0}.example", "l".repeat(40));
    fixture.domain(&long, vec![mirror("m", "192.0.2.60", "2001:db8::60", LONDON)]);
    let first = fixture.snapshot();
    // A domain becomes an alias, another comes, cells are not built, everyone is given eight addresses.
    fixture.serial += 1;
    fixture.built = false;
    let alias = StaticData::Cname("play.example.com".into());
    fixture.domains[1].0.records.push(nearmost_core::registry::StaticRecord {
        name: "twins.example.org".into(),
        ttl_s: 60,
        data: alias,
    });
    let many = (0..9).map(|i| {
        let name: &'static str = ["a", "b", "c", "d", "e", "f", "g", "h", "i"][i];
        let v4: &'static str = Box::leak(format!("192.0.2.{}", 100 + i).into_boxed_str());
        let v6: &'static str = Box::leak(format!("2001:db8::{}", 100 + i).into_boxed_str());
        mirror(name, v4, v6, SYDNEY)
    });
    fixture.domain("many.example.org", many.collect()).policy.answers = 8;
    // All of one version: a registry may be made anew without a change of its own.
    let second = fixture.snapshot();
    let mut third = fixture.snapshot();
    sign(&mut third);
    // The same zones signed otherwise: the first site's keys are gone.
    let mut fourth = fixture.snapshot();
    sign(&mut fourth);
    let registry = Arc::get_mut(&mut fourth.registry).unwrap();
    let own = KeyDerivation::new(&[SITES[0]; 32]).site();
    registry.zone_keys.values_mut().for_each(|keys| keys.retain(|k| *k.site != *own));
    vec![first, second, third.clone(), third, fourth]
}

fn question(random: &mut Random) -> Ask {
    const NAMES: [&str; 16] = [
        "play.example.com",
        "PLAY.eXample.com",
        "twins.example.org",
        "twins.example.org",
        "one.example.org",
        "down.example.org",
        "fixed.example.org",
        "a.play.example.com",
        "empty.example.org",
        "many.example.org",
        "www.play.example.com",
        "lon.play.example.com",
        "x.part.play.example.com",
        "nothing.play.example.com",
        "example.com",
        "",
    ];
    let long = format!("{0}.{0}.example", "l".repeat(40));
    let name = if random.one_in(20) { long.as_str() } else { random.of(&NAMES) };
    let qtype = match random.below(10) {
        0..6 => RecordType::A,
        6..9 => RecordType::AAAA,
        _ => RecordType::from(*random.of(&[1_u16, 2, 6, 15, 16, 43, 65, 255, 256, 41, 0])),
    };
    let mut question = ask(name, qtype);
    question.id = random.next() as u16;
    if random.one_in(30) {
        question.qclass = random.next() as u16 % 5;
    }
    if !random.one_in(5) {
        let sizes = [0, 512, 600, 1232, 4096, 65_535];
        question.payload = Some(*random.of(&sizes));
        question.dnssec_ok = random.one_in(3);
        question.compact_ok = random.one_in(4);
        while random.one_in(2) {
            let option = option(random);
            question.options.push(option);
        }
    }
    question
}

/// Client subnets mostly, and cookies, and what else there is.
fn option(random: &mut Random) -> (u16, Vec<u8>) {
    match random.below(8) {
        0..5 => {
            let (family, octets) = match random.address() {
                IpAddr::V4(a) => (1, a.octets().to_vec()),
                IpAddr::V6(a) => (2, a.octets().to_vec()),
            };
            let source = random.below(octets.len() * 8 + 1);
            let mut data = vec![0, family, source as u8, 0];
            data.extend_from_slice(&octets[..source.div_ceil(8)]);
            if let Some(last) = data.last_mut().filter(|_| !source.is_multiple_of(8)) {
                *last &= 0xff << (8 - source % 8);
            }
            (8, data)
        }
        5 => (10, (0..*random.of(&[8, 8, 16, 24, 40, 7, 41])).map(|i| i as u8).collect()),
        6 => (*random.of(&[3, 8, 10, 11, 12]), random.bytes(12)),
        _ => (random.next() as u16, random.bytes(12)),
    }
}

/// Flips, cuts and inserts, now and then.
fn spoil(random: &mut Random, wire: &mut Vec<u8>) {
    if !random.one_in(4) {
        return;
    }
    for _ in 0..=random.below(3) {
        match random.below(4) {
            0 => wire.truncate(random.below(wire.len() + 1)),
            1 => {
                let at = random.below(wire.len() + 1);
                wire.insert(at, random.next() as u8);
            }
            _ if wire.is_empty() => {}
            _ => {
                let at = random.below(wire.len());
                wire[at] =
                    if random.one_in(2) { random.next() as u8 } else { wire[at] ^ 1 << random.below(8) };
            }
        }
    }
}

/// What comes together: mostly a few messages, and now and then more than are looked ahead for.
fn batch(random: &mut Random) -> Vec<(Vec<u8>, Client)> {
    let most = if random.one_in(50) { 100 } else { 8 };
    let count = 1 + random.below(most);
    let one = |_| {
        let mut wire = question(random).wire();
        spoil(random, &mut wire);
        let transport = *random.of(&Transport::ALL);
        (wire, Client { source: random.address(), transport, now: moment(random) })
    };
    (0..count).map(one).collect()
}

/// Tells a path of a batch, or of a part of it, before it is answered; or leaves that for the next time.
fn look_ahead(random: &mut Random, path: &mut HotPath, batch: &[(Vec<u8>, Client)], snapshot: &Snapshot) {
    for (wire, client) in batch.iter().skip(random.below(3)) {
        path.expect(wire, client.source);
    }
    if !random.one_in(8) {
        path.look_ahead(snapshot);
    }
}

#[test]
fn both_paths_say_the_same() {
    let long = std::env::var("NEARMOST_DNS").is_ok_and(|v| v == "long");
    let seed = std::env::var(SEED).ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = Random(seed);
    let snapshots = snapshots();
    let mut with_cookies = DnsConfig::default();
    with_cookies.edns.cookies = Some(CookieKey::new([7; 16]));
    with_cookies.identity.id = Some("here".into());
    let mut strict = with_cookies.clone();
    strict.edns.require_cookie = true;
    let configs = [
        strict,
        with_cookies,
        DnsConfig::default(),
        DnsConfig {
            zones: vec!["example.org".into()],
            nameservers: vec!["ns.example.net".into()],
            ..DnsConfig::default()
        },
    ];
    // Both sites sign, and one path has no keys.
    let mut sites = SITES.iter().cycle().take(3);
    let mut paths = configs.map(|c| {
        let responder = Responder::new(c).unwrap();
        let signer = sites.next().map(|s| Signer::new(KeyDerivation::new(&[*s; 32]), SignTimes::default()));
        let responder = match signer {
            Some(signer) => responder.with_signer(Arc::new(signer)),
            None => responder,
        };
        HotPath::new(Arc::new(responder), 1)
    });
    let (mut common, mut hot, mut general) = (0, Vec::new(), Vec::new());
    let (mut signed, mut withheld) = (0, 0);
    let messages = MESSAGES[usize::from(long)];
    let mut number = 0;
    while number < messages {
        let batch = batch(&mut random);
        let path = random.below(paths.len());
        let path = &mut paths[path];
        // What is looked ahead for need not be what it is answered from.
        let (ahead, same) = (random.of(&snapshots), random.one_in(2));
        look_ahead(&mut random, path, &batch, ahead);
        for (wire, client) in &batch {
            let snapshot = if same { ahead } else { random.of(&snapshots) };
            let expected = path.responder().answer(snapshot, wire, client, &mut general);
            common += usize::from(path.common(snapshot, wire, client, &mut hot).is_some());
            hot.clear();
            let outcome = path.answer(snapshot, wire, client, &mut hot);
            // The type of RRSIG after a pointer to the question's name.
            signed += usize::from(hot.windows(4).any(|w| w == [0xc0, 12, 0, 46]));
            withheld += usize::from(expected.rcode == crate::Rcode::ServFail);
            assert_eq!(
                (&hot, &outcome),
                (&general, &expected),
                "{SEED}={seed}, message {number}: {wire:02x?}"
            );
            number += 1;
        }
    }
    assert!(common > messages / 5, "only {common} of {messages} took the hot path");
    assert!(signed > messages / 100, "only {signed} of {messages} were signed");
    assert!(withheld > messages / 500, "only {withheld} of {messages} were withheld");
}
